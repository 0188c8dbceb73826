"""Weights of the tasks in a fit by the noise of their labels: what is noisy counts for less.

The best weight of a row is one over its noise variance. It is not known: a first fit estimates
it. What leaves this module is in unweighted rows again, as every formula on statistics wants it.
"""

import jax
import jax.numpy as jnp

from amtl_jax.heads import solve_heads
from amtl_jax.label_noise import noise_variance
from amtl_jax.types import Array, FitResult, Heads, HeadStats, TaskBatch


def noise_factors(batch: TaskBatch, task_noise: Array) -> Array:
    """What the weights of each task's rows are multiplied by: 1/noise, at the same total weight.

    Args:
      batch: rows of M' tasks.
      task_noise: `[M']` positive noise variances, any scale.

    Returns:
      `[M']` factors; N = Σ ω of the batch stays what it is.
    """
    weight = jax.ops.segment_sum(jnp.sum(batch.weight, axis=1), batch.task, len(task_noise))
    return factors_of(weight, task_noise)


def factors_of(weight: Array, task_noise: Array) -> Array:
    """`noise_factors` from the total weight `[M']` of every task's rows."""
    shrunk = jnp.sum(weight / task_noise)
    scale = jnp.where(shrunk > 0, jnp.sum(weight) / jnp.where(shrunk > 0, shrunk, 1.0), 1.0)
    return scale / task_noise


def weigh_tasks(batch: TaskBatch, factors: Array) -> TaskBatch:
    """Multiplies the weights of every task's rows by its factor, `[M']`."""
    return batch._replace(weight=batch.weight * factors[batch.task][:, None])


def raw_ridge(fit: FitResult, factors: Array, penalty: Array) -> Array:
    """`[M']` ridge of each head in units of the unweighted Gram matrices: λN over the factor."""
    return penalty * jnp.sum(fit.stats.count) / factors


def in_raw_rows(fit: FitResult, factors: Array, *, penalty: Array, intercept: bool) -> FitResult:
    """The fit of a weighted batch with statistics and residual variances of unweighted rows.

    Statistics are linear in the weights. The heads stay the same up to rounding: `F_m f_m + λN`
    is `F_m + λN/f_m`, times the factor.

    Args:
      fit: of a batch that `weigh_tasks` weighed.
      factors: `[M']` of the tasks.
      penalty: `[]` λ of the fit.
      intercept: whether heads have one; static.
    """

    def unweighted(leaf: Array) -> Array:
        return leaf / factors.reshape(-1, *[1] * (leaf.ndim - 1))

    stats = jax.tree.map(unweighted, fit.stats)
    ridge = raw_ridge(fit, factors, penalty)
    return fit._replace(stats=stats, heads=solve_heads(stats, ridge=ridge, intercept=intercept))


def relative_noise(
    stats: HeadStats,
    heads: Heads,
    *,
    ridge: Array,
    input_dim: int,
    held_out_loss: Array,
    fit_weight: Array,
    intercept: bool,
) -> Array:
    """Noise variance of every task over the pooled one, `[M']`, from a fit; see `noise_variance`.

    Args:
      stats: statistics of M' tasks in unweighted rows.
      heads: their ridge heads.
      ridge: `[M']` of these heads.
      input_dim: D.
      held_out_loss: `[]` squared error on rows held out of the fit, or NaN.
      fit_weight: `[M']` weight of each task's rows in the fit.
      intercept: whether heads have one; static.
    """
    noise, pooled = noise_variance(
        stats,
        heads,
        ridge=ridge[:, None],
        input_dim=input_dim,
        held_out_loss=held_out_loss,
        fit_weight=fit_weight,
        intercept=intercept,
    )
    return jnp.mean(noise, axis=1) / jnp.mean(pooled)
