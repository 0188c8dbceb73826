"""Where samples come from: a small protocol, and tasks that lie in arrays."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import jax
import numpy as np

from amtl_jax.data.drawn import DrawnInputs, DrawnRows, check_finite
from amtl_jax.data.on_demand import RowsOnDemand
from amtl_jax.types import Array, Numbers


class Rows(NamedTuple):
    """Samples as they were drawn, ready for `pack`; rows of a task are adjacent.

    Attributes:
      x: `[N, ...]` inputs.
      y: `[N, O]` targets.
      task: `[N]` int32 task of each row.
      weight: `[N]` float weight of each row, 0 where its label is missing; None: 1 each.
    """

    x: np.ndarray
    y: np.ndarray
    task: np.ndarray
    weight: np.ndarray | None = None


class TaskSource(Protocol):
    """M tasks that samples can be bought from.

    Attributes:
      names: M task names.
      capacity: `[M]` int64 samples that each task can give.
      price: `[M]` float price of one sample of each task.
      group: `[M]` int group of each task. Tasks of one group are drawn and paid together: their
        samples are the labels of the same inputs, and the price of a sample pays them all.
      input_shape: shape of one input.
      num_outputs: O.
    """

    names: tuple[str, ...]
    capacity: np.ndarray
    price: np.ndarray
    group: np.ndarray
    input_shape: tuple[int, ...]
    num_outputs: int

    def draw(self, key: Array, counts: np.ndarray, *, start: np.ndarray | None = None) -> Rows:
        """Draws samples `start[m] … start[m] + counts[m]` of each task's fixed random order.

        The order depends on `key` and the source alone. Successive draws therefore never repeat
        a sample, and a run that was stopped draws again what it had drawn.

        Args:
          key: the campaign's data key, the same in every round.
          counts: `[M]` samples wanted.
          start: `[M]` samples drawn before; zeros unless told.

        Raises:
          ValueError: if a task cannot give that many.
        """
        ...


def checked_range(
    source: TaskSource, counts: Numbers, start: Numbers | None
) -> tuple[np.ndarray, np.ndarray]:
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
      inputs: pools of inputs by name, each `[n_pool, ...]` of one shared input shape: arrays,
        memory-mapped ones too, or rows on demand, which are checked when they are drawn. Unsigned
        bytes are images: a draw returns them as float32 in [0, 1].
      labels: `[n_pool]` or `[n_pool, O]` numbers by task name.
      pools: the pool of each task by task name; unless told, each task's own name.
      prices: price of one sample by task name; 1 unless told.
      weights: `[n_pool]` non-negative weights by task name, for the tasks that have them. A label
        whose weight is 0 is missing: it may be NaN, and a draw returns it as 0.
      joint: whether the labels of one input are bought together, at one price: tasks of one pool
        then are a group and come in the same random order.

    Raises:
      ValueError: if a task has no pool or is empty, or shapes differ, or NaN or Inf occur where
        the weight is not 0, or tasks of a group differ in price.
    """

    names: tuple[str, ...]
    capacity: np.ndarray
    price: np.ndarray
    group: np.ndarray
    input_shape: tuple[int, ...]
    num_outputs: int

    def __init__(
        self,
        inputs: Mapping[str, np.ndarray | RowsOnDemand],
        labels: Mapping[str, np.ndarray],
        *,
        pools: Mapping[str, str] | None = None,
        prices: Mapping[str, float] | None = None,
        weights: Mapping[str, np.ndarray] | None = None,
        joint: bool = False,
    ):
        self.names = tuple(labels)
        if not self.names:
            raise ValueError("ArraySource expects at least one task, got none.")
        pools = {name: name for name in self.names} if pools is None else pools
        inputs = {
            name: pool if isinstance(pool, RowsOnDemand) else np.asarray(pool)
            for name, pool in inputs.items()
        }
        pool_names = [_known(pools, name, "pools") for name in self.names]
        used = list(dict.fromkeys(pool_names))
        for pool in used:
            found = _known(inputs, pool, "inputs")
            if isinstance(found, np.ndarray):
                check_finite(f"inputs[{pool!r}]", found)
        rows_of = [len(inputs[pool]) for pool in pool_names]
        weight = None if weights is None else _weights(self.names, rows_of, weights)
        matrices = [
            _label_matrix(name, labels[name], None if weight is None else weight[task])
            for task, name in enumerate(self.names)
        ]
        for name, pool, rows, y in zip(self.names, pool_names, rows_of, matrices, strict=True):
            if len(y) != rows or not rows:
                raise ValueError(
                    f"Task {name!r} expects as many labels as pool {pool!r} has inputs, and at "
                    f"least one: got {len(y)} labels for {rows} inputs."
                )
        shapes = {inputs[pool].shape[1:] for pool in used}
        widths = {y.shape[1] for y in matrices}
        if len(shapes) > 1 or len(widths) > 1:
            raise ValueError(
                "ArraySource expects one input shape and one number of outputs for all tasks, "
                f"got input shapes {sorted(shapes)} and outputs {sorted(widths)}."
            )
        (self.input_shape,), (self.num_outputs,) = shapes, widths
        self.capacity = np.asarray([len(y) for y in matrices])
        self._labels = np.concatenate(matrices)  # of all tasks, one after another
        self._weights = None if weight is None else np.concatenate(weight)
        self._pools = [inputs[pool] for pool in used]
        self._pool_index = np.asarray([used.index(pool) for pool in pool_names])
        self._order = None
        self.group = self._pool_index if joint else np.arange(len(self.names))
        prices = dict.fromkeys(self.names, 1.0) if prices is None else prices
        self.price = np.asarray([_known(prices, name, "prices") for name in self.names], float)
        if not (np.isfinite(self.price).all() and (self.price > 0).all()):
            raise ValueError(f"ArraySource expects positive finite prices, got {prices}.")
        first_of_group = np.unique(self.group, return_index=True)[1]
        if (self.price != self.price[first_of_group][self.group]).any():
            raise ValueError(
                "ArraySource(joint=True) pays the labels of one input once: the tasks of a pool "
                f"must have one price, got {prices}."
            )

    def draw(self, key: Array, counts: Numbers, *, start: Numbers | None = None) -> Rows:
        """Draws without replacement; see `TaskSource.draw`."""
        drawn = self.draw_on_demand(key, counts, start=start)
        return Rows(np.asarray(drawn.x), *drawn[1:])

    def draw_on_demand(
        self, key: Array, counts: Numbers, *, start: Numbers | None = None
    ) -> DrawnRows:
        """Draws as `draw`, but reads inputs when they are asked for: they may be too many."""
        task, local = self.draw_index(key, counts, start=start)
        row = (np.cumsum(self.capacity) - self.capacity)[task] + local
        x = DrawnInputs(self._pools, self._pool_index[task], local, self.input_shape)
        weight = None if self._weights is None else self._weights[row]
        return DrawnRows(x, self._labels[row], task, weight)

    def draw_index(
        self, key: Array, counts: Numbers, *, start: Numbers | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws as `draw`, but returns where the samples lie: nothing is copied.

        Returns:
          `[N]` int32 task of each sample, and `[N]` its row in its task's pool.
        """
        start, stop = checked_range(self, counts, start)
        task, position = row_positions(start, stop)
        first = np.cumsum(self.capacity) - self.capacity
        row = self._order_of(key)[first[task] + position]  # of all tasks' rows, one after another
        return task, row - first[task]

    def _order_of(self, key: Array) -> np.ndarray:
        """Every task's rows in a random order that the key fixes; the last one is kept."""
        words = tuple(np.asarray(jax.random.key_data(key)).ravel().tolist())
        if self._order is None or self._order[0] != words:
            generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))
            task = np.repeat(np.arange(len(self.names)), self.capacity)
            sizes = self.capacity[np.unique(self.group, return_index=True)[1]]
            first = np.cumsum(sizes) - sizes  # of a group's numbers, which its tasks share
            _, number = row_positions(first[self.group], (first + sizes)[self.group])
            self._order = words, np.lexsort((generator.random(sizes.sum())[number], task))
        return self._order[1]


def row_positions(start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The task `[N]` of every row of a draw, and the row's place `[N]` in its task's order."""
    counts = stop - start
    task = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    first = np.cumsum(counts) - counts
    return task, np.arange(len(task)) - np.repeat(first - start, counts)


def _known(mapping: Mapping, name: str, what: str):
    if name not in mapping:
        raise ValueError(f"ArraySource: {what} has no entry {name!r}; it has {sorted(mapping)}.")
    return mapping[name]


def _label_matrix(name: str, labels, weight: np.ndarray | None) -> np.ndarray:
    array = np.asarray(labels)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2:
        raise ValueError(f"Labels of task {name!r}: expected [n] or [n, O], got {array.shape}.")
    if weight is not None and len(weight) == len(array):
        array = np.where(weight[:, None] > 0, array, 0)
    check_finite(f"labels of task {name!r}", array)
    return array.astype(np.float32)


def _weights(
    names: tuple[str, ...], rows_of: list[int], weights: Mapping[str, np.ndarray]
) -> list[np.ndarray]:
    """Weights `[n_pool]` of every task, ones where nothing is told."""
    for name in weights:
        _known(dict.fromkeys(names), name, "labels")
    result = []
    for name, rows in zip(names, rows_of, strict=True):
        weight = np.asarray(weights.get(name, np.ones(rows)), np.float32)
        result.append(weight)
        if weight.shape != (rows,) or not (np.isfinite(weight).all() and (weight >= 0).all()):
            raise ValueError(
                f"Weights of task {name!r}: expected {rows} finite numbers >= 0, one per input, "
                f"got shape {weight.shape}."
            )
    return result
