"""Joint descent: encoder and heads go down together from heads of zero, as the paper trained.

Nothing is solved: what is fitted after so many steps depends on the optimiser, and a fit that stops
early is regularised by that alone. It is here to repeat the published experiment; the other fits
reach the optimum of the same objective sooner.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from amtl_jax.encoders.scaled import linear_scale
from amtl_jax.encoding import as_float, encode, encode_live
from amtl_jax.fitting.factors import by_factors, theta_columns
from amtl_jax.fitting.objective import penalised_loss, squared_norm, total_weight
from amtl_jax.fitting.reading import predict_and_correlate
from amtl_jax.heads import head_stats, predict_heads
from amtl_jax.sharded import sum_devices, sum_rows_by_task
from amtl_jax.types import Array, Encoder, FitResult, Fitter, Heads, Params, TaskBatch


class _Point(NamedTuple):
    """Everything that is descended; also its gradient."""

    encoder: Params
    weight: Array  # [M, K, O]
    bias: Array | None  # [M, O]; None without an intercept


def joint_descent_fitter(
    encoder: Encoder,
    optimizer: optax.GradientTransformation,
    *,
    num_tasks: int,
    num_steps: int,
    intercept: bool = True,
) -> Fitter:
    """Returns a full-batch fit that descends encoder and heads together, heads from zero.

    What is descended is the sum Σ ω (y − c − phi(x)ᵀw)² + λN(‖phi‖² + ‖W‖²), N times the objective
    of every other fit; so λ means the same, and 0 is none. To an optimiser that is blind to the
    scale of a gradient, such as Adadelta and Adam, the sum differs from the mean in epsilon alone.

    Args:
      encoder: any. Of a linear one, scaled or not, the predictors Θ = BW are formed first, and a
        step reads the samples once on a CPU, whatever K is, else twice. Others are encoded, and
        their gradients added up, `encoder.chunk_rows` rows at a time.
      optimizer: any optax optimiser with any schedule over `num_steps` steps, but for those with
        a line search; its state starts anew in every fit.
      num_tasks: M, static; tasks without weight get zero heads.
      num_steps: optimiser steps, each over all samples; all of them are made.
      intercept: whether heads have an unpenalised intercept, which is descended too.

    Returns:
      `Fitter`; its `fit` returns encoder and heads of the last step: the heads are no ridge heads,
      unlike those that `solve_heads` makes of the result's `stats`. Their residual variance is over
      n_m − K degrees of freedom, less one with an intercept. `gradient_norm` is that at the last
      step's start, and relative to the first step's.

    Raises:
      ValueError: if `num_steps` is below 1.

    References:
      Chen, Du, Jamieson. Active Multi-Task Representation Learning. ICML 2022, section 5.
    """
    if num_steps < 1:
        raise ValueError(f"joint_descent_fitter expects num_steps >= 1, got {num_steps}.")
    optimizer = optax.with_extra_args_support(optimizer)
    scale = linear_scale(encoder)

    def init(key: Array, batch: TaskBatch, penalty: Array) -> Params:
        del penalty
        return encoder.init(key, as_float(batch.x[0]))

    def fit(params: Params, batch: TaskBatch, penalty: Array) -> FitResult:
        if scale is None:
            of_rows = _chunked_gradient(encoder, batch)
        else:
            of_rows = _linear_gradient(batch, num_tasks, scale)
        strength = penalty * total_weight(batch)

        def penalty_of(point: _Point) -> Array:
            return strength * (squared_norm(point.encoder) + jnp.sum(point.weight**2))

        def step(carry: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], Array]:
            point, state = carry
            gradient: Any = jax.tree.map(jnp.add, of_rows(point), jax.grad(penalty_of)(point))
            updates, state = optimizer.update(gradient, state, point)
            return (optax.apply_updates(point, updates), state), optax.tree.norm(gradient)

        shape = (num_tasks, encoder.num_features, batch.y.shape[-1])
        bias = jnp.zeros((shape[0], shape[2]), batch.y.dtype) if intercept else None
        start: Any = _Point(params, jnp.zeros(shape, batch.y.dtype), bias)
        carry = (start, optimizer.init(start))
        (point, _), norms = jax.lax.scan(step, carry, length=num_steps)
        return _result(encoder, point, batch, penalty, norms)

    return Fitter(init, fit, encoder, num_tasks, intercept, warm_path=False)


def _linear_gradient(batch: TaskBatch, num_tasks: int, scale: float) -> Callable[[_Point], _Point]:
    """The gradient of Σ ω (y − c − s xᵀBw)² by B, W and c."""

    def gradient(point: _Point) -> _Point:
        kernel, weight = point.encoder["params"]["kernel"], point.weight
        theta = scale * theta_columns(kernel, weight)  # [O, M, D]
        offset = -batch.y
        if point.bias is not None:
            offset = offset + point.bias[batch.task][:, None, :]
        offset = jnp.moveaxis(offset, -1, 0)  # [O, B, R]
        error, sums = predict_and_correlate(batch, theta, offset, num_tasks)
        by_kernel, by_weight = by_factors(2.0 * scale * sums, kernel, weight)
        by_bias = None
        if point.bias is not None:
            rows = 2.0 * jnp.moveaxis(batch.weight[None] * error, 0, -1)  # [B, R, O]
            by_bias = sum_rows_by_task(rows, batch.task, num_tasks)
        return _Point({"params": {"kernel": by_kernel}}, by_weight, by_bias)

    return gradient


def _chunked_gradient(encoder: Encoder, batch: TaskBatch) -> Callable[[_Point], _Point]:
    """The gradient of Σ ω (y − c − phi(x)ᵀw)², added up over chunks of blocks that hold rows."""

    def squares(point: _Point, some: TaskBatch) -> Array:
        features = encode(encoder, point.encoder, some.x)
        error = some.y - predict_heads(_heads(point), features, some)
        return jnp.sum(some.weight[..., None] * error**2)

    def of_device(batch: TaskBatch, point: _Point) -> _Point:
        num_blocks, block_rows = batch.weight.shape
        wanted = num_blocks if encoder.chunk_rows is None else encoder.chunk_rows // block_rows
        chunk = min(max(wanted, 1), num_blocks)
        counts = jnp.any(batch.weight > 0, axis=1)
        live = jnp.max(jnp.where(counts, jnp.arange(1, num_blocks + 1), 0), initial=0)

        def add(index: Array, total: _Point) -> _Point:
            first = jnp.minimum(index * chunk, num_blocks - chunk)
            some: TaskBatch = jax.tree.map(
                lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, first, chunk), batch
            )
            # The last chunk starts earlier where chunks do not divide the blocks.
            is_new = first + jnp.arange(chunk) >= index * chunk
            some = some._replace(weight=jnp.where(is_new[:, None], some.weight, 0))
            return jax.tree.map(jnp.add, total, jax.grad(squares)(point, some))

        none = jax.tree.map(jnp.zeros_like, point)
        return jax.lax.fori_loop(0, -(-live // chunk), add, none)

    return lambda point: sum_devices(of_device, batch, point)


def _heads(point: _Point) -> Heads:
    """The heads of a point; nothing is known of the residuals yet."""
    none = jnp.zeros((point.weight.shape[0], point.weight.shape[2]), point.weight.dtype)
    return Heads(point.weight, none if point.bias is None else point.bias, none)


def _result(
    encoder: Encoder, point: _Point, batch: TaskBatch, penalty: Array, norms: Array
) -> FitResult:
    """Gathers the result, heads as the descent left them."""
    params, heads = point.encoder, _heads(point)
    features = encode_live(encoder, params, batch.x, batch.weight)
    stats = head_stats(features, batch, num_tasks=len(heads.weight))
    error = batch.weight[..., None] * (batch.y - predict_heads(heads, features, batch)) ** 2
    rss = sum_rows_by_task(error, batch.task, len(heads.weight))
    freedom = jnp.maximum(stats.count - encoder.num_features - (point.bias is not None), 1.0)
    heads = heads._replace(residual_variance=rss / freedom[:, None])
    objective, loss = penalised_loss(heads, params, features, batch, penalty)
    gradient_norm = norms[-1] / jnp.where(norms[0] > 0, norms[0], 1.0)
    ok = jnp.isfinite(objective) & jnp.isfinite(gradient_norm)
    steps = jnp.int32(len(norms))
    return FitResult(params, heads, stats, objective, loss, gradient_norm, steps, ok)
