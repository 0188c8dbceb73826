"""Axes: from numbers to places on a drawing, and the ticks that people can read."""

import math
from collections.abc import Sequence
from typing import NamedTuple


class Scale(NamedTuple):
    """Takes values from `low` … `high` to `start` … `stop`.

    Attributes:
      low: value at `start`; positive where the scale is logarithmic.
      high: value at `stop`, above `low`.
      start: place of `low`.
      stop: place of `high`.
      is_log: whether equal ratios are equally far apart.
    """

    low: float
    high: float
    start: float
    stop: float
    is_log: bool = False

    def place(self, value: float) -> float:
        """Place of a value; of one beyond the ends, beyond the ends."""
        if self.is_log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.stop - self.start)

    def holds(self, value: float) -> bool:
        """Whether a value lies on the scale."""
        return self.low <= value <= self.high


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers between two others: multiples of 1, 2 or 5 times a power of ten, `most`."""
    power = 10.0 ** math.floor(math.log10((high - low) / (most + 1)))
    for step in (power, 2 * power, 5 * power, 10 * power, 20 * power):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            break
    return [round(index * step, 12) for index in range(first, last + 1)]


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers for a logarithmic scale, as dense as `most` allows."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for steps in ((1, 2, 5), (1, 3), (1,)):
        found = [step * 10.0**power for power in powers for step in steps]
        found = [value for value in found if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
        if len(found) <= most:
            break
    return found if len(found) > 1 else ticks(low, high, min(most, 4))


def padded(values: Sequence[float], share: float = 0.06) -> tuple[float, float]:
    """The range of finite values with a margin; around a single value, some range."""
    known = [value for value in values if math.isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    margin = share * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def apart(places: Sequence[float], distance: float, low: float, high: float) -> list[float]:
    """Moves labels so that none covers another, as little as that takes.

    Args:
      places: wanted, in any order.
      distance: between two labels.
      low: the least place.
      high: the largest place.

    Returns:
      Places in the order of the input; they run over `high` where there is no room.
    """
    order = sorted(range(len(places)), key=places.__getitem__)
    groups: list[list[float]] = []  # number of labels, and place of the first
    for index in order:
        groups.append([1, min(max(places[index], low), high)])
        while len(groups) > 1 and groups[-2][1] + groups[-2][0] * distance > groups[-1][1]:
            number, first = groups.pop()
            before, start = groups.pop()
            centre = before * (start + distance * (before - 1) / 2)
            centre += number * (first + distance * (number - 1) / 2)
            total = before + number
            start = centre / total - distance * (total - 1) / 2
            start = max(min(start, high - distance * (total - 1)), low)
            groups.append([total, start])
    moved = [start + step * distance for number, start in groups for step in range(int(number))]
    found = [0.0] * len(places)
    for index, place in zip(order, moved, strict=True):
        found[index] = place
    return found
