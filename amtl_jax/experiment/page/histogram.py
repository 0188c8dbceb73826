"""Histograms of the targets' errors: a row for every arm, uniform's outline in each."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from amtl_jax.experiment.page.drawing import (
    Frame,
    axis_below,
    box,
    line,
    marker,
    picture,
    segment,
    words,
)
from amtl_jax.experiment.page.markup import Html, element, join, shortened
from amtl_jax.experiment.page.numbers import as_error, error_name, error_text, error_tick, heading
from amtl_jax.experiment.page.scales import Scale, padded
from amtl_jax.experiment.page.study_tables import FIRST_METRICS, UNIFORM, Arms

_WIDTH, _LEFT, _RIGHT = 540, 116, 84
_ROW, _TOP, _BOTTOM = 52, 34, 44
_MOST_BINS = 36


def histograms(cell: dict[str, Any], arms: Arms, place: int) -> Html:
    """The distribution of both first metrics over targets, as errors.

    Args:
      cell: of `summary.json`.
      arms: of the page.
      place: of the cell on the page.
    """
    found = [_histogram(cell, metric, arms, place) for metric in FIRST_METRICS]
    return element("div", {"class": "pair"}, join(found))


def errors_of(own: dict[str, Any], metric: str) -> np.ndarray:
    """Errors of an arm, one a target that it has."""
    values = [as_error(metric, one[metric]["value"]) for one in own["per_target"].values()]
    return np.array([value for value in values if np.isfinite(value)])


def bins_of(errors: Sequence[np.ndarray]) -> np.ndarray:
    """Edges of bins that all arms share."""
    every = np.concatenate(list(errors))
    low, high = padded(every.tolist(), 0.02)
    largest = max(map(len, errors))
    number = int(np.clip(round(2.5 * np.sqrt(largest)), 8, _MOST_BINS))
    return np.linspace(max(low, 0.0) if every.min() >= 0 else low, high, number + 1)


def _histogram(cell: dict[str, Any], metric: str, arms: Arms, place: int) -> Html:
    errors = {arm: errors_of(own, metric) for arm, own in cell["arms"].items()}
    errors = {arm: values for arm, values in errors.items() if len(values)}
    if not errors:
        return Html("")
    edges = bins_of(list(errors.values()))
    counts = {arm: np.histogram(values, edges)[0] for arm, values in errors.items()}
    tallest = max(max(found) for found in counts.values())
    x = Scale(float(edges[0]), float(edges[-1]), _LEFT, _WIDTH - _RIGHT)
    title = f"Targets by {error_name(metric)}"
    parts = [words(0, 14, title, "head"), words(_WIDTH, 14, "median", "e lab")]
    for row, (arm, values) in enumerate(errors.items()):
        base = _TOP + _ROW * (row + 1) - 6
        y = Scale(0.0, float(tallest), base, base - _ROW + 12)
        parts += _row(arm, counts[arm], counts.get(UNIFORM), edges, x, y, arms)
        median = float(np.median(values))
        parts.append(words(_WIDTH, base - 4, error_text(metric, median), "e"))
        parts.append(segment(x.place(median), base, x.place(median), base + 5, "tip"))
    bottom = _TOP + _ROW * len(errors) - 6
    parts.append(
        axis_below(
            Frame(x, Scale(0.0, 1.0, bottom + 6, 0)),
            lambda value: error_tick(metric, value),
            f"a bar is targets; the tallest has {tallest:,}",
        )
    )
    told = "; ".join(
        f"{shortened(arm)}: median {error_text(metric, float(np.median(values)))} of "
        f"{len(values)} targets"
        for arm, values in errors.items()
    )
    height = bottom + 6 + _BOTTOM
    return element(
        "figure",
        None,
        picture(f"hist-{place}-{metric}", heading(title), told, _WIDTH, height, *parts),
    )


def _row(
    arm: str,
    counts: np.ndarray,
    uniform: np.ndarray | None,
    edges: np.ndarray,
    x: Scale,
    y: Scale,
    arms: Arms,
) -> list[Html]:
    """Bars of an arm, and the outline of uniform's over them."""
    bars = []
    for count, start, stop in zip(counts, edges, edges[1:], strict=False):
        if count:
            left, top = x.place(float(start)), y.place(float(count))
            width = x.place(float(stop)) - left
            bars.append(box(left + 0.5, top, max(width - 1, 0.5), y.start - top, "bar"))
    name = [
        marker(arms.looks[arm], 8, y.start - 8),
        words(20, y.start - 4, shortened(arm, 15), "name"),
    ]
    parts = [
        element("g", {"class": f"a{arms.index[arm]}"}, *name, *bars),
        segment(x.start, y.start, x.stop, y.start, "axis"),
    ]
    if uniform is not None and arm != UNIFORM:
        outline: list[tuple[float, float]] = [(x.start, y.start)]
        for count, start, stop in zip(uniform, edges, edges[1:], strict=False):
            top = y.place(float(count))
            outline += [(x.place(float(start)), top), (x.place(float(stop)), top)]
        outline.append((x.stop, y.start))
        parts.append(line(outline, "outline"))
    return parts
