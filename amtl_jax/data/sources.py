"""Where samples come from: a small protocol, and tasks that lie in arrays."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import jax
import numpy as np

from amtl_jax.types import Array


class Rows(NamedTuple):
    """Samples as they were drawn, ready for `pack`; rows of a task are adjacent.

    Attributes:
      x: `[N, ...]` inputs.
      y: `[N, O]` targets.
      task: `[N]` int32 task of each row.
    """

    x: np.ndarray
    y: np.ndarray
    task: np.ndarray


class TaskSource(Protocol):
    """M tasks that samples can be bought from.

    Attributes:
      names: M task names.
      capacity: `[M]` int64 samples that each task can give.
      price: `[M]` float price of one sample of each task.
      input_shape: shape of one input.
      num_outputs: O.
    """

    names: tuple[str, ...]
    capacity: np.ndarray
    price: np.ndarray
    input_shape: tuple[int, ...]
    num_outputs: int

    def draw(self, key: Array, counts, *, start=None) -> Rows:
        """Draws samples `start[m] … start[m] + counts[m]` of each task's fixed random order.

        The order depends on `key` and the task alone. Successive draws therefore never repeat a
        sample, and a run that was stopped draws again what it had drawn.

        Args:
          key: the campaign's data key, the same in every round.
          counts: `[M]` samples wanted.
          start: `[M]` samples drawn before; zeros unless told.

        Raises:
          ValueError: if a task cannot give that many.
        """
        ...


def checked_range(source: TaskSource, counts, start) -> tuple[np.ndarray, np.ndarray]:
    """Returns `(start, stop)` `[M]` of a draw, or raises where a task cannot give it."""
    counts = np.asarray(counts)
    num_tasks = len(source.names)
    start = np.zeros(num_tasks, np.int64) if start is None else np.asarray(start)
    for name, array in (("counts", counts), ("start", start)):
        if array.shape != (num_tasks,) or not np.issubdtype(array.dtype, np.integer):
            raise ValueError(
                f"draw expects {name} as {num_tasks} integers, one per task, got shape "
                f"{array.shape} of dtype {array.dtype}."
            )
        if (array < 0).any():
            raise ValueError(f"draw expects {name} >= 0, got {array.min()}.")
    stop = start + counts
    if (stop > source.capacity).any():
        worst = int(np.argmax(stop - source.capacity))
        raise ValueError(
            f"Task {source.names[worst]!r} has {source.capacity[worst]} samples, but "
            f"{start[worst]} + {counts[worst]} were asked for."
        )
    return start, stop


class ArraySource:
    """Tasks whose samples lie in arrays; tasks that share inputs share their storage.

    Ten one-vs-rest tasks on one set of images hold that set once.

    Args:
      inputs: pools of inputs by name, each `[n_pool, ...]` of one shared input shape. Unsigned
        bytes are images: a draw returns them as float32 in [0, 1].
      labels: `[n_pool]` or `[n_pool, O]` numbers by task name.
      pools: the pool of each task by task name; unless told, each task's own name.
      prices: price of one sample by task name; 1 unless told.

    Raises:
      ValueError: if a task has no pool or is empty, or shapes differ, or NaN or Inf occur.
    """

    def __init__(
        self,
        inputs: Mapping[str, np.ndarray],
        labels: Mapping[str, np.ndarray],
        *,
        pools: Mapping[str, str] | None = None,
        prices: Mapping[str, float] | None = None,
    ):
        self.names = tuple(labels)
        if not self.names:
            raise ValueError("ArraySource expects at least one task, got none.")
        pools = {name: name for name in self.names} if pools is None else pools
        self._inputs = {name: np.asarray(pool) for name, pool in inputs.items()}
        self._pools = [_known(pools, name, "pools") for name in self.names]
        self._labels = [_label_matrix(name, labels[name]) for name in self.names]
        for pool in dict.fromkeys(self._pools):
            _check_finite(f"inputs[{pool!r}]", _known(self._inputs, pool, "inputs"))
        for name, pool, y in zip(self.names, self._pools, self._labels, strict=True):
            rows = len(self._inputs[pool])
            if len(y) != rows or not rows:
                raise ValueError(
                    f"Task {name!r} expects as many labels as pool {pool!r} has inputs, and at "
                    f"least one: got {len(y)} labels for {rows} inputs."
                )
        shapes = {self._inputs[pool].shape[1:] for pool in self._pools}
        widths = {y.shape[1] for y in self._labels}
        if len(shapes) > 1 or len(widths) > 1:
            raise ValueError(
                "ArraySource expects one input shape and one number of outputs for all tasks, "
                f"got input shapes {sorted(shapes)} and outputs {sorted(widths)}."
            )
        (self.input_shape,), (self.num_outputs,) = shapes, widths
        self.capacity = np.asarray([len(y) for y in self._labels])
        prices = dict.fromkeys(self.names, 1.0) if prices is None else prices
        self.price = np.asarray([_known(prices, name, "prices") for name in self.names], float)
        if not (np.isfinite(self.price).all() and (self.price > 0).all()):
            raise ValueError(f"ArraySource expects positive finite prices, got {prices}.")

    def draw(self, key: Array, counts, *, start=None) -> Rows:
        """Draws without replacement; see `TaskSource.draw`."""
        start, stop = checked_range(self, counts, start)
        orders = _orders(key, tuple(self.capacity.tolist()))
        chosen = [order[a:b] for order, a, b in zip(orders, start, stop, strict=True)]
        number = int((stop - start).sum())
        x = np.empty((number, *self.input_shape), np.float32)
        y = np.empty((number, self.num_outputs), np.float32)
        edge = 0
        for pool, labels, rows in zip(self._pools, self._labels, chosen, strict=True):
            block = slice(edge, edge + len(rows))
            images = self._inputs[pool]
            x[block] = images[rows]
            if images.dtype == np.uint8:
                x[block] /= 255.0
            y[block] = labels[rows]
            edge += len(rows)
        task = np.repeat(np.arange(len(self.names), dtype=np.int32), stop - start)
        return Rows(x, y, task)


def _orders(key: Array, sizes: Sequence[int]) -> list[np.ndarray]:
    """A random order of every task's rows from the key and the task's position alone."""
    words = np.asarray(jax.random.key_data(key)).ravel()
    return [
        np.random.Generator(
            np.random.Philox(np.random.SeedSequence([*map(int, words), task]))
        ).permutation(size)
        for task, size in enumerate(sizes)
    ]


def _known(mapping: Mapping, name: str, what: str):
    if name not in mapping:
        raise ValueError(f"ArraySource: {what} has no entry {name!r}; it has {sorted(mapping)}.")
    return mapping[name]


def _label_matrix(name: str, labels) -> np.ndarray:
    array = np.asarray(labels)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2:
        raise ValueError(f"Labels of task {name!r}: expected [n] or [n, O], got {array.shape}.")
    _check_finite(f"labels of task {name!r}", array)
    return array.astype(np.float32)


def _check_finite(what: str, array: np.ndarray):
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise ValueError(f"NaN or Inf in {what}: impute or remove these rows first.")
