"""What is known about the heads, given the representation, and what follows for relevance.

Given features `phi(x)`, a head is the coefficient vector of a linear Gaussian model: its
posterior is normal, in closed form from the statistics that ridge heads come from. Draws of all
heads, turned into relevance one by one, say how well the relevance is known.

**What this leaves out**: the representation is taken as known. Its own error, and what K features
cannot express, come on top of these intervals, unless `inflation` accounts for them.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from amtl_jax.centred_stats import centred
from amtl_jax.heads import NEGLIGIBLE
from amtl_jax.types import Array, HeadStats, Relevance

_PRECISION = jax.lax.Precision.HIGHEST


class HeadPosterior(NamedTuple):
    """Normal posterior of every head.

    Attributes:
      mean: `[M, K, O]`.
      root: `[M, O, K, K]` Cholesky factor L of the precision, of features times `scale`.
      scale: `[M, K]` makes it factor in float32; a draw is `mean + scale · L⁻ᵀ ε`.
    """

    mean: Array
    root: Array
    scale: Array


class RelevanceInterval(NamedTuple):
    """How well the relevance of each source is known.

    Attributes:
      middle: `[M]` median of nu over the draws.
      low: `[M]` lower end of the interval of nu.
      high: `[M]` upper end.
      top: `[]` int32 the source that the others are compared with.
      tied: `[M]` bool, the sources that cannot be told apart from it, itself included.
    """

    middle: Array
    low: Array
    high: Array
    top: Array
    tied: Array


def head_posterior(
    stats: HeadStats,
    *,
    noise: Array,
    prior_variance: Array | float,
    inflation: Array | float = 1.0,
    intercept: bool = True,
) -> HeadPosterior:
    """Posterior of M heads given their features: `V_m = (I/p + F_m/(s2_m κ_m))⁻¹`.

    The mean is `V_m h_m/(s2_m κ_m)`, the ridge head of ridge `s2_m κ_m/p`. With an intercept F and
    h are centred by the task's weighted means: a flat prior on the intercept.

    Args:
      stats: statistics of M tasks on the features.
      noise: `[M, O]` positive noise variances s2.
      prior_variance: p of every coefficient, a scalar or `[M, O]`, positive. A ridge head's own
        prior is `noise / ridge`.
      inflation: κ, a scalar or `[M, O]`: by how much errors of the representation raise the noise.
      intercept: whether heads have an intercept; static.

    Returns:
      `HeadPosterior`; a task without rows has its prior.

    Raises:
      ValueError: if noise, prior or inflation do not have the shape.

    References:
      Gelman, Carlin, Stern, Rubin. Bayesian Data Analysis, chapter 14 (normal linear model).
    """
    num_tasks, num_features, num_outputs = stats.moment.shape
    shape = (num_tasks, num_outputs)
    if jnp.shape(noise) != shape:
        raise ValueError(
            f"head_posterior expects noise [M, O] = {list(shape)}, got {list(jnp.shape(noise))}."
        )
    for name, value in (("prior_variance", prior_variance), ("inflation", inflation)):
        if jnp.shape(value) not in ((), shape):
            raise ValueError(
                f"head_posterior expects {name} as a scalar or [M, O] = {list(shape)}, got shape "
                f"{list(jnp.shape(value))}."
            )
    about = centred(stats, intercept)
    gram, moment = about.gram, about.moment
    # What centring leaves of a constant feature is rounding: its coefficient keeps the prior.
    raw = jnp.diagonal(stats.gram, axis1=1, axis2=2)
    alive = jnp.diagonal(gram, axis1=1, axis2=2) > NEGLIGIBLE * jnp.finfo(gram.dtype).eps * raw
    gram = jnp.where(alive[:, :, None] & alive[:, None, :], gram, 0.0)
    moment = jnp.where(alive[:, :, None], moment, 0.0)
    spread = noise * inflation  # [M, O]
    ridge = jnp.broadcast_to(spread / prior_variance, shape)
    # Unit diagonal at the mean ridge: what Cholesky in float32 can bear.
    diagonal = jnp.diagonal(gram, axis1=1, axis2=2)
    size = diagonal + jnp.mean(ridge, axis=1)[:, None]
    scale = jax.lax.rsqrt(jnp.where(size > 0, size, 1.0))  # [M, K]
    scaled = scale[:, :, None] * scale[:, None, :] * gram
    penalty = jnp.einsum("mo,mk->mok", ridge, scale**2)
    rounding = 4 * num_features * jnp.finfo(gram.dtype).eps
    system = scaled[:, None] + (penalty + rounding)[..., None] * jnp.eye(num_features)[None, None]
    lower = jnp.linalg.cholesky(system)  # [M, O, K, K]
    target = jnp.einsum("mk,mko->mok", scale, moment)
    solved = jax.scipy.linalg.cho_solve((lower, True), target[..., None])[..., 0]
    root = lower / jnp.sqrt(spread)[..., None, None]
    return HeadPosterior(jnp.einsum("mk,mok->mko", scale, solved), root, scale)


def covariance(posterior: HeadPosterior) -> Array:
    """Covariance of every head, `[M, O, K, K]`."""
    num_features = posterior.scale.shape[1]
    identity = jnp.broadcast_to(jnp.eye(num_features), posterior.root.shape)
    half = jax.scipy.linalg.solve_triangular(posterior.root, identity, lower=True)
    scaled = jnp.einsum("moik,moil->mokl", half, half, precision=_PRECISION)
    return posterior.scale[:, None, :, None] * posterior.scale[:, None, None, :] * scaled


def draw_heads(key: Array, posterior: HeadPosterior) -> Array:
    """Draws all heads once, `[M, K, O]`. `vmap` over keys for more draws."""
    noise = jax.random.normal(key, posterior.root.shape[:-1], posterior.mean.dtype)  # [M, O, K]
    # L⁻ᵀ ε has covariance (L Lᵀ)⁻¹.
    free = jax.scipy.linalg.solve_triangular(
        posterior.root, noise[..., None], lower=True, trans="T"
    )[..., 0]
    return posterior.mean + jnp.einsum("mk,mok->mko", posterior.scale, free)


def relevance_draws(
    key: Array,
    sources: HeadPosterior,
    target: HeadPosterior,
    relate: Callable[[Array, Array], Relevance],
    *,
    num_draws: int,
) -> Array:
    """Draws heads of sources and target, and solves for the relevance of each draw.

    Args:
      key: PRNG key.
      sources: posterior of the M sources' heads.
      target: posterior of the target's head, as of one task.
      relate: `(source_heads [M, K, O], target_head [K, O]) -> Relevance`, the rule's own solver.
      num_draws: S, static.

    Returns:
      nu of every draw, `[S, M]`; NaN where the solver saw numbers that are not finite.
    """

    def one(key):
        source_key, target_key = jax.random.split(key)
        heads = draw_heads(source_key, sources)
        return relate(heads, draw_heads(target_key, target)[0]).nu

    # One after the other: solvers iterate, and a batch would wait for its slowest member.
    return jax.lax.map(one, jax.random.split(key, num_draws))


def relevance_interval(draws: Array, *, level: float = 0.95) -> RelevanceInterval:
    """Intervals of the relevance, and which sources cannot be told apart from the strongest.

    The strongest source has the largest |mean of nu| over the draws. Another is told apart from
    it where the interval of their paired difference of |nu| over the draws lies above 0.
    Relevance is no linear function of the heads: the relevance of the fitted heads may lie
    outside these intervals, where noise in weak directions of the heads had blown it up. Where
    sources are near-copies, basis pursuit gives each draw's share to one of them and 0 to the
    others, so that a strongest source is often 0 and nothing can be told apart from it.

    Args:
      draws: `[S, M]` relevance of posterior draws.
      level: of the intervals, in (0, 1).

    Returns:
      The interval. A source whose relevance is NaN in a draw has NaN ends and is tied; where all
      are, `top` is -1.

    Raises:
      ValueError: if draws are not a matrix, or the level is not in (0, 1).
    """
    if jnp.ndim(draws) != 2 or jnp.shape(draws)[0] < 2:
        raise ValueError(
            f"relevance_interval expects draws [S, M] of at least two draws, got shape "
            f"{list(jnp.shape(draws))}."
        )
    if not 0 < level < 1:
        raise ValueError(f"relevance_interval expects a level in (0, 1), got {level}.")
    ends = jnp.asarray([0.5, (1 - level) / 2, (1 + level) / 2])
    middle, low, high = jnp.quantile(draws, ends, axis=0)
    size = jnp.abs(draws)
    mean = jnp.abs(jnp.mean(draws, axis=0))  # not of |nu|: that would favour what is least known
    top = jnp.argmax(jnp.where(jnp.isnan(mean), -1.0, mean)).astype(jnp.int32)
    lead = jnp.quantile(size[:, top][:, None] - size, ends[1], axis=0)
    top = jnp.where(jnp.isnan(mean).all(), -1, top)
    return RelevanceInterval(middle, low, high, top, ~(lead > 0))
