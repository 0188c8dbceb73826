"""Pictures of the samples that every arm bought for a target, small and with shared axes."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from amtl_jax.experiment.page.colours import BLUE
from amtl_jax.experiment.page.drawing import picture, words
from amtl_jax.experiment.page.markup import Html, element, shortened
from amtl_jax.experiment.page.png import data_uri, palette_png
from amtl_jax.experiment.page.scales import Scale
from amtl_jax.experiment.page.study_tables import UNIFORM
from amtl_jax.experiment.page.tables import scrolling

_WIDE, _TALL, _GAP = 12, 10, 1  # of a cell, and of the gap between rounds in cells
_PIXELS = 4  # of a cell of the image
STEPS = 24  # of opacity
_FAINTEST = 0.05
_TOP, _BETWEEN = 32, 18
_TEXT = 5.6  # width of a character of the labels, about


class Bought(NamedTuple):
    """What all pictures share.

    Attributes:
      arms: that buy, in order.
      counts: `[T, R, P]` by arm.
      targets: names, `[T]`.
      tasks: names, `[P]`.
      corruptions: rows of a panel.
      digits: columns of a panel.
      cells: `[C, D]` place of each corruption and digit among the tasks; −1 where there is none.
    """

    arms: tuple[str, ...]
    counts: Mapping[str, np.ndarray]
    targets: tuple[str, ...]
    tasks: tuple[str, ...]
    corruptions: tuple[str, ...]
    digits: tuple[str, ...]
    cells: np.ndarray

    @property
    def num_rounds(self) -> int:
        """Rounds of the arm that has the most."""
        return max(self.counts[arm].shape[1] for arm in self.arms)


def bought_of(arrays: Mapping[str, np.ndarray], arms: Sequence[str]) -> Bought | None:
    """Gathers the counts of a study; None where no arm but uniform buys anything."""
    found = [arm for arm in arms if f"counts/{arm}" in arrays]
    found = [arm for arm in found if arm != UNIFORM] or found
    if not found:
        return None
    tasks = tuple(map(str, arrays["tasks"]))
    pairs = [name.rpartition("_")[::2] for name in tasks]
    corruptions, digits = (tuple(dict.fromkeys(part)) for part in zip(*pairs, strict=True))
    cells = np.full((len(corruptions), len(digits)), -1)
    for place, (corruption, digit) in enumerate(pairs):
        cells[corruptions.index(corruption), digits.index(digit)] = place
    counts = {arm: arrays[f"counts/{arm}"] for arm in found}
    targets = tuple(map(str, arrays["targets"]))
    return Bought(tuple(found), counts, targets, tasks, corruptions, digits, cells)


def shared_axes(found: Bought) -> Html:
    """What the pictures of all targets show alike, drawn once: names, rounds, digits."""
    left, parts = _left(found), []
    digits = len(found.digits)
    for row, arm in enumerate(found.arms):
        top = row * _height(found) + _TOP
        parts.append(words(0, top - 20, shortened(arm, 24), "head"))
        for index in range(found.counts[arm].shape[1]):
            x = left + index * _WIDE * (digits + _GAP)
            parts.append(words(x, top - 5, f"round {index + 1}", "small"))
            for digit, name in enumerate(found.digits):
                bottom = top + _TALL * len(found.corruptions) + 9
                parts.append(words(x + _WIDE * (digit + 0.5), bottom, shortened(name, 2), "m mini"))
        for index, name in enumerate(found.corruptions):
            y = top + _TALL * (index + 0.5) + 3.2
            parts.append(words(left - 4, y, shortened(name, 16), "e tiny"))
    hatch = element("path", {"class": "hatch", "d": "M0 5L5 0"})
    size = {"width": 5, "height": 5, "patternUnits": "userSpaceOnUse"}
    return element(
        "svg",
        {"class": "hidden", "width": 0, "height": 0, "aria-hidden": "true"},
        element(
            "defs",
            None,
            element("pattern", {"id": "own", **size}, hatch),
            element("g", {"id": "counts-axes"}, *parts),
        ),
    )


def target_picture(found: Bought, place: int, low: float, high: float) -> Html:
    """Every round of every arm, over the axes that all targets share.

    Args:
      found: what was bought.
      place: of the target.
      low: number of samples of the faintest colour.
      high: number of samples of the deepest colour.
    """
    left = _left(found)
    wide, tall = _panel_size(found)
    target = found.targets[place]
    corruption, _, digit = target.rpartition("_")
    parts = [element("use", {"href": "#counts-axes"})]
    for row, arm in enumerate(found.arms):
        top = row * _height(found) + _TOP
        parts += _frames(found, arm, corruption, digit, left, top)
        pixels = _pixels(found, found.counts[arm][place], low, high)
        own = pixels.shape[1] * _WIDE / _PIXELS
        size = {"x": left, "y": top, "width": own, "height": tall, "preserveAspectRatio": "none"}
        uri = data_uri(palette_png(pixels, _palette()))
        parts.append(element("image", {**size, "class": "px", "href": uri}))
    title = f"Samples bought for {shortened(target)} in every round"
    arms = ", ".join(shortened(arm, 24) for arm in found.arms)
    told = f"Rows are corruptions, columns digits of the sources, by arm: {arms}."
    height = _height(found) * len(found.arms)
    return scrolling(picture(f"n{place}", title, told, left + wide + 2, height, *parts))


def _frames(
    found: Bought, arm: str, corruption: str, digit: str, left: float, top: float
) -> list[Html]:
    """The outline of every round, hatched where the target's own corruption lies."""
    digits, tall = len(found.digits), _TALL * len(found.corruptions)
    outline, own, mark = "", "", ""
    for index in range(found.counts[arm].shape[1]):
        x = left + index * _WIDE * (digits + _GAP)
        outline += f"M{x:.0f} {top}h{_WIDE * digits}v{tall}h-{_WIDE * digits}z"
        if corruption in found.corruptions:
            y = top + _TALL * found.corruptions.index(corruption)
            own += f"M{x:.0f} {y}h{_WIDE * digits}v{_TALL}h-{_WIDE * digits}z"
            if digit in found.digits:
                at = x + _WIDE * found.digits.index(digit)
                mark += f"M{at + 1.5:.1f} {y + 1.5}h8v8h-8z"
    parts = [element("path", {"class": "edge", "d": outline})]
    if own:
        parts.append(element("path", {"d": own, "fill": "url(#own)"}))
    if mark:
        parts.append(element("path", {"class": "own", "d": mark}))
    return parts


def _pixels(found: Bought, counts: np.ndarray, low: float, high: float) -> np.ndarray:
    """Palette places of all rounds of an arm, side by side; `counts` is `[R, P]`."""
    scale = Scale(low, high * (1 + 1e-9), 1.0, float(STEPS), is_log=high > 10 * low)
    panels = []
    for values in counts:
        grid = np.where(found.cells >= 0, values[found.cells], 0.0)
        steps = [0 if value <= 0 else round(scale.place(max(value, low))) for value in grid.ravel()]
        panels.append(np.array(steps, np.uint8).reshape(grid.shape))
        panels.append(np.zeros((len(grid), _GAP), np.uint8))
    whole = np.concatenate(panels[:-1], axis=1)
    return np.repeat(np.repeat(whole, _PIXELS, axis=0), _PIXELS, axis=1)


def _palette() -> list[tuple[int, int, int, int]]:
    shades = [(*BLUE, round(255 * opacity_of(step))) for step in range(1, STEPS + 1)]
    return [(0, 0, 0, 0), *shades]


def opacity_of(step: float) -> float:
    """Opacity of a step, from 1 to `STEPS`."""
    return _FAINTEST + (1 - _FAINTEST) * step / STEPS


def _left(found: Bought) -> float:
    return 14 + _TEXT * max(len(shortened(name, 16)) for name in found.corruptions)


def _panel_size(found: Bought) -> tuple[float, float]:
    """Width and height of all rounds of an arm."""
    number, digits = found.num_rounds, len(found.digits)
    return _WIDE * (number * (digits + _GAP) - _GAP), _TALL * len(found.corruptions)


def _height(found: Bought) -> float:
    """Of an arm, with its title and the digits under it."""
    return _panel_size(found)[1] + _TOP + _BETWEEN
