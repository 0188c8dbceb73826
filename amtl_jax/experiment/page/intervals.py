"""Differences with their intervals, drawn into the rows of a table around one line of no effect."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from amtl_jax.experiment.page.colours import Look
from amtl_jax.experiment.page.drawing import marker, segment, words
from amtl_jax.experiment.page.markup import Html, element
from amtl_jax.experiment.page.numbers import signed_tick
from amtl_jax.experiment.page.scales import Scale, padded, ticks

_WIDTH, _HEIGHT, _EDGE = 190, 30, 12


class Axis(NamedTuple):
    """What the cells of a column share.

    Attributes:
      scale: from differences to places.
      factor: of the values that are written: 100 for shares.
    """

    scale: Scale
    factor: float


def axis_of(intervals: Sequence[dict[str, Any]], factor: float) -> Axis:
    """An axis that holds 0 and all intervals.

    Args:
      intervals: `difference`, `low` and `high`, None where unknown.
      factor: of the values that are written.
    """
    ends = [
        factor * one[name]
        for one in intervals
        for name in ("difference", "low", "high")
        if one[name] is not None
    ]
    return Axis(Scale(*padded([0.0, *ends], 0.08), _EDGE, _WIDTH - _EDGE), factor)


def axis_head(axis: Axis) -> Html:
    """Numbers of the axis, for the head of the column."""
    scale = axis.scale
    parts = []
    for value in ticks(scale.low, scale.high, 5):
        parts.append(words(scale.place(value), 13, signed_tick(value), "m"))
        parts.append(segment(scale.place(value), 17, scale.place(value), 21, "axis"))
    return _cell(21, *parts)


def interval_cell(axis: Axis, found: dict[str, Any] | None, look: Look | None, index: int) -> Html:
    """One interval; an arrow at the edge where it lies beyond the axis.

    Args:
      axis: of the column.
      found: `difference`, `low` and `high`; None draws the line of no effect alone.
      look: of the arm.
      index: of the arm.
    """
    scale, middle = axis.scale, _HEIGHT / 2
    zero = scale.place(0.0)
    parts = [segment(zero, -2, zero, _HEIGHT + 2, "zero")]
    if found is not None and look is not None and found["difference"] is not None:
        value = axis.factor * found["difference"]
        low, high = (
            value if found[end] is None else axis.factor * found[end] for end in ("low", "high")
        )
        if scale.holds(value):
            ends = [scale.place(min(max(end, scale.low), scale.high)) for end in (low, high)]
            own = [segment(ends[0], middle, ends[1], middle, "whisker")]
            own += [segment(end, middle - 4, end, middle + 4, "whisker") for end in ends]
            own.append(marker(look, scale.place(value), middle))
        else:
            own = [_arrow(is_right=value > scale.high, y=middle)]
        parts.append(element("g", {"class": f"a{index}"}, *own))
    return _cell(_HEIGHT, *parts)


def _arrow(*, is_right: bool, y: float) -> Html:
    """Points to what lies beyond an edge."""
    tip, back = (_WIDTH - 2, _WIDTH - 9) if is_right else (2, 9)
    tail = _WIDTH - 30 if is_right else 30
    path = f"M{tail} {y}H{back}M{tip} {y}L{back} {y - 4}V{y + 4}z"
    return element("path", {"class": "arrow", "d": path})


def _cell(height: float, *parts: Html) -> Html:
    """A drawing whose numbers stand in the next column: screen readers pass over it."""
    size = {"viewBox": f"0 0 {_WIDTH} {height}", "width": _WIDTH, "height": height}
    return element("svg", {"class": "in", **size, "aria-hidden": "true"}, *parts)
