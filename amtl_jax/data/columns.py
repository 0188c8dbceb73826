"""The columns of a table: four kinds, from NumPy arrays or from Arrow, checked one by one."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:  # an extra, imported where a table is read with it
    import pyarrow as pa

MOST_NAMES_SHOWN = 12
_MOST_CHARACTERS_SHOWN = 60
# Float64 holds every whole number up to here. What is larger is an identifier, not a quantity.
_MOST_EXACT = 2**53


class TableError(ValueError):
    """What is wrong with a table, in one line that a person can act on."""


class Column(NamedTuple):
    """One column of n rows; rows where `missing` hold a stand-in.

    Attributes:
      kind: what the values are.
      values: float64 `[n]` (NaN where missing), bool `[n]` (False), str objects `[n]` ("") or
        float32 vectors `[n, d]` (zeros); a `StoredMatrix` where vectors stay on disk.
      missing: `[n]` bool.
    """

    kind: Literal["number", "bool", "text", "vector"]
    values: np.ndarray
    missing: np.ndarray


def shown(value: object) -> str:
    """Returns how a name or a value of a table prints: on one line, and not too long."""
    text = repr(value)
    return text if len(text) <= _MOST_CHARACTERS_SHOWN else f"{text[:_MOST_CHARACTERS_SHOWN]}…"


def shown_names(names: Iterable[object]) -> str:
    """Returns the first dozen of some names, and how many more there are."""
    names = list(names)
    listed = ", ".join(map(shown, names[:MOST_NAMES_SHOWN]))
    more = len(names) - MOST_NAMES_SHOWN
    return f"{listed} and {more:,} more" if more > 0 else listed


def row_name(row: Any) -> str:
    """Returns how messages call a row, given its index from 0."""
    return f"row {row + 1:,} (the header is not counted)"


def and_others(count: int) -> str:
    """Returns ` (and 3 others)` where messages name the first of several."""
    return f" (and {count:,} other{'s' if count > 1 else ''})" if count else ""


def close_match(name: str, known: Iterable[str]) -> str:
    """Returns ` Did you mean …?` where a known name is close, else nothing."""
    close = get_close_matches(name[:200], [known for known in known if len(known) <= 200], n=1)
    return f" Did you mean {shown(close[0])}?" if close else ""


def column_from_array(values: Any) -> Column:
    """Makes a column of an array: `[n]` numbers, bools or text, or `[n, d]` numbers, a vector each.

    Raises:
      TableError: says what the array holds instead; the caller adds where.
    """
    if isinstance(values, np.ma.MaskedArray):
        raise TableError("is a masked array; fill it with NaN (numbers) or '' (text) first")
    try:
        array = np.asarray(values)
    except ValueError:  # ragged lists
        raise TableError(
            "holds lists of unequal lengths; embeddings must all have the same length"
        ) from None
    if array.ndim == 2 and array.shape[1] and array.dtype.kind in "biuf":
        with np.errstate(over="ignore"):  # what float32 does not hold is found as Inf where used
            return Column("vector", array.astype(np.float32), np.zeros(len(array), bool))
    if array.ndim != 1:
        raise TableError(
            f"has shape {list(array.shape)} of {array.dtype}; a column is [rows], or [rows, "
            "length] numbers for embeddings"
        )
    if array.dtype.kind == "b":
        return Column("bool", array.astype(bool), np.zeros(len(array), bool))
    if array.dtype.kind in "iu" and _beyond_exact(array.min(initial=0), array.max(initial=0)):
        return _text([str(value) for value in array.tolist()])
    if array.dtype.kind in "iuf":
        with np.errstate(over="ignore"):
            return _numbers(array.astype(np.float64))
    if array.dtype.kind == "O":
        return _from_objects(array)
    if array.dtype.kind == "S":
        try:
            array = np.char.decode(array, "utf-8")
        except UnicodeDecodeError:
            raise TableError("holds bytes that are not UTF-8 text") from None
    if array.dtype.kind != "U":
        raise TableError(f"holds {array.dtype}; expected numbers, booleans or text")
    try:
        return _text(array.tolist())
    except ValueError:  # code points that do not exist
        raise TableError("holds characters that are not Unicode") from None


def column_from_arrow(column: "pa.ChunkedArray") -> Column:
    """Makes a column of an Arrow column; a list column of numbers is a vector each.

    Raises:
      TableError: says what the column holds instead; the caller adds where.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # Arrow keeps the chunks of a column without rows
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    kind, missing = array.type, np.asarray(array.is_null())
    if pa.types.is_null(kind):
        return _numbers(np.full(len(array), np.nan))
    if pa.types.is_boolean(kind):
        return Column("bool", np.asarray(array.fill_null(False)), missing)
    if pa.types.is_integer(kind):
        extremes = pc.call_function("min_max", [array]).as_py()
        if _beyond_exact(extremes["min"] or 0, extremes["max"] or 0):
            return _text(array.cast(pa.string()).to_pylist())
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _numbers(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return _text(array.to_pylist())
    if hasattr(kind, "value_type"):  # the list types; dictionaries are decoded by now
        return _vectors(array, missing)
    raise TableError(f"holds {kind}; expected numbers, booleans, text or lists of numbers")


def _vectors(array: "pa.Array", missing: np.ndarray) -> Column:
    """Lists of one length, a vector each."""
    import pyarrow as pa
    import pyarrow.compute as pc

    inner = array.type.value_type
    if not (pa.types.is_integer(inner) or pa.types.is_floating(inner)):
        raise TableError(f"holds lists of {inner}; expected lists of numbers")
    if pa.types.is_list_view(array.type) or pa.types.is_large_list_view(array.type):
        array = array.cast(pa.large_list(inner))
    lengths = np.asarray(pc.call_function("list_value_length", [array]).fill_null(0))
    present = np.flatnonzero(~missing)
    if not len(present):
        raise TableError("holds no list in any row")
    length = int(lengths[present[0]])
    odd = present[lengths[present] != length]
    if len(odd) or not length:
        worst = int(odd[0]) if len(odd) else int(present[0])
        raise TableError(
            f"holds lists of unequal lengths or none: {row_name(int(present[0]))} has {length} "
            f"numbers, {row_name(worst)} has {int(lengths[worst])}"
        )
    flat = pc.call_function("list_flatten", [array])
    if flat.null_count:
        row = present[int(np.argmax(np.asarray(flat.is_null()))) // length]
        raise TableError(f"has a missing number inside the list of {row_name(int(row))}")
    values = np.zeros((len(array), length), np.float32)
    with np.errstate(over="ignore"):
        values[present] = flat.to_numpy(zero_copy_only=False).reshape(-1, length)
    return Column("vector", values, missing)


def _from_objects(array: np.ndarray) -> Column:
    """Text, booleans or numbers among None and NaN."""
    missing = np.array([value is None or value != value for value in array.tolist()], bool)
    present = array[~missing].tolist()
    if all(isinstance(value, str) for value in present):
        return _text([None if gone else value for value, gone in zip(array, missing, strict=True)])
    if all(isinstance(value, bool | np.bool_) for value in present):
        return Column("bool", np.where(missing, False, array).astype(bool), missing)
    if all(isinstance(value, int | float | np.integer | np.floating) for value in present):
        if _beyond_exact(min(present), max(present)):
            raise TableError("holds whole numbers beyond 2**53; give identifiers as text")
        return _numbers(np.where(missing, np.nan, array).astype(np.float64))
    first = next(value for value in present if not isinstance(value, int | float))
    raise TableError(
        f"mixes kinds or holds other Python objects (a {type(first).__name__}); expected numbers, "
        "booleans or text"
    )


def _beyond_exact(least, most) -> bool:
    return least < -_MOST_EXACT or most > _MOST_EXACT


def _numbers(values: np.ndarray) -> Column:
    return Column("number", values, np.isnan(values))


def _text(values: list) -> Column:
    """Empty text is missing."""
    array = np.empty(len(values), object)
    array[:] = [value or "" for value in values]
    try:
        "".join(array).encode()  # refuses halves of characters, which no file could be written with
    except UnicodeEncodeError:
        raise TableError("holds characters that are not Unicode") from None
    return Column("text", array, array == "")
