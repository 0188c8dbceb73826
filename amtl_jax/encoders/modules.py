"""Any linen module as an `Encoder`."""

import numbers
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.errors import FlaxError

from amtl_jax.types import Array, Encoder, Params

CHUNK_ROWS = 1024


def module_encoder(module: nn.Module, *, chunk_rows: int | None = CHUNK_ROWS) -> Encoder:
    """Wraps a linen module of your own that maps `[n, *input_shape]` to `[n, K]`.

    All of its parameters are trained; those named `bias` are not penalised. Layers that look at
    other rows or keep statistics of them (BatchNorm) do not fit: the features of a row must not
    depend on which rows are packed beside it. Features and their gradients must be finite for an
    input of zeros, with which blocks are padded. `check_rows` tries both.

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
    given = getattr(module, "num_features", None)
    if not isinstance(given, numbers.Integral) or isinstance(given, bool):
        raise TypeError(
            f"module_encoder expects a module with an integer attribute num_features, got "
            f"{name} with num_features={given!r}."
        )
    num_features = int(given)
    if num_features < 1 or (chunk_rows is not None and chunk_rows < 1):
        raise ValueError(
            f"module_encoder expects num_features >= 1 and chunk_rows >= 1 or None, got "
            f"{num_features} and {chunk_rows}."
        )

    def init(key: Array, x: Array) -> Params:
        try:
            variables = module.init(key, x)
            others = sorted(set(variables) - {"params"})
            found: Any = None if others else jax.eval_shape(module.apply, variables, x)
        except FlaxError as error:
            raise ValueError(
                f"{name} is no function of parameters and inputs alone: {error} Dropout and the "
                "like have no place in an encoder."
            ) from error
        if others:
            raise ValueError(
                f"{name} keeps the variables {', '.join(others)} beside its params, but an encoder "
                "is a function of parameters and one row. Use LayerNorm or GroupNorm in place of "
                "BatchNorm."
            )
        wanted = (len(x), num_features)
        if getattr(found, "shape", None) != wanted or not jnp.issubdtype(found.dtype, jnp.floating):
            raise ValueError(
                f"{name} must map inputs {tuple(x.shape)} to floats {list(wanted)}, n rows of "
                f"num_features, got {found}."
            )
        return variables

    return Encoder(init, module.apply, num_features, chunk_rows)  # pyright: ignore[reportArgumentType]


def check_rows(encoder: Encoder, input_shape: tuple[int, ...]) -> None:
    """Tries an encoder on a few random rows and one of zeros.

    Args:
      encoder: any.
      input_shape: of one input.

    Raises:
      ValueError: if a row's features depend on the rows beside it, or if features or gradients of
        a row of zeros are not finite.
    """
    x = jax.random.normal(jax.random.key(0), (3, *input_shape)).at[2].set(0.0)
    params = encoder.init(jax.random.key(1), x)
    features = encoder.apply(params, x)
    alone = encoder.apply(params, x[:1])
    if not bool(jnp.allclose(alone, features[:1], rtol=1e-3, atol=1e-4)):
        raise ValueError(
            "The features of a row depend on the rows beside it. An encoder sees one row at a "
            "time: leave out means over the first axis."
        )
    slopes = jax.grad(lambda params: jnp.sum(encoder.apply(params, x[2:])))(params)
    leaves = (features[2:], *jax.tree.leaves(slopes))
    if not all(bool(jnp.isfinite(leaf).all()) for leaf in leaves):
        raise ValueError(
            "Features or their gradients are not finite for an input of zeros, with which packed "
            "blocks are padded. Divide by a norm plus a small number, say."
        )


def check_float(name: str, x: Array) -> None:
    """Raises `TypeError` where inputs are not floats; images as bytes need scaling first."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{name} expects float inputs, got {x.dtype}: convert and scale first.")
