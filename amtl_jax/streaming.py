"""Sums over more samples than a device holds: a few blocks at a time, the next ones on their way.

The samples stay on the host, or on disk. While a device adds up one chunk the host packs the next
one and sends it off, and what is added to is donated: at any time a device holds two chunks, the
sums, and what the sums of one chunk need. A fit that needs only such sums never holds the samples:
heads on features that are fixed (`stream_stats`, then `solve_heads`), and the linear
representation (`stream_moments`, then `fit_moments`).
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from amtl_jax.encoding import encode_live
from amtl_jax.fitting.moments import (
    CentredSums,
    MomentSums,
    TaskMoments,
    centred_sums,
    moment_sums,
    moments_of,
)
from amtl_jax.heads import head_stats
from amtl_jax.packing import checked_inputs, checked_labels, default_block_rows, pack_index
from amtl_jax.types import Array, Encoder, HeadStats, Numbers, Params, TaskBatch


class PackedChunks:
    """Samples of many tasks, packed as by `pack`, but some blocks at a time, on the host.

    It can be gone through again and again. A chunk is made when its turn comes: of the inputs only
    its rows are looked at, so they may be a memory map, or a pool that stays on disk. All chunks
    have one shape; blocks that the last one has to spare have weight 0.

    Args:
      x: `[N, ...]` numbers: an array, or what has a `shape` and gives rows for row numbers `[n]`.
      y: `[N, O]` or `[N]` targets.
      task: `[N]` integer task of each row, in `[0, num_tasks)`, in any order.
      weight: `[N]` non-negative sample weights, 1 unless told; see `pack`.
      num_tasks: M.
      chunk_blocks: C, blocks of a chunk.
      block_rows: R; as in `pack` unless told.

    Raises:
      ValueError: as `pack`; where inputs are NaN or Inf, when their chunk's turn comes.
      TypeError: if `task` is not an integer array.
    """

    def __init__(
        self,
        x: Any,
        y: ArrayLike,
        task: Numbers,
        weight: Numbers | None = None,
        *,
        num_tasks: int,
        chunk_blocks: int,
        block_rows: int | None = None,
    ):
        if chunk_blocks < 1 or (block_rows is not None and block_rows < 1):
            raise ValueError(
                "PackedChunks expects chunk_blocks >= 1 and block_rows >= 1, got "
                f"{chunk_blocks} and {block_rows}."
            )
        self._x = x if hasattr(x, "shape") else np.asarray(x)
        checked = checked_labels(tuple(self._x.shape), y, task, num_tasks, weight)
        self._y, self._task, self._weight = checked
        rows = default_block_rows(len(self._y), num_tasks) if block_rows is None else block_rows
        needed = int((-(-np.bincount(self._task, minlength=num_tasks) // rows)).sum())
        self.chunk_blocks: int = min(chunk_blocks, max(needed, 1))
        self._num_chunks = max(-(-needed // self.chunk_blocks), 1)
        self._row_of, self._block_task = pack_index(
            self._task,
            num_tasks=num_tasks,
            block_rows=rows,
            num_blocks=self._num_chunks * self.chunk_blocks,
        )

    @property
    def shape(self) -> tuple[int, int]:
        """`(C, R)` of a chunk."""
        return self.chunk_blocks, self._row_of.shape[1]

    def __len__(self) -> int:
        """How many chunks there are."""
        return self._num_chunks

    def __iter__(self) -> Iterator[TaskBatch]:
        """Chunks `[C, R, ...]` as host arrays, in the order of the blocks of `pack`."""
        for first in range(0, len(self._block_task), self.chunk_blocks):
            place = slice(first, first + self.chunk_blocks)
            row_of = self._row_of[place]
            is_row = row_of >= 0
            rows = row_of[is_row]
            x = checked_inputs(self._x[rows], self._task, rows)

            def in_blocks(values: np.ndarray, is_row: np.ndarray = is_row) -> Any:
                blocks = np.zeros((*is_row.shape, *values.shape[1:]), values.dtype)
                blocks[is_row] = values
                return blocks

            own: Any = self._block_task[place]
            yield TaskBatch(
                in_blocks(x), in_blocks(self._y[rows]), in_blocks(self._weight[rows]), own
            )


def stream_stats(
    encoder: Encoder, params: Params, chunks: Iterable[TaskBatch], *, num_tasks: int
) -> HeadStats:
    """Sums the statistics of every task's head over chunks; see `head_stats`.

    Args:
      encoder: any.
      params: its parameters.
      chunks: packed samples of one shape, such as `PackedChunks`.
      num_tasks: M.

    Returns:
      `HeadStats` of M tasks: those of all samples at once, up to the order of additions.

    Raises:
      ValueError: if there is no chunk.
    """
    return _added(_stats_of, (encoder, num_tasks), chunks, params)


def stream_moments(
    chunks: Iterable[TaskBatch], *, num_tasks: int, intercept: bool = True
) -> TaskMoments:
    """Sums the second moments of every task over chunks, for `fit_moments`.

    The chunks are gone through twice, for the means and for products about them: sums of raw
    products would lose the digits in which inputs far from zero differ.

    Args:
      chunks: packed samples of one shape with inputs that are vectors, such as `PackedChunks`.
      num_tasks: M.
      intercept: whether heads will have an intercept.

    Returns:
      `TaskMoments` of M tasks: those of all samples at once, up to the order of additions.

    Raises:
      ValueError: if there is no chunk, chunks can be gone through only once, or inputs are not
        vectors.
    """
    if isinstance(chunks, Iterator):
        raise ValueError(
            "stream_moments goes through the chunks twice, got an iterator, which is spent after "
            "once. Give PackedChunks, or a list."
        )
    sums = _added(_sums_of, (num_tasks,), chunks)
    centred = _added(_centred_of, (intercept,), chunks, *sums.means(intercept))
    return moments_of(sums, centred, intercept=intercept)


def _added(
    sums_of: Callable[..., Any],
    settings: tuple,
    chunks: Iterable[TaskBatch],
    *others: Array | Params,
) -> Any:
    """Adds `sums_of(*settings, chunk, *others)` over the chunks; the settings are static."""
    total = None
    for host in chunks:  # made while the device still adds up the one before
        chunk = jax.device_put(host)
        if total is None:
            shapes = jax.eval_shape(functools.partial(sums_of, *settings), chunk, *others)
            total = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        jax.block_until_ready(total)  # or more and more chunks would wait on the device
        total = _add(sums_of, settings, total, chunk, *others)
    if total is None:
        raise ValueError("Expected at least one chunk of samples, got none.")
    return total


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def _add(
    sums_of: Callable[..., Any], settings: tuple, total: Any, chunk: TaskBatch, *others: Any
) -> Any:
    return jax.tree.map(jnp.add, total, sums_of(*settings, chunk, *others))


def _stats_of(encoder: Encoder, num_tasks: int, chunk: TaskBatch, params: Params) -> HeadStats:
    features = encode_live(encoder, params, chunk.x, chunk.weight)
    return head_stats(features, chunk, num_tasks=num_tasks)


def _sums_of(num_tasks: int, chunk: TaskBatch) -> MomentSums:
    if chunk.x.ndim != 3:
        raise ValueError(
            f"stream_moments expects inputs that are vectors, x [B, R, D], got {chunk.x.shape}; "
            "flatten images before packing them."
        )
    return moment_sums(chunk, num_tasks)


def _centred_of(intercept: bool, chunk: TaskBatch, mean: Array, label_mean: Array) -> CentredSums:
    return centred_sums(chunk, mean, label_mean, intercept=intercept)
