"""Reads of the samples by fits of the linear representation: the whole cost of their steps.

A step needs predictions xᵀθ of every row and, back from the rows, Σ ω x rᵀ of every task. Where the
second follows from the first, both come of one read: a CPU takes a few blocks at a time, small
enough to stay in its cache between the two, and adds up. An accelerator does better with all rows
at once. Images that are kept as bytes cross the memory bus as bytes.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from amtl_jax.encoding import as_float
from amtl_jax.sharded import Sums, add_blocks, empty_sums, sum_by_task
from amtl_jax.types import Array, TaskBatch

_PRECISION = jax.lax.Precision.HIGHEST
_CACHED = 2**16  # inputs that a core keeps at hand
_MAX_COLUMNS = 4

# Some blocks and what else is known of their rows, `[P, B, R]`, to new rows, of that shape or none,
# and the sums `[P, B, D]` of each block.
_OfBlocks = Callable[[TaskBatch, Array], tuple[Array, Array]]


def predict_and_correlate(
    batch: TaskBatch, theta: Array, offset: Array, num_tasks: int
) -> tuple[Array, Array]:
    """Rows r = xᵀθ + offset of every sample, and Σ ω x rᵀ of every task, in one read.

    Args:
      batch: samples with inputs `[B, R, D]`.
      theta: `[P, M, D]`, each row meets that of its task. The P columns come first everywhere,
        because they are read one by one.
      offset: `[P, B, R]`.
      num_tasks: M, static.

    Returns:
      Rows `[P, B, R]`, those of padding among them, and sums `[P, M, D]`.
    """

    def of_blocks(some: TaskBatch, offset: Array) -> tuple[Array, Array]:
        columns = [own[some.task] for own in theta]  # a gather of all at once would be copied
        rows = _each("brd,bd->br", some.x, columns) + offset
        return rows, _sums(some, rows)

    return _read(batch, offset, of_blocks, num_tasks)


def correlate(batch: TaskBatch, rows: Array, num_tasks: int) -> Array:
    """Σ ω x rowᵀ of every task: `[P, B, R]` to `[P, M, D]`."""

    def of_blocks(some: TaskBatch, rows: Array) -> tuple[Array, Array]:
        return rows[:0], _sums(some, rows)

    return _read(batch, rows, of_blocks, num_tasks)[1]


def _sums(some: TaskBatch, rows: Array) -> Array:
    """Σ ω x rowᵀ of every block: `[P, B, R]` to `[P, B, D]`."""
    return _each("brd,br->bd", some.x, [some.weight * own for own in rows])


def _each(equation: str, x: Array, columns: list[Array]) -> Array:
    """An einsum of the inputs with each of P columns, to `[P, ...]`.

    A CPU has fast matrix-vector products, even read twice; elsewhere one read is what counts.
    """

    def one(x: Array, column: Array) -> Array:
        return jnp.einsum(equation, x, column, precision=_PRECISION)

    def by_column(x: Array, columns: list[Array]) -> Array:
        return jnp.stack([one(x, column) for column in columns])

    def at_once(x: Array, columns: list[Array]) -> Array:
        return jax.vmap(one, in_axes=(None, 0))(x, jnp.stack(columns))

    if len(columns) > _MAX_COLUMNS:
        return at_once(x, columns)
    return jax.lax.platform_dependent(x, columns, cpu=by_column, default=at_once)


def _read(
    batch: TaskBatch, extra: Array, of_blocks: _OfBlocks, num_tasks: int
) -> tuple[Array, Array]:
    """Rows `[P, B, R]` of all blocks and the sums `[P, M, D]` of all tasks.

    The loop's length does not depend on what the blocks hold, so that a batch of fits reads slices
    too, and does not gather.
    """
    block_rows, num_inputs = batch.x.shape[1:]
    dtype = batch.weight.dtype

    def at_once(batch: TaskBatch, extra: Array, slot: Array, num_edges: int) -> tuple[Array, Sums]:
        rows, sums = of_blocks(batch._replace(x=as_float(batch.x, dtype)), extra)
        empty = empty_sums(sums, num_tasks, num_edges, axis=1)
        return rows, add_blocks(empty, slot, sums, axis=1)

    def in_chunks(
        batch: TaskBatch, extra: Array, slot: Array, num_edges: int, chunk: int
    ) -> tuple[Array, Sums]:
        num_blocks = len(slot)

        def add(index: Array, carry: tuple[Array, Sums]) -> tuple[Array, Sums]:
            # The last chunk starts earlier where chunks do not divide the blocks: what it does
            # again gives the same rows, and counts once.
            first = jnp.minimum(index * chunk, num_blocks - chunk)
            some: TaskBatch = jax.tree.map(
                lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, first, chunk), batch
            )
            is_new = first + jnp.arange(chunk) >= index * chunk
            some = some._replace(
                x=as_float(some.x, dtype), weight=jnp.where(is_new[:, None], some.weight, 0)
            )
            found, sums = of_blocks(some, jax.lax.dynamic_slice_in_dim(extra, first, chunk, axis=1))
            rows = jax.lax.dynamic_update_slice_in_dim(carry[0], found, first, axis=1)
            own = jax.lax.dynamic_slice_in_dim(slot, first, chunk)
            return rows, add_blocks(carry[1], own, sums, axis=1)

        shapes = jax.eval_shape(
            lambda batch, extra, slot: at_once(batch, extra, slot, num_edges), batch, extra, slot
        )
        empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return jax.lax.fori_loop(0, math.ceil(num_blocks / chunk), add, empty)

    def of_device(own: tuple[TaskBatch, Array], slot: Array, num_edges: int) -> tuple[Array, Sums]:
        chunk = min(max(_CACHED // max(block_rows * num_inputs, 1), 1), len(slot))
        batch, extra = own
        if chunk == len(slot):
            return at_once(batch, extra, slot, num_edges)
        return jax.lax.platform_dependent(
            batch,
            extra,
            slot,
            cpu=lambda batch, extra, slot: in_chunks(batch, extra, slot, num_edges, chunk),
            default=lambda batch, extra, slot: at_once(batch, extra, slot, num_edges),
        )

    return sum_by_task(
        of_device, (batch, extra), batch.task, num_tasks=num_tasks, in_axes=(0, 1), axis=1
    )
