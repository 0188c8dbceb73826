"""Sums of weighted row products over packed blocks.

On an accelerator all blocks are one batched matmul of the rows `[phi(x), 1, y]`. On a CPU that
would write every weighted row and every block's products to fresh memory first, and the page faults
cost more than the arithmetic; there, a few blocks at a time stay in the cache.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from amtl_jax.sharded import Sums, add_blocks, empty_sums, sum_by_task
from amtl_jax.tiles import take_tile, tile_size
from amtl_jax.types import Array, HeadStats

# TF32 or bf16 products, the default on accelerators, ruin a Gram matrix.
PRECISION = jax.lax.Precision.HIGHEST
_SUM_ROWS = 128

_Rows = tuple[Array, Array, Array]  # features `[B, R, K]`, labels `[B, R, O]`, weight `[B, R]`


def sum_blocks(
    features: Array, labels: Array, weight: Array, task: Array, *, num_tasks: int
) -> HeadStats:
    """Sums the statistics of every task over its blocks.

    Short sums first, of at most 128 rows where the rows of a block divide so, keep the rounding of
    float32 small.

    Args:
      features: `[B, R, K]` floats.
      labels: `[B, R, O]` floats of the same dtype.
      weight: `[B, R]` of the same dtype.
      task: `[B]` task of each block.
      num_tasks: M, static.

    Returns:
      `HeadStats` of M tasks; zeros for tasks without a block.
    """
    parts = _parts(weight.shape[1])
    features, labels, weight = (
        leaf.reshape(leaf.shape[0] * parts, leaf.shape[1] // parts, *leaf.shape[2:])
        for leaf in (features, labels, weight)
    )
    tile = tile_size(features.shape[-1] * (features.shape[1] + features.shape[-1]))

    def of_blocks(rows: _Rows, slot: Array, num_edges: int) -> tuple[None, Sums]:
        shape = num_tasks, num_edges
        if tile >= len(slot):
            return None, at_once(block_sums, rows, slot, *shape)
        return None, jax.lax.platform_dependent(
            rows,
            slot,
            cpu=lambda rows, slot: in_tiles(rows, slot, *shape, tile=tile),
            default=lambda rows, slot: at_once(folded_sums, rows, slot, *shape),
        )

    rows = features, labels, weight
    return sum_by_task(of_blocks, rows, jnp.repeat(task, parts), num_tasks=num_tasks)[1]


def _parts(block_rows: int) -> int:
    """Into how many short sums a block of that many rows falls."""
    divides = block_rows > _SUM_ROWS and block_rows % _SUM_ROWS == 0
    return block_rows // _SUM_ROWS if divides else 1


def block_sums(features: Array, labels: Array, weight: Array) -> HeadStats:
    """Sums of every block, a leading `[B]` on all leaves.

    All of them are matmuls: on a CPU a plain sum of many blocks adds in another order than one of
    few, and on a mesh a device has few.
    """
    weighted = weight[..., None] * features
    side = jnp.concatenate([jnp.ones_like(labels[..., :1]), labels], axis=-1)
    cross = jnp.einsum("brs,brk->bsk", side, weighted, precision=PRECISION)
    corner = jnp.einsum("brs,brt->bst", side, weight[..., None] * side, precision=PRECISION)
    return HeadStats(
        gram=jnp.einsum("brp,brq->bpq", weighted, features, precision=PRECISION),
        moment=jnp.swapaxes(cross[:, 1:], 1, 2),
        energy=jnp.diagonal(corner[:, 1:, 1:], axis1=1, axis2=2),
        feature_sum=cross[:, 0],
        label_sum=corner[:, 0, 1:],
        count=corner[:, 0, 0],
    )


def folded_sums(features: Array, labels: Array, weight: Array) -> HeadStats:
    """The same by one matmul of the rows `[phi(x), 1, y]`: the rows are read once."""
    one = features.shape[-1]
    rows = jnp.concatenate([features, jnp.ones_like(labels[..., :1]), labels], axis=-1)
    weighted = weight[..., None] * rows
    total = jnp.einsum("brp,brq->bpq", weighted, rows, precision=PRECISION)
    return HeadStats(
        gram=total[:, :one, :one],
        moment=total[:, :one, one + 1 :],
        energy=jnp.diagonal(total[:, one + 1 :, one + 1 :], axis1=1, axis2=2),
        feature_sum=total[:, :one, one],
        label_sum=total[:, one, one + 1 :],
        count=total[:, one, one],
    )


def at_once(
    sums_of: Callable[..., HeadStats], rows: _Rows, slot: Array, num_tasks: int, num_edges: int
) -> Sums:
    """The sums of all blocks by slot."""
    sums = sums_of(*rows)
    return add_blocks(empty_sums(sums, num_tasks, num_edges), slot, sums)


def in_tiles(rows: _Rows, slot: Array, num_tasks: int, num_edges: int, *, tile: int) -> Sums:
    """The same, `tile` blocks at a time; tiles behind the last block that counts cost nothing."""

    def total(skip: bool) -> Callable[..., Sums]:
        return lambda *rows: _in_tiles(rows, slot, num_tasks, num_edges, tile=tile, skip=skip)

    @jax.custom_jvp
    def summed(*rows: Array) -> Sums:
        return total(skip=True)(*rows)

    @summed.defjvp
    def _(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Sums, Sums]:
        # Rows of weight 0 have a derivative by their weight: here no tile is passed over.
        return jax.jvp(total(skip=False), primals, tangents)

    return summed(*rows)


def _in_tiles(
    rows: _Rows, slot: Array, num_tasks: int, num_edges: int, *, tile: int, skip: bool
) -> Sums:
    num_blocks = len(slot)

    def add(total: Sums, first: Array) -> Sums:
        begin, (features, labels, own_weight, own_slot) = take_tile((*rows, slot), first, tile)
        is_new = begin + jnp.arange(tile) >= first
        own_weight = jnp.where(is_new[:, None], own_weight, 0)
        return add_blocks(total, own_slot, block_sums(features, labels, own_weight))

    shapes = jax.eval_shape(block_sums, *(leaf[:tile] for leaf in rows))
    total = empty_sums(shapes, num_tasks, num_edges)
    if not skip:
        firsts = jnp.arange(0, num_blocks, tile)
        return jax.lax.scan(lambda total, first: (add(total, first), None), total, firsts)[0]
    # No condition in the loop: its result would be copied.
    counts = jnp.any(rows[2] != 0, axis=1)
    live = jnp.max(jnp.where(counts, jnp.arange(1, num_blocks + 1), 0))
    return jax.lax.fori_loop(0, -(-live // tile), lambda n, total: add(total, n * tile), total)
