"""The page of a study."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from amtl_jax.experiment.page.count_pictures import bought_of
from amtl_jax.experiment.page.counts import counts_style
from amtl_jax.experiment.page.document import Section, document
from amtl_jax.experiment.page.heatmap import difference_maps
from amtl_jax.experiment.page.histogram import histograms
from amtl_jax.experiment.page.markup import Html, element, join, shortened
from amtl_jax.experiment.page.numbers import minus, name_of
from amtl_jax.experiment.page.study_curves import study_curves
from amtl_jax.experiment.page.study_parts import (
    counts_part,
    pictured,
    relevance_section,
    risk_section,
)
from amtl_jax.experiment.page.study_tables import FIRST_METRICS, Arms, cell_tables
from amtl_jax.experiment.page.tables import facts, folded, items, paragraph, settings, table
from amtl_jax.experiment.study_text import cell_title

_LONGEST_SENTENCE = 3000


def study_page(
    config: Mapping[str, Any],
    summary: dict[str, Any],
    arrays: Mapping[str, np.ndarray],
    *,
    workdirs: Sequence[str],
    notes: Sequence[str] = (),
) -> bytes:
    """Builds the page of a study, the same bytes for the same study.

    Args:
      config: as in `config.json`.
      summary: as in `summary.json`.
      arrays: as in `arrays.npz`; what is missing is left out with a sentence.
      workdirs: where it was read from.
      notes: what a reader should know about the reading.
    """
    arms = Arms(summary["arms"])
    bought = bought_of(arrays, arms.names) if "tasks" in arrays else None
    sections = [_reading(summary)]
    for place, cell in enumerate(summary["cells"]):
        sections.append(_cell(summary, cell, arms, place))
    cells = summary["cells"]
    what = pictured(summary)
    sections += [
        Section(
            "curves", "Error against samples", study_curves(summary, arms) if cells else Html("")
        ),
        Section("relevance", "Relevance", relevance_section(summary, arrays, arms, what)),
        Section("risk", "Predicted and measured risk", risk_section(arrays, arms, what)),
        Section("counts", "Samples bought", counts_part(bought, arms, what)),
        Section("config", "Config and versions", origin(config, summary["versions"], workdirs)),
    ]
    top = [
        paragraph("Study: every task in turn as the target", "kind"),
        element("h1", None, shortened(summary["name"], 80)),
        *(paragraph(note, "warn") for note in [*_unfinished(summary), *notes]),
        _facts(summary),
    ]
    style = counts_style(bought) if bought else ""
    return document(
        f"{shortened(summary['name'], 60)}: study", top, sections, arms=arms.names, style=style
    )


def _unfinished(summary: dict[str, Any]) -> Iterator[str]:
    units = summary["units"]
    if units["done"] < units["of"]:
        yield (
            f"Not finished: {units['done']:,} of {units['of']:,} units are there. Means are over "
            "what is there, differences over what both arms have."
        )


def _facts(summary: dict[str, Any]) -> Html:
    units = summary["units"]
    budgets = dict.fromkeys(f"{cell['budget']:,}" for cell in summary["cells"])
    given = dict.fromkeys(f"{cell['target_samples']:,}" for cell in summary["cells"])
    pairs = [
        ("targets", f"{len(summary['targets']):,}"),
        ("corruptions × digits", f"{len(summary['corruptions'])} × {len(summary['digits'])}"),
        ("arms", f"{len(summary['arms'])}"),
        ("seeds", ", ".join(map(str, summary["seeds"][:8])) or "none"),
        ("budgets, samples", ", ".join(budgets) or "none"),
        ("target samples", ", ".join(given) or "none"),
        ("units done", f"{units['done']:,} of {units['of']:,}"),
        ("computing time", duration(summary["seconds"])),
        ("device", shortened(summary["device"], 40)),
    ]
    return facts(pairs)


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _reading(summary: dict[str, Any]) -> Section:
    """The sentences, those of a cell under its name."""
    left = [minus(text[:_LONGEST_SENTENCE]) for text in summary["reading"]]
    parts: list[Html] = []
    if left:
        parts.append(paragraph(left[0], "lead"))
    rest, groups = left[1:], []
    for cell in summary["cells"]:
        start = f"At a budget of {cell['budget']:,} and {cell['target_samples']:,} target samples: "
        own = [text.removeprefix(start) for text in rest if text.startswith(start)]
        rest = [text for text in rest if not text.startswith(start)]
        if own:
            groups.append(element("div", None, element("h3", None, cell_title(cell)), items(own)))
    if groups:
        parts.append(element("div", {"class": "cells"}, *groups))
    if rest:
        if groups:
            parts.append(element("h3", None, "What the intervals do not know"))
        parts.append(items(rest))
    return Section("reading", "What it shows", join(parts))


def _cell(summary: dict[str, Any], cell: dict[str, Any], arms: Arms, place: int) -> Section:
    """Tables, heat maps and histograms of a cell."""
    first, second = FIRST_METRICS
    seeds = len(summary["seeds"])
    over = f" and {seeds} seeds" if seeds > 1 else ""
    note = (
        f"Intervals: {100 * summary['level']:g}% bootstrap that draws whole corruptions, "
        f"{len(summary['corruptions'])} of them{over}, {summary['num_resamples']:,} times. "
        "W\xa0/\xa0T\xa0/\xa0L: targets on which the arm wins, ties, loses. Unclear: the interval "
        "holds 0. An arrow: beyond the axis."
    )
    parts = [paragraph(note, "note"), cell_tables(summary, cell, arms)]
    maps = difference_maps(summary, cell, first, arms)
    if maps:
        parts += [element("h3", None, "Where the arms differ from uniform"), maps]
        parts.append(
            folded(f"The same for {name_of(second)}", difference_maps(summary, cell, second, arms))
        )
    parts += [
        element("h3", None, "How the targets' errors spread"),
        paragraph(
            "Bars are the arm’s, the outline is uniform’s; the mark under the axis is the median.",
            "note",
        ),
        histograms(cell, arms, place),
    ]
    title = cell_title(cell)
    return Section(f"cell-{place}", title, join(parts))


def origin(config: Mapping[str, Any], versions: Mapping[str, str], workdirs: Sequence[str]) -> Html:
    """Where numbers come from: workdirs, versions and the whole config."""
    kinds = ("", "code")
    rows = [["workdir", shortened(one, 120)] for one in workdirs]
    parts = [table("Read from", ("", "folder"), rows, kinds=kinds, name="settings")]
    if versions:
        found = [[shortened(name), shortened(text, 60)] for name, text in versions.items()]
        parts.append(table("Versions", ("package", "version"), found, kinds=kinds, name="settings"))
    return join([*parts, folded("Config", settings(dict(config)))])
