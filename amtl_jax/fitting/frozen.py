"""The fit of a representation that is not learned: heads alone."""

import jax.numpy as jnp

from amtl_jax.encoders.identity import is_identity
from amtl_jax.encoding import as_float
from amtl_jax.fitting.moments import (
    TaskMoments,
    error_of_heads,
    ridge_heads,
    squared_error,
    total_count,
)
from amtl_jax.fitting.objective import finish
from amtl_jax.types import Array, Encoder, FitResult, Fitter, MomentFit, Params, TaskBatch


def frozen_fitter(
    encoder: Encoder, *, num_tasks: int, params: Params = None, intercept: bool = True
) -> Fitter:
    """Returns a fit that leaves the encoder as it is and solves the heads in closed form.

    For embeddings of a large model (`identity_encoder`), and for an encoder that was trained
    elsewhere.

    Args:
      encoder: any encoder.
      num_tasks: M, static; tasks without weight get zero heads.
      params: the trained parameters, which `init` then returns; None: the encoder's own `init`.
      intercept: whether heads have an unpenalised intercept.

    Returns:
      `Fitter`, of moments too for `identity_encoder`; the objective's penalty is on the heads and,
        as a constant, on the parameters.
    """

    def init(key: Array, batch: TaskBatch, penalty: Array) -> Params:
        del penalty
        return encoder.init(key, as_float(batch.x[0])) if params is None else params

    def fit(found: Params, batch: TaskBatch, penalty: Array) -> FitResult:
        return finish(
            encoder,
            found,
            batch,
            penalty,
            num_tasks=num_tasks,
            intercept=intercept,
            gradient_norm=jnp.zeros((), batch.weight.dtype),
            steps=jnp.int32(0),
        )

    of_moments = _of_inputs(params, intercept) if is_identity(encoder) else None
    return Fitter(init, fit, encoder, num_tasks, intercept, of_moments=of_moments)


def _of_inputs(params: Params, intercept: bool) -> MomentFit:
    """The heads on inputs that are the features, from their moments."""

    def init(moments: TaskMoments, penalty: Array) -> Params:
        del moments, penalty
        return {} if params is None else params

    def fit(found: Params, moments: TaskMoments, penalty: Array) -> FitResult:
        heads, stats = ridge_heads(moments, None, penalty, intercept=intercept)
        loss = squared_error(moments, None, heads.weight) / total_count(moments)
        objective = loss + penalty * jnp.sum(heads.weight**2)
        nothing = jnp.zeros_like(objective)
        ok = jnp.isfinite(objective)
        return FitResult(found, heads, stats, objective, loss, nothing, jnp.int32(0), ok)

    def error(found: FitResult, moments: TaskMoments) -> Array:
        return error_of_heads(moments, None, found.heads)

    return MomentFit(init, fit, error)
