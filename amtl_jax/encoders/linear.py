"""The linear representation phi(x) = Bᵀx."""

import flax.linen as nn
import jax

from amtl_jax.types import Array, Encoder


class LinearEncoder(nn.Module):
    """phi(x) = Bᵀx with B `[D, K]`; heads carry the intercepts, so there is no bias.

    Attributes:
      num_features: K.
    """

    num_features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[..., D]` to `[..., K]`, both floating."""
        kernel = self.param(
            "kernel", nn.initializers.lecun_normal(), (x.shape[-1], self.num_features), x.dtype
        )
        return jax.numpy.matmul(x, kernel, precision=jax.lax.Precision.HIGHEST)


def module_encoder(module: nn.Module) -> Encoder:
    """Wraps a linen module that maps `[..., *input_shape]` to `[..., K]` as an `Encoder`.

    Args:
      module: has an integer attribute `num_features`, the K of its output.

    Raises:
      TypeError: if the module has no integer `num_features`.
    """
    num_features = getattr(module, "num_features", None)
    if not isinstance(num_features, int):
        raise TypeError(
            f"module_encoder expects a module with an integer attribute num_features, got "
            f"{type(module).__name__} with num_features={num_features!r}."
        )
    return Encoder(module.init, module.apply, num_features)


def linear_encoder(num_features: int) -> Encoder:
    """Returns the linear encoder of K features as a pair of pure functions."""
    return module_encoder(LinearEncoder(num_features))
