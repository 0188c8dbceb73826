"""Matrices that stay in their file: rows are read when they are asked for.

No memory map: the pages of a map count as memory of the process, and where the file is cut short
under it the process is killed. Reads give the same rows, and an error where there are none.
"""

import os
from pathlib import Path
from typing import IO, NamedTuple, cast

import numpy as np

from amtl_jax.data.columns import Column, TableError
from amtl_jax.data.on_demand import RowsOnDemand


class Place(NamedTuple):
    """Where the numbers of a matrix lie in a file, row after row.

    Attributes:
      path: of the file.
      offset: bytes before the first number.
      dtype: of the numbers in the file.
      shape: `(n, d)`.
      size: of the file in bytes.
      changed: when the file was changed last, in nanoseconds.
    """

    path: Path
    offset: int
    dtype: np.dtype
    shape: tuple[int, int]
    size: int
    changed: int


def stored_column(matrix: "StoredMatrix") -> Column:
    """A column of vectors that stay on disk; none of them is missing."""
    # What vectors are used for, their shape and some of their rows, it can do like an array.
    return Column("vector", cast(np.ndarray, matrix), np.zeros(len(matrix), bool))


class StoredMatrix(RowsOnDemand):
    """A matrix `[n, d]` of numbers on disk.

    The file is opened for every read and must still be the one that was checked.

    Args:
      place: where it lies. Who makes it has checked that the file holds that much.
    """

    def __init__(self, place: Place):
        self.place = place
        self.shape: tuple[int, int] = place.shape

    @property
    def num_bytes(self) -> int:
        """Bytes on disk."""
        return self.shape[0] * self.shape[1] * self.place.dtype.itemsize

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Reads rows.

        Raises:
          IndexError: if a row number is out of range.
          TableError: if the file is not the one that was checked.
          OSError: if it cannot be read.
        """
        wanted, index = np.unique(np.asarray(rows, np.int64), return_inverse=True)
        if len(wanted) and not 0 <= wanted[0] <= wanted[-1] < len(self):
            raise IndexError(
                f"{self.place.path.name} has rows 0 to {len(self) - 1}, got {wanted[0]} to "
                f"{wanted[-1]}."
            )
        found = np.empty((len(wanted), self.shape[1]), self.place.dtype)
        is_first = np.diff(wanted, prepend=wanted[:1] - 2) != 1  # of a run without a gap
        starts = np.flatnonzero(is_first)
        ends = np.append(starts, len(wanted))[1:]
        with self.place.path.open("rb", buffering=0) as file:
            self._check_unchanged(os.fstat(file.fileno()))
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
                file.seek(self.place.offset + int(wanted[start]) * found.strides[0])
                self._fill(file, found[start:end])
        if self.place.dtype.kind == "b":  # as in memory: any byte but 0 is true
            found = found.view(np.uint8) != 0
        with np.errstate(over="ignore"):  # what float32 does not hold is found as Inf where used
            numbers = found.astype(np.float32, copy=False)
        return numbers if np.array_equal(index, np.arange(len(wanted))) else numbers[index]

    def _check_unchanged(self, status: os.stat_result) -> None:
        if (status.st_size, status.st_mtime_ns) != (self.place.size, self.place.changed):
            raise TableError(
                f"{self.place.path} was changed while it was used: its rows may be other ones now. "
                "Start again, and leave the file alone until the end."
            )

    def _fill(self, file: IO[bytes], rows: np.ndarray) -> None:
        """Reads rows that lie behind one another; a system may give them in parts."""
        left = memoryview(rows.view(np.uint8).reshape(-1))  # pyright: ignore[reportArgumentType]
        while left:
            count = file.readinto(left)  # pyright: ignore[reportAttributeAccessIssue]
            if not count:
                raise TableError(f"{self.place.path} was cut short while it was used.")
            left = left[count:]
