"""NPY and NPZ files of strangers: plain arrays only, and nothing is allocated on a header's word.

NumPy's own reader allocates what a header declares before it looks whether the file holds it, and
its archive reader keeps no bound on what a member unfolds to. Large matrices of an archive can stay
in it: NumPy cannot map a member of one, but `savez` writes it uncompressed and in one piece.
"""

import io
import math
import os
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from amtl_jax.data.columns import TableError, shown
from amtl_jax.data.npy_header import checked_header, one_line
from amtl_jax.data.stored import Place, StoredMatrix

MOST_MEMBERS = 100_000  # arrays of an archive
# Text and one-hot arrays compress well, but not 200 times; what unfolds to little may do so.
MOST_UNFOLDING = 200
FREE_UNFOLDING = 64 * 2**20  # bytes
KEPT_ON_DISK = 256 * 2**20  # bytes of a matrix that is not read whole where it need not be
_READ = 16 * 2**20  # bytes at a time, where nothing is kept
_LOCAL_HEADER = struct.Struct("<26xHH")  # of a member: its name's length and that of its extras
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ReadMember = Callable[[IO[bytes], zipfile.ZipInfo, str], Any]


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
        dtype, shape, is_fortran, offset = checked_header(file, size, str(path))
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
        return _read_archive(io.BytesIO(source), len(source), "the NPZ data", _read_member)
    with open_file(source) as file:
        size = os.fstat(file.fileno()).st_size
        return _read_archive(file, size, Path(source).name, _read_member)


def open_npz(path: str | os.PathLike[str]) -> dict[str, np.ndarray | StoredMatrix]:
    """Reads an NPZ archive as `read_npz`, but large matrices of numbers stay in the file.

    These are the uncompressed ones, rows first, from `KEPT_ON_DISK` bytes on. They are gone through
    once, to the checksum, as the others are; none of them is kept.

    Raises:
      TableError: as `read_npz`.
      OSError: if there is no such file.
    """
    path = Path(path)
    with open_file(path) as file:
        status = os.fstat(file.fileno())
        found = _Archive(path.absolute(), file, status.st_size, status.st_mtime_ns)

        def read(stream: IO[bytes], member: zipfile.ZipInfo, what: str):
            return _open_member(found, stream, member, what)

        return _read_archive(file, found.size, path.name, read)


class _Archive(NamedTuple):
    """An archive that is being read."""

    path: Path
    file: IO[bytes]
    size: int
    changed: int


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


def _read_archive(file: IO[bytes], size: int, what: str, read: _ReadMember) -> dict[str, Any]:
    """Every array by its name, as `read` gives it."""
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
                    result[name] = read(stream, member, label)
                    if stream.read(1):  # reads on to the checksum
                        raise TableError(f"{label} is longer than it declares.")
            return result
    except (TableError, MemoryError):
        raise
    except OSError as error:
        if error.errno is not None:  # of the disk, not of the bytes
            raise
        raise TableError(f"{what} is damaged: {one_line(error)}.") from None
    except Exception as error:
        raise TableError(f"{what} is no whole NPZ archive: {one_line(error)}.") from None


def _read_member(stream: IO[bytes], member: zipfile.ZipInfo, what: str) -> np.ndarray:
    return _read_array(stream, member.file_size, what)


def _open_member(
    archive: _Archive, stream: IO[bytes], member: zipfile.ZipInfo, what: str
) -> np.ndarray | StoredMatrix:
    """An array in memory, or a matrix that stays in the archive."""
    is_small = member.file_size < KEPT_ON_DISK
    if is_small or member.compress_type != zipfile.ZIP_STORED:
        return _read_array(stream, member.file_size, what)
    dtype, shape, is_fortran, header_size = checked_header(stream, member.file_size, what)
    if len(shape) != 2 or dtype.kind not in "biuf" or is_fortran:
        return _array_of(stream, dtype, shape, is_fortran, what)
    place = _place(archive, member, header_size, dtype, shape, what)
    while stream.read(_READ):  # to the checksum
        pass
    return StoredMatrix(place)


def _place(
    archive: _Archive,
    member: zipfile.ZipInfo,
    header_size: int,
    dtype: np.dtype,
    shape: tuple[int, ...],
    what: str,
) -> Place:
    """Where the numbers of an uncompressed member lie: behind the member's header and the array's.

    Raises:
      TableError: if they would reach beyond the archive.
    """
    archive.file.seek(member.header_offset)  # a stream of a member finds its own way back
    name_size, extra_size = _LOCAL_HEADER.unpack(archive.file.read(_LOCAL_HEADER.size))
    start = member.header_offset + _LOCAL_HEADER.size + name_size + extra_size
    if member.compress_size != member.file_size or start + member.file_size > archive.size:
        raise TableError(f"{what} is cut short, or its size is not as the archive says.")
    rows, columns = shape
    offset = start + header_size
    return Place(archive.path, offset, dtype, (rows, columns), archive.size, archive.changed)


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
    dtype, shape, is_fortran, _ = checked_header(stream, size, what)
    return _array_of(stream, dtype, shape, is_fortran, what)


def _array_of(
    stream: IO[bytes], dtype: np.dtype, shape: tuple[int, ...], is_fortran: bool, what: str
) -> np.ndarray:
    """Reads the numbers or texts behind a header."""
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
