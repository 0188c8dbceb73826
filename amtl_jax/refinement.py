"""Heads improved from the rows, with one QR factor per task: no condition number is squared."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from amtl_jax.heads import NEGLIGIBLE, ridge_per_task
from amtl_jax.types import Array, Heads, TaskBatch

_PRECISION = jax.lax.Precision.HIGHEST
_ROW_REFINEMENTS = 3


def refine_heads(
    heads: Heads, features: Array, batch: TaskBatch, *, ridge: ArrayLike, intercept: bool = True
) -> Heads:
    """Improves heads from the rows, where their Gram matrix is too ill-conditioned for floats.

    The triangular factor of every task's centred rows comes from a blockwise QR (a segmented
    tree over the blocks: the condition number is never squared); it then preconditions three
    corrections whose residuals are computed from the rows (corrected semi-normal equations).
    The error grows with κ, not with κ² as that of `solve_heads`.

    Args:
      heads: heads of M tasks to start from, any finite values.
      features: `[B, R, K]` features of `batch.x`.
      batch: packed samples, blocks of a task adjacent as `pack` makes them.
      ridge: scalar or `[M]`, as in `solve_heads`.
      intercept: as in `solve_heads`; static.

    Returns:
      `Heads` of the same shapes; the residual variance is recomputed from the rows. Under a
      trace, blocks out of order give NaN.

    Raises:
      ValueError: for concrete blocks out of order, or a bad ridge as in `solve_heads`.

    References:
      Björck. Stability analysis of the method of seminormal equations. 1987.
      Demmel, Grigori, Hoemmen, Langou. Communication-optimal parallel and sequential QR. 2012.
    """
    task = batch.task
    if not isinstance(task, Tracer) and (np.diff(np.asarray(task)) < 0).any():
        raise ValueError(
            "refine_heads expects blocks sorted by task, as `pack` makes them; pack the rows of "
            "joined batches again."
        )
    dtype = jnp.result_type(features, batch.weight)
    ridge = ridge_per_task("refine_heads", ridge, heads.weight.shape[0], dtype)
    return _refine(heads, features.astype(dtype), batch, ridge, intercept=intercept)


@functools.partial(jax.jit, static_argnames="intercept")
def _refine(
    heads: Heads, features: Array, batch: TaskBatch, ridge: Array, *, intercept: bool
) -> Heads:
    """The corrections of `refine_heads`."""
    num_tasks, num_features, _ = heads.weight.shape
    dtype = features.dtype
    root = jnp.sqrt(batch.weight)[..., None]  # [B, R, 1]

    def task_sum(rows):  # [B, R, P] -> [M, P]
        return jax.ops.segment_sum(rows.sum(axis=1), batch.task, num_tasks)

    count = task_sum(batch.weight[..., None])  # [M, 1]
    safe_count = jnp.where(count > 0, count, 1.0)

    def centred(values):
        if not intercept:
            return jnp.zeros((num_tasks, values.shape[-1]), dtype), root * values
        mean = task_sum(batch.weight[..., None] * values) / safe_count
        # The mean of what is left repairs the rounding of the first mean.
        left = values - mean[batch.task][:, None]
        mean += task_sum(batch.weight[..., None] * left) / safe_count
        return mean, root * (values - mean[batch.task][:, None])

    mean, rows = centred(features)
    label_mean, labels = centred(batch.y.astype(dtype))
    norm = jnp.sqrt(task_sum(rows**2) + ridge[:, None])  # [M, K]
    raw = jnp.sqrt(task_sum((root * features) ** 2))
    alive = norm > NEGLIGIBLE * jnp.finfo(dtype).eps * raw
    scale = jnp.where(alive, 1.0 / jnp.where(alive, norm, 1.0), 0.0)
    rows = rows * scale[batch.task][:, None, :]
    factor = _triangular_factors(rows, batch.task, num_tasks)

    # Ridge rows, and a trace of the float epsilon that keeps the factor of a rank-deficient task
    # regular; its bias, (εκ)², is far below the rounding of the corrections.
    tail = jnp.where(alive, jnp.sqrt(ridge)[:, None] * scale, 1.0)
    tail = jnp.maximum(tail, 4.0 * jnp.finfo(dtype).eps)
    factor = _qr_factor(jnp.concatenate([factor, jax.vmap(jnp.diag)(tail)], axis=1))

    # It only preconditions: the corrections carry the derivative.
    factor = jax.lax.stop_gradient(factor)
    solve = functools.partial(jax.scipy.linalg.solve_triangular, lower=False)
    penalty = ridge[:, None] * scale**2
    weight = jnp.where(alive[..., None], heads.weight * norm[..., None], 0.0)

    def residual_of(weight):
        product = jnp.einsum("brk,bko->bro", rows, weight[batch.task], precision=_PRECISION)
        return labels - product

    for _ in range(_ROW_REFINEMENTS):
        products = jnp.einsum("brk,bro->bko", rows, residual_of(weight), precision=_PRECISION)
        gradient = jax.ops.segment_sum(products, batch.task, num_tasks)
        gradient -= penalty[..., None] * weight
        weight += jax.vmap(lambda r, g: solve(r, solve(r, g, trans=1)))(factor, gradient)
    rss = task_sum(residual_of(weight) ** 2)
    identity = jnp.eye(num_features, dtype=dtype)
    inverse = jax.vmap(lambda r: solve(r, identity))(factor)
    hat_trace = alive.sum(axis=1) - jnp.sum(inverse**2 * (penalty * alive)[:, :, None], axis=(1, 2))
    freedom = jnp.maximum(count - intercept - hat_trace[:, None], 1.0)
    is_sorted = jnp.all(batch.task[1:] >= batch.task[:-1])
    weight = jnp.where(is_sorted, weight * scale[..., None], jnp.nan)
    bias = label_mean - jnp.einsum("mk,mko->mo", mean, weight, precision=_PRECISION)
    return Heads(weight, bias, rss / freedom)


def _qr_factor(matrix: Array) -> Array:
    """`[..., P, K]` to the `[..., K, K]` triangular factor, padded by zero rows if P < K."""
    missing = matrix.shape[-1] - matrix.shape[-2]
    if missing > 0:
        matrix = jnp.pad(matrix, [(0, 0)] * (matrix.ndim - 2) + [(0, missing), (0, 0)])
    return jnp.linalg.qr(matrix, mode="r")


def _triangular_factors(rows: Array, task: Array, num_tasks: int) -> Array:
    """`[B, R, K]` rows to each task's `[M, K, K]` factor: a tree over adjacent blocks of a task."""

    def join(left, right):
        left_task, left_factor = left
        right_task, right_factor = right
        same = (left_task == right_task)[:, None, None]
        stacked = jnp.concatenate([jnp.where(same, left_factor, 0.0), right_factor], axis=1)
        return right_task, _qr_factor(stacked)

    _, factors = jax.lax.associative_scan(join, (task, _qr_factor(rows)))
    is_last = jnp.append(task[1:] != task[:-1], True)
    factors = jnp.where(is_last[:, None, None], factors, 0.0)
    return jax.ops.segment_sum(factors, task, num_tasks)
