"""Mapping over a leading axis a few items at a time is mapping over it."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amtl_jax.tiles import map_in_tiles, tile_size


def function(pair, scale):
    return {"sum": pair["a"].sum() * scale, "product": jnp.outer(pair["a"], pair["b"])}


def trees(count):
    rng = np.random.default_rng(0)
    a, b, scale = (rng.normal(size=(count, *shape)) for shape in ((3,), (2,), ()))
    return {"a": jnp.asarray(a), "b": jnp.asarray(b)}, jnp.asarray(scale)


@pytest.mark.parametrize("tile", [1, 2, 3, 6, 7, 100])
def test_tiles_give_what_vmap_gives(tile):
    own = trees(7)
    found = jax.jit(lambda *own: map_in_tiles(function, own, tile=tile))(*own)
    chex.assert_trees_all_close(found, jax.vmap(function)(*own), rtol=1e-6)


def test_derivatives_go_through_tiles():
    pair, scale = trees(7)

    def loss(tile, scale):
        found = map_in_tiles(function, (pair, scale), tile=tile)
        return jnp.sum(found["sum"] ** 2)

    np.testing.assert_allclose(
        jax.grad(lambda scale: loss(2, scale))(scale),
        jax.grad(lambda scale: loss(7, scale))(scale),
        rtol=1e-5,
    )


def test_an_item_beyond_the_cache_is_a_tile_of_its_own():
    assert tile_size(10**9) == 1
    assert tile_size(0) > 1
    assert tile_size(1_000) > tile_size(2_000) > 1
