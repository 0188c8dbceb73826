"""ReLU layers, for inputs that are vectors."""

import math

import flax.linen as nn
import jax

from amtl_jax.encoders.modules import check_float, module_encoder
from amtl_jax.types import Array, Encoder

_PRECISION = jax.lax.Precision.HIGHEST


class MLPEncoder(nn.Module):
    """Dense ReLU layers and a linear one to K features; heads carry the intercepts.

    Attributes:
      num_features: K.
      widths: hidden widths, one a layer.
    """

    num_features: int
    widths: tuple[int, ...] = (256,)

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[n, ...]`, flattened, to `[n, K]`."""
        check_float("MLPEncoder", x)
        x = x.reshape(len(x), math.prod(x.shape[1:]))
        for width in self.widths:
            x = nn.relu(nn.Dense(width, precision=_PRECISION)(x))
        return nn.Dense(self.num_features, use_bias=False, precision=_PRECISION)(x)


def mlp_encoder(num_features: int, *, widths: tuple[int, ...] = (256,)) -> Encoder:
    """Returns `MLPEncoder` as a pair of pure functions.

    Raises:
      ValueError: if a width is below 1.
    """
    if any(width < 1 for width in widths):
        raise ValueError(f"mlp_encoder expects widths >= 1, got {widths}.")
    return module_encoder(MLPEncoder(num_features, tuple(widths)))
