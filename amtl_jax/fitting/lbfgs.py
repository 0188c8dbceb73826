"""Joint L-BFGS on the factors of the linear representation, with an exact line search.

The objective in the factors B `[D, K]` and W `[M, K, O]` is a nuclear norm problem in
Θ = BW. Each row meets only its task's θ_m = B w_m, so a gradient is a forward and a backward
product with the samples whatever K is. Along a direction the residual is a quadratic in the step
length and the objective a quartic: reading the samples once gives its coefficients, hence the exact
minimiser. The residual there needs no further read, and neither does the gradient, which is linear
in the residual: what the direction adds to both comes of that one read. No evaluation is ever
wasted.
"""

import jax
import jax.numpy as jnp

from amtl_jax.encoding import encode_live
from amtl_jax.fitting.factors import (
    balance,
    by_factors,
    check_descent,
    spectral_start,
    task_means,
    theta_columns,
)
from amtl_jax.fitting.objective import finish, total_weight
from amtl_jax.fitting.quasi_newton import (
    empty_history,
    first_minimiser,
    quasi_newton_direction,
    remember,
)
from amtl_jax.fitting.reading import predict_and_correlate
from amtl_jax.heads import head_stats, solve_heads
from amtl_jax.sharded import sum_rows
from amtl_jax.types import Array, Encoder, FitResult, Fitter, Params, TaskBatch

_PRECISION = jax.lax.Precision.HIGHEST


def lbfgs_fitter(
    encoder: Encoder,
    *,
    num_tasks: int,
    intercept: bool = True,
    num_steps: int = 200,
    tolerance: float = 1e-4,
    memory: int = 10,
    window: int = 10,
) -> Fitter:
    """Returns the fast fit of the linear encoder: spectral start, then joint L-BFGS.

    Args:
      encoder: a linear encoder with the one parameter `kernel` `[D, K]`.
      num_tasks: M, static; tasks without weight get zero heads.
      intercept: whether heads have an unpenalised intercept.
      num_steps: most gradient passes over the samples.
      tolerance: stops when the objective fell by less than this share over the last `window` values
        of it, which are `window − 1` steps.
      memory: pairs of the quasi-Newton history.
      window: values that are judged together, at least 2; one step fewer is made at least.

    Returns:
      `Fitter`; its `fit` also rebalances the factors to BᵀB = Σ_m W_m W_mᵀ, where the penalty
      on the product is least.

    References:
      Nocedal, Wright. Numerical Optimization, chapter 7. Start: Tripuraneni, Jin, Jordan.
      Provable Meta-Learning of Linear Representations. 2021.
    """
    check_descent("lbfgs_fitter", num_steps, memory, tolerance, window)

    def fit(params: Params, batch: TaskBatch, penalty: Array) -> FitResult:
        kernel = params["params"]["kernel"]
        features = encode_live(encoder, params, batch.x, batch.weight)
        stats = head_stats(features, batch, num_tasks=num_tasks)
        ridge = penalty * total_weight(batch)
        heads = solve_heads(stats, ridge=ridge, intercept=intercept)
        factors = balance(kernel, heads.weight)
        factors, gradient_norm, steps = _minimise(
            factors, batch, penalty, num_tasks, intercept, num_steps, tolerance, memory, window
        )
        kernel, _ = balance(*factors)
        return finish(
            encoder,
            {"params": {"kernel": kernel}},
            batch,
            penalty,
            num_tasks=num_tasks,
            intercept=intercept,
            gradient_norm=gradient_norm,
            steps=steps,
        )

    init = spectral_start("lbfgs_fitter", encoder, num_tasks, intercept)
    return Fitter(init, fit, encoder, num_tasks, intercept)


def _minimise(factors, batch, penalty, num_tasks, intercept, num_steps, tolerance, memory, window):
    """Runs L-BFGS from balanced factors; returns factors, relative gradient norm and steps."""
    mean, label_mean, _ = task_means(batch, num_tasks, intercept)
    count = total_weight(batch)
    shapes = [leaf.shape for leaf in factors]
    split = factors[0].size

    def unravel(vector):
        return vector[:split].reshape(shapes[0]), vector[split:].reshape(shapes[1])

    def ravel(kernel, weight):
        return jnp.concatenate([kernel.ravel(), weight.ravel()])

    def added(rows, theta):  # r = rows + (x − mean)ᵀθ of every row, and the moments Σ ω x rᵀ
        shift = jnp.einsum("md,pmd->pm", mean, theta, precision=_PRECISION)
        return predict_and_correlate(batch, theta, rows - shift[:, batch.task, None], num_tasks)

    def gradient_at(point, moments):  # moments `[O, M, D]` of the residuals
        return ravel(*by_factors(-2.0 / count * moments, *unravel(point))) + 2.0 * penalty * point

    def inner(left, right):  # (1/N) Σ ω leftᵀright
        return sum_rows(batch.weight[None] * left * right) / count

    def step(carry):
        point, residual, moments, gradient, history, values, index = carry
        direction = quasi_newton_direction(gradient, history)
        kernel, weight = unravel(point)
        kernel_step, weight_step = unravel(direction)
        linear = theta_columns(kernel_step, weight) + theta_columns(kernel, weight_step)
        both = jnp.concatenate([linear, theta_columns(kernel_step, weight_step)])
        (linear, quadratic), (by_linear, by_quadratic) = (
            jnp.split(part, 2) for part in added(nothing, both)
        )
        coefficients = (
            -2.0 * inner(residual, linear) + 2.0 * penalty * jnp.vdot(point, direction),
            inner(linear, linear)
            - 2.0 * inner(residual, quadratic)
            + penalty * jnp.vdot(direction, direction),
            2.0 * inner(linear, quadratic),
            inner(quadratic, quadratic),
        )
        length = first_minimiser(coefficients)
        residual = residual - length * linear - length**2 * quadratic
        moments = moments - length * by_linear - length**2 * by_quadratic
        new_point = point + length * direction
        new_gradient = gradient_at(new_point, moments)
        history = remember(history, length * direction, new_gradient - gradient)
        value = inner(residual, residual) + penalty * jnp.vdot(new_point, new_point)
        values = jnp.append(values[1:], value)
        return new_point, residual, moments, new_gradient, history, values, index + 1

    def unfinished(carry):
        _, _, _, gradient, _, values, index = carry
        improving = values[0] - values[-1] > tolerance * values[-1]
        healthy = jnp.isfinite(values[-1]) & jnp.any(gradient != 0)
        return (index < num_steps) & healthy & improving

    point = ravel(*factors)
    labels = jnp.moveaxis(batch.y - label_mean[batch.task][:, None, :], -1, 0)  # [O, B, R]
    nothing = jnp.concatenate([jnp.zeros_like(labels)] * 2)  # of `linear`, `quadratic`
    residual, moments = added(labels, -theta_columns(*factors))
    gradient = gradient_at(point, moments)
    value = inner(residual, residual) + penalty * jnp.vdot(point, point)
    history = empty_history(memory, point)
    values = jnp.append(jnp.full(window - 1, jnp.inf, point.dtype), value)
    carry = (point, residual, moments, gradient, history, values, jnp.int32(0))
    point, _, _, last_gradient, _, _, steps = jax.lax.while_loop(unfinished, step, carry)
    start = jnp.linalg.norm(gradient)
    relative = jnp.linalg.norm(last_gradient) / jnp.where(start > 0, start, 1.0)
    return unravel(point), relative, steps
