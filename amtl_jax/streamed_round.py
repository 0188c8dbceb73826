"""The sums of a round, from rows that go to the device some blocks at a time."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from amtl_jax.fitting.moments import TaskMoments
from amtl_jax.fitting.penalty import rows_for_penalty
from amtl_jax.packing import checked_labels, pack_index
from amtl_jax.round_moments import RoundMoments
from amtl_jax.source_fit import HELD_OUT_KEY
from amtl_jax.streaming import PackedChunks, stream_moments
from amtl_jax.types import Array, Numbers, TaskBatch


def stream_round(
    key: Array | None,
    x: Any,
    y: np.ndarray,
    task: np.ndarray,
    weight: Numbers | None,
    target: TaskBatch,
    *,
    num_sources: int,
    num_blocks: int,
    chunk_blocks: int,
    intercept: bool,
) -> RoundMoments:
    """Sums what a round needs of the sources' rows, whose inputs are gone through twice.

    The rows that λ is chosen on are those that the learner would choose in a batch: `pack` of the
    sources' rows, then the target's, into `num_blocks` blocks of the target's `R` rows.

    Args:
      key: of the round, as `Learner.tell` has it, where λ is to be chosen; None: it is known.
      x: `[N, ...]` inputs of the sources: an array, or what has a `shape` and gives rows for row
        numbers `[n]`.
      y: `[N, O]` targets.
      task: `[N]` integer task of each row, in `[0, num_sources)`.
      weight: `[N]` non-negative sample weights; None: 1 each.
      target: the target's sample, packed, as task M.
      num_sources: M.
      num_blocks: B of that batch.
      chunk_blocks: C, blocks that go to the device together.
      intercept: whether heads have one.

    Raises:
      ValueError: as `PackedChunks`, or where the rows need more than `num_blocks` blocks.
    """
    num_tasks, block_rows = num_sources + 1, target.weight.shape[1]
    y, task, checked = checked_labels(tuple(x.shape), y, task, num_sources, weight)
    is_held = np.zeros(len(task), bool)
    if key is not None:
        row_of, _ = pack_index(
            task, num_tasks=num_tasks, block_rows=block_rows, num_blocks=num_blocks
        )
        is_held = _held_out(jax.random.fold_in(key, HELD_OUT_KEY), row_of, checked)
    # Rows held out are tasks of their own, so that the same passes sum both.
    num_sums = num_tasks * (1 if key is None else 2)
    chunks = PackedChunks(
        x,
        y,
        task + num_tasks * is_held,
        checked,
        num_tasks=num_sums,
        chunk_blocks=chunk_blocks,
        block_rows=block_rows,
    )
    moments = stream_moments(chunks, num_tasks=num_sums, intercept=intercept)
    num_rows = np.bincount(task[checked > 0], minlength=num_sources)
    held_out = None
    if key is not None:
        num_held = jnp.asarray(is_held.sum(), moments.num_rows.dtype)
        moments, held_out = _halves(moments, num_tasks, num_held)
    return RoundMoments(moments, held_out, jnp.asarray(num_rows, jnp.int32), target)


def _held_out(key: Array, row_of: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Marks rows `[N]`, by where they would lie in the blocks of a batch, `[B, R]`."""
    is_row = row_of >= 0
    packed = np.zeros(row_of.shape, weight.dtype)
    packed[is_row] = weight[row_of[is_row]]
    found = np.asarray(rows_for_penalty(key, jnp.asarray(packed)))
    is_held = np.zeros(len(weight), bool)
    is_held[row_of[found]] = True  # slots of weight 0 are never found
    return is_held


def _halves(
    moments: TaskMoments, num_tasks: int, num_held: Array
) -> tuple[TaskMoments, TaskMoments]:
    """Moments of the first `num_tasks` tasks, and of the others, which have `num_held` rows."""
    per_task = moments._replace(num_rows=moments.count)
    first = jax.tree.map(lambda leaf: leaf[:num_tasks], per_task)
    second = jax.tree.map(lambda leaf: leaf[num_tasks:], per_task)
    num_rows = moments.num_rows - num_held
    return first._replace(num_rows=num_rows), second._replace(num_rows=num_held)
