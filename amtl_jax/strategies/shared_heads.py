"""Heads on the directions that the sources share, which relevance is solved on."""

import jax
import jax.numpy as jnp

from amtl_jax.types import Array, Evidence

_PRECISION = jax.lax.Precision.HIGHEST
_TOLERANCE = 1e-2


def shared_heads(evidence: Evidence) -> tuple[Array, Array]:
    """Expresses all heads in the principal directions of what the source heads predict.

    `W nu = w_target` is blind to scale: a feature that no source uses, because the penalty has
    all but switched it off, would weigh as much as any other and blow up nu. So the heads are
    brought to coordinates in which the pooled within-task covariance of the features is the
    identity, where a head's norm is the size of its predictions, and directions in which the
    sources' predictions have less than a hundredth of the largest singular value are set to
    zero, in the sources and in the target. Where there is none, no solution nu changes.

    Args:
      evidence: of a round.

    Returns:
      Source heads `[M, K, O]` and target head `[K, O]` in the new coordinates.
    """
    stats, weight = evidence.source_stats, evidence.source_heads.weight
    count = jnp.maximum(stats.count, 1.0)
    means = stats.feature_sum / count[:, None]
    outer = jnp.einsum("mk,ml->kl", means, stats.feature_sum, precision=_PRECISION)
    covariance = (jnp.sum(stats.gram, axis=0) - outer) / jnp.maximum(jnp.sum(stats.count), 1.0)
    variance, axes = jnp.linalg.eigh(covariance)
    root = jnp.sqrt(jnp.maximum(variance, 0.0))[:, None] * axes.T  # [K, K]

    white = jnp.einsum("kl,mlo->mko", root, weight, precision=_PRECISION)
    energy = jnp.einsum("mko,mlo->kl", white, white, precision=_PRECISION)
    strength, directions = jnp.linalg.eigh(energy)
    kept = strength > _TOLERANCE**2 * strength[-1]
    turn = kept[:, None] * jnp.matmul(directions.T, root, precision=_PRECISION)
    source_heads = jnp.einsum("kl,mlo->mko", turn, weight, precision=_PRECISION)
    return source_heads, jnp.matmul(turn, evidence.target_head.weight, precision=_PRECISION)
