"""Example inputs beside the numbers: of the target, and of its best and least sources.

They are kept as a small file of the workdir, not drawn anew for each figure: a workdir can then
be moved to a machine that has neither the data nor a device, and still be looked at.
"""

import io
import math
import zipfile
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from amtl_jax.data.sources import Rows
from amtl_jax.experiment.config import Config, DigitsConfig, MnistCConfig
from amtl_jax.experiment.problem import Problem
from amtl_jax.files import write_atomically

FILE = "examples.npz"
NUM_BEST, NUM_LEAST, NUM_IMAGES = 5, 3, 5
_ROWS = 100  # drawn of a source to find positive ones among them


class Examples(NamedTuple):
    """Images of a few tasks.

    Attributes:
      names: `[T]` task names, the target first.
      roles: `[T]` "target", "best" or "least".
      images: `[T, n, H, W]` or `[T, n, H, W, 3]` uint8; of one-vs-rest tasks, positive examples.
    """

    names: np.ndarray
    roles: np.ndarray
    images: np.ndarray


def image_shape(config: Config, problem: Problem) -> tuple[int, ...] | None:
    """Shape of one image, or None where inputs are no images."""
    shape = tuple(problem.source.input_shape)
    if len(shape) == 1 and isinstance(config.data, DigitsConfig | MnistCConfig):
        side = math.isqrt(shape[0])
        return (side, side) if side * side == shape[0] else None
    if len(shape) == 3 and shape[-1] in (1, 3):
        return shape[:2] if shape[-1] == 1 else shape
    return shape if len(shape) == 2 else None


def choose_examples(
    problem: Problem, target: Rows, order: list[int], shape: tuple[int, ...], key: jax.Array
) -> Examples:
    """Picks examples of the target, of the most and of the least relevant sources.

    Args:
      problem: the tasks.
      target: rows of the target's sample.
      order: sources, the most relevant first.
      shape: of an image.
      key: of the draw.
    """
    source = problem.source
    best = order[:NUM_BEST]
    least = [index for index in order[-NUM_LEAST:] if index not in best]
    counts = np.zeros(len(source.names), np.int64)
    counts[best + least] = np.minimum(_ROWS, source.capacity[best + least])
    rows = source.draw(key, counts)
    images = [_pick(target.x, target.y, problem.kind == "binary")]
    for index in best + least:
        own = rows.task == index
        images.append(_pick(rows.x[own], rows.y[own], problem.kind == "binary"))
    number = min(map(len, images))
    stacked = np.stack([some[:number] for some in images]).reshape(len(images), number, *shape)
    return Examples(
        np.asarray([problem.target_name, *(source.names[index] for index in best + least)]),
        np.asarray(["target"] + ["best"] * len(best) + ["least"] * len(least)),
        np.round(255 * np.clip(stacked, 0, 1)).astype(np.uint8),
    )


def _pick(x: np.ndarray, y: np.ndarray, is_binary: bool) -> np.ndarray:
    """The first positive rows of a binary task; the first rows of any other."""
    chosen = np.flatnonzero(y[:, 0] > 0.5) if is_binary else np.arange(len(x))
    return x[chosen[:NUM_IMAGES]]


def write_examples(workdir: Path, examples: Examples) -> None:
    """Writes `examples.npz`.

    Raises:
      OSError: if it cannot be written.
    """
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **examples._asdict())
    write_atomically(workdir / FILE, stream.getbuffer())


def read_examples(workdir: Path) -> Examples | None:
    """Reads `examples.npz`; None if the run has none.

    Raises:
      ValueError: if the file is damaged.
    """
    path = workdir / FILE
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Examples(*(arrays[name] for name in Examples._fields))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} is damaged ({error}). Remove it and run the config again: no round is "
            "computed anew."
        ) from error
