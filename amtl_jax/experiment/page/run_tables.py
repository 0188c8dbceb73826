"""What the arms of a run reached: a table for each metric, with paired differences."""

from typing import Any

from amtl_jax.experiment import report
from amtl_jax.experiment.page.intervals import axis_head, axis_of, interval_cell
from amtl_jax.experiment.page.markup import Html, join
from amtl_jax.experiment.page.numbers import (
    KNOWN_METRICS,
    heading,
    name_of,
    reads_as,
    unit_of,
    value_text,
)
from amtl_jax.experiment.page.study_tables import UNBOUND, Arms
from amtl_jax.experiment.page.tables import folded, table

_BASE_NAMES = {
    "uniform": "against uniform",
    "target_only": "against no sources",
    "pooled": "against pooled",
}
_SAME_AS_ANOTHER = frozenset({"r2"})  # its differences are those of the MSE, in other units
_NUM_FIRST = 2


def metrics_of(summary: dict[str, Any]) -> list[str]:
    """All metrics of a run, in the order in which people look."""
    found = {name for one in summary["strategies"].values() for name in one["target"]}
    return sorted(found, key=KNOWN_METRICS.index)


def run_tables(summary: dict[str, Any], arms: Arms) -> Html:
    """Differences in the two metrics that matter most, all values, and the others folded.

    Args:
      summary: content of `summary.json`.
      arms: of the page, the answer among them where there is one.
    """
    results = report.results_of(summary)
    compared = [
        metric
        for metric in metrics_of(summary)
        if metric not in _SAME_AS_ANOTHER and _bases(results, metric)
    ]
    tables = {metric: _table(results, metric, arms) for metric in compared}
    first, rest = compared[:_NUM_FIRST], compared[_NUM_FIRST:]
    parts = [*(tables[metric] for metric in first), _values(summary, results, arms)]
    if rest:
        names = " and ".join(map(name_of, rest))
        parts.append(folded(f"Differences in {names}", *(tables[metric] for metric in rest)))
    return join(parts)


def _bases(results: dict[str, Any], metric: str) -> list[str]:
    """Arms that others are compared with in a metric."""
    return [
        base
        for base in report.BASES
        if any(metric in one["difference"].get(base, {}) for one in results.values())
    ]


def _values(summary: dict[str, Any], results: dict[str, Any], arms: Arms) -> Html:
    metrics = metrics_of(summary)
    rows = []
    for arm, one in results.items():
        values = [value_text(metric, one["target"].get(metric)) for metric in metrics]
        rows.append([arms.label(arm), f"{one['samples_total']:,}", *values])
    over = ", means over seeds" if len(summary["seeds"]) > 1 else ""
    return table(f"On the test rows{over}", ("arm", "samples", *map(name_of, metrics)), rows)


def _table(results: dict[str, Any], metric: str, arms: Arms) -> Html:
    bases = _bases(results, metric)
    found = {
        arm: {base: one["difference"].get(base, {}).get(metric) for base in bases}
        for arm, one in results.items()
    }
    unit = unit_of(
        metric,
        [one and one["difference"] for own in found.values() for one in own.values()],
    )
    title = f"{heading(name_of(metric))}, {'more' if unit.sign > 0 else 'less'} is better"
    title += f": differences {unit.name}" if unit.name else ": differences"
    near = [own[bases[0]] for arm, own in found.items() if arm not in UNBOUND and own[bases[0]]]
    near = near or [own[bases[0]] for own in found.values() if own[bases[0]]]
    axis = axis_of(near, unit.factor)
    head, kinds = ["arm", "value", axis_head(axis)], ["", "n", "plot"]
    for base in bases:
        head += [_BASE_NAMES[base], "reads as"]
        kinds += ["n", "verdict"]
    rows = []
    for arm, one in results.items():
        row = [arms.label(arm), value_text(metric, one["target"].get(metric))]
        row.append(interval_cell(axis, found[arm][bases[0]], arms.looks[arm], arms.index[arm]))
        for base in bases:
            row += [unit.interval_text(found[arm][base]), reads_as(metric, found[arm][base])]
        rows.append(row)
    return table(title, head, rows, kinds=kinds, name="arms")
