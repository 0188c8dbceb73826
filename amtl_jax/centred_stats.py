"""Statistics about each task's own means, and the heads that one decomposition of them gives."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from amtl_jax.types import Array, HeadStats

_PRECISION = jax.lax.Precision.HIGHEST
_DEAD = 1e-6  # of the largest variance of a feature direction: float32 knows no less
_ROUNDING = 16  # float epsilons: what sums leave where nothing is left


class CentredHeads(NamedTuple):
    """Ridge heads of centred statistics, with what one decomposition of each Gram tells of them.

    Attributes:
      weight: `[M, K, O]`.
      squares: `[M, O]` squared residuals on the own rows, summed.
      freedom: `[M]` rows less the trace of the hat matrix.
      inverse: `[M]` trace of `(F_m + ridge I)⁻¹`, directions without rows left out.
    """

    weight: Array
    squares: Array
    freedom: Array
    inverse: Array


def centred(stats: HeadStats, intercept: ArrayLike) -> HeadStats:
    """Statistics about each task's means where heads have an intercept, which costs one row."""
    safe = jnp.where(stats.count > 0, stats.count, 1.0)
    share = jnp.where(intercept, 1.0 / safe, 0.0)
    mean = share[:, None] * stats.feature_sum
    label_mean = share[:, None] * stats.label_sum
    return HeadStats(
        gram=stats.gram - mean[:, :, None] * stats.feature_sum[:, None, :],
        moment=stats.moment - mean[:, :, None] * stats.label_sum[:, None, :],
        energy=beyond_rounding(stats.energy - label_mean * stats.label_sum, stats.energy),
        feature_sum=jnp.zeros_like(stats.feature_sum),
        label_sum=jnp.zeros_like(stats.label_sum),
        count=jnp.maximum(stats.count - jnp.where(intercept, 1.0, 0.0), 0.0),
    )


def beyond_rounding(squares: Array, energy: Array) -> Array:
    """What is left `[M, O]` of squares `energy`, zero where it is no more than rounding."""
    return jnp.where(squares > _ROUNDING * jnp.finfo(squares.dtype).eps * energy, squares, 0.0)


def principal_axes(stats: HeadStats) -> tuple[Array, Array]:
    """Axes of the pooled covariance of centred features, and their standard deviations.

    Returns:
      `[K, K]` axes as columns, and `[K]` deviations, ascending; 0 for directions that the features
      do not have.
    """
    total = jnp.sum(stats.count)
    covariance = jnp.sum(stats.gram, axis=0) / jnp.where(total > 0, total, 1.0)
    variance, axes = jnp.linalg.eigh(covariance)
    alive = variance > _DEAD * variance[-1]
    return axes, jnp.where(alive, jnp.sqrt(jnp.where(alive, variance, 1.0)), 0.0)


def whitening(axes: Array, deviation: Array) -> Array:
    """`[K, K]` map to features of identity covariance; zero where they have no deviation."""
    alive = deviation > 0
    return jnp.where(alive, 1 / jnp.where(alive, deviation, 1.0), 0.0)[:, None] * axes.T


def in_features(root: Array, stats: HeadStats) -> HeadStats:
    """Centred statistics of the features `root φ`."""
    half = jnp.einsum("kl,mlj->mkj", root, stats.gram, precision=_PRECISION)
    return stats._replace(
        gram=jnp.einsum("mkj,ij->mki", half, root, precision=_PRECISION),
        moment=jnp.einsum("kl,mlo->mko", root, stats.moment, precision=_PRECISION),
    )


def centred_heads(stats: HeadStats, ridge: Array) -> CentredHeads:
    """Heads `(F_m + ridge I)⁻¹h_m` of centred statistics."""
    size, axes = jnp.linalg.eigh(stats.gram)
    floor = 4 * size.shape[-1] * jnp.finfo(size.dtype).eps * jnp.maximum(size[:, -1:], 0.0)
    known = size > floor
    inverse = jnp.where(known, 1 / jnp.where(known, size + ridge, 1.0), 0.0)
    turned = jnp.einsum("mkl,mko->mlo", axes, stats.moment, precision=_PRECISION)
    weight = jnp.einsum("mkl,mlo->mko", axes, inverse[..., None] * turned, precision=_PRECISION)
    # y'y − 2w'h + w'Fw, in eigenvectors: each takes (1/(s+r)) (2 − s/(s+r)) of (Vᵀh)².
    hat = jnp.where(known, size, 0.0) * inverse
    taken = (inverse * (2 - hat))[..., None] * turned**2
    squares = beyond_rounding(stats.energy - jnp.sum(taken, axis=1), stats.energy)
    return CentredHeads(
        weight, squares, stats.count - jnp.sum(hat, axis=1), jnp.sum(inverse, axis=1)
    )


def after(first: Array, stats: HeadStats) -> HeadStats:
    """The same statistics, but not before `first` is computed.

    Two batched LAPACK calls that run at a time can wait for each other for ever on a CPU with two
    threads; a term of zero puts one behind the other.
    """
    return stats._replace(gram=stats.gram + 0 * first.ravel()[0])
