"""One program for many cases: compiled once, mapped over those that are computed at once."""

import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def several(function: Callable[..., Any], num_shared: int) -> Callable[..., list[Any]]:
    """A program over a list of cases, which are computed at once; the first arguments are shared.

    One case is no batch of one: a loop with a condition for each member would copy its state.

    Args:
      function: of the shared arguments and those of a case.
      num_shared: how many come before the list of cases.

    Returns:
      A function of the shared arguments and a list of tuples, a tuple for each case, to a list of
      results that are computed when it returns.
    """
    one = jax.jit(function)
    axes = {}

    def call(*arguments: Any) -> list[Any]:
        shared, cases = arguments[:num_shared], arguments[num_shared]
        if len(cases) == 1:
            return [jax.block_until_ready(one(*shared, *cases[0]))]
        width = len(cases[0])
        if width not in axes:
            in_axes = (None,) * num_shared + (0,) * width
            axes[width] = jax.jit(jax.vmap(function, in_axes))
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *cases)
        found = jax.block_until_ready(axes[width](*shared, *stacked))
        return [jax.tree.map(operator.itemgetter(index), found) for index in range(len(cases))]

    return call
