"""The relevance matrix, targets × sources, in an order in which alike tasks are neighbours.

Cells are an image of few colours: whole squares are positive, half ones (a minus sign) negative,
so that grey prints tell them apart; deeper is larger. Sources that a target cannot have stay empty
over a hatching.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from amtl_jax.experiment.page.cluster import order_of
from amtl_jax.experiment.page.colours import BLUE, ORANGE
from amtl_jax.experiment.page.drawing import box, picture
from amtl_jax.experiment.page.markup import Html, element, join, shortened
from amtl_jax.experiment.page.matrix_labels import (
    LETTER,
    LONGEST_NAME,
    Layout,
    column_labels,
    levels_of,
    row_labels,
    run_names,
    strip_size,
    strips_of,
)
from amtl_jax.experiment.page.png import data_uri, palette_png

_PIXELS = 6  # of a cell of the image, on either side
_BAR = (2, 5)  # rows of a negative cell that are filled
_STEPS = 12  # of opacity, on either side of nothing
_FAINTEST = 0.06
_SIDE, _MOST_PITCH = 800.0, 16.0


class Matrix(NamedTuple):
    """Relevance in the order in which it is drawn.

    Attributes:
      values: `[T, P]`, NaN where a task is no source of a target.
      targets: names of the rows.
      sources: names of the columns.
    """

    values: np.ndarray
    targets: tuple[str, ...]
    sources: tuple[str, ...]


def ordered(values: np.ndarray, targets: Sequence[str], sources: Sequence[str]) -> Matrix:
    """Puts alike tasks beside each other; one order for both sides where they have the same tasks.

    Args:
      values: `[T, P]`, NaN where a task is no source of a target.
      targets: names of the rows.
      sources: names of the columns.
    """
    if tuple(targets) == tuple(sources):
        rows = columns = order_of(np.concatenate([values, values.T], axis=1))
    else:
        rows, columns = order_of(values), order_of(values.T)
    return Matrix(
        values[np.ix_(rows, columns)],
        tuple(targets[row] for row in rows),
        tuple(sources[column] for column in columns),
    )


def matrix_figure(found: Matrix, arm: str, index: int) -> Html:
    """Draws the matrix of an arm.

    Args:
      found: in order.
      arm: its name.
      index: of the arm.
    """
    names = [shortened(name, LONGEST_NAME) for name in (*found.targets, *found.sources)]
    pitch = [min(_SIDE / max(number, 1), _MOST_PITCH) for number in found.values.shape]
    longest = LETTER * max(map(len, names), default=0)
    strips = [strip_size(found.targets, part) for part in (0, 1)]
    levels = [levels_of(one) for one in pitch]
    left = longest * levels[0] + 8 + sum(strips) + (12 if any(strips) else 0)
    top = max(longest * levels[1] + 12, 124.0 if any(strips) else 0.0)
    place = Layout(left, top, pitch[1], pitch[0])
    tall, wide = (pitch[side] * number for side, number in enumerate(found.values.shape))
    largest = limit_of(found.values)
    pattern = f"own-{index}"
    parts = [
        _hatching(pattern),
        element(
            "rect", {"x": left, "y": top, "width": wide, "height": tall, "fill": f"url(#{pattern})"}
        ),
        _paper(found.values, place),
        _image(pixels_of(found.values, largest), left, top, wide, tall),
        box(left, top, wide, tall, "edge"),
        *row_labels(found.targets, place, strips),
        *column_labels(found.sources, place),
        *strips_of(found.targets, place, strips),
        *run_names(found.targets, place, left + wide),
    ]
    title = f"{shortened(arm)}: relevance of every source for every target"
    told = (
        f"{len(found.targets)} targets in rows and {len(found.sources)} sources in columns, in an "
        f"order in which alike tasks are neighbours. Sizes reach {largest:.3g}."
    )
    width = left + wide + 92
    return element(
        "div",
        {"class": "scroll wide", "tabindex": "0", "role": "region", "aria-label": title},
        picture(f"nu-{index}", title, told, width, top + tall + 6, *parts),
    )


def limit_of(values: np.ndarray) -> float:
    """Size of full opacity: the median over targets of the largest, as single rows may be huge.

    Args:
      values: `[T, P]`, NaN where a task is no source of a target.
    """
    sizes = np.nan_to_num(np.abs(values)).max(axis=1, initial=0.0)
    sizes = sizes[sizes > 0]
    return float(np.median(sizes)) if len(sizes) else 1.0


def pixels_of(values: np.ndarray, limit: float) -> np.ndarray:
    """`[6T, 6P]` places in the palette: whole squares for positive, half ones for negative."""
    size = np.nan_to_num(np.abs(values) / limit)
    step = np.rint(np.clip(size, 0, 1) * _STEPS).astype(np.uint8)
    is_negative = np.nan_to_num(values) < 0
    cells = np.where(is_negative, step + _STEPS, step)
    cells[step == 0] = 0
    whole = np.repeat(np.repeat(cells, _PIXELS, axis=0), _PIXELS, axis=1)
    inside = (np.arange(whole.shape[0]) % _PIXELS)[:, None]
    is_bar = (inside >= _BAR[0]) & (inside < _BAR[1])
    is_cut = np.repeat(np.repeat(is_negative, _PIXELS, axis=0), _PIXELS, axis=1) & ~is_bar
    return np.where(is_cut, 0, whole).astype(np.uint8)


def _palette() -> list[tuple[int, int, int, int]]:
    opacity = [_FAINTEST + (1 - _FAINTEST) * step / _STEPS for step in range(1, _STEPS + 1)]
    return [
        (0, 0, 0, 0),
        *((*BLUE, round(255 * one)) for one in opacity),
        *((*ORANGE, round(255 * one)) for one in opacity),
    ]


def _image(pixels: np.ndarray, x: float, y: float, width: float, height: float) -> Html:
    place = {"x": x, "y": y, "width": width, "height": height, "preserveAspectRatio": "none"}
    return element(
        "image", {**place, "class": "px", "href": data_uri(palette_png(pixels, _palette()))}
    )


def _hatching(name: str) -> Html:
    """Lines behind cells that hold nothing."""
    stroke = element("path", {"class": "hatch", "d": "M0 5L5 0"})
    size = {"width": 5, "height": 5, "patternUnits": "userSpaceOnUse"}
    return element("defs", None, element("pattern", {"id": name, **size}, stroke))


def _paper(values: np.ndarray, place: Layout) -> Html:
    """Paper over the hatching wherever a cell holds something, in runs along the rows."""
    path = []
    for row, known in enumerate(np.isfinite(values)):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]]).astype(int)))
        for start, stop in edges.reshape(-1, 2):
            path.append(f"M{start} {row}h{stop - start}v1H{start}z")
    move = f"translate({place.left:.2f} {place.top:.2f}) scale({place.wide:.4f} {place.tall:.4f})"
    return element("path", {"class": "bg", "d": "".join(path), "transform": move})


def matrix_legend(limit: float) -> Html:
    """What the cells say."""
    steps = []
    for kind, sign in (("orange", "−"), ("blue", "+")):
        sizes = (1.0, 0.5, 0.2) if kind == "orange" else (0.2, 0.5, 1.0)
        for size in sizes:
            tall = (2, 8, 12, 6) if kind == "orange" else (2, 4, 12, 12)  # as in the image
            colour = f"rgb{ORANGE if kind == 'orange' else BLUE}".replace(" ", "")
            opacity = _FAINTEST + (1 - _FAINTEST) * size
            square = element(
                "rect",
                {
                    **dict(zip(("x", "y", "width", "height"), tall, strict=True)),
                    "fill": colour,
                    "fill-opacity": opacity,
                },
            )
            steps.append(
                element(
                    "span",
                    None,
                    element("svg", {"viewBox": "0 0 16 20", "aria-hidden": "true"}, square),
                    f"{sign}{size * limit:.2g}",
                )
            )
    return element("p", {"class": "legend keys"}, join(steps))
