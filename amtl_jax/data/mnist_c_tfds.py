"""MNIST-C from TensorFlow Datasets, prepared as array_record, which is read without TensorFlow."""

import contextlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from amtl_jax.data.columns import TableError, shown
from amtl_jax.data.corruptions import CORRUPTIONS  # the configs of `mnist_corrupted` are named so
from amtl_jax.data.image_tasks import ImageTasks
from amtl_jax.data.mnist_c import LabelledImages, checked_labels, read_split

_NAME = "mnist_corrupted"
_FEATURES = "tensorflow_datasets.core.features."
_CHUNK = 2_000  # records at a time, so that encoded images do not pile up


def read_mnist_c_tfds(
    data_dir: str | os.PathLike[str],
    *,
    num_source: int = 10_000,
    num_pool: int = 2_000,
    num_test: int | None = None,
    split_seed: int = 0,
) -> ImageTasks:
    """Reads `mnist_corrupted/<corruption>`, prepared by TensorFlow Datasets as array_record.

    Only preparing it needs TensorFlow. Its rows are in another order than those of the archive, so
    a seed splits them otherwise.

    Args:
      data_dir: the data folder of TensorFlow Datasets.
      num_source: as for `read_mnist_c`.
      num_pool: as for `read_mnist_c`.
      num_test: as for `read_mnist_c`.
      split_seed: as for `read_mnist_c`.

    Returns:
      As `read_mnist_c`.

    Raises:
      ImportError: if tensorflow-datasets or Pillow is not installed.
      ValueError: names what is missing with the command that prepares it, or what is wrong.
    """
    folders = prepared_folders(data_dir)
    parts = {part: {} for part in ("train", "test")}
    for name, folder in folders.items():
        for part, found in parts.items():
            found[name] = _open(folder, part, data_dir)
    return read_split(
        **parts,
        num_source=num_source,
        num_pool=num_pool,
        num_test=num_test,
        split_seed=split_seed,
    )


def prepared_folders(data_dir: str | os.PathLike[str]) -> dict[str, Path]:
    """Finds the folder of every corruption's newest version.

    Raises:
      ValueError: names what is missing, with the command that prepares it.
    """
    root = Path(data_dir)
    found = {name: _newest(root / _NAME / name) for name in CORRUPTIONS}
    missing = [name for name, folder in found.items() if folder is None]
    if missing:
        names = "none of its corruptions" if len(missing) == len(found) else ", ".join(missing)
        what = f"has {names}" if len(missing) == len(found) else f"lacks {names}"
        raise TableError(
            f"{root / _NAME} {what}; expected all {len(found)} as <corruption>/<version>. "
            f"{_advice(root)}"
        )
    return {name: folder for name, folder in found.items() if folder is not None}


def _newest(folder: Path) -> Path | None:
    """The folder `1.0.0` or a later one, in which something is prepared."""
    versions = [path.parent for path in folder.glob("*/dataset_info.json")]
    numbers = {
        path: tuple(map(int, path.name.split(".")))
        for path in versions
        if all(part.isascii() and part.isdigit() for part in path.name.split("."))
    }
    return max(numbers, key=numbers.__getitem__, default=None)


def _advice(root: str | os.PathLike[str]) -> str:
    """The command that prepares it; `tfds build` would want more packages than the extra has."""
    return (
        "Prepare it in Python, which needs TensorFlow (pip install 'amtl-jax[tfds]'): import "
        f"tensorflow_datasets as tfds; [tfds.builder(f'{_NAME}/{{name}}', data_dir={str(root)!r}, "
        "file_format='array_record').download_and_prepare() for name in "
        f"tfds.builder_cls('{_NAME}').builder_configs]"
    )


def _open(folder: Path, part: str, root: str | os.PathLike[str]) -> LabelledImages:
    """Opens one part, whose records are read when they are wanted."""
    tfds = _import_tfds()
    place = f"{folder}, split {part}"
    with _believing_nothing(str(folder)):
        _check_features(folder)
        builder = tfds.builder_from_directory(folder)
    if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        raise TableError(
            f"{folder} is prepared as {getattr(builder.info.file_format, 'value', None)}; expected "
            f"array_record, which is read without TensorFlow. Remove the folder. {_advice(root)}"
        )
    with _believing_nothing(place):
        skip = {"image": tfds.decode.SkipDecoding()}  # a PNG is checked before it is unfolded
        records = builder.as_data_source(split=part, decoders=skip)
        count = len(records)

    def examples(rows: np.ndarray) -> Iterator[dict[str, Any]]:
        for start in range(0, len(rows), _CHUNK):
            yield from records.__getitems__(rows[start : start + _CHUNK].tolist())

    def read(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        images, labels = np.empty((len(rows), 28, 28), np.uint8), np.empty(len(rows), np.int64)
        with _believing_nothing(place):
            for index, one in enumerate(examples(rows)):
                images[index], labels[index] = _decode(one["image"]), one["label"]
        return images, checked_labels(labels, place)

    def read_labels() -> np.ndarray:
        with _believing_nothing(place):
            labels = np.asarray([one["label"] for one in examples(np.arange(count))])
        return checked_labels(labels, place)

    return LabelledImages(count, read, read_labels, place)


def _import_tfds() -> Any:
    try:
        import array_record.python.array_record_data_source  # noqa: F401  reads the records
        import PIL  # noqa: F401  decodes the images
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            "what TensorFlow Datasets prepared is read by tensorflow-datasets, array_record and "
            f'Pillow ({error}); run: pip install "amtl-jax[tfds-read]"'
        ) from error
    return tfds


def _check_features(folder: Path) -> None:
    """Refuses other features than an image and a label: their classes are imported by name."""

    def classes(plain: Any) -> Iterator[Any]:
        for key, value in plain.items() if isinstance(plain, dict) else enumerate(plain):
            if key == "pythonClassName":
                yield value
            elif isinstance(value, dict | list):
                yield from classes(value)

    plain = json.loads((folder / "features.json").read_text("utf-8"))
    names = sorted(plain["featuresDict"]["features"])
    others = [name for name in classes(plain) if not str(name).startswith(_FEATURES)]
    if names != ["image", "label"] or others:
        got = shown(others[0]) if others else shown(names)
        raise ValueError(f"expected the features image and label of {_NAME}, got {got}")


def _decode(encoded: bytes) -> np.ndarray:
    """Decodes a PNG `[28, 28]` uint8; another size is refused before anything is unfolded."""
    from PIL import Image

    with Image.open(io.BytesIO(encoded), formats=("PNG",)) as image:
        if image.size != (28, 28) or image.mode != "L":
            raise ValueError(
                f"expected grey images of 28×28 pixels, got {image.size} in mode {image.mode}"
            )
        return np.asarray(image)


@contextlib.contextmanager
def _believing_nothing(place: str) -> Iterator[None]:
    """Names the place in whatever the packages that read raise on files that are no such data."""
    try:
        yield
    except (TableError, MemoryError, ImportError):
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        raise TableError(
            f"{place} cannot be read: {text}. Expected {_NAME}, prepared as array_record; remove "
            "the folder and prepare it again."
        ) from error
