"""Figures of the simulation. Needs matplotlib. Markers and line styles tell arms apart."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from amtl_jax.experiment.canvas import Look, Picture, looks, png, styled
from amtl_jax.files import write_atomically
from benchmarks.curves_results import Row

_SPREAD = 0.22  # of the seeds' points around their arm's line
_COLUMNS = 3
_LONG = 300  # largest over smallest number of an axis


def write_plots(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Writes PNG files of completed rows: ratios of every cell, and risk against budget.

    Returns:
      The paths. Risk against budget has a file where a scenario has more than one budget.

    Raises:
      OSError: if they cannot be written.
    """
    figures = {}
    for rest, own in _grouped(rows, ("num_tasks", "num_target", "budget")).items():
        figures["ratios_M{}_nT{}_N{}".format(*rest)] = ratios(own)
    for rest, own in _grouped(rows, ("num_tasks", "num_target")).items():
        if len({row["budget"] for row in own}) > 1:
            figures["budget_M{}_nT{}".format(*rest)] = against_budget(own)
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        write_atomically(paths[-1], png(figure))
    return paths


@styled
def ratios(rows: Sequence[Row]) -> Picture:
    """Every seed's risk over that of uniform, a panel a scenario, a line of points an arm."""
    panels, figure = _panels(rows, height=2.9)
    for name, panel in panels.items():
        shown = [row for row in _of(rows, name) if _has_ratio(row)]
        uniform = next((row for row in _of(rows, name) if row["strategy"] == "uniform"), None)
        generator = np.random.default_rng(0)
        for place, row in enumerate(shown):
            each = np.asarray(row["risks"]) / np.asarray(uniform["risks"])
            spread = generator.uniform(-_SPREAD, _SPREAD, len(each))
            panel.plot(each, place + spread, ".", color="0.6", ms=3.5, mew=0)
            low, left, middle, right, high = np.quantile(each, [0.05, 0.25, 0.5, 0.75, 0.95])
            panel.plot([low, high], [place, place], color="black", lw=1.0)
            panel.plot([left, right], [place, place], color="black", lw=4.0)
            panel.plot([middle, middle], [place - 0.3, place + 0.3], color="black", lw=1.6)
            panel.plot(row["mean_ratio_uniform"], place, "D", ms=5.5, mfc="white", mec="black")
        panel.axvline(1, color="black", lw=0.9, ls="--")
        log_axis(panel.xaxis, panel.set_xscale)
        panel.set_yticks(range(len(shown)), [row["strategy"] for row in shown])
        panel.set_ylim(len(shown) - 0.4, -0.6)
        panel.set_title(name)
        panel.set_xlabel("risk / risk of uniform, same seed")
    figure.suptitle(
        f"{_place(rows)}: bars 25–75 % and 5–95 %, stroke the median, diamond the ratio of "
        "means; right of the dashed line a run lost",
        fontsize=9,
        x=0.01,
        ha="left",
    )
    return figure


@styled
def against_budget(rows: Sequence[Row]) -> Picture:
    """Mean risk of every arm against the budget, a panel a scenario."""
    names = list(dict.fromkeys(row["strategy"] for row in rows))
    look = looks(names)
    panels, figure = _panels(rows, height=3.0)
    for name, panel in panels.items():
        for arm in names:
            own = [row for row in _of(rows, name) if row["strategy"] == arm]
            own.sort(key=lambda row: row["budget"])
            if own:
                _line(panel, own, look[arm], arm)
        log_axis(panel.xaxis, panel.set_xscale)
        log_axis(panel.yaxis, panel.set_yscale)
        panel.set_title(name)
        panel.set_xlabel("budget N")
        panel.set_ylabel("representation-limited risk")
    first = next(iter(panels.values()))
    handles, labels = first.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    figure.suptitle(
        f"{_place(rows, budget=False)}: mean over seeds, bars 95 % intervals of the mean",
        fontsize=9,
        x=0.01,
        ha="left",
    )
    return figure


def log_axis(axis: Axis, set_scale: Callable[[str], None]) -> None:
    """A logarithmic axis with plain numbers at 1, 2 and 5 of each decade, at 1 where it is long."""
    set_scale("log")
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < _LONG * low else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.9g}"))
    axis.set_minor_formatter(NullFormatter())


def _line(panel: Axes, own: Sequence[Row], look: Look, label: str) -> None:
    budgets = [row["budget"] for row in own]
    means = np.asarray([row["mean_risk"] for row in own])
    errors = [1.96 * np.std(row["risks"]) / np.sqrt(len(row["risks"])) for row in own]
    panel.errorbar(
        budgets,
        means,
        yerr=np.minimum(errors, 0.9 * means),  # the axis is logarithmic
        color=look.colour,
        marker=look.marker,
        ls=look.line,
        ms=4.5,
        lw=1.2,
        capsize=2,
        label=label,
    )


def _panels(rows: Sequence[Row], *, height: float) -> tuple[dict[str, Axes], Picture]:
    """A panel for each scenario, and the figure."""
    names = list(dict.fromkeys(_name(row) for row in rows))
    columns = min(len(names), _COLUMNS)
    lines = -(-len(names) // columns)
    figure = Picture(figsize=(0.6 + 3.4 * columns, 0.8 + height * lines))
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for panel in grid[len(names) :]:
        panel.set_visible(False)
    return dict(zip(names, grid, strict=False)), figure


def _of(rows: Sequence[Row], name: str) -> list[Row]:
    return [row for row in rows if _name(row) == name]


def _name(row: Row) -> str:
    """A panel's title."""
    rank = "" if row["rank"] is None else f", rank {row['rank']}"
    return row["scenario"] + rank + (", target joins" if row["join_target"] else "")


def _place(rows: Sequence[Row], *, budget: bool = True) -> str:
    row = rows[0]
    text = f"M = {row['num_tasks']}, n_T = {row['num_target']}, {row['seeds']} seeds"
    return f"{text}, N = {row['budget']:,}" if budget else text


def _has_ratio(row: Row) -> bool:
    return row["mean_ratio_uniform"] is not None and row["strategy"] != "uniform"


def _grouped(rows: Sequence[Row], names: tuple[str, ...]) -> dict[tuple, list[Row]]:
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return groups
