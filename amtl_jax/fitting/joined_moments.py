"""Moments of rows that are weighed anew, or put together, from moments alone."""

import jax.numpy as jnp
from jax.typing import ArrayLike

from amtl_jax.fitting.moments import TaskMoments
from amtl_jax.types import Array


def weigh_moments(moments: TaskMoments, factors: Array) -> TaskMoments:
    """The moments of rows whose weights are multiplied by their task's factor, `[M]`, above 0."""
    linear = ("gram", "moment", "energy", "input_sum", "label_sum", "count")

    def weighed(leaf: Array) -> Array:
        return leaf * factors.reshape(-1, *[1] * (leaf.ndim - 1))

    return moments._replace(**{name: weighed(getattr(moments, name)) for name in linear})


def join_moments(first: TaskMoments, second: TaskMoments, share: ArrayLike = 1.0) -> TaskMoments:
    """The moments of two sets of rows of the same tasks together.

    Products about either mean become products about the joint one, which loses no digits: what is
    added is positive semi-definite.

    Args:
      first: of one set.
      second: of the other.
      share: `[]` what the weights of the other set are multiplied by; with 0 the result is `first`.

    References:
      Chan, Golub, LeVeque. Updating formulae and a pairwise algorithm for computing sample
      variances. 1979.
    """
    share = jnp.asarray(share, first.count.dtype)
    added = share * second.count
    count = first.count + added
    part = jnp.where(count > 0, added / jnp.where(count > 0, count, 1.0), 0.0)  # [M] of the other
    shift = second.mean - first.mean
    label_shift = second.label_mean - first.label_mean
    lever = (first.count * part)[:, None]

    def products(left: Array, right: Array) -> Array:  # [M, P, Q]
        return (lever * left)[:, :, None] * right[:, None, :]

    return TaskMoments(
        gram=first.gram + share * second.gram + products(shift, shift),
        moment=first.moment + share * second.moment + products(shift, label_shift),
        energy=first.energy + share * second.energy + lever * label_shift**2,
        mean=first.mean + part[:, None] * shift,
        label_mean=first.label_mean + part[:, None] * label_shift,
        input_sum=first.input_sum + share * second.input_sum,
        label_sum=first.label_sum + share * second.label_sum,
        count=count,
        num_rows=first.num_rows + jnp.sign(share) * second.num_rows,
    )
