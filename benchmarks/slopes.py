"""How a time grows: the slope of its logarithm against that of a size."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LAUNCHES = 10.0  # a time of fewer smallest calls is more the call's than the work's


class Point(NamedTuple):
    """A time.

    Attributes:
      axis: that was varied.
      operation: that was timed.
      value: on the axis.
      seconds: of the fastest round: what else runs on a machine only adds to it.
      median: seconds of the rounds.
      stored: rows that are stored in blocks, a row.
    """

    axis: str
    operation: str
    value: float
    seconds: float
    median: float
    stored: float


class Slope(NamedTuple):
    """The growth of an operation along an axis.

    Attributes:
      axis: that was varied.
      operation: that was timed.
      slope: of log seconds over log value; NaN of fewer than two points.
      offset: log seconds where log value is 0.
      of_stored: slope over the rows that are stored, with their padding, in place of the value;
        the same where padding does not vary.
      used: values of the points behind it, those that take ten smallest calls or more.
      smallest: seconds of the smallest call, the same operation of one task, row and feature.
    """

    axis: str
    operation: str
    slope: float
    offset: float
    of_stored: float
    used: tuple[float, ...]
    smallest: float


def slope_of(points: Sequence[Point], smallest: float) -> Slope:
    """Least squares of log seconds over log value.

    Args:
      points: of one axis and operation, at least one.
      smallest: seconds of the smallest call.

    Returns:
      `Slope` of the points whose time is at least ten times the smallest call's.
    """
    used = [point for point in points if point.seconds >= LAUNCHES * smallest]
    slope = offset = of_stored = float("nan")
    if len(used) > 1:
        value, stored, seconds = np.log([[p.value, p.value * p.stored, p.seconds] for p in used]).T
        slope, offset = map(float, np.polyfit(value, seconds, 1))
        of_stored = float(np.polyfit(stored, seconds, 1)[0])
    values = tuple(point.value for point in used)
    first = points[0]
    return Slope(first.axis, first.operation, slope, offset, of_stored, values, smallest)


def slope_text(slope: Slope) -> str:
    """A slope and the ends of its range, in words."""
    if np.isnan(slope.slope):
        return "too few points"
    of_stored = ""
    if f"{slope.of_stored:.2f}" != f"{slope.slope:.2f}":
        of_stored = f", of stored rows {slope.of_stored:.2f}"
    return f"{slope.slope:.2f} ({number(slope.used[0])} to {number(slope.used[-1])}{of_stored})"


def number(value: float) -> str:
    """A value of an axis."""
    return f"{value:,.0f}" if value >= 1 else f"{value:.3g}"
