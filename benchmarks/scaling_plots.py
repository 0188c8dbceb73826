"""Figures of `scaling`. Needs matplotlib. Markers and line styles tell operations apart."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from amtl_jax.experiment.canvas import Look, Picture, png, styled
from amtl_jax.files import write_atomically
from benchmarks.curves_plots import log_axis
from benchmarks.scaling_axes import GRADIENT, SOLUTION, STATISTICS, Found, ratios
from benchmarks.slopes import LAUNCHES, Point, Slope

_LOOKS = {
    STATISTICS: Look("#0072B2", "o", "-"),
    SOLUTION: Look("#D55E00", "^", "-."),
    GRADIENT: Look("#009E73", "D", "--"),
}
_KEY = (
    "marker: the fastest round, bar: up to their median; open: less than "
    f"{LAUNCHES:g} times the\nsmallest call, in no slope"
)


def write_plot(found: Found, folder: Path) -> Path:
    """Writes the PNG file of an axis, and returns its path.

    Raises:
      OSError: if it cannot be written.
    """
    path = folder / f"scaling_{found.axis.name}.png"
    write_atomically(path, png(_drawn(found)))
    return path


@styled
def _drawn(found: Found) -> Picture:
    """Times against the values of the axis with the lines of the slopes, or ratios."""
    axis = found.axis
    figure = Picture(figsize=(5.6, 4.0))
    panel = figure.subplots()
    for slope in found.slopes:
        points = [point for point in found.points if point.operation == slope.operation]
        if axis.most_ratio is None:
            _times(panel, points, slope)
        else:
            _ratios(panel, points)
    log_axis(panel.xaxis, panel.set_xscale)
    panel.set_xlabel(axis.unit)
    title = f"{axis.name}: {axis.fixed}"
    if axis.most_ratio is None:
        log_axis(panel.yaxis, panel.set_yscale)
        panel.set_ylabel("milliseconds")
        title += f"\n{_KEY}"
    else:
        panel.axhline(1, color="0.3", lw=0.8, zorder=1)
        panel.set_ylabel("time / time of an even split")
        panel.set_ylim(0, max(1.3, 1.1 * max(ratios(found))))
        if np.isfinite(axis.most_ratio):
            panel.axhline(axis.most_ratio, color="black", lw=0.9, ls="--")
            title += f"\ndashed: the most that is allowed, {axis.most_ratio:g}"
    figure.suptitle(title, fontsize=9, x=0.01, ha="left")
    figure.legend(loc="outside lower left", ncols=2)
    return figure


def _times(panel: Axes, points: list[Point], slope: Slope) -> None:
    look = _LOOKS[slope.operation]
    named = slope.operation
    if np.isfinite(slope.slope):
        named += f", slope {slope.slope:.2f}"
        ends = np.asarray([slope.used[0], slope.used[-1]])
        line = 1e3 * np.exp(slope.offset) * ends**slope.slope
        panel.plot(ends, line, color=look.colour, ls=look.line, lw=1.2, zorder=2)
    panel.plot([], [], color=look.colour, ls=look.line, marker=look.marker, ms=5, label=named)
    for point in points:
        span = [1e3 * point.seconds, 1e3 * point.median]
        panel.plot([point.value] * 2, span, color=look.colour, lw=1.0, zorder=2)
        panel.plot(
            point.value,
            span[0],
            marker=look.marker,
            ms=5.5,
            mec=look.colour,
            mfc=look.colour if point.value in slope.used else "white",
            zorder=3,
        )


def _ratios(panel: Axes, points: list[Point]) -> None:
    look = _LOOKS[points[0].operation]
    panel.plot(
        [point.value for point in points],
        [point.seconds / points[0].seconds for point in points],
        color=look.colour,
        marker=look.marker,
        ls=look.line,
        ms=5,
        lw=1.2,
        label=points[0].operation,
    )
