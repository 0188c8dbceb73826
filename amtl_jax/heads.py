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

from amtl_jax.types import Array, Heads, HeadStats, TaskBatch

# TF32 or bf16 products, the default on accelerators, ruin a Gram matrix.
_PRECISION = jax.lax.Precision.HIGHEST
_SUM_ROWS = 64
_STATS_REFINEMENTS = 2
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
    num_features = features.shape[-1]
    features = features.astype(jnp.result_type(features, batch.weight))
    ones = jnp.ones_like(features[..., :1])
    rows = jnp.concatenate([features, ones, batch.y.astype(features.dtype)], axis=-1)
    weighted = batch.weight[..., None] * rows
    products = _short_products(weighted, rows).sum(axis=1)
    total = jax.ops.segment_sum(products, batch.task, num_tasks)
    one, label = num_features, num_features + 1
    return HeadStats(
        gram=total[:, :one, :one],
        moment=total[:, :one, label:],
        energy=jnp.diagonal(total[:, label:, label:], axis1=1, axis2=2),
        feature_sum=total[:, :one, one],
        label_sum=total[:, one, label:],
        count=total[:, one, one],
    )


def _short_products(left: Array, right: Array) -> Array:
    """`[B, R, P]` twice to `[B, R/64, P, P]`: short sums first keep the float32 rounding small."""
    num_blocks, block_rows, width = left.shape
    chunks = block_rows // _SUM_ROWS if block_rows % _SUM_ROWS == 0 and block_rows else 1
    shape = (num_blocks, chunks, block_rows // chunks, width)
    return jnp.einsum(
        "bcrp,bcrq->bcpq", left.reshape(shape), right.reshape(shape), precision=_PRECISION
    )


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
    return jax.vmap(functools.partial(_solve_head, intercept=intercept))(stats, ridge)


def _solve_head(stats: HeadStats, ridge: Array, *, intercept: bool) -> Heads:
    """One task's head from its statistics (no leading axis)."""
    count = jnp.where(stats.count > 0, stats.count, 1.0)
    mean = stats.feature_sum / count * intercept  # [K]
    label_mean = stats.label_sum / count * intercept  # [O]
    gram = stats.gram - jnp.outer(mean, stats.feature_sum)
    moment = stats.moment - jnp.outer(mean, stats.label_sum)
    energy = stats.energy - label_mean * stats.label_sum

    epsilon = jnp.finfo(gram.dtype).eps
    spread, raw = jnp.diagonal(gram), jnp.diagonal(stats.gram)  # [K]
    # What centring leaves of a constant feature is rounding: it must not be scaled up to a unit.
    alive = spread > NEGLIGIBLE * epsilon * raw
    scale = jnp.where(alive, jax.lax.rsqrt(jnp.where(alive, spread + ridge, 1.0)), 0.0)
    scaled_gram = jnp.outer(scale, scale) * gram  # [K, K], diagonal ≤ 1
    penalty = jnp.where(alive, ridge * scale**2, 1.0)
    system = scaled_gram + jnp.diag(penalty)
    factor = _cholesky(system, epsilon)

    solve = functools.partial(jax.scipy.linalg.cho_solve, (factor, True))
    target = scale[:, None] * moment
    scaled_weight = solve(target)
    for _ in range(_STATS_REFINEMENTS):
        defect = target - jnp.matmul(system, scaled_weight, precision=_PRECISION)
        scaled_weight += solve(defect)

    weight = scale[:, None] * scaled_weight
    fitted = jnp.matmul(gram, weight, precision=_PRECISION)
    rss = energy - 2 * jnp.sum(weight * moment, axis=0) + jnp.sum(weight * fitted, axis=0)
    hat_trace = jnp.sum(solve(jnp.eye(len(mean), dtype=gram.dtype)) * scaled_gram)
    freedom = jnp.maximum(stats.count - intercept - hat_trace, 1.0)
    return Heads(
        weight=weight,
        bias=label_mean - jnp.matmul(mean, weight, precision=_PRECISION),
        residual_variance=jnp.maximum(rss, 0.0) / freedom,
    )


def _cholesky(system: Array, epsilon: ArrayLike) -> Array:
    """Cholesky factor of a unit-diagonal matrix, raised by the least 4ε·8ʲ that makes one exist.

    The search is no part of the derivative: heads are differentiable by features and labels.
    """
    identity = jnp.eye(len(system), dtype=system.dtype)
    fixed = jax.lax.stop_gradient(system)

    def failed(lift):  # a NaN system would never end
        return ~jnp.isfinite(jnp.linalg.cholesky(fixed + lift * identity)).all() & (lift < 1.0)

    first = jnp.asarray(4.0 * epsilon, system.dtype)
    lift = jax.lax.while_loop(failed, lambda lift: 8.0 * lift, first)
    return jnp.linalg.cholesky(system + lift * identity)


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
    product = jnp.einsum("brk,bko->bro", features, weight, precision=_PRECISION)
    return product + bias[:, None, :]
