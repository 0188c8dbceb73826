"""An encoder of inputs times a constant: of images of 0 to 255, where data are kept in [0, 1]."""

import dataclasses
import math

from amtl_jax.encoders.linear import is_linear
from amtl_jax.encoders.modules import check_float
from amtl_jax.types import Array, Encoder, Params


@dataclasses.dataclass(frozen=True)
class ScaledInputs:
    """`Encoder.apply` of a scaled encoder: phi(scale · x).

    Attributes:
      encoder: phi.
      scale: what inputs are multiplied by.
    """

    encoder: Encoder
    scale: float

    def __call__(self, params: Params, x: Array) -> Array:
        """Maps `[n, *input_shape]`, floating, to `[n, K]`."""
        check_float("scaled_encoder", x)
        return self.encoder.apply(params, self.scale * x)


def scaled_encoder(encoder: Encoder, scale: float) -> Encoder:
    """Returns an encoder that multiplies its inputs by a constant first.

    To the eye it changes nothing: phi's first weights could be larger instead. It does change how
    a descent goes, and what a penalty on these weights means. Every prediction applies it, so no
    input is to be scaled by hand.

    Args:
      encoder: any.
      scale: what inputs are multiplied by, 255 for images that are kept in [0, 1].

    Returns:
      `Encoder`, fitted by `joint_descent_fitter`, `variable_projection_fitter` or
      `minibatch_fitter`; the fits of the linear encoder alone read inputs as they are, and
      refuse it.

    Raises:
      ValueError: if the scale is not positive and finite.
    """
    if not 0 < scale < math.inf:
        raise ValueError(f"scaled_encoder expects a positive, finite scale, got {scale}.")
    scaled = ScaledInputs(encoder, float(scale))

    def init(key: Array, x: Array) -> Params:
        return encoder.init(key, scaled.scale * x)

    return Encoder(init, scaled, encoder.num_features, encoder.chunk_rows)


def linear_scale(encoder: Encoder) -> float | None:
    """Returns s where an encoder is s · Bᵀx with B its parameter `kernel`, else None."""
    if isinstance(encoder.apply, ScaledInputs):
        inner = linear_scale(encoder.apply.encoder)
        return None if inner is None else inner * encoder.apply.scale
    return 1.0 if is_linear(encoder) else None
