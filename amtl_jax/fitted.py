"""What a campaign in memory leaves: a representation, and a predictor of the target."""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike

from amtl_jax.answer import Answer, predict_answer
from amtl_jax.chunks import in_chunks
from amtl_jax.data.rows import checked_inputs
from amtl_jax.rank_choice import features_in_use
from amtl_jax.types import Array, Encoder, LearnerState, Params, RoundInfo


class ActiveFit(NamedTuple):
    """A fitted representation, the target's predictor, and what was bought for them.

    Attributes:
      params: the encoder's parameters.
      encoder: the representation.
      answer: the target's predictor, in scaled labels; see `fit_answer`.
      state: the learner's last state.
      infos: what a person wants to know of every round.
      counts: `[rounds, M]` samples bought.
      source_names: M names.
      input_shape: of one input.
      label_offset: `[O]` what was subtracted from all labels before the fit.
      label_scale: what all labels were then divided by.
    """

    params: Params
    encoder: Encoder
    answer: Answer
    state: LearnerState
    infos: tuple[RoundInfo, ...]
    counts: np.ndarray
    source_names: tuple[str, ...]
    input_shape: tuple[int, ...]
    label_offset: np.ndarray
    label_scale: float

    @property
    def relevance(self) -> np.ndarray:
        """`[M]` how the target's head is composed of the sources', after the last round."""
        return np.asarray(self.infos[-1].relevance.nu)

    @property
    def num_features(self) -> int:
        """K, the features in use; where AIC chose the rank the others are exactly zero."""
        return features_in_use(self.encoder, self.params)

    def predict(self, x: ArrayLike) -> np.ndarray:
        """Predicts the target's labels in their own units: `[n, ...]` inputs give `[n, O]`.

        Raises:
          ValueError: for inputs of another shape, NaN or Inf.
        """
        x = checked_inputs("x", x, self.input_shape)
        scaled = in_chunks(functools.partial(_outputs, self.encoder), (self.params, self.answer), x)
        return scaled.astype(np.float64) * self.label_scale + self.label_offset

    def transform(self, x: ArrayLike) -> np.ndarray:
        """Represents inputs: `[n, ...]` give features `[n, K]`.

        Raises:
          ValueError: for inputs of another shape, NaN or Inf.
        """
        return represent(self.encoder, self.params, checked_inputs("x", x, self.input_shape))

    def allocation_table(self) -> list[dict[str, Any]]:
        """A row for each source: its last relevance, samples in all and by round."""
        columns = zip(self.source_names, self.relevance, self.counts.T, strict=True)
        return [
            {
                "source": name,
                "relevance": float(nu),
                "samples": int(bought.sum()),
                "samples_by_round": bought.tolist(),
            }
            for name, nu, bought in columns
        ]


def represent(encoder: Encoder, params: Params, x: np.ndarray) -> np.ndarray:
    """Encodes `[n, *input_shape]` to `[n, K]` on the host."""
    return in_chunks(functools.partial(_features, encoder), params, x)


# An encoder is a tuple of functions: a static argument, so later calls find what was compiled.
@functools.partial(jax.jit, static_argnums=0)
def _features(encoder: Encoder, params: Params, x: Array) -> Array:
    return encoder.apply(params, x)


@functools.partial(jax.jit, static_argnums=0)
def _outputs(encoder: Encoder, fitted: tuple[Params, Answer], x: Array) -> Array:
    params, answer = fitted
    return predict_answer(answer, x.reshape(len(x), -1), encoder.apply(params, x))
