"""The fit that suits an encoder, where a person does not choose one."""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from amtl_jax.encoders.linear import is_linear, linear_encoder
from amtl_jax.fitting.frozen import frozen_fitter
from amtl_jax.fitting.lbfgs import lbfgs_fitter
from amtl_jax.fitting.variable_projection import variable_projection_fitter
from amtl_jax.rank_choice import rank_fitter
from amtl_jax.types import Encoder, Fitter

_MOST_FEATURES = 50
_LEARNING_RATE, _NUM_STEPS = 0.01, 100
_KEPT = 8

# Equal arguments give the same object, by which whoever compiled a fit finds it again.
_linear = functools.lru_cache(maxsize=_KEPT)(linear_encoder)
_rank_fitter = functools.lru_cache(maxsize=_KEPT)(rank_fitter)


def default_fitter(
    encoder: Encoder | None,
    *,
    num_sources: int,
    input_shape: tuple[int, ...],
    num_outputs: int,
    rank: int | Literal["aic"] | None = None,
) -> Fitter:
    """Returns a fit of M sources and the target, the same object for the same arguments.

    Args:
      encoder: of the fit: `lbfgs_fitter` for a linear one, heads alone for one without
        parameters, 100 steps of Adam by variable projection for others. None: linear with
        K = min(50, D, M·O) features, more of which M heads could not use.
      num_sources: M.
      input_shape: of one input.
      num_outputs: O.
      rank: K of the linear encoder where none is given; "aic": chosen by the fit, up to
        min(50, D, M·O), from the second moments of every task.

    Raises:
      ValueError: if there is no encoder and inputs are not vectors, a rank beside an encoder or
        out of range, or if the second moments are too many to choose one.
    """
    if encoder is not None and rank is not None:
        raise ValueError(
            f"A rank is for the default linear encoder, got {rank!r} and an encoder of K = "
            f"{encoder.num_features}."
        )
    if encoder is None:
        if len(input_shape) != 1:
            raise ValueError(
                "The default encoder is linear and expects vectors, but inputs have shape "
                f"{input_shape}. Flatten them, or pass an encoder such as conv_encoder."
            )
        is_number = isinstance(rank, (int, np.integer)) and not isinstance(rank, bool)
        if rank not in (None, "aic") and not (is_number and 1 <= rank <= input_shape[0]):
            raise ValueError(
                f"Expected rank 'aic', None or 1 to D = {input_shape[0]}, got {rank!r}."
            )
        most = min(_MOST_FEATURES, input_shape[0], num_sources * num_outputs)
        encoder = _linear(most if rank in (None, "aic") else int(rank))
        if rank == "aic":
            return _rank_fitter(encoder, num_tasks=num_sources + 1, num_inputs=input_shape[0])
    return _fitter_of(encoder, num_sources + 1, input_shape)


@functools.lru_cache(maxsize=_KEPT)
def _fitter_of(encoder: Encoder, num_tasks: int, input_shape: tuple[int, ...]) -> Fitter:
    if is_linear(encoder):
        return lbfgs_fitter(encoder, num_tasks=num_tasks)
    row = jax.ShapeDtypeStruct((1, *input_shape), jnp.zeros(()).dtype)
    if not jax.tree.leaves(jax.eval_shape(encoder.init, jax.random.key(0), row)):
        return frozen_fitter(encoder, num_tasks=num_tasks)
    return variable_projection_fitter(
        encoder, optax.adam(_LEARNING_RATE), num_tasks=num_tasks, num_steps=_NUM_STEPS
    )
