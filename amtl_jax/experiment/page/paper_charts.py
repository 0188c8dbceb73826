"""Charts for papers: histograms of errors, error against samples, predicted against measured."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from amtl_jax.experiment.canvas import Picture, styled
from amtl_jax.experiment.page.colours import Look, looks
from amtl_jax.experiment.page.histogram import bins_of, errors_of
from amtl_jax.experiment.page.markup import shortened
from amtl_jax.experiment.page.numbers import as_error, error_name, name_of
from amtl_jax.experiment.page.study_tables import UNBOUND, UNIFORM
from amtl_jax.experiment.study_rows import SHARES
from amtl_jax.experiment.study_text import cell_title

_MARKERS = {
    "square": "s",
    "circle": "o",
    "up": "^",
    "down": "v",
    "diamond": "D",
    "plus": "P",
    "cross": "X",
    "bar": ((-1, -0.375), (1, -0.375), (1, 0.375), (-1, 0.375)),  # "_" is all edge, and white
    "star": "*",
    "hexagon": "H",
}
_PANELS_A_ROW = 3


def _line(look: Look) -> dict[str, Any]:
    """How a line of an arm is drawn, as on the page."""
    dash = tuple(float(part) / 1.8 for part in look.dash.split())
    return {
        "color": look.light,
        "marker": _MARKERS[look.marker],
        "ls": (0, dash) if dash else "-",
        "lw": 1.4,
        "ms": 5.5,
        "mec": "white",
        "mew": 0.5,
    }


@styled
def histogram(cell: dict[str, Any], metric: str) -> Picture:
    """Targets by error, a row for every arm, uniform's outline in each.

    Args:
      cell: of `summary.json`.
      metric: whose error.
    """
    errors = {arm: errors_of(own, metric) for arm, own in cell["arms"].items()}
    errors = {arm: values for arm, values in errors.items() if len(values)}
    edges = bins_of(list(errors.values()))
    figure = Picture(figsize=(5.4, 0.9 + 0.66 * len(errors)))
    panels = figure.subplots(len(errors), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    style = looks(list(errors))
    for panel, (arm, values) in zip(panels, errors.items(), strict=True):
        panel.hist(values, edges, color=style[arm].light, alpha=0.75, rwidth=0.9)
        if arm != UNIFORM and UNIFORM in errors:
            panel.hist(errors[UNIFORM], edges, histtype="step", color="black", lw=0.9)
        panel.axvline(float(np.median(values)), color="black", lw=1.1, ls=":")
        panel.set_ylabel(shortened(arm, 16), rotation=0, ha="right", va="center")
    panels[-1].set_xlabel(error_name(metric) + " (%)" * (metric in SHARES))
    title = f"Targets by {name_of(metric)}; outline: uniform; dotted: median\n{cell_title(cell)}"
    figure.suptitle(title, fontsize=9, x=0.01, ha="left")
    return figure


@styled
def error(cells: Sequence[dict[str, Any]], metric: str) -> Picture:
    """Error against samples, every arm and budget; beside it the difference to uniform.

    Args:
      cells: of `summary.json`, of one number of target samples.
      metric: whose error.
    """
    arms = list(dict.fromkeys(arm for cell in cells for arm in cell["arms"]))
    style = looks(arms)
    figure = Picture(figsize=(9.2, 3.9))
    left, right = figure.subplots(1, 2)
    handles = {}
    factor = 100.0 if metric in SHARES else 1.0
    for arm in arms:
        for cell in cells:
            curve = cell["arms"].get(arm, {}).get("curve", [])
            curve = [one for one in curve if one[metric] is not None]
            if not curve:
                continue
            values = [as_error(metric, one[metric]) for one in curve]
            look = _line(style[arm])
            if arm in UNBOUND:
                handles[arm] = left.axhline(values[-1], color=look["color"], lw=1.3, ls=look["ls"])
                continue
            (handles[arm],) = left.plot([one["samples"] for one in curve], values, **look)
            pairs = _less_uniform(cell, curve, metric)
            if pairs and arm != UNIFORM:
                samples, differences = zip(*pairs, strict=True)
                right.plot(samples, [factor * one for one in differences], **look)
    left.set_ylabel(error_name(metric) + " (%)" * (metric in SHARES))
    right.set_ylabel(f"{name_of(metric)} less uniform’s{' (points)' * (metric in SHARES)}")
    right.axhline(0, color="black", lw=0.9, ls=(0, (6, 3)))
    samples = [
        one["samples"]
        for cell in cells
        for arm, own in cell["arms"].items()
        if arm not in UNBOUND
        for one in own["curve"]
    ]
    for panel in (left, right):
        _sample_axis(panel, samples)
    names = [shortened(arm, 20) for arm in handles]
    columns = min(4, len(names)) or 1
    figure.legend(
        list(handles.values()), names, loc="outside upper left", ncols=columns, handlelength=3.4
    )
    return figure


def _less_uniform(
    cell: dict[str, Any], curve: Sequence[dict[str, Any]], metric: str
) -> list[tuple[int, float]]:
    """Samples, and the difference to uniform with as many."""
    uniform = cell["arms"].get(UNIFORM, {}).get("curve", [])
    base = {one["samples"]: one[metric] for one in uniform if one[metric] is not None}
    return [
        (one["samples"], one[metric] - base[one["samples"]])
        for one in curve
        if one["samples"] in base
    ]


def _sample_axis(panel: Axes, samples: Sequence[int]) -> None:
    if samples and min(samples) > 0 and max(samples) > 4 * min(samples):
        panel.set_xscale("log")
        panel.set_xlim(0.85 * min(samples), 1.18 * max(samples))
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_minor_formatter(NullFormatter())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    panel.set_xlabel("source samples")
    panel.grid(axis="y", color="0.9", lw=0.6)
    panel.set_axisbelow(True)


def risk_pair(arrays: Mapping[str, np.ndarray], arm: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Predicted and measured differences of the targets that have both; None where none has."""
    predicted, measured = (arrays.get(f"{kind}/{arm}") for kind in ("predicted", "measured"))
    if predicted is None or measured is None:
        return None
    known = np.isfinite(predicted) & np.isfinite(measured)
    return (predicted[known], measured[known]) if known.any() else None


@styled
def risk(arrays: Mapping[str, np.ndarray], arms: Sequence[str]) -> Picture:
    """Predicted against measured difference to uniform in MSE, a panel for every arm.

    Args:
      arrays: of `arrays.npz`.
      arms: of the study.
    """
    pairs = {arm: pair for arm in arms if (pair := risk_pair(arrays, arm))}
    columns = min(len(pairs), _PANELS_A_ROW)
    lines = -(-len(pairs) // columns)
    figure = Picture(figsize=(2.9 * columns + 0.4, 2.8 * lines + 0.3))
    panels = figure.subplots(lines, columns, squeeze=False)
    style = looks(list(pairs))
    for panel, (arm, (predicted, measured)) in zip(panels.flat, pairs.items(), strict=False):
        panel.axhline(0, color="0.5", lw=0.8)
        panel.axvline(0, color="0.5", lw=0.8)
        panel.axline((0, 0), slope=1, color="0.5", lw=0.8, ls="--")
        look = _line(style[arm]) | {"ls": "", "ms": 4.0, "alpha": 0.7}
        panel.plot(predicted, measured, **look)
        panel.set_title(shortened(arm, 24))
        panel.ticklabel_format(style="sci", scilimits=(-2, 3), useMathText=True)
        panel.locator_params(nbins=6)
    for panel in list(panels.flat)[len(pairs) :]:
        panel.set_visible(False)
    figure.supxlabel("predicted difference to uniform in MSE", fontsize=9)
    figure.supylabel("measured", fontsize=9)
    return figure
