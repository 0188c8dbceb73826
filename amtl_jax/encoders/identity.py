"""No representation to learn: inputs that are features already."""

import flax.linen as nn

from amtl_jax.encoders.modules import check_float, module_encoder
from amtl_jax.types import Array, Encoder


class IdentityEncoder(nn.Module):
    """phi(x) = x, for frozen embeddings: only heads are fitted, and nothing is trained.

    Attributes:
      num_features: K, the length of the embeddings.
    """

    num_features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[n, K]` to itself.

        Raises:
          ValueError: if the inputs are not vectors of length K.
        """
        check_float("IdentityEncoder", x)
        if x.shape[1:] != (self.num_features,):
            raise ValueError(
                f"IdentityEncoder expects vectors of num_features = {self.num_features}, got "
                f"inputs of shape {tuple(x.shape[1:])}."
            )
        return x


def identity_encoder(num_features: int) -> Encoder:
    """Returns `IdentityEncoder` as a pair of pure functions; fit it with `frozen_fitter`."""
    return module_encoder(IdentityEncoder(num_features), chunk_rows=None)


def is_identity(encoder: Encoder) -> bool:
    """Whether an encoder is `IdentityEncoder`, whose features are the inputs."""
    return isinstance(getattr(encoder.apply, "__self__", None), IdentityEncoder)
