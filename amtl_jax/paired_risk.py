"""Risks that one run would have with two allocations of the same samples, as far as both buy them.

Whether an allocation is the better one in a run is a question about pairs: the errors of the two
representations come from shared samples in part, and go together to that extent.
"""

import jax
import jax.numpy as jnp

from amtl_jax.forecast import pulls_of, risks_of
from amtl_jax.knowledge import HeadDraws
from amtl_jax.types import Array

_ROUNDING = 1e-4


def paired_risks(
    key: Array, draws: HeadDraws, counts: Array, reference: Array, *, repeats: int = 16
) -> tuple[Array, Array]:
    """Representation terms of single runs with `counts` and with `reference`.

    To first order the error of direction j is `w_TᵀA⁻¹Σ_m w_m g_mj/s2_m`, g_mj the sum of n_m
    products of inputs and noise, of which the two allocations share `min(n_m, n'_m)`. A run's risk
    is the sum of D − K such squares: two χ² of correlated normals. Several outputs of a target are
    taken to go together, as one.

    Args:
      key: PRNG key.
      draws: of all heads.
      counts: `[M]` samples of each source.
      reference: `[M]` samples of the other allocation.
      repeats: runs of each draw; static.

    Returns:
      `[repeats, S, T]` of both, with what finite samples add, as `predicted_risk` has it.
    """
    first_pulls = pulls_of(draws, counts)
    own_risks = risks_of(draws, first_pulls)
    # One behind the other: see `centred_stats.after`.
    other_pulls = pulls_of(draws, reference + 0 * own_risks[0, 0])
    other_risks = risks_of(draws, other_pulls)
    shared = jnp.minimum(first_pulls.rows, other_pulls.rows)[None, None, :, None, None]
    both = first_pulls.each * other_pulls.each
    covariance = jnp.sum(shared * both, axis=(2, 3, 4))  # [S, T]
    size = jnp.sqrt(first_pulls.variance * other_pulls.variance)
    correlation = covariance / jnp.where(size > 0, size, 1.0)
    correlation = jnp.where(correlation > 1 - _ROUNDING, 1.0, jnp.maximum(correlation, -1.0))[None]

    # Two correlated χ² by Bartlett's factor of a Wishart matrix: no array of D − K directions.
    shape = (repeats, *covariance.shape)
    keys = jax.random.split(key, 3)
    freedom = jnp.maximum(draws.free, 2.0)
    first = jnp.sqrt(jax.random.chisquare(keys[0], freedom, shape))
    across = jax.random.normal(keys[1], shape)
    second = jax.random.chisquare(keys[2], freedom - 1, shape)
    rest = 1 - correlation**2
    other = (correlation * first + jnp.sqrt(rest) * across) ** 2 + rest * second
    return own_risks[None] * first**2 / freedom, other_risks[None] * other / freedom


def share_worse(own: Array, other: Array) -> Array:
    """`[]` share of runs whose risk, summed over targets, is larger by more than rounding."""
    own, other = jnp.sum(own, axis=-1), jnp.sum(other, axis=-1)
    return jnp.mean(own > other * (1 + _ROUNDING), dtype=own.dtype)
