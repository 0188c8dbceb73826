"""Encoding packed samples: the blocks' two leading axes, and chunks where no gradient is wanted."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from amtl_jax.sharded import map_blocks
from amtl_jax.types import Array, Encoder, Params

_BYTE = 1.0 / 255.0
_BYTE_ROWS = 1024


def as_float(x: Array, dtype: DTypeLike = jnp.float32) -> Array:
    """Inputs as an encoder wants them: images of bytes become floats in [0, 1], others stay."""
    return x.astype(dtype) * jnp.asarray(_BYTE, dtype) if x.dtype == jnp.uint8 else x


def encode(encoder: Encoder, params: Params, x: Array) -> Array:
    """Encodes all blocks at once, so that the result can be differentiated.

    Args:
      encoder: any.
      params: its parameters.
      x: `[B, R, *input_shape]`, floats or bytes.

    Returns:
      `[B, R, K]` features.
    """
    rows = as_float(x.reshape(-1, *x.shape[2:]))
    return encoder.apply(params, rows).reshape(*x.shape[:2], encoder.num_features)


def encode_live(encoder: Encoder, params: Params, x: Array, weight: Array) -> Array:
    """Encodes blocks a chunk at a time, as far as rows of positive weight go.

    A packed batch keeps room for all that a campaign will buy, and an encoder may need a thousand
    times the memory of its input: so only `encoder.chunk_rows` rows are in flight, and blocks
    behind the last one that counts are not encoded. For forward passes; it has no gradient.

    Args:
      encoder: any; with `chunk_rows` None all blocks are encoded at once, unless they are bytes.
      params: its parameters.
      x: `[B, R, *input_shape]`, floats or bytes.
      weight: `[B, R]` sample weight.

    Returns:
      `[B, R, K]` features; zeros in the blocks that were left out.
    """
    chunk_rows = encoder.chunk_rows or (_BYTE_ROWS if x.dtype == jnp.uint8 else None)
    if chunk_rows is None or len(x) == 0:
        return encode(encoder, params, x)

    def of_blocks(blocks: tuple[Array, Array], params: Params) -> Array:
        return _in_chunks(encoder, params, *blocks, chunk_rows=chunk_rows)

    return map_blocks(of_blocks, (x, weight), params)


def _in_chunks(
    encoder: Encoder, params: Params, x: Array, weight: Array, *, chunk_rows: int
) -> Array:
    num_blocks, block_rows = x.shape[:2]
    chunk = min(max(chunk_rows // block_rows, 1), num_blocks)
    counts = jnp.any(weight > 0, axis=1)
    live = jnp.max(jnp.where(counts, jnp.arange(1, num_blocks + 1), 0))
    dtype = jax.eval_shape(encoder.apply, params, as_float(x[0])).dtype

    def fill(index, features):
        # The last chunk starts earlier where chunks do not divide the blocks: it writes the same.
        first = jnp.minimum(index * chunk, num_blocks - chunk)
        some = encode(encoder, params, jax.lax.dynamic_slice_in_dim(x, first, chunk))
        return jax.lax.dynamic_update_slice_in_dim(features, some, first, axis=0)

    empty = jnp.zeros((num_blocks, block_rows, encoder.num_features), dtype)
    return jax.lax.fori_loop(0, -(-live // chunk), fill, empty)


def encode_rows(encoder: Encoder, params: Params, x: Array) -> Array:
    """Encodes rows `[n, *input_shape]` to `[n, K]`, `encoder.chunk_rows` at a time."""
    if encoder.chunk_rows is None or len(x) <= encoder.chunk_rows:
        return encoder.apply(params, x)
    return jax.lax.map(
        lambda row: encoder.apply(params, row[None])[0], x, batch_size=encoder.chunk_rows
    )
