"""One column as inputs: fitted on training rows, then applied to any rows."""

from typing import Literal, NamedTuple

import numpy as np

from amtl_jax.data.columns import Column, TableError, row_name, shown, shown_names
from amtl_jax.data.tables import Table
from amtl_jax.data.values import number_values, refuse_numbers_among_text, text_values

MOST_CATEGORIES = 1000  # of a text column: every one is an input
# Columns are gone through in float64 a chunk at a time: vectors may fill the memory, or the disk.
_CHUNK_ROWS, _CHUNK_NUMBERS = 2**15, 2**22


class Feature(NamedTuple):
    """How one column becomes inputs.

    Attributes:
      name: of the column.
      kind: `number`, (x − mean) / scale, booleans as 0 and 1; `category`, an input of 0 or 1 for
        each category; `vector`, minus the mean vector and over one scale, the root of the mean
        squared deviation of all its numbers, which keeps angles and proportions.
      mean: `length` numbers; none for a category.
      scale: 1 where the training rows do not vary.
      categories: of the training rows, sorted; empty for the other kinds.
      length: inputs that the column becomes.
    """

    name: str
    kind: Literal["number", "category", "vector"]
    mean: tuple[float, ...]
    scale: float
    categories: tuple[str, ...]
    length: int


def fit_feature(table: Table, name: str, column: Column, rows: np.ndarray) -> Feature:
    """Learns from training rows `[n]` how a column becomes inputs; see `fit_schema`."""
    present = rows[~column.missing[rows]]
    if not len(present):
        raise TableError(
            f"{table.name}: column {shown(name)} is empty in all training rows; leave it out of "
            "the features."
        )
    if column.kind == "text":
        refuse_numbers_among_text(table, name, column)
        categories = tuple(sorted(set(column.values[present].tolist())))
        if len(categories) > MOST_CATEGORIES:
            raise TableError(
                f"{table.name}: column {shown(name)} has {len(categories):,} different texts; the "
                f"most is {MOST_CATEGORIES:,}. Leave it out of the features, or give an embedding."
            )
        return Feature(name, "category", (), 1.0, categories, len(categories))
    kind = "vector" if column.kind == "vector" else "number"
    length = column.values.shape[1] if kind == "vector" else 1
    feature = Feature(name, kind, (0.0,) * length, 1.0, (), length)
    parts = [present[chunk] for chunk in _chunks(len(present), length)]
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        least, most, total = np.full(length, np.inf), np.full(length, -np.inf), np.zeros(length)
        for own in parts:
            values = _finite(table, feature, column, own)
            least = np.minimum(least, values.min(axis=0))
            most = np.maximum(most, values.max(axis=0))
            total += values.sum(axis=0, dtype=np.float64)
        # Rounding must not make a constant column vary.
        mean = np.where(least == most, least, total / len(present))
        squares = [np.sum((_finite(table, feature, column, own) - mean) ** 2) for own in parts]
        scale = float(np.sqrt(sum(squares) / (len(present) * length)))
    if not (np.isfinite(mean).all() and np.isfinite(scale)):
        raise TableError(
            f"{table.name}: the numbers of column {shown(name)} are too large to standardise."
        )
    return feature._replace(mean=tuple(mean.tolist()), scale=scale if scale > 0 else 1.0)


def encode_feature(
    feature: Feature,
    table: Table,
    column: Column,
    rows: np.ndarray,
    inputs: np.ndarray,
    unknown: Literal["error", "other"],
) -> None:
    """Writes the inputs `[n, length]` of rows `[n]`; zeros where the value is missing."""
    present = np.flatnonzero(~column.missing[rows])
    if feature.kind == "category":
        index = _category_index(feature, table, column, rows[present], unknown)
        known = index >= 0
        inputs[present[known], index[known]] = 1
        return
    mean = np.asarray(feature.mean)
    for chunk in _chunks(len(present), feature.length):
        chosen = present[chunk]
        values = _finite(table, feature, column, rows[chosen])
        with np.errstate(over="ignore", invalid="ignore"):
            inputs[chosen] = (values - mean) / feature.scale
        bad = np.flatnonzero(~np.isfinite(inputs[chosen]).all(axis=1))
        if len(bad):
            raise TableError(
                f"{table.name}, column {shown(feature.name)}: the value of "
                f"{row_name(rows[chosen[bad[0]]])} is too large beside the training rows'."
            )


def _chunks(num_rows: int, length: int) -> list[slice]:
    """Rows of so many numbers each, a chunk at a time."""
    size = max(min(_CHUNK_ROWS, _CHUNK_NUMBERS // length), 1)
    return [slice(start, start + size) for start in range(0, num_rows, size)]


def _category_index(
    feature: Feature,
    table: Table,
    column: Column,
    rows: np.ndarray,
    unknown: Literal["error", "other"],
) -> np.ndarray:
    """The category of each row, −1 for new ones."""
    place = {category: index for index, category in enumerate(feature.categories)}
    texts = text_values(table, feature.name, column, "a category")[rows]
    index = np.array([place.get(text, -1) for text in texts], np.int64)
    new = np.flatnonzero(index < 0)
    if len(new) and unknown == "error":
        raise TableError(
            f"{table.name}, column {shown(feature.name)}: {row_name(rows[new[0]])} has "
            f"{shown(texts[new[0]])}, which no training row has; they have "
            f"{shown_names(feature.categories)}. unknown=other takes it as none of them."
        )
    return index


def _finite(table: Table, feature: Feature, column: Column, rows: np.ndarray) -> np.ndarray:
    """The values `[n, length]` of rows that are not missing."""
    if (column.kind == "vector") != (feature.kind == "vector"):
        expected = "lists of numbers" if feature.kind == "vector" else "one number per row"
        raise TableError(
            f"{table.name}: column {shown(feature.name)} holds {column.kind} values, but the "
            f"training rows have {expected}."
        )
    if feature.kind == "vector":
        values = column.values[rows]
        if values.shape[1] != feature.length:
            raise TableError(
                f"{table.name}: column {shown(feature.name)} holds lists of {values.shape[1]} "
                f"numbers, but the training rows have {feature.length}."
            )
    else:
        if column.kind != "text":  # of which the first value that is no number is named
            column = Column(column.kind, column.values[rows], column.missing[rows])
        values = number_values(table, feature.name, column, "a feature")[:, None]
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise TableError(
            f"{table.name}, column {shown(feature.name)}: NaN or Inf in {row_name(rows[bad[0]])}. "
            "Correct it or leave it empty."
        )
    return values
