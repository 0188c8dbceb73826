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
from amtl_jax.data.digits import digit_splits
from amtl_jax.data.image_tasks import ImageTasks
from amtl_jax.data.npz import map_npy

NUM_DIGITS = 10
_LAYOUT = "<corruption>/{train,test}_{images,labels}.npy"
_SHAPES = ((28, 28, 1), (28, 28))
_SAME_ROWS = (
    "Expected the same digit at the same index in every corruption, as in MNIST-C: otherwise an "
    "image could be a source sample in one corruption and a target sample in another. Get all "
    "corruptions from one place again."
)


class LabelledImages(NamedTuple):
    """N images that are not read yet, and their digits.

    Attributes:
      count: N.
      read: rows `[n]` to their images `[n, 28, 28]` uint8 and digits `[n]` uint8, checked; no
        other image is read.
      read_labels: to the digits `[N]` uint8, checked.
      place: what an error calls them.
    """

    count: int
    read: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    read_labels: Callable[[], np.ndarray]
    place: str


def read_mnist_c(
    root: str | os.PathLike[str],
    *,
    num_source: int = 10_000,
    num_pool: int = 2_000,
    num_test: int | None = None,
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
      num_test: training images of every corruption to test on, which are neither; all of the test
        images where it is None.
      split_seed: seed of the split, non-negative.

    Returns:
      The tasks, in the order of `CORRUPTIONS`.

    Raises:
      ValueError: names what is missing, or the file that is not as expected.
      OSError: if a file cannot be read.
    """
    folder = archive_folder(root)
    train = {name: _open(folder / name, "train") for name in CORRUPTIONS}
    test = {name: _open(folder / name, "test") for name in CORRUPTIONS}
    return read_split(
        train,
        test,
        num_source=num_source,
        num_pool=num_pool,
        num_test=num_test,
        split_seed=split_seed,
    )


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
    digits = checked_labels(labels, str(labels_path))
    if len(images) != len(digits):
        raise TableError(
            f"{labels_path} has {len(digits):,} labels, but {images_path.name} beside it has "
            f"{len(images):,} images; expected as many. Copy both files of MNIST-C again."
        )

    def read(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        chosen = np.ascontiguousarray(images[rows]).reshape(len(rows), 28, 28)
        return chosen, digits[rows]

    return LabelledImages(len(digits), read, lambda: digits, str(labels_path))


def checked_labels(labels: np.ndarray, place: str) -> np.ndarray:
    """Returns digits `[N]` as uint8.

    Raises:
      ValueError: if they are no vector of integers from 0 to 9.
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
    return labels.astype(np.uint8)


def read_split(
    train: Mapping[str, LabelledImages],
    test: Mapping[str, LabelledImages],
    *,
    num_source: int,
    num_pool: int,
    num_test: int | None,
    split_seed: int,
) -> ImageTasks:
    """Chooses source, target and test rows, the same in every corruption, and reads them.

    Args:
      train: training images by corruption, the same digit at the same index in all of them.
      test: test images by corruption; all are read where `num_test` is None, otherwise none.
      num_source: as for `read_mnist_c`.
      num_pool: as for `read_mnist_c`.
      num_test: as for `read_mnist_c`.
      split_seed: as for `read_mnist_c`.

    Raises:
      ValueError: if there are too few rows, or digits differ between corruptions.
    """
    first = next(iter(train.values()))
    for other in train.values():
        if other.count != first.count:
            counts = f"{other.count:,} rows, but {first.place} has {first.count:,}"
            raise TableError(f"{other.place} has {counts}. {_SAME_ROWS}")
    sizes = {"num_source": num_source, "num_pool": num_pool, "num_test": num_test or 0}
    if sum(sizes.values()) > first.count:
        wanted = " and ".join(f"{name} {size:,}" for name, size in sizes.items() if size)
        raise TableError(
            f"{first.place} has {first.count:,} rows, but {wanted}, which are disjoint, need "
            f"{sum(sizes.values()):,}. Lower one."
        )
    digits = first.read_labels()
    _refuse_missing(digits, first.place)
    rows = digit_splits(
        digits,
        seed=split_seed,
        num_source=num_source,
        num_target=num_pool,
        num_test=num_test or 0,
    )
    if num_test is not None:
        _refuse_missing(digits[rows.test], f"num_test {num_test:,} of {first.place}")
    chosen = np.concatenate([rows.source, rows.target, rows.test])
    images = []
    for one in train.values():
        found, labels = one.read(chosen)
        wrong = np.flatnonzero(labels != digits[chosen])
        if len(wrong):
            at = chosen[wrong[0]]
            raise TableError(
                f"{one.place} has the digit {labels[wrong[0]]} at index {at}, where {first.place} "
                f"has {digits[at]}. {_SAME_ROWS}"
            )
        images.append(found)
    if num_test is None:
        tested = [one.read(np.arange(one.count)) for one in test.values()]
        for one, (_, labels) in zip(test.values(), tested, strict=True):
            _refuse_missing(labels, one.place)
    else:
        tested = [(found[num_source + num_pool :], digits[rows.test]) for found in images]
    return ImageTasks(
        names=tuple(train),
        source_images=tuple(found[:num_source] for found in images),
        target_images=tuple(found[num_source : num_source + num_pool] for found in images),
        test_images=tuple(found for found, _ in tested),
        source_labels=(digits[rows.source],) * len(images),
        target_labels=(digits[rows.target],) * len(images),
        test_labels=tuple(labels for _, labels in tested),
        num_classes=NUM_DIGITS,
    )


def _refuse_missing(digits: np.ndarray, place: str) -> None:
    gone = [str(digit) for digit in range(NUM_DIGITS) if digit not in digits]
    if gone:
        raise TableError(
            f"{place} has no image of the digit {', '.join(gone)}, and each is a task. Give the "
            "whole of MNIST-C, or a larger part."
        )
