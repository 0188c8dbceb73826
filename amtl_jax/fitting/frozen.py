"""The fit of a representation that is not learned: heads alone."""

import jax.numpy as jnp

from amtl_jax.fitting.objective import finish
from amtl_jax.types import Array, Encoder, FitResult, Fitter, Params, TaskBatch


def frozen_fitter(encoder: Encoder, *, num_tasks: int, intercept: bool = True) -> Fitter:
    """Returns a fit that leaves the encoder as it is and solves the heads in closed form.

    For embeddings of a large model (`identity_encoder`), and for any encoder whose parameters
    come from elsewhere: `fit` keeps the parameters it is given.

    Args:
      encoder: any encoder.
      num_tasks: M, static; tasks without weight get zero heads.
      intercept: whether heads have an unpenalised intercept.

    Returns:
      `Fitter`; the objective's penalty is on the heads and, as a constant, on the parameters.
    """

    def init(key: Array, batch: TaskBatch, penalty: Array) -> Params:
        del penalty
        return encoder.init(key, batch.x[0])

    def fit(params: Params, batch: TaskBatch, penalty: Array) -> FitResult:
        return finish(
            encoder,
            params,
            batch,
            penalty,
            num_tasks=num_tasks,
            intercept=intercept,
            gradient_norm=jnp.zeros((), batch.weight.dtype),
            steps=jnp.int32(0),
        )

    return Fitter(init, fit, encoder, num_tasks, intercept)
