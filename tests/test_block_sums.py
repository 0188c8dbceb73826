"""Sums over blocks: all at once, by one folded matmul, and a few blocks at a time, all alike."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amtl_jax import block_sums
from amtl_jax.sharded import sum_by_task

NUM_TASKS = 5


def blocks(num_blocks=11, block_rows=8, num_features=3, num_outputs=2, seed=0):
    """Random blocks of tasks 0, 2 and 4; the last three are padding."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(num_blocks, block_rows, num_features))
    labels = rng.normal(size=(num_blocks, block_rows, num_outputs))
    weight = rng.uniform(size=(num_blocks, block_rows)) * rng.integers(0, 2, (num_blocks, 1))
    weight[-3:] = 0
    task = np.sort(rng.choice([0, 2, 4], num_blocks))
    return *(jnp.asarray(leaf, jnp.float32) for leaf in (features, labels, weight)), task


def by_hand(features, labels, weight, task):
    """The sums in float64, row by row."""
    features, labels, weight = (np.asarray(leaf, np.float64) for leaf in (features, labels, weight))
    num_features, num_outputs = features.shape[-1], labels.shape[-1]
    gram = np.zeros((NUM_TASKS, num_features, num_features))
    moment = np.zeros((NUM_TASKS, num_features, num_outputs))
    energy, label_sum = np.zeros((2, NUM_TASKS, num_outputs))
    feature_sum, count = np.zeros((NUM_TASKS, num_features)), np.zeros(NUM_TASKS)
    for block, own in enumerate(task):
        for x, y, w in zip(features[block], labels[block], weight[block], strict=True):
            gram[own] += w * np.outer(x, x)
            moment[own] += w * np.outer(x, y)
            energy[own] += w * y**2
            feature_sum[own] += w * x
            label_sum[own] += w * y
            count[own] += w
    return block_sums.HeadStats(gram, moment, energy, feature_sum, label_sum, count)


def by_task(of_blocks):
    def summed(*rows):
        def with_edges(rows, slot, num_edges):
            return None, of_blocks(rows, slot, NUM_TASKS, num_edges)

        return sum_by_task(with_edges, rows[:3], rows[3], num_tasks=NUM_TASKS)[1]

    return summed


at_once = by_task(functools.partial(block_sums.at_once, block_sums.block_sums))
folded = by_task(functools.partial(block_sums.at_once, block_sums.folded_sums))


def tiles_of(tile):
    return by_task(functools.partial(block_sums.in_tiles, tile=tile))


# 11 blocks: tiles of one, tiles whose last overlaps the one before, and two that divide evenly.
WAYS = [at_once, folded, *map(tiles_of, (1, 2, 4, 10, 11))]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", range(3))
def test_every_way_gives_the_sums(way, seed):
    rows = blocks(seed=seed)
    chex.assert_trees_all_close(jax.jit(way)(*rows), by_hand(*rows), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("block_rows", [8, 192, 256, 384])
def test_long_blocks_are_summed_in_short_parts(block_rows):
    rows = blocks(block_rows=block_rows)
    found = block_sums.sum_blocks(*rows, num_tasks=NUM_TASKS)
    chex.assert_trees_all_close(found, by_hand(*rows), rtol=1e-5, atol=1e-4)


def test_many_blocks_go_through_tiles_and_none_is_lost():
    rows = blocks(num_blocks=2_600, num_features=20)  # 4 tiles and a part
    assert block_sums.tile_size(20 * 28) < 2_600
    found = jax.jit(lambda *rows: block_sums.sum_blocks(*rows, num_tasks=NUM_TASKS))(*rows)
    expected = by_hand(*rows)
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=5e-3)
    np.testing.assert_allclose(found.count.sum(), rows[2].sum(), rtol=1e-5)


def test_no_block_at_all():
    rows = blocks(num_blocks=4)
    empty = [leaf[:0] for leaf in rows]
    found = block_sums.sum_blocks(*empty, num_tasks=NUM_TASKS)
    assert all((leaf == 0).all() for leaf in found)
    chex.assert_shape(found.gram, (NUM_TASKS, 3, 3))


@pytest.mark.parametrize("way", [folded, tiles_of(4)])
def test_derivatives_and_batches_are_those_of_the_plain_sums(way):
    rows = blocks()

    def loss(sums_of, features, weight):
        sums = sums_of(features, rows[1], weight, rows[3])
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in sums)

    gradient = jax.grad(loss, argnums=(1, 2))
    chex.assert_trees_all_close(
        gradient(way, rows[0], rows[2]), gradient(at_once, rows[0], rows[2]), rtol=1e-4, atol=1e-4
    )
    weights = jnp.stack([rows[2], 2 * rows[2], jnp.zeros_like(rows[2])])
    batched = jax.vmap(lambda weight: way(rows[0], rows[1], weight, rows[3]))(weights)
    plain = [at_once(rows[0], rows[1], weight, rows[3]) for weight in weights]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *plain)
    chex.assert_trees_all_close(batched, stacked, rtol=1e-5, atol=1e-5)


def test_rows_that_do_not_count_may_hold_any_number_but_nan():
    features, labels, weight, task = blocks()
    loud = jnp.where(weight[..., None] > 0, features, 1e30)
    chex.assert_trees_all_close(
        tiles_of(4)(loud, labels, weight, task), tiles_of(4)(features, labels, weight, task)
    )


def test_a_weight_that_is_not_a_number_shows():
    features, labels, weight, task = blocks()
    found = tiles_of(1)(features, labels, weight.at[-1].set(jnp.nan), task)
    assert np.isnan(found.count[task[-1]])
