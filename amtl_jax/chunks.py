"""Row-wise functions over many rows: chunks of one shape, so that one is compiled."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from amtl_jax.types import Array, Params

CHUNK = 256  # rows of a call


def in_chunks(function: Callable[[Params, Array], Array], params: Params, x: Any) -> np.ndarray:
    """Applies a row-wise compiled function to chunks of one shape, the last one padded.

    Args:
      function: `(params, [CHUNK, ...]) -> [CHUNK, P]`.
      params: its first argument.
      x: `[n, ...]`, an array or rows that are read when their numbers `[m]` ask for them.

    Returns:
      `[n, P]`.
    """
    parts = []
    for start in range(0, max(len(x), 1), CHUNK):
        chunk = np.zeros((CHUNK, *x.shape[1:]), x.dtype)
        rows = np.arange(start, min(start + CHUNK, len(x)))
        chunk[: len(rows)] = x[rows]
        parts.append(np.asarray(function(params, jax.numpy.asarray(chunk))))
    return np.concatenate(parts)[: len(x)]
