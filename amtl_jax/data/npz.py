"""NPY and NPZ files of strangers: plain arrays only, and nothing is allocated on a header's word.

NumPy's own reader allocates what a header declares before it looks whether the file holds it, and
its archive reader keeps no bound on what a member unfolds to.
"""

import io
import math
import os
import re
import warnings
import zipfile
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from amtl_jax.data.columns import TableError, shown

MOST_MEMBERS = 100_000  # arrays of an archive
MOST_DIMENSIONS = 32
# Text and one-hot arrays compress well, but not 200 times; what unfolds to little may do so.
MOST_UNFOLDING = 200
FREE_UNFOLDING = 64 * 2**20  # bytes
_MOST_HEADER = 64 * 2**10  # bytes
_HEADER_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read_npy(source: str | os.PathLike[str] | bytes) -> np.ndarray:
    """Reads one NPY file, or its bytes.

    Raises:
      TableError: if it is no NPY file of plain numbers, booleans or text, is cut short, or
        declares another size than it has.
      OSError: if there is no such file.
    """
    if isinstance(source, bytes):
        return _read_array(io.BytesIO(source), len(source), "the NPY data")
    with open_file(source) as file:
        return _read_array(file, os.fstat(file.fileno()).st_size, Path(source).name)


def map_npy(path: str | os.PathLike[str]) -> np.memmap:
    """Maps one NPY file of numbers into memory, read-only: rows are read when they are looked at.

    Raises:
      TableError: as `read_npy`, before anything is mapped, and if the file holds no numbers.
      OSError: if there is no such file.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        dtype, shape, is_fortran, offset = _checked_header(file, size, str(path))
    if not math.prod(shape) or dtype.kind not in "biuf":
        raise TableError(
            f"{path} must hold numbers, got {dtype} of the shape {shown(shape)}. Save numbers."
        )
    return np.memmap(path, dtype, "r", offset, shape, "F" if is_fortran else "C")


def read_npz(source: str | os.PathLike[str] | bytes) -> dict[str, np.ndarray]:
    """Reads an NPZ archive: every array by its name, in the order of the archive.

    Raises:
      TableError: if it is no such archive; an array is not as `read_npy` wants it; a member is
        compressed beyond belief, lies outside the archive's folder, is encrypted, or occurs twice.
      OSError: if there is no such file.
    """
    if isinstance(source, bytes):
        return _read_archive(io.BytesIO(source), len(source), "the NPZ data")
    with open_file(source) as file:
        return _read_archive(file, os.fstat(file.fileno()).st_size, Path(source).name)


def open_file(path: str | os.PathLike[str]) -> IO[bytes]:
    """Opens a file of a stranger.

    Raises:
      TableError: if it is a folder, or no regular file.
      OSError: if there is no such file, or it cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        raise TableError(f"{path} is a folder; expected a .csv, .parquet or .npz file.")
    if path.exists() and not path.is_file():  # a pipe or a device may never end
        raise TableError(f"{path} is no regular file.")
    return path.open("rb")


def check_unfolding(what: str, stored: int, unfolded: int, advice: str) -> None:
    """Raises TableError where data unfolds to much more than any table of real data does."""
    if unfolded > FREE_UNFOLDING and unfolded > MOST_UNFOLDING * stored:
        raise TableError(
            f"{what} has {stored:,} bytes that unfold to {unfolded:,}: more than "
            f"{MOST_UNFOLDING} times as many, as in a zip bomb. {advice}"
        )


def _read_archive(file: IO[bytes], size: int, what: str) -> dict[str, np.ndarray]:
    # zipfile and zlib raise many kinds of errors on bytes that are no archive.
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            _check_members(members, size, what)
            result = {}
            for member in members:
                with archive.open(member) as stream:
                    name = member.filename.removesuffix(".npy")
                    label = f"{what}, array {shown(name)}"
                    result[name] = _read_array(stream, member.file_size, label)
                    if stream.read(1):  # reads on to the checksum
                        raise TableError(f"{label} is longer than it declares.")
            return result
    except (TableError, MemoryError):
        raise
    except OSError as error:
        if error.errno is not None:  # of the disk, not of the bytes
            raise
        raise TableError(f"{what} is damaged: {_one_line(error)}.") from None
    except Exception as error:
        raise TableError(f"{what} is no whole NPZ archive: {_one_line(error)}.") from None


def _check_members(members: list[zipfile.ZipInfo], size: int, what: str) -> None:
    """Refuses an archive by its list of contents alone."""
    if not members:
        raise TableError(f"{what} holds no arrays.")
    if len(members) > MOST_MEMBERS:
        raise TableError(f"{what} holds {len(members):,} arrays; the most is {MOST_MEMBERS:,}.")
    seen = set()
    for member in members:
        name = member.filename
        if name.startswith(("/", "\\")) or re.search(r"(^|[/\\])\.\.([/\\]|$)|^\w:", name):
            raise TableError(
                f"{what} holds {shown(name)}, a path out of its folder: refused. Do not trust the "
                "archive; numpy.savez writes none like it."
            )
        if not name.endswith(".npy") or name == ".npy":
            raise TableError(
                f"{what} holds {shown(name)}, which is no array; expected arrays alone, as "
                "numpy.savez writes them."
            )
        if name in seen:
            raise TableError(f"{what} holds array {shown(name[:-4])} twice; rename one.")
        seen.add(name)
        if member.flag_bits & 1 or member.compress_type not in _COMPRESSIONS:
            raise TableError(
                f"{what}, array {shown(name[:-4])}: encrypted or of an unknown compression. Save "
                "it with numpy.savez or numpy.savez_compressed."
            )
    advice = "If the data is right, save it with numpy.savez, which does not compress."
    for member in members:
        what_array = f"{what}, array {shown(member.filename[:-4])}"
        check_unfolding(what_array, min(member.compress_size, size), member.file_size, advice)
    # Members may claim the same bytes, each of them modestly.
    check_unfolding(what, size, sum(member.file_size for member in members), advice)


def _read_array(stream: IO[bytes], size: int, what: str) -> np.ndarray:
    """Reads one array of `size` bytes, header included."""
    dtype, shape, is_fortran, _ = _checked_header(stream, size, what)
    count = math.prod(shape)
    expected = count * dtype.itemsize
    data = stream.read(expected)
    if len(data) != expected:
        raise TableError(f"{what} is cut short: {len(data):,} of {expected:,} bytes are there.")
    array = np.frombuffer(data, dtype, count) if expected else np.empty(0, dtype)
    if dtype.kind == "b":  # a byte that is neither 0 nor 1 would be a third truth value
        array = array.view(np.uint8) != 0
    array = array.reshape(shape, order="F" if is_fortran else "C")
    return array.astype(dtype.newbyteorder("="))  # a copy of its own, which can be written


def _checked_header(
    stream: IO[bytes], size: int, what: str
) -> tuple[np.dtype, tuple[int, ...], bool, int]:
    """Reads the header of an array of `size` bytes, and refuses what it may not declare."""
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
        raise TableError(f"{what} has a damaged header: {_one_line(error)}.") from None
    return dtype, shape, is_fortran, header_size


def _check_dtype(dtype: np.dtype, what: str) -> None:
    if dtype.hasobject:
        raise TableError(
            f"{what} holds Python objects, a pickle, which may run code when it is read: refused. "
            "Save it as numbers or text, e.g. array.astype(float) or array.astype(str)."
        )
    if dtype.kind not in "biufUS" or dtype.subdtype is not None or dtype.names is not None:
        raise TableError(f"{what} holds {dtype}; expected numbers, booleans or text.")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120].rstrip(".") or type(error).__name__
