"""How well every source's head already predicts the target's labels."""

import jax
import jax.numpy as jnp

from amtl_jax.centred_stats import beyond_rounding
from amtl_jax.types import Array, Heads, HeadStats

_PRECISION = jax.lax.Precision.HIGHEST


def alignment(source_heads: Heads, target_stats: HeadStats) -> Array:
    """Correlates the target's labels with every source head's predictions on the target sample.

    Needs no predictions: numerator and denominator are quadratic forms of the statistics.

    Args:
      source_heads: heads of M sources.
      target_stats: the target's statistics on the same features, no leading axis.

    Returns:
      `[M]` correlations in [-1, 1], averaged over outputs; 0 where a side is constant.
    """
    count = jnp.where(target_stats.count > 0, target_stats.count, 1.0)
    mean = target_stats.feature_sum / count
    gram = target_stats.gram - jnp.outer(mean, target_stats.feature_sum)
    moment = target_stats.moment - jnp.outer(mean, target_stats.label_sum)
    energy = beyond_rounding(
        target_stats.energy - target_stats.label_sum**2 / count, target_stats.energy
    )
    covariance = jnp.einsum("mko,ko->mo", source_heads.weight, moment, precision=_PRECISION)
    projected = jnp.einsum("kl,mlo->mko", gram, source_heads.weight, precision=_PRECISION)
    variance = jnp.sum(source_heads.weight * projected, axis=1) * energy[None]
    safe = jnp.where(variance > 0, variance, 1.0)
    correlation = jnp.where(variance > 0, covariance * jax.lax.rsqrt(safe), 0.0)
    return jnp.clip(correlation, -1.0, 1.0).mean(axis=-1)
