"""Pieces of drawings: frames with axes, markers of arms, and the picture around them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from amtl_jax.experiment.page.colours import MARKERS, Look
from amtl_jax.experiment.page.markup import Html, element, join, short_number
from amtl_jax.experiment.page.scales import Scale, log_ticks, ticks

LETTER = 6.0  # width of a character of labels, about


class Frame(NamedTuple):
    """A panel between two axes.

    Attributes:
      x: from left to right.
      y: from bottom to top.
    """

    x: Scale
    y: Scale


def picture(
    name: str, title: str, description: str, width: float, height: float, *content: str
) -> Html:
    """An SVG that a screen reader can tell of, and that shrinks with the page.

    Args:
      name: of this picture alone on the page.
      title: what it is.
      description: what it shows.
      width: of the drawing.
      height: of the drawing.
      *content: what is drawn.
    """
    size = f"0 0 {short_number(width)} {short_number(height)}"
    return element(
        "svg",
        {
            "viewBox": size,
            "role": "img",
            "aria-labelledby": f"{name}-t {name}-d",
            "style": f"max-width:{short_number(width)}px",
        },
        element("title", {"id": f"{name}-t"}, title),
        element("desc", {"id": f"{name}-d"}, description),
        *content,
    )


def words(x: float, y: float, text: str, kind: str = "", turn: float | None = None) -> Html:
    """A label; its kind is a class of the style sheet: `e` ends, `m` is centred on x."""
    place = {"x": x, "y": y} if turn is None else {}
    move = f"translate({short_number(x)} {short_number(y)}) rotate({short_number(turn or 0)})"
    return element(
        "text",
        {"class": kind or None, **place, "transform": None if turn is None else move},
        text,
    )


def line(points: Sequence[tuple[float, float]], kind: str, dash: str = "") -> Html:
    """A line through points."""
    path = "M" + "L".join(f"{short_number(x)} {short_number(y)}" for x, y in points)
    return element("path", {"class": kind, "d": path, "stroke-dasharray": dash or None})


def segment(x: float, y: float, to_x: float, to_y: float, kind: str) -> Html:
    """A straight line."""
    return element("path", {"class": kind, "d": f"M{_pair(x, y)}L{_pair(to_x, to_y)}"})


def box(x: float, y: float, width: float, height: float, kind: str) -> Html:
    """A rectangle."""
    return element("rect", {"class": kind, "x": x, "y": y, "width": width, "height": height})


def marker(look: Look, x: float, y: float, kind: str = "k") -> Html:
    """The marker of an arm."""
    move = f"translate({_pair(x, y)})"
    return element("path", {"class": kind, "d": MARKERS[look.marker], "transform": move})


def key(look: Look, index: int) -> Html:
    """A line with its marker, for beside the arm's name; a screen reader passes over it."""
    return element(
        "svg",
        {"class": f"key a{index}", "viewBox": "0 0 30 12", "aria-hidden": "true"},
        line([(0, 6), (30, 6)], "l", look.dash),
        marker(look, 15, 6),
    )


def axis_below(frame: Frame, text: Callable[[float], str], label: str, most: int = 6) -> Html:
    """The axis under a panel: its line, ticks, numbers, and what it shows."""
    x, bottom = frame.x, frame.y.start
    found = (log_ticks if x.is_log else ticks)(x.low, x.high, most)
    parts = [segment(x.start, bottom, x.stop, bottom, "axis")]
    for value in found:
        place = x.place(value)
        parts.append(segment(place, bottom, place, bottom + 4, "axis"))
        parts.append(words(place, bottom + 16, text(value), "m"))
    parts.append(words((x.start + x.stop) / 2, bottom + 33, label, "m lab"))
    return join(parts)


def axis_left(frame: Frame, text: Callable[[float], str], most: int = 6) -> Html:
    """Lines across a panel and their numbers on the left of it."""
    y, left, right = frame.y, frame.x.start, frame.x.stop
    found = (log_ticks if y.is_log else ticks)(y.low, y.high, most)
    parts = []
    for value in found:
        place = y.place(value)
        parts.append(segment(left, place, right, place, "grid"))
        parts.append(words(left - 6, place + 4, text(value), "e"))
    return join(parts)


def _pair(x: float, y: float) -> str:
    return f"{short_number(x)} {short_number(y)}"
