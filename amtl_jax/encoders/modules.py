"""Any linen module as an `Encoder`."""

import flax.linen as nn
import jax

from amtl_jax.types import Array, Encoder, Params

CHUNK_ROWS = 1024


def module_encoder(module: nn.Module, *, chunk_rows: int | None = CHUNK_ROWS) -> Encoder:
    """Wraps a linen module of your own that maps `[n, *input_shape]` to `[n, K]`.

    All of its parameters are trained; those named `bias` are not penalised. Layers that look at
    other rows or keep statistics of them (BatchNorm) do not fit: the features of a row must not
    depend on which rows are packed beside it.

    Args:
      module: has an integer attribute `num_features`, the K of its output.
      chunk_rows: rows encoded at a time where no gradient is wanted; None: all at once.

    Returns:
      `Encoder`; its `init` raises `ValueError` where the module keeps other variables than
      parameters, or maps to another shape than `[n, num_features]`.

    Raises:
      TypeError: if it is no linen module, or has no integer `num_features`.
      ValueError: if `num_features` or `chunk_rows` is below 1.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"module_encoder expects a flax.linen module, got {type(module).__name__}; pass an "
            "instance such as MyEncoder(num_features=32), not the class."
        )
    name = type(module).__name__
    num_features = getattr(module, "num_features", None)
    if not isinstance(num_features, int) or isinstance(num_features, bool):
        raise TypeError(
            f"module_encoder expects a module with an integer attribute num_features, got "
            f"{name} with num_features={num_features!r}."
        )
    if num_features < 1 or (chunk_rows is not None and chunk_rows < 1):
        raise ValueError(
            f"module_encoder expects num_features >= 1 and chunk_rows >= 1 or None, got "
            f"{num_features} and {chunk_rows}."
        )

    def init(key: Array, x: Array) -> Params:
        variables = module.init(key, x)
        others = sorted(set(variables) - {"params"})
        if others:
            raise ValueError(
                f"{name} keeps the variables {', '.join(others)} beside its params, but an encoder "
                "is a function of parameters and one row. Use LayerNorm or GroupNorm in place of "
                "BatchNorm."
            )
        shape = jax.eval_shape(module.apply, variables, x).shape
        if shape != (len(x), num_features):
            raise ValueError(
                f"{name} must map inputs {tuple(x.shape)} to [{len(x)}, {num_features}], n rows of "
                f"num_features, got {tuple(shape)}."
            )
        return variables

    return Encoder(init, module.apply, num_features, chunk_rows)  # pyright: ignore[reportArgumentType]
