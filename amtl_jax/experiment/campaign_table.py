"""Deliveries in tables: columns of the config's table, or arrays by name."""

from typing import Any

import numpy as np

from amtl_jax.data.columns import TableError, close_match, row_name, shown, shown_names
from amtl_jax.data.labels import LabelColumn, LabelSpec, encode_labels, read_labels
from amtl_jax.data.schema import encode_table
from amtl_jax.data.table_tasks import TableTasks
from amtl_jax.data.tables import Table, find_column, read_table
from amtl_jax.data.task_rows import task_name
from amtl_jax.data.values import number_values, text_values
from amtl_jax.experiment.campaign_types import Delivery
from amtl_jax.experiment.config import TableConfig
from amtl_jax.experiment.data_config import AnyData
from amtl_jax.experiment.problem import Problem

EXTRAS = ("row_id", "paid", "request")  # columns of a delivery that are not the config's table's
_ARRAYS = ("task", "x", "y")


def delivery_of_table(source: Any, problem: Problem, data: AnyData) -> Delivery:
    """Makes a delivery of a table.

    For a config with a table its columns are those of that table: task, features and labels, and
    as far as they are no columns of it, `row_id`, `paid` and `request`. A row of several labels is
    a row for each of them; where each label has its price, an empty cell was not bought. For other
    configs the columns are `task`, `x` (a vector a row) and `y`.

    Raises:
      TableError: names the column that is missing, or row and column of what is wrong.
      OSError: if a file cannot be read.
      TypeError: if `source` is neither a delivery nor a table.
    """
    table = source if isinstance(source, Table) else read_table(source)
    if problem.table is None or not isinstance(data, TableConfig):
        return _of_arrays(table, problem)
    return _of_rows(table, problem, problem.table, data)


def template_columns(problem: Problem, data: AnyData) -> list[str]:
    """Returns the columns of a delivery, in order."""
    tasks = problem.table
    if tasks is None or not isinstance(data, TableConfig):
        return [*_ARRAYS, *EXTRAS]
    own = [] if data.task_column is None else [data.task_column]
    own += [feature.name for feature in tasks.schema.features]
    own += list(dict.fromkeys(spec.column for spec in _specs(tasks)))
    return own + [name for name in EXTRAS if name not in own]


def _of_arrays(table: Table, problem: Problem) -> Delivery:
    task, x, y = (find_column(table, name, "a delivery") for name in _ARRAYS)
    # A delivery is kept in memory, whatever its size.
    inputs = np.asarray(
        x.values if x.kind == "vector" else number_values(table, "x", x, "the inputs")[:, None]
    )
    labels = np.asarray(
        y.values if y.kind == "vector" else number_values(table, "y", y, "the labels")
    )
    shape = problem.source.input_shape
    if inputs[0].size == np.prod(shape):
        inputs = inputs.reshape(len(inputs), *shape)
    names = text_values(table, "task", task, "the task column")
    return Delivery(names.tolist(), inputs, labels, *_extras(table, (), np.arange(table.num_rows)))


def _of_rows(table: Table, problem: Problem, tasks: TableTasks, data: TableConfig) -> Delivery:
    specs = dict(zip([*problem.source.names, tasks.target_name], _specs(tasks), strict=True))
    columns = list(dict.fromkeys(spec.column for spec in specs.values()))
    is_joint = data.paid == "row"
    values = np.full(table.num_rows, "", object)
    if data.task_column is not None:
        column = find_column(table, data.task_column, "the task column")
        values = text_values(table, data.task_column, column, "the task column")
        _refuse_nameless(table, data.task_column, values)
    several = len(data.label) > 1
    own_value = tasks.target_name
    if several:
        own_value = own_value.removesuffix(f"/{tasks.label.column}")
    parts: list[tuple[np.ndarray, str, np.ndarray]] = []  # rows, task, labels in model units
    for column in columns:
        if column not in table.columns and column not in table.refused and several and not is_joint:
            continue  # labels that nobody bought
        label = _read(table, column, tasks.label)
        for value in dict.fromkeys(values.tolist()):
            name = task_name(value, column, data.task_column, 2 if several else 1)
            rows = np.flatnonzero(values == value)
            if several and not is_joint:
                rows = rows[~label.missing[rows]]
            if not len(rows):
                continue
            if name not in specs:
                if several and value == own_value and data.task_column is not None:
                    continue  # other labels of the target's own inputs are no sources
                _refuse_unknown(table, data.task_column, rows[0], name, list(specs))
            parts.append((rows, name, _labels(table, label, specs[name], rows)))
    if not parts:
        raise TableError(f"{table.name} has no labels of {shown_names(specs)}.")
    return _joined(table, problem, tasks, parts)


def _joined(
    table: Table,
    problem: Problem,
    tasks: TableTasks,
    parts: list[tuple[np.ndarray, str, np.ndarray]],
) -> Delivery:
    """All rows, in the order of the table, and within a row in the order of the labels."""
    row = np.concatenate([rows for rows, _, _ in parts])
    order = np.argsort(row, kind="stable")
    row = row[order]
    names = np.concatenate([np.full(len(rows), name, object) for rows, name, _ in parts])[order]
    labels = np.concatenate([labels for _, _, labels in parts])[order]
    used = [feature.name for feature in tasks.schema.features]
    used += [spec.column for spec in _specs(tasks)]
    request, row_id, paid = _extras(table, used, row)
    if paid is not None:  # of a row of several labels, with the first source among them
        is_source = names != problem.target_name
        first = np.zeros(len(row), bool)
        first[np.flatnonzero(is_source)[np.unique(row[is_source], return_index=True)[1]]] = True
        paid = np.where(first, paid, 0.0)
    x = encode_table(tasks.schema, table, row)
    return Delivery(names.tolist(), x, labels, request, row_id, paid)


def _specs(tasks: TableTasks) -> list[LabelSpec]:
    """What the labels of all tasks mean, the target last."""
    return [*tasks.source_labels, tasks.label]


def _read(table: Table, name: str, like: LabelSpec) -> LabelColumn:
    column = find_column(table, name, "a label")
    if column.missing.all():
        values = np.full(table.num_rows, np.nan if like.kind == "regression" else "", object)
        return LabelColumn(name, values, column.missing)
    _, (label,) = read_labels(table, [name], like.kind)
    return label


def _labels(table: Table, label: LabelColumn, spec: LabelSpec, rows: np.ndarray) -> np.ndarray:
    """Labels `[n, O]` in the model's units, NaN where they are missing."""
    missing = label.missing[rows]
    if spec.kind != "regression":
        new = [row for row in rows[~missing] if label.values[row] not in spec.classes]
        if new:
            raise TableError(
                f"{table.name}, label column {shown(label.name)}: {row_name(new[0])} has "
                f"{shown(label.values[new[0]])}, which is no class of this campaign; they are "
                f"{shown_names(spec.classes)}."
            )
    if missing.all():
        width = len(spec.classes) if spec.kind == "multiclass" else 1
        return np.full((len(rows), width), np.nan, np.float32)
    y = encode_labels(table, spec.kind, label, spec.classes, rows)
    y = ((y - spec.offset) / spec.scale).astype(np.float32)
    return np.where(missing[:, None], np.float32(np.nan), y)


def _extras(
    table: Table, used: tuple[str, ...] | list[str], rows: np.ndarray
) -> tuple[list[str] | None, list[str] | None, np.ndarray | None]:
    """The columns `request`, `row_id` and `paid`, where the table has them for this."""
    found: dict[str, Any] = dict.fromkeys(EXTRAS)
    for name in EXTRAS:
        if name in used or (name not in table.columns and name not in table.refused):
            continue
        column = find_column(table, name, f"the {name} column")
        if column.missing.all():
            continue
        if name == "paid":
            found[name] = number_values(table, name, column, "what was paid")[rows]
        else:
            found[name] = text_values(table, name, column, f"the {name} column")[rows].tolist()
    return found["request"], found["row_id"], found["paid"]


def _refuse_nameless(table: Table, name: str, values: np.ndarray) -> None:
    gone = np.flatnonzero(values == "")
    if len(gone):
        raise TableError(
            f"{table.name}, task column {shown(name)}: {row_name(gone[0])} has no value. Every row "
            "must name its task."
        )


def _refuse_unknown(
    table: Table, column: str | None, row: int, name: str, known: list[str]
) -> None:
    where = "" if column is None else f", task column {shown(column)}"
    raise TableError(
        f"{table.name}{where}: {row_name(row)} is of the task {shown(name)}, which this campaign "
        f"does not have.{close_match(name, known)} Its tasks: {shown_names(known)}."
    )
