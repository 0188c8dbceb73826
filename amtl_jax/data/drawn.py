"""Samples that were drawn, but whose inputs are gathered when somebody asks for them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from amtl_jax.data.on_demand import RowsOnDemand

_CHECKED_NUMBERS = 2**22  # at a time


class DrawnRows(NamedTuple):
    """Samples as `Rows` has them, but for inputs that are not in memory yet.

    Attributes:
      x: `[N, ...]` inputs: give it row numbers for rows.
      y: `[N, O]` targets.
      task: `[N]` int32 task of each row.
      weight: `[N]` see `Rows`.
    """

    x: RowsOnDemand
    y: np.ndarray
    task: np.ndarray
    weight: np.ndarray | None = None


class DrawnInputs(RowsOnDemand):
    """Inputs of a draw, gathered from their pools when they are asked for.

    Args:
      pools: of inputs.
      pool: `[N]` the pool of each row.
      local: `[N]` its place there.
      input_shape: of one input.
    """

    def __init__(
        self,
        pools: Sequence[np.ndarray | RowsOnDemand],
        pool: np.ndarray,
        local: np.ndarray,
        input_shape: tuple[int, ...],
    ):
        self.shape: tuple[int, ...] = (len(local), *input_shape)
        self._pools = pools
        self._pool = pool
        self._local = local

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Reads rows.

        Raises:
          ValueError: for NaN or Inf in a pool that nobody has looked at yet.
        """
        x = np.empty((len(rows), *self.shape[1:]), np.float32)
        pool_of_row, local = self._pool[rows], self._local[rows]
        for index in np.unique(pool_of_row):
            pool, chosen = self._pools[index], np.flatnonzero(pool_of_row == index)
            # Bytes are images; the others are numbers already.
            unit = np.float32(1 / 255) if pool.dtype == np.uint8 else np.float32(1)
            found = pool[local[chosen]]
            if isinstance(pool, RowsOnDemand):
                check_finite("inputs that were drawn", found)
            x[chosen] = found * unit
        return x


def check_finite(what: str, array: np.ndarray) -> None:
    """Raises `ValueError` for NaN or Inf in inputs or labels.

    It goes through an array a few rows at a time: it may be a map of a file larger than memory.
    """
    if not np.issubdtype(array.dtype, np.floating):
        return
    size = max(_CHECKED_NUMBERS * len(array) // max(array.size, 1), 1)
    for start in range(0, len(array), size):
        if not np.isfinite(array[start : start + size]).all():
            raise ValueError(f"NaN or Inf in {what}: impute or remove these rows first.")
