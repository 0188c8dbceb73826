"""How noisy the labels of every task are, from what their heads leave unexplained.

A task of few rows says little about its own noise, and the noises of the other tasks say something
about it: all of it where they are alike, nothing where they scatter by factors. How much they do is
estimated with them (empirical Bayes).
"""

import jax
import jax.numpy as jnp

from amtl_jax.centred_stats import beyond_rounding, centred
from amtl_jax.types import Array, Heads, HeadStats

_PRECISION = jax.lax.Precision.HIGHEST
_DEAD = 1e-6  # of the largest information: float32 knows no less
_PSEUDO_ROWS = 10.0  # of the pooled noise, where tasks do not tell how alike they are
_LEAST_TASKS = 3
_USUAL_SCATTER = 0.5  # of logarithms; decides how much less tasks of few rows count
_LEAST_NOISE = 1e-3  # of the pooled noise: no task counts a thousand times as much as the usual
_MOST_ROWS = 1e4  # all tasks are alike
_HALVINGS = 30


def residual_squares(stats: HeadStats, heads: Heads) -> Array:
    """Squared residuals of every task's head on its own rows, `[M, O]`, summed with weights."""
    weight, bias = heads.weight, heads.bias
    fitted = jnp.einsum("mkl,mlo->mko", stats.gram, weight, precision=_PRECISION)
    cross = 2 * bias * jnp.einsum("mk,mko->mo", stats.feature_sum, weight, precision=_PRECISION)
    own = jnp.sum(weight * fitted, axis=1) + cross + stats.count[:, None] * bias**2
    with_labels = jnp.sum(weight * stats.moment, axis=1) + bias * stats.label_sum
    return beyond_rounding(stats.energy - 2 * with_labels + own, stats.energy)


def noise_variance(
    stats: HeadStats,
    heads: Heads,
    *,
    ridge: Array | float,
    input_dim: Array | float,
    held_out_loss: Array | float,
    fit_weight: Array | None = None,
    intercept: bool = True,
) -> tuple[Array, Array]:
    """Noise of every task, shrunk to what is usual as far as tasks are alike.

    A task's squared residuals have `count − trace of the hat matrix − (D−K) leverage` degrees of
    freedom, see `head_leverage`, pooled ones `N − KM − K(D−K)`, at least N/5; an intercept takes
    one row of each task's count, and so M of N. The noises of tasks are taken to scatter as a
    scaled inverse χ²; see `_noise_prior`. With fewer than twice as many rows as parameters
    residuals say nothing: there the held-out error stands in for all tasks, unless it is NaN. It
    includes the error of the fit, so that intervals err on the wide side.

    Args:
      stats: statistics of M tasks on the features.
      heads: their ridge heads.
      ridge: of these heads, non-negative, a scalar or `[M, 1]`.
      input_dim: D of a linear representation; K for one that was not fitted. For a network
        `K(D−K)` is a stand-in for what it fitted, and the noise is a rough guess.
      held_out_loss: squared error on rows held out of the fit, summed over outputs, or NaN.
      fit_weight: `[M]` weight of each task's rows in the fit of the representation; None: equal.
      intercept: whether heads have an intercept; static.

    Returns:
      Noise variance of the tasks `[M, O]`, and pooled `[O]`; positive.

    References:
      Smyth. Linear models and empirical Bayes methods for assessing differential expression in
      microarray experiments. Statistical Applications in Genetics and Molecular Biology 3, 2004.
    """
    in_use = jnp.any(jnp.diagonal(stats.gram, axis1=1, axis2=2) > 0, axis=0)  # others: not fitted
    size = jnp.maximum(jnp.linalg.eigvalsh(centred(stats, intercept).gram), 0.0)  # [M, K]
    hat_trace = jnp.sum(jnp.where(size > 0, size / jnp.where(size > 0, size + ridge, 1), 0), axis=1)
    worth = stats.count if fit_weight is None else stats.count * fit_weight
    count = jnp.maximum(stats.count - intercept, 0.0)
    return shrunk_noise(
        residual_squares(stats, heads),
        count,
        count - hat_trace,
        head_leverage(heads.weight + 0 * size[0, 0], worth),  # not both at a time, see `after`
        input_dim=input_dim,
        held_out_loss=held_out_loss,
        num_features=jnp.sum(in_use),
    )


def head_leverage(weight: Array, count: Array) -> Array:
    """Each head's part `[M, O]` in what the representation was fitted to; K in all.

    `n_m w_moᵀA⁻¹w_mo`, `A = Σ n_m w_mo w_moᵀ`: of the K(D − K) parameters of the representation,
    D − K for each of K directions, those that the rows of task m determine.

    Args:
      weight: `[M, K, O]` heads.
      count: `[M]` rows, times the weight of each in the fit.
    """
    scaled = jnp.sqrt(count)[:, None, None] * weight
    information = jnp.einsum("mko,mlo->kl", scaled, scaled, precision=_PRECISION)
    size, axes = jnp.linalg.eigh(information)
    known = size > _DEAD * size[-1]
    root = jnp.where(known, 1 / jnp.sqrt(jnp.where(known, size, 1.0)), 0.0)
    turned = jnp.einsum("kl,mko->mlo", axes, scaled, precision=_PRECISION)
    return jnp.sum((root[None, :, None] * turned) ** 2, axis=1)


def shrunk_noise(
    squares: Array,
    count: Array,
    freedom: Array,
    leverage: Array,
    *,
    input_dim: Array | float,
    held_out_loss: Array | float,
    num_features: Array | float,
) -> tuple[Array, Array]:
    """`noise_variance` from squared residuals `[M, O]` of `count` `[M]` rows less intercepts.

    `freedom` `[M]` is that of the residuals given the representation, `leverage` `[M, O]` see
    `head_leverage`; `num_features` counts the features in use: others are zero and not fitted.
    """
    num_outputs = squares.shape[1]
    total = jnp.sum(count)
    free = jnp.maximum(input_dim - num_features, 0.0)
    parameters = num_parameters(count, num_features, free, num_outputs)
    pooled = jnp.sum(squares, axis=0) / jnp.maximum(total - parameters, total / 5)
    is_thin = goes_by_held_out(total, parameters, held_out_loss)
    pooled = jnp.where(is_thin, held_out_loss / num_outputs, pooled)
    pooled = jnp.maximum(pooled, jnp.finfo(pooled.dtype).tiny)
    # The representation was fitted to the same rows, and took its part of every task's noise.
    own = jnp.where(is_thin, 0.0, jnp.maximum(freedom[:, None] - free * leverage, 0.0))
    usual, rows = jax.vmap(_noise_prior, (1, 1, 0))(squares, own, pooled)
    # Labels that the head explains to the last bit, constant ones for instance, tell nothing.
    own = jnp.where(squares > 0, own, 0.0)
    squares = jnp.where(own > 0, squares, 0.0)
    shrunk = (squares + (rows * usual)[None]) / (own + rows[None])
    return jnp.maximum(shrunk, _LEAST_NOISE * pooled[None]), pooled


def goes_by_held_out(total: Array, parameters: Array, held_out_loss: Array | float) -> Array:
    """`[]` bool: residuals say nothing, and the held-out error stands in for the noise."""
    return (total < 2 * parameters) & jnp.isfinite(held_out_loss)


def num_parameters(
    count: Array, num_features: Array | float, free: Array | float, num_outputs: int
) -> Array:
    """`[]` parameters per output: heads of tasks with rows, and a part of K(D − K) turns."""
    active = jnp.sum(count > 0, dtype=count.dtype)
    return num_features * (active + free / num_outputs)


def _noise_prior(squares: Array, freedom: Array, pooled: Array) -> tuple[Array, Array]:
    """The usual noise of a task, and the rows that it counts for beside the task's own.

    The logarithm of a variance of d degrees of freedom has mean `ψ(d/2) − log(d/2)` around that
    of the truth, and variance `ψ'(d/2)`; what the tasks scatter beyond it is their own, `ψ'(d₀/2)`
    for a scaled inverse χ² with d₀ degrees of freedom. Where fewer than three tasks have rows to
    tell, it is the pooled noise, on ten rows.
    """
    tells = (freedom >= 1.0) & (squares > 0)
    half = jnp.where(tells, freedom, 2.0) / 2
    logs = jnp.log(jnp.where(tells, squares, 2 * half)) - jnp.log(2.0)
    logs = logs - jax.scipy.special.digamma(half)
    scatter = _trigamma(half)
    weight = jnp.where(tells, 1 / (scatter + _USUAL_SCATTER), 0.0)
    weight = weight / jnp.maximum(jnp.sum(weight), jnp.finfo(weight.dtype).tiny)
    middle = jnp.sum(weight * logs)
    freed = jnp.maximum(1 - jnp.sum(weight**2), 0.5)  # the middle was fitted to the same tasks
    excess = jnp.sum(weight * (logs - middle) ** 2) / freed - jnp.sum(weight * scatter)
    rows = 2 * _inverse_trigamma(excess)
    usual = jnp.exp(middle + jax.scipy.special.digamma(rows / 2) - jnp.log(rows / 2))
    is_known = jnp.sum(tells) >= _LEAST_TASKS
    return jnp.where(is_known, usual, pooled), jnp.where(is_known, rows, _PSEUDO_ROWS)


def _trigamma(x: Array) -> Array:
    return jax.scipy.special.polygamma(1, x)


def _inverse_trigamma(value: Array) -> Array:
    """Half the degrees of freedom for which ψ' has a value, between 1/2 and `_MOST_ROWS`/2."""

    def halve(_, ends):
        low, high = ends
        middle = (low + high) / 2
        is_more = _trigamma(jnp.exp(middle)) > value
        return jnp.where(is_more, middle, low), jnp.where(is_more, high, middle)

    ends = (jnp.log(jnp.full_like(value, 0.5)), jnp.log(jnp.full_like(value, _MOST_ROWS / 2)))
    low, high = jax.lax.fori_loop(0, _HALVINGS, halve, ends)
    return jnp.exp((low + high) / 2)
