"""From a table to the tasks of an experiment."""

from pathlib import Path

import jax
import numpy as np

from amtl_jax.data.columns import TableError
from amtl_jax.data.encoded import stored_bytes
from amtl_jax.data.shipped_tables import shipped_table
from amtl_jax.data.sources import Rows
from amtl_jax.data.table_tasks import TableTasks, table_tasks
from amtl_jax.data.tables import Table, read_table
from amtl_jax.data.values import text_values
from amtl_jax.experiment.config import Config, ConfigError, TableConfig
from amtl_jax.experiment.problem import Problem

_FEWEST_TARGET, _FEWEST_TEST = 2, 2


def table_problem(config: Config, data: TableConfig) -> Problem:
    """Reads the table and makes its tasks.

    Raises:
      TableError: names what is wrong with the table, and where.
      ConfigError: if the config asks for more rows than there are.
      ImportError: if the reader's package is not installed.
      OSError: if a file cannot be read.
    """
    table = _table(data)
    tasks = table_tasks(
        table,
        task_column=data.task_column,
        target_task=data.target_task,
        labels=data.label,
        features=data.features or None,
        kind=data.kind,
        label_scale=data.label_scale,
        missing=data.missing,
        unknown=data.unknown,
        small_tasks=data.small_tasks,
        split_column=data.split_column,
        test_share=data.test_share,
        split_seed=data.split_seed,
        price_column=data.price_column,
        prices=None if data.prices is None else read_prices(data.prices),
        paid=data.paid,
    )
    num_rows, index = len(tasks.target_x), len(tasks.source.names)
    num_target = config.num_target or num_rows
    if num_target > num_rows:
        raise ConfigError(
            f"num_target is {num_target}, but the target has {num_rows} rows that are not kept for "
            "the test."
        )
    if data.label_scale == "task" and num_target < num_rows:
        raise ConfigError(
            f"data.label_scale task takes the target's unit from all of its {num_rows} training "
            f"rows, and num_target is {num_target}: the sample would know the others. Leave "
            "num_target out, or data.label_scale at all."
        )
    if min(num_target - _FEWEST_TARGET, len(tasks.test_x) - _FEWEST_TEST) < 0:
        raise ConfigError(
            f"The target {tasks.target_name!r} has {num_rows} rows to learn from and "
            f"{len(tasks.test_x)} to test on; at least {_FEWEST_TARGET} and {_FEWEST_TEST} are "
            "needed. Change data.test_share, or choose a target with more rows."
        )

    on_disk = stored_bytes(tasks.schema, table)
    if on_disk and config.budget is None and data.chunk_blocks is None:
        half = _half_of(tasks) / tasks.source.price.min() * tasks.schema.num_inputs * 4
        raise ConfigError(
            f"budget must be set where features stay on disk ({on_disk / 1e9:,.1f} GB in "
            f"{table.name}), or data.chunk_blocks: half of all samples, the default, could be "
            f"{half / 1e9:,.1f} GB in memory, and several times that in a fit."
        )

    def draw_target(key):
        chosen = np.asarray(jax.random.permutation(key, num_rows))[:num_target]
        task = np.full(num_target, index, np.int32)
        return Rows(tasks.target_x[chosen], tasks.target_y[chosen], task)

    # Errors do not feel the offset, which float32 might not hold beside them.
    test_y = (tasks.test_y.astype(np.float64) - tasks.label.offset).astype(np.float32)
    test = Rows(tasks.test_x, test_y, np.full(len(tasks.test_x), index, np.int32))
    return Problem(
        tasks.source,
        tasks.target_name,
        draw_target,
        test,
        tasks.label.kind,
        num_target=num_target,
        budget=config.budget or _half_of(tasks),
        table=tasks,
        offset=tasks.label.offset,
        scale=tasks.label.scale,
        notes=(*tasks.notes, *_disk_notes(on_disk)),
    )


def _disk_notes(num_bytes: int) -> tuple[str, ...]:
    if not num_bytes:
        return ()
    return (
        f"Features of {num_bytes / 1e9:,.1f} GB stay on disk: rows are read when they are drawn, "
        "and the file must not change during the run.",
    )


def _table(data: TableConfig) -> Table:
    if data.path is None:
        return shipped_table(data.shipped)
    if not Path(data.path).exists():
        raise ConfigError(f"data.path {data.path!r:.300} does not exist; give a table's file.")
    return read_table(data.path)


def _half_of(tasks: TableTasks) -> int:
    """Half of what all samples cost, a group of tasks that is paid together once."""
    source = tasks.source
    _, first = np.unique(source.group, return_index=True)
    return max(int((source.capacity[first] * source.price[first]).sum() / 2), 1)


def read_prices(path: str) -> dict[str, float]:
    """Reads prices by task name from a table file with the columns `task` and `price`.

    Raises:
      TableError: names the column that is missing, or the row that is wrong.
      OSError: if the file cannot be read.
    """
    table = read_table(path)
    for column, kind in (("task", None), ("price", "number")):
        if column not in table.columns or kind not in (None, table.columns[column].kind):
            raise TableError(
                f"{path}: a file of prices needs the columns task and price, the price a number; "
                f"it has {', '.join(table.columns)}."
            )
    prices: dict[str, float] = {}
    names = text_values(table, "task", table.columns["task"], "the task column")
    for row, (name, price) in enumerate(zip(names, table.columns["price"].values), start=1):
        if name in prices or not (np.isfinite(price) and price > 0):
            what = "is there twice" if name in prices else f"has the price {price}"
            raise TableError(
                f"{path}: row {row}, task {name!r} {what}; every task needs one price above 0."
            )
        prices[name] = float(price)
    return prices
