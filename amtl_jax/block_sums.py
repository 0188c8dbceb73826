"""Sums of weighted row products over packed blocks.

On an accelerator all blocks are one batched matmul of the rows `[phi(x), 1, y]`. On a CPU that
would write every weighted row and every block's products to fresh memory first, and the page faults
cost more than the arithmetic; there, a few blocks at a time stay in the cache.
"""

import jax
import jax.numpy as jnp

from amtl_jax.tiles import take_tile, tile_size
from amtl_jax.types import Array, HeadStats

# TF32 or bf16 products, the default on accelerators, ruin a Gram matrix.
PRECISION = jax.lax.Precision.HIGHEST
_SUM_ROWS = 128


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
    rows = features, labels, weight, jnp.repeat(task, parts)
    _, block_rows, num_features = features.shape
    tile = tile_size(num_features * (block_rows + num_features))
    if tile >= len(weight):
        return add_by_task(block_sums(*rows[:3]), rows[3], num_tasks)
    return jax.lax.platform_dependent(
        *rows,
        cpu=lambda *rows: in_tiles(*rows, num_tasks=num_tasks, tile=tile),
        default=lambda *rows: add_by_task(folded_sums(*rows[:3]), rows[3], num_tasks),
    )


def _parts(block_rows: int) -> int:
    """Into how many short sums a block of that many rows falls."""
    divides = block_rows > _SUM_ROWS and block_rows % _SUM_ROWS == 0
    return block_rows // _SUM_ROWS if divides else 1


def block_sums(features: Array, labels: Array, weight: Array) -> HeadStats:
    """Sums of every block, a leading `[B]` on all leaves."""
    weighted = weight[..., None] * features
    side = jnp.concatenate([jnp.ones_like(labels[..., :1]), labels], axis=-1)
    cross = jnp.einsum("brs,brk->bsk", side, weighted, precision=PRECISION)
    weighted_labels = weight[..., None] * labels
    return HeadStats(
        gram=jnp.einsum("brp,brq->bpq", weighted, features, precision=PRECISION),
        moment=jnp.swapaxes(cross[:, 1:], 1, 2),
        energy=jnp.sum(weighted_labels * labels, axis=1),
        feature_sum=cross[:, 0],
        label_sum=jnp.sum(weighted_labels, axis=1),
        count=jnp.sum(weight, axis=1),
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


def add_by_task(sums: HeadStats, task: Array, num_tasks: int) -> HeadStats:
    """Adds the sums of the blocks of each task, in the order of the blocks."""
    return jax.tree.map(lambda leaf: jax.ops.segment_sum(leaf, task, num_tasks), sums)


def in_tiles(
    features: Array, labels: Array, weight: Array, task: Array, *, num_tasks: int, tile: int
) -> HeadStats:
    """The same, `tile` blocks at a time; a tile of padding costs nothing."""
    shape = {"num_tasks": num_tasks, "tile": tile}

    @jax.custom_jvp
    def summed(features: Array, labels: Array, weight: Array) -> HeadStats:
        return _in_tiles(features, labels, weight, task, **shape, skip=True)

    @summed.defjvp
    def _(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[HeadStats, HeadStats]:
        # Rows of weight 0 have a derivative by their weight: here no tile is passed over.
        def whole(features: Array, labels: Array, weight: Array) -> HeadStats:
            return _in_tiles(features, labels, weight, task, **shape, skip=False)

        return jax.jvp(whole, primals, tangents)

    return summed(features, labels, weight)


def _in_tiles(
    features: Array,
    labels: Array,
    weight: Array,
    task: Array,
    *,
    num_tasks: int,
    tile: int,
    skip: bool,
) -> HeadStats:
    rows = features, labels, weight

    def step(total: HeadStats, first: Array) -> tuple[HeadStats, None]:
        begin, (*own, own_weight, own_task) = take_tile((*rows, task), first, tile)
        is_new = begin + jnp.arange(tile) >= first
        own_weight = jnp.where(is_new[:, None], own_weight, 0)
        counts = jnp.any(own_weight != 0) if skip else True
        sums = jax.lax.cond(counts, block_sums, lambda *own: empty(tile), *own, own_weight)
        return jax.tree.map(lambda leaf, new: leaf.at[own_task].add(new), total, sums), None

    def empty(count: int) -> HeadStats:
        shapes = jax.eval_shape(block_sums, *(leaf[:1] for leaf in rows))
        return jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape[1:]), leaf.dtype), shapes)

    total, _ = jax.lax.scan(step, empty(num_tasks), jnp.arange(0, len(task), tile))
    return total
