"""Tables of strangers: CSV, Parquet, NPZ, arrays by name, and whatever speaks Arrow.

A table is read whole, column by column, but for large matrices of an NPZ file, which stay on disk.
A column of a kind that tasks cannot be made of (dates, nested lists) does not stand in the way of
the others: it is refused where it is asked for.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from amtl_jax.data.columns import (
    Column,
    TableError,
    close_match,
    column_from_array,
    column_from_arrow,
    shown,
    shown_names,
)
from amtl_jax.data.npz import check_unfolding, open_file, open_npz
from amtl_jax.data.stored import StoredMatrix, stored_column

if TYPE_CHECKING:
    import pyarrow as pa

MOST_COLUMNS = 100_000
MOST_ROWS = 2**31 - 1  # samples are counted in int32
_BLOCK_BYTES = 64 * 2**20  # of a CSV file; a row must fit in one
_INDEX_COLUMN = re.compile(r"__index_level_\d+__")  # what pandas calls an index without a name


class Table(NamedTuple):
    """A table.

    Attributes:
      name: for messages.
      columns: the columns by name, in the order of the file.
      num_rows: n.
      refused: why a column cannot be used, by name, for those that cannot.
    """

    name: str
    columns: dict[str, Column]
    num_rows: int
    refused: dict[str, str] = {}  # noqa: RUF012


def read_table(source: Any, *, name: str | None = None) -> Table:
    """Reads a table: numbers, booleans, text, and lists of numbers of one length (embeddings).

    Missing are empty cells, NA and NaN (CSV), nulls and NaN, and empty text. In an NPZ file and in
    a mapping every array is a column, `[rows]`, or `[rows, length]` for embeddings. Embeddings of
    an NPZ file that `numpy.savez` wrote stay there from 256 MB on: their rows are read when they
    are used, and the file must stay as it is.

    Args:
      source: path of a `.csv`, `.parquet` or `.npz` file; an object with `__arrow_c_stream__`, as
        data frames of pandas and polars and tables of pyarrow are; a data set of Hugging Face; or
        a mapping of column names to arrays.
      name: what messages call the table; by default the file's name.

    Raises:
      TableError: if the table cannot be read, is empty, or has columns of one name.
      OSError: if there is no such file, or it cannot be read.
      ImportError: if pyarrow is needed and not installed.
      TypeError: if `source` is none of these.
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        name = path.name if name is None else name
        reader = {".csv": _read_csv, ".parquet": _read_parquet}.get(path.suffix.lower())
        if reader is not None:
            with open_file(path) as file:
                return _from_arrow(lambda pa: reader(pa, file, name), name)
        if path.suffix.lower() == ".npz":
            return _from_arrays(open_npz(path), name)
        with open_file(path):  # whether it is there comes first
            raise TableError(
                f"{name} ends in {path.suffix or 'nothing'!r}; expected .csv, .parquet or .npz."
            )
    name = "the table" if name is None else name
    if hasattr(source, "__arrow_c_stream__"):
        return _from_arrow(lambda pa: pa.RecordBatchReader.from_stream(source).read_all(), name)
    if isinstance(source, Mapping):
        return _from_arrays(source, name)
    if hasattr(source, "with_format"):  # a data set of Hugging Face
        return read_table(source.with_format("arrow")[:], name=name)
    raise TypeError(
        "read_table expects a path, an object with __arrow_c_stream__ (pandas, polars, pyarrow), a "
        "data set of Hugging Face or "
        f"a mapping of names to arrays, got {type(source).__name__}."
    )


def find_column(table: Table, name: str, use: str) -> Column:
    """Returns a column; `use` says what it is for.

    Raises:
      TableError: if there is none of that name (names the closest and lists all), or it is of a
        kind that cannot be used.
    """
    if name in table.refused:
        hint = " Convert it, or name the features without it." if use == "a feature" else ""
        raise TableError(
            f"{table.name}: column {shown(name)}, wanted as {use}, {table.refused[name]}.{hint}"
        )
    if name not in table.columns:
        known = [*table.columns, *table.refused]
        raise TableError(
            f"{table.name} has no column {shown(name)}, wanted as {use}.{close_match(name, known)} "
            f"Its columns: {shown_names(known)}."
        )
    return table.columns[name]


def _from_arrays(arrays: Mapping[str, Any], name: str) -> Table:
    names = list(arrays)
    if any(not isinstance(key, str) for key in names):
        raise TableError(f"{name}: names of columns must be text, got {shown_names(names)}.")
    table = _checked(name, names, [arrays[key] for key in names], _column)
    for key, column in table.columns.items():
        if len(column.missing) != table.num_rows:
            first = next(iter(table.columns))
            raise TableError(
                f"{name}: column {shown(key)} has {len(column.missing):,} rows, but {shown(first)} "
                f"has {table.num_rows:,}; all columns must have as many."
            )
    return table


def _column(values: Any) -> Column:
    return stored_column(values) if isinstance(values, StoredMatrix) else column_from_array(values)


def _from_arrow(read: Callable[[Any], "pa.Table"], name: str) -> Table:
    """Turns what `read` gets out of pyarrow into a table, and its errors into one line."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise ImportError(
            "reading CSV and Parquet needs pyarrow, which is not installed; run: "
            'pip install "amtl-jax[tables]"'
        ) from error
    try:
        arrow = read(pa)
        arrow.validate(full=True)
        names = arrow.schema.names
    except TableError:
        raise
    except OSError as error:
        if error.errno is not None:  # of the disk, not of the bytes
            raise
        raise TableError(f"{name} is damaged: {_one_line(error)}.") from None
    except (pa.ArrowException, ValueError, TypeError, UnicodeDecodeError) as error:
        raise TableError(f"{name} cannot be read: {_one_line(error)}.") from None
    columns = [arrow.column(index) for index in range(len(names))]
    kept = [index for index, key in enumerate(names) if not _INDEX_COLUMN.fullmatch(key)]

    def column(arrow_column):
        try:
            return column_from_arrow(arrow_column)
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise TableError(f"cannot be read: {_one_line(error)}") from None

    return _checked(name, [names[i] for i in kept], [columns[i] for i in kept], column)


def _checked(
    name: str, names: list[str], raw: Iterable[Any], convert: Callable[[Any], Column]
) -> Table:
    """Converts the columns one by one; those that cannot be used are kept as refused."""
    if not names:
        raise TableError(f"{name} has no columns.")
    if len(names) > MOST_COLUMNS:
        raise TableError(
            f"{name} has {len(names):,} columns; the most is {MOST_COLUMNS:,}. Put embeddings in "
            "one column of lists (Parquet) or one array (NPZ)."
        )
    twice = [key for key, count in _counts(names).items() if count > 1]
    if twice:
        raise TableError(
            f"{name} has more than one column {shown(twice[0])}: rename all but one, so that each "
            "name means one column."
        )
    columns, refused = {}, {}
    num_rows = None
    for key, values in zip(names, raw, strict=True):
        if not key.strip():
            refused[key] = "has no name (an index that was written to the file?)"
            continue
        try:
            columns[key] = convert(values)
        except TableError as error:
            refused[key] = str(error)
            continue
        num_rows = len(columns[key].missing) if num_rows is None else num_rows
    if num_rows is None:
        key, reason = next(iter(refused.items()))
        raise TableError(f"{name}: no column can be used; {shown(key)} {reason}.")
    if not 1 <= num_rows <= MOST_ROWS:
        raise TableError(f"{name} has {num_rows:,} rows; expected 1 to {MOST_ROWS:,}.")
    return Table(name, columns, num_rows, refused)


def _counts(names: list[str]) -> dict[str, int]:
    counts = dict.fromkeys(names, 0)
    for name in names:
        counts[name] += 1
    return counts


def _read_csv(pa: Any, file: Any, name: str) -> "pa.Table":
    from pyarrow import csv

    table = csv.read_csv(
        file,
        read_options=csv.ReadOptions(block_size=_BLOCK_BYTES),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(strings_can_be_null=True),
    )
    for field in table.schema:
        if pa.types.is_binary(field.type):  # text that is not UTF-8
            raise TableError(
                f"{name} is not UTF-8: column {shown(field.name)} has bytes that are no text. Save "
                "it as UTF-8."
            )
    only = table.schema.names[0] if table.num_columns == 1 else ""
    for separator, word in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if separator in only:
            raise TableError(
                f"{name} has the one column {shown(only)}: its columns seem to be separated by "
                f"{word}. Save it with commas."
            )
    return table


def _read_parquet(pa: Any, file: Any, name: str) -> "pa.Table":
    del pa  # readers are called alike
    from pyarrow import parquet

    reader = parquet.ParquetFile(file)
    stored = os.fstat(file.fileno()).st_size
    values = reader.metadata.num_rows * max(1, reader.metadata.num_columns)
    advice = "If the data is right, give it to read_table as a pyarrow table."
    check_unfolding(name, stored, values, advice)
    return reader.read()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
