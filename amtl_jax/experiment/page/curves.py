"""Error against source samples: a line for every arm, and what none of them buys as a level."""

from collections.abc import Sequence
from typing import NamedTuple

from amtl_jax.experiment.page.colours import Look
from amtl_jax.experiment.page.drawing import (
    LETTER,
    Frame,
    axis_below,
    axis_left,
    line,
    marker,
    picture,
    segment,
    words,
)
from amtl_jax.experiment.page.markup import Html, element, join, shortened
from amtl_jax.experiment.page.numbers import signed_tick, thousands
from amtl_jax.experiment.page.scales import Scale, apart, padded

_WIDTH, _HEIGHT = 540, 330
_LEFT, _TOP, _BOTTOM = 58, 30, 46
_LABEL_GAP = 13
_BESIDE = 6  # between intervals of one number of samples
_MOST_NAME = 17
_NEAR = 0.8  # a level is drawn where it lies within this share of the lines' range beyond it


class Point(NamedTuple):
    """A point of a line, or a level; ends are None where there is no interval."""

    samples: float
    value: float
    low: float | None = None
    high: float | None = None


class Line(NamedTuple):
    """What an arm reached.

    Attributes:
      arm: its name.
      look: of the arm.
      index: of the arm.
      pieces: points by samples, connected; a piece for every budget.
    """

    arm: str
    look: Look
    index: int
    pieces: Sequence[Sequence[Point]]

    @property
    def last(self) -> Point:
        """What it reached in the end."""
        return self.pieces[-1][-1]


class Chart(NamedTuple):
    """What is drawn.

    Attributes:
      name: of this chart alone on the page.
      title: what it shows.
      description: for those who do not see it.
      label: unit of the values, above the axis.
      lines: of arms that buy.
      levels: of arms that buy nothing, one point each.
      is_difference: whether 0 is the reference arm.
      reference: name of the arm that 0 stands for.
    """

    name: str
    title: str
    description: str
    label: str
    lines: Sequence[Line]
    levels: Sequence[Line] = ()
    is_difference: bool = False
    reference: str = ""


def chart(found: Chart) -> Html:
    """Draws a chart; empty where no arm buys anything."""
    points = [point for one in found.lines for piece in one.pieces for point in piece]
    if not points:
        return Html("")
    frame = _frame(found, points)
    levels, far = _levels(found, frame)
    parts = [
        words(0, 14, found.title, "head"),
        axis_left(frame, signed_tick if found.is_difference else _value_text(found), 7),
        axis_below(frame, thousands, f"source samples{', logarithmic' * frame.x.is_log}"),
        *levels,
    ]
    if found.is_difference:
        place = frame.y.place(0.0)
        parts.append(segment(frame.x.start, place, frame.x.stop, place, "zero"))
    middle = (len(found.lines) - 1) / 2
    parts += [
        _line(one, frame, _BESIDE * (place - middle)) for place, one in enumerate(found.lines)
    ]
    parts += _names(found, frame)
    parts += [
        words(frame.x.start + 4, frame.y.stop + 4 + 14 * place, text, "far")
        for place, text in enumerate(far)
    ]
    return element(
        "figure",
        None,
        picture(found.name, found.title, found.description, _WIDTH, _HEIGHT, *parts),
    )


def _value_text(found: Chart):
    return lambda value: f"{value:.4g}" + ("%" if found.label == "%" else "")


def _frame(found: Chart, points: Sequence[Point]) -> Frame:
    samples = [point.samples for point in points]
    low, high = min(samples), max(samples)
    is_log = low > 0 and high / low > 4
    if is_log:
        x = Scale(low / (high / low) ** 0.03, high * (high / low) ** 0.03, 0, 0, True)
    else:
        x = Scale(0.0, 1.04 * high or 1.0, 0, 0)
    values = [
        value
        for point in points
        for value in (point.value, point.low, point.high)
        if value is not None
    ]
    low, high = padded([*values, 0.0] if found.is_difference else values)
    near = _NEAR * (high - low)
    values += [
        one.last.value for one in found.levels if low - near <= one.last.value <= high + near
    ]
    low, high = padded([*values, 0.0] if found.is_difference else values)
    longest = max(len(shortened(one.arm, _MOST_NAME)) for one in [*found.lines, *found.levels])
    right = _WIDTH - 16 - LETTER * longest
    return Frame(x._replace(start=_LEFT, stop=right), Scale(low, high, _HEIGHT - _BOTTOM, _TOP))


def _line(one: Line, frame: Frame, beside: float) -> Html:
    """The pieces of an arm, with markers and intervals, which stand a little beside each other."""
    has_bars = any(point.low is not None for piece in one.pieces for point in piece)
    parts = []
    for piece in one.pieces:
        places = [
            (frame.x.place(point.samples) + beside * has_bars, frame.y.place(point.value))
            for point in piece
        ]
        for point, (x, _) in zip(piece, places, strict=True):
            if point.low is not None and point.high is not None:
                ends = frame.y.place(point.low), frame.y.place(point.high)
                parts.append(segment(x, ends[0], x, ends[1], "whisker"))
        if len(places) > 1:
            parts.append(line(places, "l", one.look.dash))
        parts += [marker(one.look, x, y) for x, y in places]
    return element("g", {"class": f"a{one.index}"}, *parts)


def _levels(found: Chart, frame: Frame) -> tuple[list[Html], list[str]]:
    """Levels that lie in the panel, and sentences on those that do not."""
    drawn, far = [], []
    text = _value_text(found)
    for one in found.levels:
        value, samples = one.last.value, one.last.samples
        if not frame.y.holds(value):
            where = "above" if value > frame.y.high else "below"
            far.append(f"{shortened(one.arm, _MOST_NAME)}: {text(value)}, {where} this panel")
            continue
        place = frame.y.place(value)
        own = [line([(frame.x.start, place), (frame.x.stop, place)], "l", one.look.dash)]
        # A marker where its samples lie, if they lie in the panel.
        x = frame.x.place(samples) if samples and frame.x.holds(samples) else frame.x.stop
        own.append(marker(one.look, x, place))
        drawn.append(element("g", {"class": f"a{one.index}"}, *own))
    return drawn, far


def _names(found: Chart, frame: Frame) -> list[Html]:
    """Names of the arms at the ends of their lines, apart from each other."""
    ends = [(one, frame.y.place(one.last.value)) for one in found.lines]
    ends += [
        (one, frame.y.place(one.last.value))
        for one in found.levels
        if frame.y.holds(one.last.value)
    ]
    if found.is_difference and found.reference:
        ends.append((None, frame.y.place(0.0)))
    x = frame.x.stop
    places = apart([place for _, place in ends], _LABEL_GAP, _TOP, _HEIGHT - _BOTTOM)
    parts = []
    for (one, start), place in zip(ends, places, strict=True):
        name = found.reference if one is None else one.arm
        own = [
            segment(x + 2, start, x + 10, place, "lead"),
            words(x + 13, place + 4, shortened(name, _MOST_NAME), "name"),
        ]
        parts.append(element("g", {"class": "ref" if one is None else f"a{one.index}"}, *own))
    return parts


def charts(found: Sequence[Chart]) -> Html:
    """Charts beside each other."""
    drawn = [chart(one) for one in found]
    drawn = [one for one in drawn if one]
    return element("div", {"class": "pair"}, join(drawn)) if drawn else Html("")
