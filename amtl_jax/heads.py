"""Closed-form linear heads for all tasks at once: statistics, weighted ridge, refinement.

Everything a ridge head needs from its samples is one Gram matrix of the rows `[phi(x), 1, y]`.
`head_stats` forms it for every block in one batched matmul and adds the blocks of each task;
such sums add over batches, rounds and devices. `solve_heads` then costs M small Cholesky
factors and never sees a sample again.

What float32 statistics lost cannot be won back from them: a Gram matrix squares the condition
number. `refine_heads` therefore goes back to the rows.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike, DTypeLike

from amtl_jax.block_sums import PRECISION, sum_blocks
from amtl_jax.cholesky import lower_inverse, raised_cholesky
from amtl_jax.sharded import map_tasks
from amtl_jax.tiles import map_in_tiles, tile_size
from amtl_jax.types import Array, Heads, HeadStats, TaskBatch

_STATS_REFINEMENTS = 2
_SOLVE_ARRAYS = 5  # of size [K, K] that a solve has at hand
NEGLIGIBLE = 16.0  # spread of a feature that counts as none, in units of the float epsilon


def head_stats(features: Array, batch: TaskBatch, *, num_tasks: int) -> HeadStats:
    """Sums the sufficient statistics of every task's head over the rows of a batch.

    Args:
      features: `[B, R, K]` features of `batch.x`.
      batch: packed samples; its `y`, `weight` and `task` are used.
      num_tasks: M, static.

    Returns:
      `HeadStats` of M tasks. Tasks without a block get zeros.

    Raises:
      ValueError: if `features` does not share B and R with the batch.
    """
    if features.ndim != 3 or features.shape[:2] != batch.weight.shape:
        raise ValueError(
            f"head_stats expects features [B, R, K] for a batch with B, R = {batch.weight.shape}, "
            f"got shape {features.shape}."
        )
    dtype = jnp.result_type(features, batch.weight)
    rows = (features.astype(dtype), batch.y.astype(dtype), batch.weight.astype(dtype))
    return sum_blocks(*rows, batch.task, num_tasks=num_tasks)


def add_stats(*stats: HeadStats) -> HeadStats:
    """Adds statistics of the same tasks from several batches, rounds or devices."""
    return jax.tree.map(lambda *leaves: functools.reduce(jnp.add, leaves), *stats)


def solve_heads(stats: HeadStats, *, ridge: ArrayLike, intercept: bool = True) -> Heads:
    """Solves the weighted ridge least squares of all M heads.

    Minimises `Σ ω ‖y − c − Wᵀφ‖² + ridge ‖W‖²` for each task, the intercept c unpenalised: with an
    intercept, features and labels are centred by the task's weighted means. Every system is
    scaled to unit diagonal, factored by Cholesky and refined twice. Where float32 cannot factor
    it (fewer rows than features and no ridge, collinear features), the smallest diagonal of
    4ε·8ʲ that makes it positive definite is added. So every task is defined and finite:
    a task with one row predicts its label, a task with none predicts 0, and a feature that is
    constant to float precision gets weight 0.

    Args:
      stats: statistics of M tasks.
      ridge: scalar or `[M]`, non-negative, in units of the Gram matrix (λ times the count).
      intercept: whether heads have an intercept; static.

    Returns:
      `Heads`: weight `[M, K, O]`, bias `[M, O]`, residual_variance `[M, O]`.

    Raises:
      ValueError: for a ridge of another shape, or a concrete one that is negative or not finite.

    References:
      Chen, Du, Jamieson. Active Multi-Task Representation Learning. ICML 2022, Algorithm 1.
    """
    ridge = ridge_per_task("solve_heads", ridge, stats.count.shape[0], stats.gram.dtype)
    return _solve_all(stats, ridge, intercept=intercept)


def ridge_per_task(function: str, ridge: ArrayLike, num_tasks: int, dtype: DTypeLike) -> Array:
    """Brings a ridge to `[M]`, or raises `ValueError` for a wrong shape or a bad concrete value."""
    if jnp.shape(ridge) not in ((), (num_tasks,)):
        raise ValueError(
            f"{function} expects ridge as a scalar or of shape [{num_tasks}], got shape "
            f"{list(jnp.shape(ridge))}."
        )
    if not isinstance(ridge, Tracer):
        value = np.asarray(ridge)
        if not (np.isfinite(value).all() and (value >= 0).all()):
            raise ValueError(f"{function} expects a finite ridge >= 0, got {ridge}.")
    return jnp.broadcast_to(jnp.asarray(ridge, dtype), (num_tasks,))


@functools.partial(jax.jit, static_argnames="intercept")
def _solve_all(stats: HeadStats, ridge: Array, *, intercept: bool) -> Heads:
    one = functools.partial(_solve_head, intercept=intercept)
    num_features = stats.gram.shape[-1]
    tile = tile_size(_SOLVE_ARRAYS * num_features**2)
    return map_tasks(lambda *own: map_in_tiles(one, own, tile=tile), (stats, ridge))


def _solve_head(stats: HeadStats, ridge: Array, *, intercept: bool) -> Heads:
    """One task's head from its statistics (no leading axis)."""
    count = jnp.where(stats.count > 0, stats.count, 1.0)
    mean = stats.feature_sum / count * intercept  # [K]
    label_mean = stats.label_sum / count * intercept  # [O]
    gram = stats.gram - jnp.outer(stats.feature_sum, mean)
    moment = stats.moment - jnp.outer(mean, stats.label_sum)
    energy = stats.energy - label_mean * stats.label_sum

    epsilon = jnp.finfo(gram.dtype).eps
    spread, raw = jnp.diagonal(gram), jnp.diagonal(stats.gram)  # [K]
    # What centring leaves of a constant feature is rounding: it must not be scaled up to a unit.
    alive = spread > NEGLIGIBLE * epsilon * raw
    scale = jnp.where(alive, jax.lax.rsqrt(jnp.where(alive, spread + ridge, 1.0)), 0.0)
    penalty = jnp.where(alive, ridge * scale**2, 1.0)
    system = jnp.outer(scale, scale) * gram + jnp.diag(penalty)  # [K, K], diagonal 1
    # The transpose is the same matrix, and as LAPACK wants it: columns behind one another.
    factor, lift = raised_cholesky(system.mT)

    solve = functools.partial(jax.scipy.linalg.cho_solve, (factor, True))
    matmul = functools.partial(jnp.matmul, precision=PRECISION)
    target = scale[:, None] * moment
    scaled_weight = solve(target)
    for _ in range(_STATS_REFINEMENTS):
        defect = target - matmul(system, scaled_weight)
        scaled_weight += solve(defect)

    weight = scale[:, None] * scaled_weight
    fitted = matmul(gram, weight)
    rss = energy - 2 * jnp.sum(weight * moment, axis=0) + jnp.sum(weight * fitted, axis=0)
    # tr A⁻¹(A − P) with P the penalty and the lift; it is 0 for a feature of no spread.
    hat_trace = jnp.sum(1.0 - (penalty + lift) * jnp.sum(jnp.square(lower_inverse(factor)), axis=0))
    freedom = jnp.maximum(stats.count - intercept - hat_trace, 1.0)
    return Heads(
        weight=weight,
        bias=label_mean - matmul(mean, weight),
        residual_variance=jnp.maximum(rss, 0.0) / freedom,
    )


def predict_heads(heads: Heads, features: Array, batch: TaskBatch) -> Array:
    """Predicts every row of a batch with the head of its block's task.

    Args:
      heads: heads of M tasks.
      features: `[B, R, K]` features of `batch.x`.
      batch: packed samples; only `task` is used.

    Returns:
      `[B, R, O]` predictions, also for padding rows.
    """
    weight, bias = heads.weight[batch.task], heads.bias[batch.task]
    product = jnp.einsum("brk,bko->bro", features, weight, precision=PRECISION)
    return product + bias[:, None, :]
