"""A digest of the files that a config's data are read from: with others it is another run."""

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

from amtl_jax.experiment.config import ConfigError
from amtl_jax.experiment.data_config import AnyData, MnistCConfig, TableConfig

_WHOLE = 2**20  # bytes; larger files of images are looked at in places
_PLACES, _STRETCH = 16, 4096


def data_digest(data: AnyData) -> str | None:
    """Returns the SHA-256 of what the data is read from, or None where no file of yours is read.

    A table is hashed whole; of MNIST-C the labels and the descriptions, and of every file of images
    its size and some stretches.

    Raises:
      ConfigError: if a file is missing.
      OSError: if one cannot be read.
    """
    if isinstance(data, TableConfig) and data.path is not None:
        return _table_digest(Path(data.path))
    if isinstance(data, MnistCConfig):
        try:
            return _files_digest(_mnist_c_files(data))
        except ValueError as error:
            raise ConfigError(str(error)) from error
    return None


def _table_digest(path: Path) -> str:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ConfigError(f"data.path {str(path)!r:.300} {what}; give a CSV, Parquet or NPZ file.")
    status = path.stat()
    if status.st_size <= _WHOLE:
        return file_digest(path)
    return _known_digest(path.absolute(), status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@functools.lru_cache(maxsize=8)
def _known_digest(path: Path, size: int, changed: int, touched: int) -> str:
    """Of a file that may be large: a run asks twice."""
    del size, changed, touched  # of a file with others it is another digest
    return file_digest(path)


def file_digest(path: Path) -> str:
    """SHA-256 of the bytes of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _mnist_c_files(data: MnistCConfig) -> list[tuple[str, Path]]:
    """All files by names that do not tell where they lie."""
    if data.tfds is not None:
        from amtl_jax.data.mnist_c_tfds import prepared_folders

        folders = prepared_folders(data.tfds)
        found = [(name, path) for name, folder in folders.items() for path in folder.iterdir()]
    else:
        from amtl_jax.data.corruptions import CORRUPTIONS
        from amtl_jax.data.mnist_c import archive_folder, corruption_files

        folder = archive_folder(str(data.root))
        found = [(name, path) for name in CORRUPTIONS for path in corruption_files(folder / name)]
    return sorted((f"{name}/{path.name}", path) for name, path in found if path.is_file())


def _files_digest(files: Iterable[tuple[str, Path]]) -> str:
    digest = hashlib.sha256()
    for name, path in files:
        size = path.stat().st_size
        digest.update(f"{name}\0{size}\0".encode())
        with path.open("rb") as file:
            if size <= _WHOLE:
                digest.update(file.read(_WHOLE))
                continue
            for place in range(_PLACES):
                file.seek((size - _STRETCH) * place // (_PLACES - 1))
                digest.update(file.read(_STRETCH))
    return digest.hexdigest()
