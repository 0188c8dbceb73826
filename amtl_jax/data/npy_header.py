"""Headers of NPY data: read without a word of them believed before it is checked."""

import io
import math
import warnings
from typing import IO

import numpy as np
from numpy.lib import format as npy

from amtl_jax.data.columns import TableError, shown

MOST_DIMENSIONS = 32
_MOST_HEADER = 64 * 2**10  # bytes
_HEADER_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def checked_header(
    stream: IO[bytes], size: int, what: str
) -> tuple[np.dtype, tuple[int, ...], bool, int]:
    """Reads the header of an array of `size` bytes, and refuses what it may not declare.

    Returns:
      Dtype, shape, whether columns come first, and the size of the header in bytes.

    Raises:
      TableError: if it is no header, or declares another size, or what is no plain array.
    """
    dtype, shape, is_fortran, header_size = _read_header(stream, what)
    _check_dtype(dtype, what)
    if len(shape) > MOST_DIMENSIONS or any(
        type(length) is not int or length < 0 for length in shape
    ):
        raise TableError(f"{what} has a header with the impossible shape {shown(shape)}.")
    count = math.prod(shape)  # of Python's integers, which do not overflow
    expected, there = count * dtype.itemsize, size - header_size
    if expected != there or (count and not dtype.itemsize) or max(shape, default=1) > 2**62:
        state = "is cut short" if expected > there else "has bytes left over or none to read"
        raise TableError(
            f"{what} {state}: its header declares shape {shown(shape)} of {dtype}, {expected:,} "
            f"bytes, but {max(there, 0):,} are there. Save or copy it again."
        )
    return dtype, shape, is_fortran, header_size


def _read_header(stream: IO[bytes], what: str) -> tuple[np.dtype, tuple[int, ...], bool, int]:
    """Dtype, shape, whether columns come first, and the size of the header in bytes."""
    start = stream.read(12)
    if start[:6] != npy.MAGIC_PREFIX:
        kind = "a pickle" if start[:1] == b"\x80" else "no NPY data"
        raise TableError(f"{what} is {kind}: refused. Save arrays with numpy.save or numpy.savez.")
    version = (start[6], start[7]) if len(start) == 12 else None
    if version not in _HEADER_READERS:
        raise TableError(f"{what} is cut short or of an NPY version other than 1.0 and 2.0.")
    length_size = 2 if version == (1, 0) else 4
    length = int.from_bytes(start[8 : 8 + length_size], "little")
    if length > _MOST_HEADER:
        raise TableError(f"{what} has a header of {length:,} bytes; the most is {_MOST_HEADER:,}.")
    header_size = 8 + length_size + length
    header = start[8:] + stream.read(max(header_size - len(start), 0))
    # Python's parser and NumPy's dtypes raise nearly anything on text that is no header, and warn
    # of what they make of it.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shape, is_fortran, dtype = _HEADER_READERS[version](io.BytesIO(header))
    except Exception as error:
        raise TableError(f"{what} has a damaged header: {one_line(error)}.") from None
    return dtype, shape, is_fortran, header_size


def _check_dtype(dtype: np.dtype, what: str) -> None:
    if dtype.hasobject:
        raise TableError(
            f"{what} holds Python objects, a pickle, which may run code when it is read: refused. "
            "Save it as numbers or text, e.g. array.astype(float) or array.astype(str)."
        )
    if dtype.kind not in "biufUS" or dtype.subdtype is not None or dtype.names is not None:
        raise TableError(f"{what} holds {dtype}; expected numbers, booleans or text.")


def one_line(error: Exception) -> str:
    """An error's message on one line, and not too long."""
    return " ".join(str(error).split())[:120].rstrip(".") or type(error).__name__
