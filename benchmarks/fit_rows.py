"""Rows of many tasks to fit a linear representation on: MNIST-C, or made up, as large and alike."""

import itertools
import os
from typing import NamedTuple

import jax
import numpy as np

from amtl_jax.data.image_tasks import image_source
from amtl_jax.data.mnist_c import read_mnist_c

_RANK = 20  # of the true predictors
_NOISE = 0.2  # standard deviation of labels whose own is 0.3, that of a digit against the rest
_MEAN, _SPREAD = 0.13, 0.3  # of a pixel of MNIST


class FitRows(NamedTuple):
    """Rows of all tasks, as many of each, sorted by task.

    Attributes:
      x: `[N, D]` float32 inputs, images in [0, 1].
      y: `[N]` float32 labels.
      task: `[N]` int32.
      num_tasks: M.
    """

    x: np.ndarray
    y: np.ndarray
    task: np.ndarray
    num_tasks: int

    def slices(self) -> list[slice]:
        """The rows of each task."""
        first = np.searchsorted(self.task, np.arange(self.num_tasks + 1))
        return [slice(int(a), int(b)) for a, b in itertools.pairwise(first)]


def mnist_c_rows(
    root: str | os.PathLike[str], *, without: str, rows_each: int, num_source: int = 10_000
) -> FitRows:
    """Draws rows of every digit of every corruption but one.

    Args:
      root: folder of MNIST-C.
      without: the corruption that is left out, the target's.
      rows_each: rows of a task.
      num_source: images of a corruption that its tasks draw from.

    Raises:
      ValueError: if files are missing or not as expected, or a task has too few rows.
      OSError: if a file cannot be read.
    """
    tasks = read_mnist_c(root, num_source=num_source, num_pool=10, num_test=10)
    source = image_source(tasks, without=without, shape=(28 * 28,))
    num_tasks = len(source.names)
    rows = source.draw(jax.random.key(0), np.full(num_tasks, rows_each))
    return FitRows(rows.x, rows.y[:, 0], rows.task, num_tasks)


def made_rows(num_tasks: int, rows_each: int, num_inputs: int, *, seed: int = 0) -> FitRows:
    """Draws inputs with the mean, size and falling spectrum of images, labels of low rank.

    The standard deviation along the j-th direction is proportional to 1/j, and predictors weigh
    directions alike, so that some of what they say is hard to learn.
    """
    rng = np.random.default_rng(seed)
    num_rows = num_tasks * rows_each
    turn, _ = np.linalg.qr(rng.normal(size=(num_inputs, num_inputs)))
    scale = 1.0 / np.arange(1, num_inputs + 1)
    scale *= _SPREAD * np.sqrt(num_inputs) / np.linalg.norm(scale)
    x = rng.standard_normal((num_rows, num_inputs), np.float32)
    x = _MEAN + x @ (scale[:, None] * turn.T).astype(np.float32)
    theta = rng.normal(size=(num_inputs, _RANK)) @ rng.normal(size=(_RANK, num_tasks))
    task = np.repeat(np.arange(num_tasks, dtype=np.int32), rows_each)
    y = np.empty(num_rows)
    for index, own in enumerate(theta.T):
        rows = slice(index * rows_each, (index + 1) * rows_each)
        signal = (x[rows] - x[rows].mean(axis=0)) @ own
        y[rows] = 0.1 + np.sqrt(0.09 - _NOISE**2) * signal / signal.std()
    y += _NOISE * rng.normal(size=num_rows)
    return FitRows(x, y.astype(np.float32), task, num_tasks)
