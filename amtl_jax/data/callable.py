"""Tasks whose samples a function generates or labels on demand, each of them once."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike

from amtl_jax.data.sources import Rows, checked_range, row_positions
from amtl_jax.types import Array, Numbers

_ENDLESS = int(np.iinfo(np.int32).max)  # counts are int32


class _Drawn(NamedTuple):
    """What one task has given under one key."""

    index: dict[int, int]  # row number -> place in x and y
    x: np.ndarray  # [n, *input_shape]
    y: np.ndarray  # [n, O]


class CallableSource:
    """Tasks whose samples come from a function: a simulator, a labelling service, a database.

    `draw(task, rows, seed)` gets the name of a task, the row numbers `[n]` that are wanted and a
    seed (below 2³¹, fixed by the campaign's key), and returns inputs `[n, *input_shape]` and
    labels `[n]` or `[n, O]`, a row for each number in that order. A row number always means the
    same sample. What was drawn is remembered under the campaign's key, so no sample is generated,
    or paid, twice; if the function fails halfway through a draw, the tasks before are kept.
    Another seed is another campaign, which asks anew. So does another process: where a row costs
    money, draw in one.

    A task with a capacity is a pool: its row numbers, all below the capacity, come in a random
    order that the key fixes, so `(inputs[rows], ask_people(inputs[rows]))` samples the pool
    without replacement, and the seed can be ignored. A task without counts its rows 0, 1, 2, …:
    a generator should make every row from its number and the seed, such as with
    `np.random.default_rng([seed, row])`.

    Args:
      draw: the function; unsigned bytes among its inputs are images, which become float32 in
        [0, 1].
      names: M task names.
      input_shape: shape of one input.
      num_outputs: O.
      capacity: samples that a task can give: a number for all, or a mapping by task name; None,
        also in the mapping: no limit.
      price: price of one sample, a number for all or a mapping by task name; 1 unless told.
      group: group of each task, by task name: its tasks are drawn and paid together, so they
        share capacity, price and row numbers. None: every task by itself.

    Raises:
      TypeError: if `draw` cannot be called.
      ValueError: names what is missing, surplus, doubled or out of range.
    """

    names: tuple[str, ...]
    capacity: np.ndarray
    price: np.ndarray
    group: np.ndarray
    input_shape: tuple[int, ...]
    num_outputs: int

    def __init__(
        self,
        draw: Callable[[str, np.ndarray, int], tuple[ArrayLike, ArrayLike]],
        names: Sequence[str],
        *,
        input_shape: Sequence[int],
        num_outputs: int = 1,
        capacity: Mapping[str, int | None] | int | None = None,
        price: Mapping[str, float] | float | None = None,
        group: Mapping[str, Hashable] | None = None,
    ):
        if not callable(draw):
            raise TypeError(f"CallableSource expects draw(task, rows, seed), got {draw!r:.100}.")
        if isinstance(names, str) or not len(names) or len(set(names)) < len(names):
            raise ValueError(
                f"CallableSource expects a list of at least one task name, each once, got "
                f"{names!r:.200}."
            )
        self.names = tuple(names)
        self.input_shape = tuple(int(size) for size in input_shape)
        self.num_outputs = int(num_outputs)
        if min((self.num_outputs, *self.input_shape)) < 1:
            raise ValueError(
                "CallableSource expects sizes of at least 1, got input_shape "
                f"{self.input_shape} and num_outputs {num_outputs}."
            )
        limits = [
            _ENDLESS if limit is None else limit for limit in self._each("capacity", capacity)
        ]
        self.capacity = _positive("capacity", limits, whole=True)
        self.price = _positive("price", self._each("price", 1.0 if price is None else price))
        labels = self.names if group is None else self._each("group", group)
        leaders: dict[Hashable, int] = {}  # the first task of each group
        first = [leaders.setdefault(label, index) for index, label in enumerate(labels)]
        self.group = np.unique(first, return_inverse=True)[1]
        for index, leader in enumerate(first):
            for what, values in (("capacity", self.capacity), ("price", self.price)):
                if values[index] != values[leader]:
                    raise ValueError(
                        f"Tasks {self.names[leader]!r} and {self.names[index]!r} are one group, "
                        f"so they need the same {what}, got {values[leader]} and {values[index]}."
                    )
        self._draw = draw
        self._drawn: dict[tuple, _Drawn] = {}
        self._orders: dict[tuple, _Order] = {}

    def draw(self, key: Array, counts: Numbers, *, start: Numbers | None = None) -> Rows:
        """Asks the function for rows that this key has not drawn before; see `TaskSource.draw`.

        Raises:
          ValueError: if a task cannot give that many, or the function returns something else
            than finite numbers of the promised shapes.
          RuntimeError: if the function raises; the message names the task.
        """
        first, stop = checked_range(self, counts, start)
        task, _ = row_positions(first, stop)
        words = tuple(np.asarray(jax.random.key_data(key)).ravel().tolist())
        x = np.empty((len(task), *self.input_shape), np.float32)
        y = np.empty((len(task), self.num_outputs), np.float32)
        end = np.cumsum(stop - first)
        for index in map(int, np.flatnonzero(stop > first)):
            rows = self._row_numbers(words, index, int(first[index]), int(stop[index]))
            drawn = self._remembered(words, index, rows)
            place = [drawn.index[row] for row in rows]
            own = slice(end[index] - len(rows), end[index])
            x[own], y[own] = drawn.x[place], drawn.y[place]
        return Rows(x, y, task)

    def _row_numbers(self, words: tuple, index: int, start: int, stop: int) -> list[int]:
        """Numbers of the rows at these places of a task's order; a group has one order."""
        if self.capacity[index] == _ENDLESS:
            return list(range(start, stop))
        group = int(self.group[index])
        if (words, group) not in self._orders:
            self._orders[words, group] = _Order(
                np.random.Philox(np.random.SeedSequence([*words, group])),
                int(self.capacity[index]),
            )
        return self._orders[words, group].rows(start, stop)

    def _remembered(self, words: tuple, index: int, rows: list[int]) -> _Drawn:
        """What a task has given under a key, these rows among it; new ones are asked for."""
        drawn = self._drawn.get((words, index))
        known = drawn.index if drawn else {}
        new = [row for row in rows if row not in known]
        if drawn is None or new:
            x, y = self._ask(words, self.names[index], new)
            places = dict(zip(new, range(len(known), len(known) + len(new)), strict=True))
            if drawn:
                x, y = np.concatenate([drawn.x, x]), np.concatenate([drawn.y, y])
            drawn = self._drawn[words, index] = _Drawn(known | places, x, y)
        return drawn

    def _ask(self, words: tuple, name: str, rows: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Calls the function for rows of one task and checks what it returns."""
        # 31 bits, which every generator takes as a seed.
        seed = int(np.random.SeedSequence(words).generate_state(1)[0] >> 1)
        try:
            given = self._draw(name, np.asarray(rows), seed)
        except Exception as error:  # whatever a stranger's function may raise
            raise RuntimeError(
                f"Task {name!r}: draw failed on {len(rows)} rows (first: row {rows[0]}): "
                f"{type(error).__name__}: {error}"
            ) from error
        if not isinstance(given, tuple) or len(given) != 2:
            raise ValueError(
                f"Task {name!r}: draw must return two arrays, (x, y), got {type(given).__name__}"
                f"{f' of {len(given)}' if isinstance(given, tuple) else ''}."
            )
        x, y = (_numbers(name, what, value) for what, value in zip("xy", given, strict=True))
        y = y[:, None] if y.ndim == 1 else y
        wanted = (len(rows), *self.input_shape), (len(rows), self.num_outputs)
        if (x.shape, y.shape) != wanted:
            raise ValueError(
                f"Task {name!r}: for {len(rows)} rows draw must return x of shape {wanted[0]} and "
                f"y of shape {wanted[1]}, got {x.shape} and {y.shape}."
            )
        for what, array in (("x", x), ("y", y)):
            bad = np.flatnonzero(~np.isfinite(array.reshape(len(rows), -1)).all(axis=1))
            if len(bad):
                raise ValueError(
                    f"Task {name!r}: draw returned NaN or Inf in {what} of row {rows[bad[0]]} "
                    f"({len(bad)} of {len(rows)} rows). Every row asked for needs finite numbers."
                )
        return x, y

    def _each(self, what: str, values) -> list:
        """One value per task, from a mapping by name or one value for all."""
        if not isinstance(values, Mapping):
            if np.ndim(values):
                raise ValueError(
                    f"CallableSource expects {what} as one value for all tasks or as a mapping by "
                    f"task name, got {values!r:.100}."
                )
            return [values] * len(self.names)
        missing = [name for name in self.names if name not in values]
        surplus = [name for name in values if name not in self.names]
        if missing or surplus:
            problem = f"no entry {missing[0]!r}" if missing else f"an unknown task {surplus[0]!r}"
            raise ValueError(
                f"CallableSource: {what} has {problem}; tasks: {', '.join(self.names):.200}."
            )
        return [values[name] for name in self.names]


class _Order:
    """A random order of `range(capacity)`, worked out only as far as it is asked for.

    A Fisher-Yates shuffle that keeps only the places it has touched: pools may be huge.
    """

    def __init__(self, bits: np.random.BitGenerator, capacity: int):
        self._generator = np.random.Generator(bits)
        self._capacity = capacity
        self._order: list[int] = []
        self._moved: dict[int, int] = {}

    def rows(self, start: int, stop: int) -> list[int]:
        """The rows at places `start … stop`; the same whatever was asked for before."""
        for place in range(len(self._order), stop):
            other = int(self._generator.integers(place, self._capacity))
            here = self._moved.pop(place, place)
            if other == place:
                self._order.append(here)
            else:
                self._order.append(self._moved.get(other, other))
                self._moved[other] = here
        return self._order[start:stop]


def _numbers(name: str, what: str, value: ArrayLike) -> np.ndarray:
    """A copy as float32, so that a buffer which the function fills again does no harm."""
    array = np.asarray(value)
    if array.dtype.kind not in "buif":
        raise ValueError(
            f"Task {name!r}: draw must return numbers, got {what} of dtype {array.dtype}."
        )
    if what == "x" and array.dtype == np.uint8:  # bytes are images
        return array * np.float32(1 / 255)
    with np.errstate(over="ignore"):  # what float32 cannot hold is found as Inf
        return array.astype(np.float32)


def _positive(what: str, values: list, *, whole: bool = False) -> np.ndarray:
    """Positive finite numbers `[M]`; whole ones as int64."""
    wanted = f"whole numbers from 1 to {_ENDLESS}" if whole else "positive finite numbers"
    try:
        array = np.asarray(values, float)
    except (TypeError, ValueError):
        array = np.full(len(values), np.nan)
    good = np.isfinite(array) & (array > 0)
    if whole:
        good &= (array == np.floor(array)) & (array <= _ENDLESS)
    if not good.all():
        worst = values[int(np.argmin(good))]
        raise ValueError(f"CallableSource expects {what} as {wanted}, got {worst!r:.100}.")
    return array.astype(np.int64) if whole else array
