"""What a round knows about all heads, in the units in which the design weighs them.

Heads are brought to coordinates in which the pooled within-task covariance of the features is
the identity: there a linear representation has orthonormal columns in whitened inputs, and a
head's norm is the size of its predictions.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from amtl_jax.centred_stats import (
    after,
    centred,
    centred_heads,
    in_features,
    principal_axes,
    whitening,
)
from amtl_jax.label_noise import goes_by_held_out, head_leverage, num_parameters, shrunk_noise
from amtl_jax.posterior import HeadPosterior, covariance, draw_heads, head_posterior
from amtl_jax.types import Array, HeadStats

_PRECISION = jax.lax.Precision.HIGHEST
_UNUSED = 1e-2  # of the largest singular value of the heads, as in `shared_relevance`
_LEAST_PRIOR = 1e-8
_MOST_THIN = 10.0  # where a fit has hardly more rows than parameters


class Knowledge(NamedTuple):
    """Posterior of all heads and the noise of their labels, in whitened features.

    Attributes:
      sources: posterior of the M source heads.
      targets: posterior of the T target heads.
      noise: `[M, O]` noise variance of the sources.
      target_noise: `[T, O]` of the targets, misfit of the representation included.
      alive: `[K]` 1 for directions that the features have, 0 for others.
      free: `[]` D − K, the directions that a linear representation has still to be told from.
    """

    sources: HeadPosterior
    targets: HeadPosterior
    noise: Array
    target_noise: Array
    alive: Array
    free: Array


class HeadDraws(NamedTuple):
    """Posterior draws of all heads, with what a risk needs beside them.

    Attributes:
      heads: `[S, M, K, O]` source heads.
      target_heads: `[S, T, K, O]` target heads.
      target: `[T, K, K]` second moment of each target's head over its posterior, exactly.
      noise: `[M, O]` noise variance of the sources.
      target_noise: `[T, O]` of the targets.
      free: `[]` D − K.
      num_features: `[]` features in use.
    """

    heads: Array
    target_heads: Array
    target: Array
    noise: Array
    target_noise: Array
    free: Array
    num_features: Array

    @property
    def rho(self) -> Array:
        """`[]` information per direction before any sample: that of predictions of size 1."""
        return jnp.maximum(self.free, 1.0)


def head_knowledge(
    source_stats: HeadStats,
    target_stats: HeadStats,
    *,
    ridge: ArrayLike,
    input_dim: ArrayLike,
    held_out_loss: ArrayLike,
    intercept: ArrayLike,
) -> Knowledge:
    """Gathers what statistics on fitted features say of all heads.

    Noise: see `noise_variance`; a target's is its own residual variance, at least the pooled one,
    so that what the representation misses of it counts as noise. The heads' prior variance is
    that of their estimates less what noise adds to it. The error of the representation raises the
    noise of head m by `κ_m = 1 + (D−K) w_mᵀA⁻¹w_m/s2_m`, `A = Σ n_m w_m w_mᵀ/s2_m + ρI`, to first
    order; a fit of p = K(M + D − K) parameters to few rows is worse by N/(N − p), at most 10. (Not
    where a held-out error is the noise: that has it in it.)

    Args:
      source_stats: of the M sources, on raw weights (1 a row).
      target_stats: of T targets, leading axis `[T]`.
      ridge: `[]` ridge of the heads, λN.
      input_dim: `[]` D.
      held_out_loss: `[]` squared error on rows held out of the fit, NaN where there were none.
      intercept: `[]` bool, whether heads have an unpenalised intercept.

    Returns:
      `Knowledge`.
    """
    ridge, input_dim = jnp.asarray(ridge, float), jnp.asarray(input_dim, float)
    held_out_loss, intercept = jnp.asarray(held_out_loss, float), jnp.asarray(intercept)
    sources = centred(source_stats, intercept)
    root, alive = _whitening(sources, ridge)
    stats = in_features(root, sources)
    own = in_features(root, centred(target_stats, intercept))
    num_features = jnp.maximum(jnp.sum(alive), 1.0)  # a strong penalty may leave none
    free = jnp.maximum(input_dim - num_features, 0.0)
    rho = jnp.maximum(free, 1.0)

    fitted = centred_heads(stats, ridge)
    noise, pooled = shrunk_noise(
        fitted.squares,
        stats.count,
        fitted.freedom,
        head_leverage(fitted.weight, stats.count),
        input_dim=input_dim,
        held_out_loss=held_out_loss,
        num_features=num_features,
    )
    own_fitted = centred_heads(after(noise, own), ridge)
    own_noise = own_fitted.squares / jnp.maximum(own_fitted.freedom, 1.0)[:, None]
    own_noise = jnp.maximum(own_noise, pooled[None])

    # The prior: variance of the estimates, less what noise adds to it.
    square = jnp.mean(jnp.sum(fitted.weight**2, axis=1)) / num_features
    added = jnp.mean(noise * fitted.inverse[:, None]) / num_features
    prior = jnp.maximum(jnp.maximum(square - added, square / 10), _LEAST_PRIOR)
    information = jnp.einsum(
        "mko,mo,mlo->kl",
        fitted.weight,
        stats.count[:, None] / noise,
        fitted.weight,
        precision=_PRECISION,
    )
    information = information + 0 * own_noise[0, 0]  # behind the targets' decomposition
    lower = jnp.linalg.cholesky(information + rho * jnp.eye(len(root)))

    parameters = num_parameters(stats.count, num_features, free, noise.shape[1])
    total = jnp.sum(stats.count)
    # A held-out error has what the fit is worse by in it already.
    is_first_order = (free <= 0) | goes_by_held_out(total, parameters, held_out_loss)
    thin = jnp.where(is_first_order, 1.0, thinness(total, parameters))

    def inflation(weight, variance):
        flat = jnp.moveaxis(weight, 1, 0).reshape(len(root), -1)
        half = jax.scipy.linalg.solve_triangular(lower, flat, lower=True)
        first = 1 + free * jnp.sum(half**2, axis=0).reshape(variance.shape) / variance
        return thin * first

    def posterior(stats, weight, variance, prior):
        return head_posterior(
            stats,
            noise=variance,
            prior_variance=prior,
            inflation=inflation(weight, variance),
            intercept=False,
        )

    sources = posterior(stats, fitted.weight, noise, prior)
    own = after(sources.mean, own)
    return Knowledge(
        sources=sources,
        targets=posterior(own, own_fitted.weight, own_noise, prior * num_features),
        noise=noise,
        target_noise=own_noise,
        alive=alive,
        free=free,
    )


def draw_knowledge(key: Array, knowledge: Knowledge, *, num_draws: int) -> HeadDraws:
    """Draws all heads `num_draws` times; directions that the features lack stay zero."""
    alive = knowledge.alive
    source_key, target_key = jax.random.split(key)

    def draws(key, posterior):
        keys = jax.random.split(key, num_draws)
        return jax.vmap(draw_heads, (0, None))(keys, posterior) * alive[None, None, :, None]

    heads = draws(source_key, knowledge.sources)
    targets = knowledge.targets._replace(root=knowledge.targets.root + 0 * heads[0, 0, 0, 0])
    own_heads = draws(target_key, targets)
    targets = targets._replace(root=targets.root + 0 * own_heads[0, 0, 0, 0])
    mean = knowledge.targets.mean * alive[None, :, None]
    spread = jnp.sum(covariance(targets), axis=1)  # over outputs, [T, K, K]
    spread = spread * (alive[:, None] * alive[None, :])[None]
    return HeadDraws(
        heads=heads,
        target_heads=own_heads,
        target=jnp.einsum("tko,tlo->tkl", mean, mean, precision=_PRECISION) + spread,
        noise=knowledge.noise,
        target_noise=knowledge.target_noise,
        free=knowledge.free,
        num_features=jnp.sum(alive),
    )


def thinness(total: Array, parameters: Array) -> Array:
    """`[]` by what a fit of so many parameters is worse than first order, N/(N − p), at most 10."""
    left = jnp.maximum(total - parameters, total / _MOST_THIN)
    return jnp.where(total > 0, total / jnp.where(left > 0, left, 1.0), 1.0)


def _whitening(stats: HeadStats, ridge: Array) -> tuple[Array, Array]:
    """`[K, K]` map to features of identity covariance, and which of them are in use `[K]`.

    A direction in which the fitted heads predict next to nothing is one that the penalty has
    switched off: white, it would be as large as any, and heads would be fitted to its noise.
    """
    axes, deviation = principal_axes(stats)
    fitted = centred_heads(after(deviation, stats), ridge).weight
    turned = jnp.einsum("lk,mlo->mko", axes, fitted, precision=_PRECISION)
    white = deviation[None, :, None] * turned
    energy = jnp.einsum("mko,mlo->kl", white, white, precision=_PRECISION)
    strength, directions = jnp.linalg.eigh(energy)
    used = strength > _UNUSED**2 * strength[-1]
    turn = jnp.where(used[:, None], directions.T, 0.0)
    root = jnp.matmul(turn, whitening(axes, deviation), precision=_PRECISION)
    return root, used.astype(root.dtype)
