"""All images of a study on the device, once; a batch is the places of its samples in them."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from amtl_jax.data.image_tasks import ImageTasks, find_task, image_rows, image_source
from amtl_jax.data.sources import ArraySource
from amtl_jax.encoding import as_float
from amtl_jax.packing import default_block_rows, max_blocks, pack_index
from amtl_jax.types import Array, TaskBatch


class Pools(NamedTuple):
    """Every source and target image of every corruption.

    Attributes:
      x: `[P, ...]` uint8 images.
      label: `[P]` int32 class of each.
    """

    x: Array
    label: Array


class Slots(NamedTuple):
    """The samples of a batch by their places.

    Attributes:
      row: `[B, R]` int32 place in the pools, -1 where there is none.
      task: `[B]` int32 task of each block; M is the target.
      label: `[M + 1]` int32 class that each task tells from the others.
    """

    row: np.ndarray | Array
    task: np.ndarray | Array
    label: np.ndarray | Array


class Places(NamedTuple):
    """Where the samples of one target corruption's sources and targets lie; on the host.

    Attributes:
      source: its M source tasks.
      first: `[M]` place of the first row of each source's pool.
      label: `[M]` class of each source.
      targets: place of the first row that target samples come from, and their number.
      test_x: `[n, ...]` float32 test rows.
      test_label: `[n]` their classes.
    """

    source: ArraySource
    first: np.ndarray
    label: np.ndarray
    targets: tuple[int, int]
    test_x: Array
    test_label: np.ndarray


def device_pools(tasks: ImageTasks, shape: Sequence[int]) -> Pools:
    """Puts all source rows and behind them all target rows on the default device."""
    images = [*tasks.source_images, *tasks.target_images]
    labels = [*tasks.source_labels, *tasks.target_labels]
    x = np.concatenate([part.reshape(len(part), *shape) for part in images])
    return Pools(jnp.asarray(x), jnp.asarray(np.concatenate(labels), jnp.int32))


def places_of(tasks: ImageTasks, corruption: str, shape: Sequence[int], *, joint: bool) -> Places:
    """Finds the rows of the sources and targets where a corruption's tasks are the targets."""
    sizes = [len(part) for part in (*tasks.source_images, *tasks.target_images)]
    first = np.cumsum([0, *sizes])
    count, own = len(tasks.names), tasks.names.index(corruption)
    source = image_source(tasks, without=corruption, shape=shape, joint=joint)
    found = [find_task(tasks, name) for name in source.names]
    test = image_rows(tasks, f"{corruption}_0", "test", shape=shape)
    return Places(
        source=source,
        first=np.asarray([first[tasks.names.index(name)] for name, _ in found]),
        label=np.asarray([label for _, label in found], np.int32),
        targets=(int(first[count + own]), sizes[count + own]),
        test_x=jnp.asarray(test.x),
        test_label=np.asarray(tasks.test_labels[own]),
    )


def target_rows(places: Places, key: Array) -> np.ndarray:
    """`[n]` places of all target rows, in the random order whose prefix is a run's sample."""
    first, size = places.targets
    return first + np.asarray(jax.random.permutation(key, size))


def slots_of(
    places: Places,
    key: Array,
    counts: np.ndarray,
    start: np.ndarray | None,
    target: np.ndarray,
    label: int,
    *,
    num_rows: int,
    block_rows: int | None,
) -> Slots:
    """Packs the places of source samples and of a target sample.

    Args:
      places: of the target's corruption.
      key: data key of the campaign.
      counts: `[M]` samples of each source.
      start: `[M]` samples of each that come before them; None: zeros.
      target: `[n]` places of the target sample, which is task M; none for the sources alone.
      label: the target's class.
      num_rows: most rows of a batch of this kind: all of them get one shape.
      block_rows: R; None: chosen from the number of rows.
    """
    task, row = places.source.draw_index(key, counts, start=start)
    num_tasks = len(places.label) + 1
    tasks = np.concatenate([task, np.full(len(target), num_tasks - 1)])
    rows = np.concatenate([places.first[task] + row, target])
    block_rows = block_rows or small_block_rows(num_rows, num_tasks)
    num_blocks = max_blocks(num_rows, num_tasks, block_rows)
    row_of, block_task = pack_index(
        tasks, num_tasks=num_tasks, block_rows=block_rows, num_blocks=num_blocks
    )
    packed = np.where(row_of >= 0, rows[np.maximum(row_of, 0)], -1)
    labels = np.append(places.label, np.int32(label))
    return Slots(packed.astype(np.int32), block_task, labels)


def small_block_rows(num_rows: int, num_tasks: int) -> int:
    """Rows of a block, an eighth of the mean rows of a task: an eighth at most is padding.

    A quarter of the default, which wastes up to a half to have larger products; fits here read
    single rows, and are bound by how many there are.
    """
    return default_block_rows(num_rows, 4 * num_tasks)


def gather(pools: Pools, slots: Slots) -> TaskBatch:
    """The batch itself, images as bytes; a label is 1 for its task's class and 0 for others."""
    row = jnp.maximum(slots.row, 0)
    weight = (slots.row >= 0).astype(jnp.float32)
    is_class = pools.label[row] == slots.label[slots.task][:, None]
    y = weight * is_class.astype(jnp.float32)
    return TaskBatch(pools.x[row], y[..., None], weight, jnp.asarray(slots.task))


def images_at(pools: Pools, row: Array) -> Array:
    """Images at places `[...]` as float32 in [0, 1]."""
    return as_float(pools.x[row])
