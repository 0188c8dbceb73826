"""The fit of a representation that is not learned: heads alone."""

import jax.numpy as jnp

from amtl_jax.encoding import as_float
from amtl_jax.fitting.objective import finish
from amtl_jax.types import Array, Encoder, FitResult, Fitter, Params, TaskBatch


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
      `Fitter`; the objective's penalty is on the heads and, as a constant, on the parameters.
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

    return Fitter(init, fit, encoder, num_tasks, intercept)
