"""One program for many cases: compiled once, mapped over those that are computed at once."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as Spec

from amtl_jax.sharded import TARGETS


def several(
    function: Callable[..., Any], num_shared: int, mesh: Mesh | None = None
) -> Callable[..., list[Any]]:
    """A program over a list of cases, which are computed at once; the first arguments are shared.

    One case is no batch of one: a loop with a condition for each member would copy its state.

    Args:
      function: of the shared arguments and those of a case.
      num_shared: how many come before the list of cases.
      mesh: whose axis `targets` the cases are dealt to; None: one device computes them all.

    Returns:
      A function of the shared arguments and a list of tuples, a tuple for each case, to a list of
      results that are computed when it returns.
    """
    one = jax.jit(function)
    programs = {}

    def call(*arguments: Any) -> list[Any]:
        shared, cases = arguments[:num_shared], arguments[num_shared]
        if len(cases) == 1 and mesh is None:
            return [jax.block_until_ready(one(*shared, *cases[0]))]
        width = len(cases[0])
        if width not in programs:
            programs[width] = jax.jit(batched(function, num_shared, width, mesh))
        found = programs[width](*shared, *_stacked(cases, mesh))
        if mesh is not None:  # what follows is computed where the rest of it lies
            found = jax.tree.map(np.asarray, found)
        found = jax.block_until_ready(found)
        return [jax.tree.map(operator.itemgetter(index), found) for index in range(len(cases))]

    return call


def batched(
    function: Callable[..., Any], num_shared: int, width: int, mesh: Mesh | None
) -> Callable[..., Any]:
    """Maps a function over a leading axis of its last `width` arguments; see `several`.

    On a mesh no device waits for another: there is no collective.
    """
    mapped = jax.vmap(function, (None,) * num_shared + (0,) * width)
    if mesh is None:
        return mapped

    def of_device(*arguments: Any) -> Any:
        shared, own = arguments[:num_shared], arguments[num_shared:]
        if len(jax.tree.leaves(own)[0]) > 1:
            return mapped(*arguments)
        found = function(*shared, *jax.tree.map(operator.itemgetter(0), own))
        return jax.tree.map(lambda leaf: leaf[None], found)

    specs = (Spec(),) * num_shared + (Spec(TARGETS),) * width
    return jax.shard_map(
        of_device, mesh=mesh, in_specs=specs, out_specs=Spec(TARGETS), check_vma=False
    )


def _stacked(cases: Sequence[tuple[Any, ...]], mesh: Mesh | None) -> tuple[Any, ...]:
    """Cases along a leading axis; on a mesh the last one again, until all devices have as many."""
    missing = 0 if mesh is None else -len(cases) % mesh.shape[TARGETS]
    cases = [*cases, *[cases[-1]] * missing]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *cases)
