"""How many campaigns of a study are computed at once."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import jax

from amtl_jax.cpu_threads import may_run_two
from amtl_jax.experiment.config import Config
from amtl_jax.experiment.study.field import Field
from amtl_jax.experiment.study.pools import small_block_rows
from amtl_jax.packing import max_blocks

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_THREADS = 2  # on a CPU: one fit leaves its cores idle where it copies, packs and factorises
_COPIES = 3  # of a campaign's batch that a fit holds at a time, with room to spare
_SHARE = 0.6  # of the device's memory


def batch_size(config: Config, field: Field) -> int:
    """Campaigns that are computed at once: on each device as many as told, or as its memory holds.

    On a CPU it is one: a batch waits for its slowest, and `in_order` keeps the cores busy.

    Args:
      config: of the study.
      field: any of its fields of this budget.
    """
    return config.scale.targets * _of_a_device(config, field)


def _of_a_device(config: Config, field: Field) -> int:
    if config.study.batch is not None:
        return config.study.batch
    device = jax.devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    if not stats or "bytes_limit" not in stats:
        return 1
    rows = field.charged(len(field.budgets) - 1) + field.target_samples
    num_tasks = len(field.places.label) + 1
    block_rows = config.block_rows or small_block_rows(rows, num_tasks)
    slots = max_blocks(rows, num_tasks, block_rows) * block_rows
    one = 4 * slots * math.prod(field.places.source.input_shape) * _COPIES
    return max(1, int(_SHARE * stats["bytes_limit"] / one))


def num_threads(config: Config) -> int:
    """Groups of campaigns that are computed side by side: two on a CPU, unless a batch is told.

    One where XLA has so few threads that two would wait for each other; see `may_run_two`.
    """
    batched = config.study.batch is not None or config.scale.targets > 1
    on_cpu = jax.default_backend() == "cpu" and not batched
    return _THREADS if on_cpu and may_run_two() else 1


def in_order(
    compute: Callable[[_Item], _Result], items: Sequence[_Item], threads: int, *, alone: int
) -> Iterator[_Result]:
    """Computes items, several at a time but for the first, and gives their results in order.

    Whoever stops asking waits for those that are being computed; others are not begun.

    Args:
      compute: may be called from several threads at once, and keeps what must not be lost.
      items: what to call it with.
      threads: how many at a time.
      alone: how many to compute one by one before: the first compiles what all others need, which
        two at a time would compile twice.

    Raises:
      Exception: what `compute` raised, in the order of the items.
    """
    alone = len(items) if threads == 1 else alone
    yield from map(compute, items[:alone])
    pool = ThreadPoolExecutor(threads)
    try:
        yield from pool.map(compute, items[alone:])
    finally:
        pool.shutdown(cancel_futures=True)
