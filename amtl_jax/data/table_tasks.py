"""A table's rows as a target task and its sources."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from amtl_jax.data.column_uses import label_and_feature_columns
from amtl_jax.data.columns import shown_names
from amtl_jax.data.encoded import EncodedRows, encoded, stored_bytes
from amtl_jax.data.label_units import check_target_varies, label_units
from amtl_jax.data.labels import (
    Kind,
    LabelColumn,
    LabelSpec,
    classes_of,
    encode_labels,
    read_labels,
)
from amtl_jax.data.schema import Schema, encode_table, fit_schema
from amtl_jax.data.sources import ArraySource
from amtl_jax.data.table_prices import task_prices
from amtl_jax.data.tables import Table
from amtl_jax.data.task_rows import Division, TaskRows, divide_rows, large_enough


class TableTasks(NamedTuple):
    """A target task and its M sources, on D inputs and O outputs.

    Attributes:
      source: the sources, their labels in the model's units.
      target_name: as the table names it.
      target_x: `[n, D]` float32 rows that the target's sample is drawn from; read when they are
        asked for where features stay on disk.
      target_y: `[n, O]` float32 their labels in the model's units.
      test_x: `[n_test, D]` float32.
      test_y: `[n_test, O]` float64 labels in the units of the table; classes as 0 and 1.
      schema: how the columns became inputs.
      label: what the outputs mean.
      notes: what a person should know, a line each.
      source_labels: what the labels of every source mean, like `label`.
    """

    source: ArraySource
    target_name: str
    target_x: np.ndarray | EncodedRows
    target_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    schema: Schema
    label: LabelSpec
    notes: tuple[str, ...]
    source_labels: tuple[LabelSpec, ...]


def table_tasks(
    table: Table,
    *,
    task_column: str | None = None,
    target_task: str | None = None,
    labels: Sequence[str] = (),
    features: Sequence[str] | None = None,
    kind: Literal["auto"] | Kind = "auto",
    label_scale: Literal["all", "task"] = "all",
    missing: Literal["error", "mean"] = "error",
    unknown: Literal["error", "other"] = "error",
    small_tasks: Literal["error", "leave_out"] = "error",
    split_column: str | None = None,
    test_share: float = 0.3,
    split_seed: int = 0,
    price_column: str | None = None,
    prices: Mapping[str, float] | None = None,
    paid: Literal["label", "row"] = "label",
) -> TableTasks:
    """Makes tasks of a table; a row is a sample.

    With a task column the rows of each of its values are a task. With several labels each label is
    a task of its own on the same inputs, `<task>/<label>`, and the other labels of the target's own
    rows are no sources. Without a task column the labels are the tasks, and each row serves one
    purpose: some are for the test, half of the others that have the target's label are the
    target's, and the rest are the sources'.

    Rows without their label are not drawn; where a row is paid as a whole, they have weight 0. Test
    rows are used for nothing but the test. Which rows of a task these are does not depend on what
    the other tasks are.

    Args:
      table: of `read_table`.
      task_column: names the task of each row, as text or whole numbers.
      target_task: name of the target.
      labels: label columns; none: the one column that `features` and the others leave.
      features: feature columns; None: all that have no other use.
      kind: of the labels; `auto` takes text, booleans and 0/1 for classes, other numbers for
        regression.
      label_scale: what regression labels are centred and divided by: mean and standard deviation
        within tasks of all tasks of the label column (`all`), or those of each `task`.
      missing: see `Schema.impute`.
      unknown: see `Schema.unknown`.
      small_tasks: whether sources of fewer than 2 labelled rows are an error or left out.
      split_column: says `train` or `test` of each row; None: by `test_share`.
      test_share: share of the target's rows that are kept for the test, in (0, 1).
      split_seed: seed of that choice, non-negative.
      price_column: price of a sample, the same in all rows of a task.
      prices: price of a sample by task name, or by value of the task column.
      paid: whether each `label` of a row is bought by itself, or a `row` with all its labels at
        one price (`ArraySource(joint=True)`).

    Raises:
      TableError: says what is wrong with the table or does not fit it.
      ValueError: on an option that there is not, `test_share` or `split_seed` out of range, or
        prices given twice.
      TypeError: if `labels` or `features` are one text, not a sequence.
    """
    for name, value, choices in (
        ("kind", kind, ("auto", "regression", "binary", "multiclass")),
        ("label_scale", label_scale, ("all", "task")),
        ("small_tasks", small_tasks, ("error", "leave_out")),
        ("paid", paid, ("label", "row")),
    ):
        if value not in choices:
            raise ValueError(f"table_tasks expects {name} to be one of {choices}, got {value!r}.")
    if not 0 < test_share < 1 or split_seed < 0:
        raise ValueError(
            "table_tasks expects 0 < test_share < 1 and split_seed >= 0, got "
            f"{test_share=}, {split_seed=}."
        )
    if prices is not None and price_column is not None:
        raise ValueError("table_tasks expects prices or a price_column, got both.")
    uses = {"task": task_column, "split": split_column, "price": price_column}
    labels, features = label_and_feature_columns(table, uses, labels, features)
    kind, columns = read_labels(table, labels, kind)
    division = divide_rows(
        table,
        columns,
        task_column=task_column,
        target_task=None if target_task is None else str(target_task),
        split_column=split_column,
        test_share=test_share,
        split_seed=split_seed,
    )
    is_joint = paid == "row"
    sources, notes = large_enough(table, division.sources, small_tasks)
    target, tasks = division.target, [*sources, division.target]
    check_target_varies(table, target, columns[target.label])
    classes = classes_of(table, kind, columns, _training_rows(columns, tasks))
    units = label_units(table, kind, columns, tasks, label_scale)

    def in_table_units(task: TaskRows, rows: np.ndarray) -> np.ndarray:
        return encode_labels(table, kind, columns[task.label], classes[task.label], rows)

    def in_model_units(place: int, rows: np.ndarray) -> np.ndarray:
        y = in_table_units(tasks[place], rows)
        return ((y - units.offset[place]) / units.scale[place]).astype(np.float32)

    pools, pool_of = _pools(sources, is_joint)
    used = np.unique(np.concatenate([*pools.values(), target.rows]))
    schema = fit_schema(table, features, rows=used, impute=missing, unknown=unknown)
    own_rows = [pools[pool_of[task.name]] for task in sources]
    has_label = [~columns[task.label].missing[own] for task, own in zip(sources, own_rows)]
    source = ArraySource(
        _encoded_pools(schema, table, pools),
        {task.name: in_model_units(place, own_rows[place]) for place, task in enumerate(sources)},
        pools=pool_of,
        prices=task_prices(
            table, sources, price_column=price_column, prices=prices, is_joint=is_joint
        ),
        weights=dict(zip(pool_of, has_label, strict=True)) if is_joint else None,
        joint=is_joint,
    )
    specs = [
        LabelSpec(columns[task.label].name, kind, classes[task.label], float(offset), float(scale))
        for task, offset, scale in zip(tasks, units.offset, units.scale, strict=True)
    ]
    notes += _unlabelled_notes(division, is_joint) + _constant_notes(table, features, used)
    return TableTasks(
        source,
        target.name,
        encoded(schema, table, target.rows),
        in_model_units(len(sources), target.rows),
        encode_table(schema, table, division.test),
        in_table_units(target, division.test),
        schema,
        specs[-1],
        tuple(notes),
        tuple(specs[:-1]),
    )


def _training_rows(columns: Sequence[LabelColumn], tasks: Sequence[TaskRows]) -> list[np.ndarray]:
    """The labelled training rows of all tasks, by label column."""
    none = np.empty(0, np.int64)
    return [
        np.concatenate([none, *(task.rows[task.labelled] for task in tasks if task.label == label)])
        for label in range(len(columns))
    ]


def _pools(
    sources: Sequence[TaskRows], is_joint: bool
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Rows of every pool of inputs, and the pool of every source.

    Labels of one task that are missing in the same rows share a pool; if a row is paid as a whole,
    all labels do, and it has the rows with any label.
    """
    pools, pool_of = {}, {}
    any_label = {}
    for task in sources:
        any_label[task.value] = any_label.get(task.value, False) | task.labelled
    for task in sources:
        kept = any_label[task.value] if is_joint else task.labelled
        key = (task.value, kept.tobytes())
        name = pools.setdefault(key, (task.name, task.rows[kept]))[0]
        pool_of[task.name] = name
    return dict(pools.values()), pool_of


def _encoded_pools(
    schema: Schema, table: Table, pools: Mapping[str, np.ndarray]
) -> Mapping[str, np.ndarray | EncodedRows]:
    """Inputs of every pool: views of one array, or each read when it is drawn from."""
    if stored_bytes(schema, table):
        return {name: EncodedRows(schema, table, rows) for name, rows in pools.items()}
    inputs = encode_table(schema, table, np.concatenate(list(pools.values())))
    ends = np.cumsum([len(rows) for rows in pools.values()])
    return dict(zip(pools, np.split(inputs, ends[:-1]), strict=True))


def _unlabelled_notes(division: Division, is_joint: bool) -> list[str]:
    """Says how many rows are not used, or used in part, for want of labels."""
    gone = sum(int((~task.labelled).sum()) for task in division.sources)
    notes = []
    if gone:
        fate = "have weight 0" if is_joint else "are not drawn"
        notes.append(f"Missing labels of source rows ({gone:,}) {fate}.")
    if division.unlabelled:
        notes.append(
            f"Rows of the target without its label ({division.unlabelled:,}) are not used."
        )
    return notes


def _constant_notes(table: Table, features: Sequence[str], rows: np.ndarray) -> list[str]:
    constant = []
    for name in features:
        kind, values, missing = table.columns[name]
        if kind != "vector" and (values[rows] == values[rows[0]]).all() and not missing[rows].any():
            constant.append(name)
    if not constant:
        return []
    return [f"Features that do not vary in the training rows: {shown_names(constant)}."]
