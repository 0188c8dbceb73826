"""Prediction with a fitted answer: one compiled function, the same in a run and after loading."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from amtl_jax.answer import Answer, predict_answer
from amtl_jax.chunks import in_chunks
from amtl_jax.data.encoded import EncodedRows
from amtl_jax.types import Array, Encoder, Params


def transformer(encoder: Encoder | None) -> Callable[[Params, Array], Array]:
    """Returns `(params, x [n, ...]) -> features [n, K]`; without an encoder K is 0."""

    def transform(params: Params, x: Array) -> Array:
        if encoder is None:
            return jnp.zeros((len(x), 0), x.dtype)
        return encoder.apply(params, x)

    return transform


def predictor(encoder: Encoder | None) -> Callable[..., np.ndarray]:
    """Returns `(params, answer, x [n, ...]) -> [n, O]` outputs as host arrays."""
    transform = transformer(encoder)

    @jax.jit
    def outputs(state: tuple[Params, Answer], x: Array) -> Array:
        params, answer = state
        x = x.astype(jnp.float32)
        return predict_answer(answer, x.reshape(len(x), -1), transform(params, x))

    def predict(params: Params, answer: Answer, x: np.ndarray | EncodedRows) -> np.ndarray:
        return in_chunks(outputs, (params, answer), x)

    return predict
