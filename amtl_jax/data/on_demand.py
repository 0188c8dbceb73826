"""Rows that are read, or made, when they are asked for: pools may be larger than the memory."""

import abc

import numpy as np


class RowsOnDemand(abc.ABC):
    """Float32 rows `[n, ...]`, of which only those are in memory that somebody asks for.

    Index it with row numbers `[m]`, in any order, for rows `[m, ...]`.

    Attributes:
      shape: `(n, ...)`.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[np.float32] = np.dtype(np.float32)

    @abc.abstractmethod
    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Row numbers `[m]` to rows `[m, ...]`."""

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        """All rows, in memory."""
        if copy is False:
            raise ValueError(f"{type(self).__name__} is not in memory: as an array it is a copy.")
        return self[np.arange(len(self))].astype(dtype or self.dtype, copy=False)
