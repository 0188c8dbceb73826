"""Variable projection: any encoder, any optax optimiser, heads always at their optimum."""

import jax
import jax.numpy as jnp
import optax

from amtl_jax.encoding import as_float
from amtl_jax.fitting.objective import finish, projected_objective
from amtl_jax.types import Array, Encoder, FitResult, Fitter, Params, TaskBatch


def variable_projection_fitter(
    encoder: Encoder,
    optimizer: optax.GradientTransformation,
    *,
    num_tasks: int,
    num_steps: int,
    intercept: bool = True,
) -> Fitter:
    """Returns a full-batch fit of an encoder whose heads are solved in closed form at each step.

    What is minimised is a function of the encoder alone, see `projected_objective`.

    Args:
      encoder: any encoder.
      optimizer: any optax optimiser; those with a line search get the objective as `value_fn`.
      num_tasks: M, static; tasks without weight get zero heads.
      num_steps: optimiser steps, each over all samples.
      intercept: whether heads have an unpenalised intercept.

    Returns:
      `Fitter`; its `fit` returns the best parameters met, not the last.

    References:
      Golub, Pereyra. The differentiation of pseudo-inverses and nonlinear least squares problems
      whose variables separate. 1973.
    """
    if num_steps < 1:
        raise ValueError(f"variable_projection_fitter expects num_steps >= 1, got {num_steps}.")
    optimizer = optax.with_extra_args_support(optimizer)

    def init(key: Array, batch: TaskBatch, penalty: Array) -> Params:
        del penalty
        return encoder.init(key, as_float(batch.x[0]))

    def fit(params: Params, batch: TaskBatch, penalty: Array) -> FitResult:
        def objective(params):
            return projected_objective(
                encoder, params, batch, penalty, num_tasks=num_tasks, intercept=intercept
            )

        def step(carry, _):
            params, state, best_params, best_value = carry
            value, gradient = jax.value_and_grad(objective)(params)
            better = value < best_value
            best_params = jax.tree.map(
                lambda new, old: jnp.where(better, new, old), params, best_params
            )
            updates, state = optimizer.update(
                gradient, state, params, value=value, grad=gradient, value_fn=objective
            )
            best_value = jnp.where(better, value, best_value)
            params = optax.apply_updates(params, updates)
            return (params, state, best_params, best_value), optax.tree.norm(gradient)

        infinity = jnp.full((), jnp.inf, batch.weight.dtype)
        carry = (params, optimizer.init(params), params, infinity)
        (params, _, best_params, best_value), norms = jax.lax.scan(step, carry, length=num_steps)
        # A step judges where it starts: where the last one ended is judged here.
        better = objective(params) < best_value
        return finish(
            encoder,
            jax.tree.map(lambda new, old: jnp.where(better, new, old), params, best_params),
            batch,
            penalty,
            num_tasks=num_tasks,
            intercept=intercept,
            gradient_norm=norms[-1] / jnp.where(norms[0] > 0, norms[0], 1.0),
            steps=jnp.int32(num_steps),
        )

    return Fitter(init, fit, encoder, num_tasks, intercept, warm_path=False)
