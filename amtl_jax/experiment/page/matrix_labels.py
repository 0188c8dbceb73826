"""Names around a matrix of many tasks: labels that stand clear of each other, strips, brackets."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from amtl_jax.experiment.page.drawing import box, segment, words
from amtl_jax.experiment.page.markup import Html, element, shortened

LETTER = 5.0  # width of a character of the labels, about
LONGEST_NAME = 22
_STRIP = 6.0  # width of a column of a strip
_LEAST_RUN = 4  # neighbours of one kind that get a name of their own
_GAP = 9.9  # between labels of one column


class Layout(NamedTuple):
    """Where things lie.

    Attributes:
      left: of the matrix.
      top: of the matrix.
      wide: of a column.
      tall: of a row.
    """

    left: float
    top: float
    wide: float
    tall: float


def levels_of(pitch: float) -> int:
    """Columns of labels that stand beside each other so that none covers the next."""
    return max(1, min(3, int(np.ceil(_GAP / pitch))))


def row_labels(names: Sequence[str], place: Layout, strips: Sequence[float]) -> list[Html]:
    """Names of the rows, left of the strips, whose widths are given."""
    edge = place.left - sum(strips) - (12 if any(strips) else 0) - 6
    levels = levels_of(place.tall)
    longest = LETTER * max((len(shortened(name, LONGEST_NAME)) for name in names), default=0)
    parts = []
    for row, name in enumerate(names):
        y = place.top + (row + 0.5) * place.tall
        x = edge - (row % levels) * longest
        if row % levels:
            parts.append(segment(x + 2, y, edge + 2, y, "faint"))
        parts.append(words(x, y + 2.8, shortened(name, LONGEST_NAME), "e tiny"))
    return parts


def column_labels(names: Sequence[str], place: Layout) -> list[Html]:
    """Names of the columns, above them."""
    levels = levels_of(place.wide)
    longest = LETTER * max((len(shortened(name, LONGEST_NAME)) for name in names), default=0)
    parts = []
    for column, name in enumerate(names):
        x = place.left + (column + 0.5) * place.wide
        y = place.top - 6 - (column % levels) * longest
        if column % levels:
            parts.append(segment(x, y + 2, x, place.top - 4, "faint"))
        parts.append(words(x + 2.8, y, shortened(name, LONGEST_NAME), "tiny", -90))
    return parts


def _kinds(names: Sequence[str], part: int) -> list[str]:
    """Corruptions (0) or digits (1) of `<corruption>_<digit>`, in alphabetical order."""
    return sorted({name.rpartition("_")[2 * part] for name in names})


def strip_size(names: Sequence[str], part: int) -> float:
    """Width of the strip that marks corruption or digit; none where it would tell nothing."""
    number = len(_kinds(names, part))
    return _STRIP * number + 8 if 1 < number <= 40 and len(names) >= 2 * number else 0.0


def strips_of(names: Sequence[str], place: Layout, strips: Sequence[float]) -> list[Html]:
    """A column for every digit and corruption, marked in the rows that are of it."""
    parts, right = [], place.left - 8
    for part in (1, 0):
        if not strips[part]:
            continue
        kinds = _kinds(names, part)
        start = right - _STRIP * len(kinds)
        tall = place.tall * len(names)
        parts.append(box(start, place.top, _STRIP * len(kinds), tall, "strip"))
        path = "".join(
            f"M{start + _STRIP * kinds.index(name.rpartition('_')[2 * part]):.1f} "
            f"{place.top + row * place.tall:.2f}h{_STRIP}v{place.tall:.2f}h-{_STRIP}z"
            for row, name in enumerate(names)
        )
        parts.append(element("path", {"class": "on", "d": path}))
        for index, kind in enumerate(kinds):
            x = start + _STRIP * (index + 0.5)
            if len(kind) == 1:
                parts.append(words(x, place.top - 4, kind, "m mini"))
                continue
            y = place.top - 4 - (index % 2) * 62 * (1 - part)  # names of two columns do not fit
            parts.append(words(x + 2.6, y, shortened(kind, 14), "mini", -90))
        right = start - 8
    return parts


def run_names(names: Sequence[str], place: Layout, right: float) -> list[Html]:
    """Brackets beside neighbours of one digit, or of one corruption."""
    parts = []
    for part in (1, 0):
        kinds = [name.rpartition("_")[2 * part] for name in names]
        starts = [row for row in range(len(kinds)) if row == 0 or kinds[row] != kinds[row - 1]]
        for start, stop in zip(starts, [*starts[1:], len(kinds)], strict=True):
            if stop - start < _LEAST_RUN:
                continue
            top, bottom = (place.top + row * place.tall for row in (start, stop))
            x = right + 5
            path = f"M{x:.1f} {top + 1:.1f}h4V{bottom - 1:.1f}h-4"
            parts.append(element("path", {"class": "axis", "d": path, "fill": "none"}))
            text = f"digit {kinds[start]}" if part else kinds[start]
            parts.append(words(x + 8, (top + bottom) / 2 + 4, shortened(text, 14), "small"))
    return parts
