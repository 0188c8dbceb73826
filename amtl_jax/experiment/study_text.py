"""The tables of a study, for a terminal and for pages in Markdown."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from amtl_jax.experiment.report import interval_text, label, value_text
from amtl_jax.experiment.study_outcomes import BASES
from amtl_jax.experiment.study_rows import METRICS, SHARES
from amtl_jax.experiment.text_table import table_lines

_WIDTH = 100
_MISSING = "-"
_UNBROKEN = "\xa0"
_GROUPS = {"per_corruption": "corruption", "per_digit": "digit"}


class Table(NamedTuple):
    """A table of text.

    Attributes:
      title: what it shows, with units.
      rows: the names of the columns first; the first column names the rows, the others are numbers.
    """

    title: str
    rows: list[list[str]]


def closing(summary: dict[str, Any]) -> str:
    """Builds what a study ends with in a terminal: tables of every cell, and the reading."""
    parts = []
    for cell in summary["cells"]:
        parts.append(cell_title(cell))
        for table in tables(summary, cell):
            lines = [line.rstrip() for line in table_lines(table.rows)]
            rule = "  " + "-" * (max(map(len, lines)) - 2)
            parts.append("\n".join([table.title, lines[0], rule, *lines[1:]]))
    return "\n\n".join([*parts, *map(_wrapped, [*_note(summary), *summary["reading"]])])


def markdown(summary: dict[str, Any], *, heading: str = "##") -> str:
    """Builds the same as Markdown: a heading for every cell, tables, and the reading as a list.

    Args:
      summary: content of `summary.json`.
      heading: marks of the headings.
    """
    parts = []
    for cell in summary["cells"]:
        parts.append(f"{heading} {cell_title(cell)}")
        for title, rows in tables(summary, cell):
            first, *others = (" | ".join(map(_escaped, row)) for row in rows)
            rule = " | ".join(["---", *["---:"] * (len(rows[0]) - 1)])
            lines = [f"| {line} |" for line in (first, rule, *others)]
            parts.append("\n".join([f"{_escaped(title)}:", "", *lines]))
    parts += map(_escaped, _note(summary))
    parts.append("\n".join(f"- {_escaped(text)}" for text in summary["reading"]))
    return "\n\n".join(parts) + "\n"


def cell_title(cell: dict[str, Any]) -> str:
    """Names a cell."""
    return f"Budget {cell['budget']:,}, {cell['target_samples']:,} target samples"


def tables(summary: dict[str, Any], cell: dict[str, Any]) -> list[Table]:
    """Builds the tables of a cell: arms, differences, what uniform would need, breakdowns.

    Args:
      summary: content of `summary.json`.
      cell: one of its cells.
    """
    arms = cell["arms"]
    found = [_arms_table(arms)]
    found += [_differences(arms, metric) for metric in METRICS]
    found.append(_needs_table(arms))
    for group, what in _GROUPS.items():
        names = summary["corruptions" if group == "per_corruption" else "digits"]
        found += [_breakdown(arms, metric, group, what, names) for metric in METRICS[:2]]
    return [table for table in found if len(table.rows) > 1]


def difference_text(metric: str, value: float | None) -> str:
    """Formats a difference, shares in percentage points; it reads as 0 only where it is 0."""
    if value is None:
        return _MISSING
    if metric not in SHARES:
        return f"{value:+.3g}"
    text = f"{100 * value:+.2f}"
    return f"{100 * value:+.1g}" if value and not float(text) else text


def _arms_table(arms: dict[str, Any]) -> Table:
    rows = [["arm", "targets", "samples", *map(label, METRICS), "seconds"]]
    for arm, found in arms.items():
        values = [value_text(metric, found["metrics"][metric]) for metric in METRICS]
        counts = [f"{found[name]:,}" for name in ("targets", "samples_total")]
        rows.append([arm, *counts, *values, f"{found['seconds']:,.1f}"])
    return Table("Means over targets and seeds", rows)


def _differences(arms: dict[str, Any], metric: str) -> Table:
    """What every arm differs by from every base, with interval and count of targets."""
    bases = [base for base in BASES if base in arms]
    rows = [["arm", *(text for base in bases for text in (f"against {base}", "W/T/L"))]]
    for arm, found in arms.items():
        cells = []
        for base in bases:
            one = found["difference"].get(base)
            cells += _difference_cells(metric, one[metric]) if one else ["", ""]
        if any(cells):
            rows.append([arm, *cells])
    unit = ", points" if metric in SHARES else ""
    return Table(f"Difference in {label(metric)}{unit}", rows)


def _difference_cells(metric: str, found: dict[str, Any]) -> list[str]:
    text = difference_text(metric, found["difference"])
    if found["low"] is not None and found["high"] is not None:
        text = interval_text(metric, found)
    return [text, "/".join(str(found[name]) for name in ("wins", "ties", "losses"))]


def _needs_table(arms: dict[str, Any]) -> Table:
    metrics = METRICS[:3]  # more would not fit a terminal
    rows = [["arm", *map(label, metrics), f"computing, {label('mse')}"]]
    for arm, found in arms.items():
        needs = found["uniform_needs"]
        if needs:
            cells = [_needs_text(needs.get(metric)) for metric in metrics]
            computing = (needs.get("mse") or {}).get("compute_factor")
            times = f"{_bound(needs['mse'])}{computing:.2f}×" if computing else _MISSING
            rows.append([arm, *cells, times])
    title = "Samples that uniform would need to do as well, and times the arm's own; no intervals"
    return Table(title, rows)


def _needs_text(needs: dict[str, Any] | None) -> str:
    if not needs:
        return _MISSING
    factor = f" ({needs['factor']:.2f}×)" if needs["factor"] else ""
    return f"{_bound(needs)}{needs['samples']:,.0f}{factor}"


def _bound(needs: dict[str, Any]) -> str:
    return {"more": "> ", "less": "< ", None: ""}[needs["side"]]


def _breakdown(
    arms: dict[str, Any], metric: str, group: str, what: str, names: Sequence[Any]
) -> Table:
    """A metric by corruption or digit: of uniform, and what the other arms differ by from it."""
    base = BASES[0]
    others = [arm for arm in arms if arm != base]
    order = [base, *others] if base in arms else others
    rows = [[what, *order]]
    for name in map(str, names):
        found = [arms[arm][group].get(name, {}).get(metric) for arm in order]
        if any(found):
            rows.append([name, *_breakdown_cells(metric, order, found)])
    if base not in arms:
        return Table(f"{_capital(label(metric))} by {what}", rows)
    unit = " in points" if metric in SHARES else ""
    return Table(
        f"{_capital(label(metric))} of {base} by {what}, and the others' difference to it{unit}",
        rows,
    )


def _breakdown_cells(
    metric: str, order: Sequence[str], found: Sequence[dict[str, Any] | None]
) -> Iterator[str]:
    for arm, one in zip(order, found, strict=True):
        if one is None:
            yield _MISSING
        elif arm == BASES[0] or BASES[0] not in order:
            yield value_text(metric, one["value"])
        else:
            yield difference_text(metric, one["difference"])


def _note(summary: dict[str, Any]) -> Iterator[str]:
    """How to read the tables, where there are any."""
    if not summary["cells"]:
        return
    seeds = len(summary["seeds"])
    over = f" and {seeds} seeds" if seeds > 1 else ""
    yield (
        "W/T/L: targets on which the arm wins, ties and loses. Intervals: "
        f"{100 * summary['level']:g}% bootstrap over {len(summary['corruptions'])} corruptions"
        f"{over}, {summary['num_resamples']:,} resamples."
    )


def _wrapped(text: str) -> str:
    """Text in lines that break no interval in two."""
    text = re.sub(r"\[[^\]]*\]", lambda found: found[0].replace(" ", _UNBROKEN), text)
    return textwrap.fill(text, _WIDTH, break_on_hyphens=False).replace(_UNBROKEN, " ")


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    for mark in ("\\", "|", "<", "*", "`"):
        text = text.replace(mark, "&lt;" if mark == "<" else f"\\{mark}")
    return text


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
