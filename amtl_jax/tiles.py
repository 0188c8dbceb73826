"""The cache of a CPU core: how many items of a batch to work on at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from amtl_jax.types import Array

# Of a tile: a quarter of a megabyte in float32. XLA divides elementwise passes over more than 50 KB
# among threads, and to wake one takes longer than the pass. Each array of a solution is a fifth.
_NUMBERS = 1 << 16


def tile_size(numbers: int) -> int:
    """How many items of so many numbers each stay in the cache, at least one."""
    return max(_NUMBERS // max(numbers, 1), 1)


def map_in_tiles(function: Callable[..., Any], trees: tuple[Any, ...], *, tile: int) -> Any:
    """Maps a function of one item over the leading axis, on a CPU a few items at a time.

    A batched chain of operations writes every intermediate of all items to memory that the
    allocator took afresh from the system, and the page faults cost more than the arithmetic.
    Elsewhere, and where one tile holds them all, it is `jax.vmap`.

    Args:
      function: of trees without the leading axis.
      trees: its arguments, `[n, ...]` leaves.
      tile: items at a time.

    Returns:
      What `jax.vmap(function)(*trees)` returns, up to rounding.
    """
    mapped = jax.vmap(function)
    count = len(jax.tree.leaves(trees)[0])
    if tile >= count:
        return mapped(*trees)

    def in_tiles(*trees: Any) -> Any:
        def step(result: Any, first: Array) -> tuple[Any, None]:
            begin, own = take_tile(trees, first, tile)
            new = mapped(*own)
            put = jax.lax.dynamic_update_slice_in_dim
            return jax.tree.map(lambda leaf, part: put(leaf, part, begin, 0), result, new), None

        shapes = jax.eval_shape(mapped, *trees)
        empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return jax.lax.scan(step, empty, jnp.arange(0, count, tile))[0]

    return jax.lax.platform_dependent(*trees, cpu=in_tiles, default=mapped)


def take_tile(trees: Any, first: Array, tile: int) -> tuple[Array, Any]:
    """Takes `tile` items from `first` on; at the end the last ones, which overlap those before.

    Returns:
      `[]` where they begin, and a tree of `[tile, ...]` leaves.
    """
    begin = jnp.minimum(first, len(jax.tree.leaves(trees)[0]) - tile)
    return begin, jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, begin, tile), trees)
