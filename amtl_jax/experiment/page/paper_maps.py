"""Heat maps for papers: difference to uniform by corruption and digit, and the relevance matrix."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from amtl_jax.experiment.canvas import Picture, styled
from amtl_jax.experiment.page.cluster import order_of
from amtl_jax.experiment.page.colours import DIVERGING, contrast
from amtl_jax.experiment.page.markup import shortened
from amtl_jax.experiment.page.matrix import limit_of
from amtl_jax.experiment.page.numbers import heading, name_of, unit_of
from amtl_jax.experiment.page.study_tables import near_arms
from amtl_jax.experiment.study_text import cell_title

_MOST_OF_RANGE = 98
_MOST_LABELS = 60  # of the rows of a matrix
_PANELS_A_ROW = 2
_LEAST_RUN = 4
# From the largest loss, orange, to the largest gain, blue.
_COLOURS = LinearSegmentedColormap.from_list("gain", DIVERGING["light"][::-1])


@styled
def heat_maps(summary: dict[str, Any], cell: dict[str, Any], metric: str) -> Picture:
    """Difference to uniform, a panel for every arm that the budget bounds.

    Numbers with their signs stand in the cells; blue is better.

    Args:
      summary: content of `summary.json`.
      cell: one of its cells.
      metric: what differs.
    """
    found = near_arms(cell)
    digits, corruptions = summary["digits"], summary["corruptions"]
    grids = {arm: _grid(own, metric, corruptions, digits) for arm, own in found.items()}
    sizes = np.abs(np.concatenate([grid.ravel() for grid in grids.values()]))
    sizes = sizes[np.isfinite(sizes)]
    largest = float(np.percentile(sizes, _MOST_OF_RANGE)) if len(sizes) else 0.0
    unit = unit_of(metric, [largest])
    limit = unit.factor * largest or 1.0
    columns = min(len(grids), _PANELS_A_ROW)
    lines = -(-len(grids) // columns)
    size = (1.0 + 0.37 * len(digits)) * columns + 0.9, (0.5 + 0.2 * len(corruptions)) * lines + 0.5
    figure = Picture(figsize=size)
    panels = figure.subplots(lines, columns, squeeze=False)
    image = None
    for panel, (arm, grid) in zip(panels.flat, grids.items(), strict=False):
        gains = unit.sign * unit.factor * grid
        image = panel.imshow(gains, cmap=_COLOURS, vmin=-limit, vmax=limit, aspect="auto")
        panel.set_title(shortened(arm, 24))
        panel.set_xticks(range(len(digits)), list(map(str, digits)))
        panel.set_yticks(range(len(corruptions)), [shortened(one, 16) for one in corruptions])
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
        _write_numbers(panel, grid, unit.short_text, gains / limit)
    for panel in list(panels.flat)[len(grids) :]:
        panel.set_visible(False)
    of = f" {unit.name}" if unit.name else ""
    title = f"{heading(name_of(metric))} less uniform’s{of}\n{cell_title(cell)}"
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    label = f"gain over uniform{of}{', sign turned' * (unit.sign < 0)}"
    figure.colorbar(image, ax=panels, label=label, shrink=0.7, aspect=35)
    return figure


def _write_numbers(panel: Axes, grid: np.ndarray, text: Any, shares: np.ndarray) -> None:
    """Writes values into cells, black or white as their colour wants it."""
    for (row, column), value in np.ndenumerate(grid):
        if not np.isfinite(value):
            continue
        colour = _COLOURS(float(np.clip((shares[row, column] + 1) / 2, 0, 1)))
        paper = "#{:02x}{:02x}{:02x}".format(*(round(255 * part) for part in colour[:3]))
        panel.text(
            column,
            row,
            text(float(value)),
            ha="center",
            va="center",
            fontsize=6,
            color=max(("#000000", "#ffffff"), key=lambda ink: contrast(ink, paper)),
        )


def _grid(
    own: dict[str, Any], metric: str, corruptions: list[str], digits: list[int]
) -> np.ndarray:
    """Differences to uniform, `[C, D]`, NaN where there is none."""
    grid = np.full((len(corruptions), len(digits)), np.nan)
    for row, corruption in enumerate(corruptions):
        for column, digit in enumerate(digits):
            found = own["per_target"].get(f"{corruption}_{digit}")
            if found and found[metric]["difference"] is not None:
                grid[row, column] = found[metric]["difference"]
    return grid


@styled
def relevance(arrays: Mapping[str, np.ndarray], arm: str) -> Picture:
    """The relevance matrix, alike tasks beside each other; grey: no source of the target.

    Args:
      arrays: of `arrays.npz`.
      arm: whose.
    """
    values = arrays[f"nu/{arm}"]
    there = np.isfinite(values).any(axis=1)
    values, targets = values[there], arrays["targets"][there]
    tasks = arrays["tasks"]
    if targets.tolist() == tasks.tolist():
        rows = columns = order_of(np.concatenate([values, values.T], axis=1))
    else:
        rows, columns = order_of(values), order_of(values.T)
    figure = Picture(figsize=(7.0, 0.7 + 5.6 * max(0.2, min(1.0, len(rows) / len(columns)))))
    panel = figure.subplots()
    panel.set_facecolor("0.75")
    limit = limit_of(values)
    image = panel.imshow(
        values[np.ix_(rows, columns)],
        cmap=_COLOURS,
        vmin=-limit,
        vmax=limit,
        interpolation="nearest",
        aspect="auto",
    )
    _matrix_ticks(panel, [str(name) for name in targets[rows]], is_row=True)
    _matrix_ticks(panel, [str(name) for name in tasks[columns]], is_row=False)
    panel.set_ylabel("targets")
    panel.set_xlabel("sources; grey: the target’s own corruption")
    figure.colorbar(image, ax=panel, label="relevance nu", shrink=0.8, aspect=35)
    title = f"{shortened(arm)}: relevance of every source for every target"
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    return figure


def _matrix_ticks(panel: Axes, names: list[str], *, is_row: bool) -> None:
    """Names of all tasks where they fit; else of neighbours of one digit or one corruption."""
    axis = panel.yaxis if is_row else panel.xaxis
    axis.set_tick_params(length=0, labelsize=5.5, labelrotation=0 if is_row else 90)
    if len(names) <= _MOST_LABELS:
        axis.set_ticks(range(len(names)), [shortened(name, 16) for name in names])
        return
    ticks = {}
    for part, word in ((2, "digit "), (0, "")):
        kinds = [name.rpartition("_")[part] for name in names]
        starts = [
            place for place in range(len(kinds)) if not place or kinds[place] != kinds[place - 1]
        ]
        for start, stop in zip(starts, [*starts[1:], len(kinds)], strict=True):
            if stop - start >= _LEAST_RUN:
                ticks[(start + stop - 1) / 2] = word + shortened(kinds[start], 16)
    axis.set_ticks(list(ticks), list(ticks.values()))
