"""Joint L-BFGS on the factors of the linear representation, from second moments alone.

With G_m the centred Gram matrix of task m's inputs and r_m = h_m − G_m θ_m the moments that its
predictor leaves, the gradient by θ_m is −2 r_m / N, and along a direction the objective is a
quartic whose coefficients are quadratic forms with G_m. One step multiplies G_m with the linear
and the quadratic part of the change of θ_m; no sample is read again.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from amtl_jax.fitting.factors import balance, by_factors, product
from amtl_jax.fitting.moments import TaskMoments, gram_times, ridge_heads, total_count
from amtl_jax.fitting.quasi_newton import (
    empty_history,
    first_minimiser,
    quasi_newton_direction,
    remember,
)
from amtl_jax.types import Array

WINDOW = 11  # values of the objective that are judged together: ten steps


class Descent(NamedTuple):
    """How far to go down.

    Attributes:
      num_steps: most steps.
      tolerance: stops when the objective fell by no more than this share over the last `window`
        values of it.
      memory: pairs of the quasi-Newton history.
      window: values that are judged together, at least 2; `window − 1` steps are made at least.
    """

    num_steps: int = 200
    tolerance: float = 1e-6
    memory: int = 10
    window: int = WINDOW


class FittedFactors(NamedTuple):
    """Where a descent ended.

    Attributes:
      kernel: `[D, K]` B.
      weight: `[M, K, O]` W.
      gradient_norm: `[]` the gradient's norm relative to that at the start.
      steps: `[]` int32.
    """

    kernel: Array
    weight: Array
    gradient_norm: Array
    steps: Array


def fit_features(
    kernel: Array,
    moments: TaskMoments,
    penalty: Array,
    *,
    intercept: bool,
    descent: Descent,
    rank: Array | int | None = None,
) -> FittedFactors:
    """Fits balanced factors from a kernel `[D, K]` and the closed-form heads on its features.

    Args:
      kernel: B to start from.
      moments: of the samples, centred with an intercept.
      penalty: `[]` λ.
      intercept: whether heads have an unpenalised intercept.
      descent: how far to go.
      rank: features beyond this many are left out, and exactly zero in the result; None: all K.
    """
    heads, _ = ridge_heads(moments, kernel, penalty, intercept=intercept)
    start = _first_features(*balance(kernel, heads.weight), rank)
    found = descend(*start, moments, penalty, descent)
    kernel, weight = _first_features(*balance(found.kernel, found.weight), rank)
    return found._replace(kernel=kernel, weight=weight)


def _first_features(kernel: Array, weight: Array, rank: Array | int | None) -> tuple[Array, Array]:
    """Factors whose features beyond a rank are exactly zero; balanced ones come in order."""
    if rank is None:
        return kernel, weight
    kept = jnp.arange(kernel.shape[1]) < rank
    return jnp.where(kept[None], kernel, 0), jnp.where(kept[None, :, None], weight, 0)


def descend(
    kernel: Array, weight: Array, moments: TaskMoments, penalty: Array, descent: Descent
) -> FittedFactors:
    """Minimises the objective over B and W together.

    A column of B that is zero together with its row of W has zero gradients, and stays zero.

    Args:
      kernel: `[D, K]` B to start from, balanced with the weights.
      weight: `[M, K, O]` W to start from.
      moments: of the samples.
      penalty: `[]` λ.
      descent: how far to go.
    """
    count = total_count(moments)
    start = _ravel(kernel, weight)

    def unravel(point):
        by_factor = jnp.split(point, [kernel.size])
        return by_factor[0].reshape(kernel.shape), by_factor[1].reshape(weight.shape)

    def gradient_at(point, left):
        by_theta = jnp.moveaxis(-2.0 / count * left, -1, 0)
        return _ravel(*by_factors(by_theta, *unravel(point))) + 2.0 * penalty * point

    def quartic_along(point, left, gradient, direction):
        """What a step does to the remaining moments, linear and squared, and to the objective."""
        kernel, weight = unravel(point)
        kernel_step, weight_step = unravel(direction)
        linear = product(kernel_step, weight) + product(kernel, weight_step)
        quadratic = product(kernel_step, weight_step)
        both = jnp.concatenate([linear, quadratic], axis=-1)
        linear_image, quadratic_image = jnp.split(gram_times(moments, both), 2, axis=-1)
        coefficients = (
            jnp.vdot(gradient, direction),
            (jnp.vdot(linear, linear_image) - 2.0 * jnp.vdot(left, quadratic)) / count
            + penalty * jnp.vdot(direction, direction),
            2.0 * jnp.vdot(linear, quadratic_image) / count,
            jnp.vdot(quadratic, quadratic_image) / count,
        )
        return linear_image, quadratic_image, coefficients

    def step(carry):
        point, left, gradient, history, value, decreases, index = carry
        direction = quasi_newton_direction(gradient, history)
        linear, quadratic, coefficients = quartic_along(point, left, gradient, direction)
        length = first_minimiser(coefficients)
        left = left - length * linear - length**2 * quadratic
        point = point + length * direction
        new_gradient = gradient_at(point, left)
        history = remember(history, length * direction, new_gradient - gradient)
        # The quartic knows the decrease long after two objectives differ by rounding alone.
        c1, c2, c3, c4 = coefficients
        decrease = -length * (c1 + length * (c2 + length * (c3 + length * c4)))
        decreases = jnp.append(decreases[1:], decrease)
        value = jnp.maximum(value - decrease, least)
        return point, left, new_gradient, history, value, decreases, index + 1

    def unfinished(carry):
        _, _, gradient, _, value, decreases, index = carry
        improving = jnp.sum(decreases) > descent.tolerance * value
        healthy = jnp.isfinite(value) & jnp.any(gradient != 0)
        return (index < descent.num_steps) & healthy & improving

    theta = product(kernel, weight)
    left = moments.moment - gram_times(moments, theta)
    explained = jnp.vdot(theta, moments.moment + left)
    energy = jnp.sum(moments.energy)
    value = (energy - explained) / count + penalty * jnp.vdot(start, start)
    least = jnp.finfo(start.dtype).eps * energy / count  # a difference of sums knows no less
    gradient = gradient_at(start, left)
    history = empty_history(descent.memory, start)
    decreases = jnp.full(descent.window - 1, jnp.inf, start.dtype)
    carry = (start, left, gradient, history, jnp.maximum(value, least), decreases, jnp.int32(0))
    point, _, last, _, _, _, steps = jax.lax.while_loop(unfinished, step, carry)
    norm = jnp.linalg.norm(gradient)
    relative = jnp.linalg.norm(last) / jnp.where(norm > 0, norm, 1.0)
    return FittedFactors(*unravel(point), relative, steps)


def _ravel(kernel: Array, weight: Array) -> Array:
    return jnp.concatenate([kernel.ravel(), weight.ravel()])
