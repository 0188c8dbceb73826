"""MNIST-C from files of one's own: the published archive's layout, memory-mapped.

References:
  Mu, Gilmer. MNIST-C: A Robustness Benchmark for Computer Vision. 2019. arXiv:1906.02337.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from amtl_jax.data.columns import TableError, shown
from amtl_jax.data.corruptions import CORRUPTIONS
from amtl_jax.data.digits import DigitSplits, digit_splits
from amtl_jax.data.image_tasks import ImageTasks
from amtl_jax.data.npz import map_npy

NUM_DIGITS = 10
_LAYOUT = "<corruption>/{train,test}_{images,labels}.npy"
_SHAPES = ((28, 28, 1), (28, 28))


class LabelledImages(NamedTuple):
    """Images that are not read yet, and their digits.

    Attributes:
      read: rows `[n]` to their images `[n, 28, 28]` uint8; no other row is read.
      labels: `[N]` uint8 digit of each row.
      place: what an error calls them.
    """

    read: Callable[[np.ndarray], np.ndarray]
    labels: np.ndarray
    place: str


def read_mnist_c(
    root: str | os.PathLike[str],
    *,
    num_source: int = 10_000,
    num_pool: int = 2_000,
    split_seed: int = 0,
) -> ImageTasks:
    """Reads MNIST-C as published: `<corruption>/{train,test}_{images,labels}.npy`.

    The files are memory-mapped: of the training images only the rows that are asked for are read.
    These are the same rows in every corruption, as the same digit stands at the same place in all
    of them; source and target rows are disjoint, and both are balanced by digit.

    Args:
      root: the folder that holds the 16 corruptions, or a folder `mnist_c` with them.
      num_source: training images of every corruption that source samples come from.
      num_pool: training images of every corruption that target samples come from.
      split_seed: seed of the split, non-negative.

    Returns:
      The tasks, in the order of `CORRUPTIONS`; test rows are all that there are.

    Raises:
      ValueError: names what is missing, or the file that is not as expected.
      OSError: if a file cannot be read.
    """
    folder = archive_folder(root)
    train = {name: _open(folder / name, "train") for name in CORRUPTIONS}
    test = {name: _open(folder / name, "test") for name in CORRUPTIONS}
    rows = choose_rows(train, num_source=num_source, num_pool=num_pool, split_seed=split_seed)
    return read_rows(train, test, rows)


def archive_folder(root: str | os.PathLike[str]) -> Path:
    """Finds the folder with the corruptions.

    Raises:
      ValueError: names what is missing.
    """
    root = Path(root)
    if not root.is_dir():
        state = "is a file: unpack it, and give the folder" if root.exists() else "does not exist"
        raise TableError(f"{root} {state}; expected a folder with MNIST-C as {_LAYOUT}.")
    folder = root
    if not any((root / name).is_dir() for name in CORRUPTIONS) and (root / "mnist_c").is_dir():
        folder = root / "mnist_c"
    missing = [name for name in CORRUPTIONS if not (folder / name).is_dir()]
    if missing:
        raise TableError(
            f"{folder} has no folder {', '.join(missing)}; expected all {len(CORRUPTIONS)} "
            f"corruptions of MNIST-C, as {_LAYOUT}. Unpack the whole archive."
        )
    files = [path for name in CORRUPTIONS for path in corruption_files(folder / name)]
    gone = [str(path.relative_to(folder)) for path in files if not path.is_file()]
    if gone:
        raise TableError(
            f"{folder} has no file {', '.join(gone[:4])}"
            f"{f' and {len(gone) - 4} more' if len(gone) > 4 else ''}; expected MNIST-C as "
            f"{_LAYOUT}. Unpack the whole archive."
        )
    return folder


def corruption_files(folder: Path) -> list[Path]:
    """Lists the four files of a corruption."""
    return [
        folder / f"{part}_{what}.npy" for part in ("train", "test") for what in ("images", "labels")
    ]


def _open(folder: Path, part: str) -> LabelledImages:
    """Maps the images of one part, reads its labels, and checks that they are such."""
    images_path, labels_path = (folder / f"{part}_{what}.npy" for what in ("images", "labels"))
    images, labels = map_npy(images_path), map_npy(labels_path)
    if images.dtype != np.uint8 or images.shape[1:] not in _SHAPES:
        raise TableError(
            f"{images_path} must hold uint8 images of the shape (N, 28, 28, 1) or (N, 28, 28), got "
            f"{images.dtype} of the shape {shown(images.shape)}. Copy the file of MNIST-C again."
        )

    def read(rows: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(images[rows]).reshape(len(rows), 28, 28)

    found = LabelledImages(read, checked_labels(labels, str(labels_path)), str(labels_path))
    if len(images) != len(found.labels):
        raise TableError(
            f"{labels_path} has {len(found.labels):,} labels, but {images_path.name} beside it has "
            f"{len(images):,} images; expected as many. Copy both files of MNIST-C again."
        )
    return found


def checked_labels(labels: np.ndarray, place: str) -> np.ndarray:
    """Returns digits `[N]` as uint8.

    Raises:
      ValueError: if they are no vector of integers from 0 to 9 that has each of them.
    """
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise TableError(
            f"{place} must hold one integer for each image, shape (N,), got {labels.dtype} of the "
            f"shape {shown(labels.shape)}. Copy the file of MNIST-C again."
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= NUM_DIGITS))
    if len(wrong):
        raise TableError(
            f"{place} must hold digits from 0 to 9, got {labels[wrong[0]]} at index {wrong[0]}. "
            "Copy the file of MNIST-C again."
        )
    gone = sorted(set(range(NUM_DIGITS)) - set(np.unique(labels).tolist()))
    if gone:
        raise TableError(
            f"{place} has no image of the digit {', '.join(map(str, gone))}, whose tasks need "
            "some. Give a larger part of MNIST-C."
        )
    return labels.astype(np.uint8)


def choose_rows(
    train: Mapping[str, LabelledImages], *, num_source: int, num_pool: int, split_seed: int
) -> DigitSplits:
    """Chooses source and target rows, the same in every corruption.

    Raises:
      ValueError: if there are too few rows, or labels differ between corruptions.
    """
    first, *others = train.values()
    for other in others:
        same_length = len(first.labels) == len(other.labels)
        if same_length and (first.labels == other.labels).all():
            continue
        if same_length:
            at = int(np.flatnonzero(first.labels != other.labels)[0])
            differ = f"digit {other.labels[at]} at index {at}, where {first.place} has "
            differ += f"{first.labels[at]}"
        else:
            differ = f"{len(other.labels):,} rows, and {first.place} has {len(first.labels):,}"
        raise TableError(
            f"{other.place} has {differ}. Expected the same digit at the same index in every "
            "corruption, as in MNIST-C: otherwise an image could be a source sample in one "
            "corruption and a target sample in another. Copy the files of MNIST-C again."
        )
    if num_source + num_pool > len(first.labels):
        raise TableError(
            f"{first.place} has {len(first.labels):,} rows, but num_source {num_source:,} and "
            f"num_pool {num_pool:,}, which are disjoint, need {num_source + num_pool:,}. Lower one."
        )
    return digit_splits(
        first.labels, seed=split_seed, num_source=num_source, num_target=num_pool, num_test=0
    )


def read_rows(
    train: Mapping[str, LabelledImages], test: Mapping[str, LabelledImages], rows: DigitSplits
) -> ImageTasks:
    """Reads the images of the chosen training rows and all test images."""

    def images(part: Mapping[str, LabelledImages], chosen: np.ndarray | None):
        every = [np.arange(len(one.labels)) if chosen is None else chosen for one in part.values()]
        return tuple(one.read(own) for one, own in zip(part.values(), every, strict=True))

    return ImageTasks(
        tuple(train),
        images(train, rows.source),
        images(train, rows.target),
        images(test, None),
        tuple(one.labels[rows.source] for one in train.values()),
        tuple(one.labels[rows.target] for one in train.values()),
        tuple(one.labels for one in test.values()),
        NUM_DIGITS,
    )
