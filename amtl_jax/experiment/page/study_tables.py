"""What a study's arms reached in a cell: tables with intervals, and what uniform would need."""

from collections.abc import Sequence
from typing import Any

from amtl_jax.experiment.page.colours import Look, looks
from amtl_jax.experiment.page.drawing import key
from amtl_jax.experiment.page.intervals import axis_head, axis_of, interval_cell
from amtl_jax.experiment.page.markup import Html, element, join, shortened
from amtl_jax.experiment.page.numbers import (
    NONE,
    Unit,
    heading,
    name_of,
    reads_as,
    unit_of,
    value_text,
)
from amtl_jax.experiment.page.tables import folded, table
from amtl_jax.experiment.study_checks import UNBOUND
from amtl_jax.experiment.study_outcomes import BASES
from amtl_jax.experiment.study_rows import METRICS

UNIFORM, TARGET_ONLY = BASES
FIRST_METRICS = METRICS[:2]
_OTHER_METRICS = METRICS[2:]


class Arms:
    """The arms of a page: a place, a look and a short name each."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names: list[str] = list(names)
        self.looks: dict[str, Look] = looks(self.names)
        self.index: dict[str, int] = {name: place for place, name in enumerate(self.names)}

    def label(self, arm: str) -> Html:
        """Key and name of an arm, for a table."""
        return element(
            "span", {"class": "arm"}, key(self.looks[arm], self.index[arm]), shortened(arm, 24)
        )


def near_arms(cell: dict[str, Any]) -> dict[str, Any]:
    """Arms whose differences to uniform a scale should hold: those that the budget bounds."""
    found = {arm: own for arm, own in cell["arms"].items() if UNIFORM in own["difference"]}
    return {arm: own for arm, own in found.items() if arm not in UNBOUND} or found


def cell_unit(cell: dict[str, Any], metric: str) -> Unit:
    """The unit of all differences of a cell."""
    found = near_arms(cell).values()
    return unit_of(metric, [own["difference"][UNIFORM][metric]["difference"] for own in found])


def cell_tables(summary: dict[str, Any], cell: dict[str, Any], arms: Arms) -> Html:
    """All tables of a cell: those that matter most, and the others folded.

    Args:
      summary: content of `summary.json`.
      cell: one of its cells.
      arms: of the page.
    """
    names = " and ".join(map(name_of, _OTHER_METRICS))
    groups = (("per_corruption", "corruption", "corruptions"), ("per_digit", "digit", "digits"))
    return join(
        [
            *(difference_table(cell, metric, arms) for metric in FIRST_METRICS),
            _means(cell, arms),
            _needs(cell, arms),
            folded(
                f"Differences in {names}",
                *(difference_table(cell, metric, arms) for metric in _OTHER_METRICS),
            ),
            folded(
                "By corruption and by digit",
                *(
                    _breakdown(cell, metric, group, what, list(map(str, summary[axis])), arms)
                    for group, what, axis in groups
                    for metric in FIRST_METRICS
                ),
            ),
        ]
    )


def difference_table(cell: dict[str, Any], metric: str, arms: Arms) -> Html:
    """Mean of every arm in a metric, and its paired differences to the bases."""
    found, near = cell["arms"], near_arms(cell)
    unit = cell_unit(cell, metric)
    title = f"{heading(name_of(metric))}, {'more' if unit.sign > 0 else 'less'} is better"
    means = {arm: value_text(metric, own["metrics"][metric]) for arm, own in found.items()}
    if not near:
        rows = [[arms.label(arm), mean] for arm, mean in means.items()]
        return table(title, ("arm", "mean"), rows)
    axis = axis_of([own["difference"][UNIFORM][metric] for own in near.values()], unit.factor)
    has_none = TARGET_ONLY in found
    head = ["arm", "mean", axis_head(axis), "against uniform", "W / T / L", "reads as"]
    head += ["against no sources", "W / T / L"] * has_none
    kinds = ["", "n", "plot", "n", "n", "verdict"] + ["n", "n"] * has_none
    rows = []
    for arm, own in found.items():
        one = own["difference"].get(UNIFORM, {}).get(metric)
        row = [arms.label(arm), means[arm]]
        row.append(interval_cell(axis, one, arms.looks[arm], arms.index[arm]))
        row += [*_difference(unit, one), reads_as(metric, one)]
        if has_none:
            row += _difference(unit, own["difference"].get(TARGET_ONLY, {}).get(metric))
        rows.append(row)
    of = f", differences {unit.name}" if unit.name else ""
    return table(f"{title}: means{of}", head, rows, kinds=kinds, name="arms")


def _difference(unit: Unit, one: dict[str, Any] | None) -> list[str]:
    if one is None:
        return [NONE, NONE]
    counts = " / ".join(str(one[name]) for name in ("wins", "ties", "losses"))
    return [unit.interval_text(one), counts]


def _means(cell: dict[str, Any], arms: Arms) -> Html:
    rows = []
    for arm, own in cell["arms"].items():
        counts = [f"{own[name]:,}" for name in ("targets", "samples_total")]
        values = [value_text(metric, own["metrics"][metric]) for metric in METRICS]
        rows.append([arms.label(arm), *counts, *values, f"{own['seconds']:,.1f}"])
    head = ("arm", "targets", "samples", *map(name_of, METRICS), "seconds")
    return table("Means over targets and seeds, and computing time of all", head, rows)


def _needs(cell: dict[str, Any], arms: Arms) -> Html:
    """What uniform would need for the arms' errors."""
    rows = []
    for arm, own in cell["arms"].items():
        needs = own["uniform_needs"]
        if needs:
            found = [needs.get(metric) for metric in FIRST_METRICS]
            texts = [text for one in found for text in _needs_texts(one)]
            rows.append([arms.label(arm), *texts])
    if not rows:
        return Html("")
    head = ["arm"]
    for metric in FIRST_METRICS:
        head += [f"samples for its {name_of(metric)}", "times its own", "times its computing"]
    return table("What uniform would need to do as well, without intervals", head, rows)


def _needs_texts(one: dict[str, Any] | None) -> list[str]:
    if one is None:
        return [NONE] * 3
    bound = {"more": "> ", "less": "< "}.get(one["side"], "")
    factors = [one["factor"], one["compute_factor"]]
    return [
        f"{bound}{one['samples']:,.0f}",
        *(NONE if factor is None else f"{bound}{factor:.2f}" for factor in factors),
    ]


def _breakdown(
    cell: dict[str, Any], metric: str, group: str, what: str, names: list[str], arms: Arms
) -> Html:
    """A metric by corruption or digit: uniform's, and what the other arms differ by from it."""
    unit, found = cell_unit(cell, metric), cell["arms"]
    has_base = UNIFORM in found
    order = [UNIFORM] * has_base + [arm for arm in found if arm != UNIFORM]
    rows = []
    for name in names:
        row: list[str] = [shortened(name, 24)]
        for arm in order:
            one = found[arm][group].get(name, {}).get(metric)
            is_value = arm == UNIFORM or not has_base
            if one is None:
                row.append(NONE)
            else:
                row.append(
                    value_text(metric, one["value"]) if is_value else unit.text(one["difference"])
                )
        rows.append(row)
    of = f" {unit.name}" if unit.name else ""
    end = f": uniform’s, and the others’ difference to it{of}" if has_base else ""
    title = f"{heading(name_of(metric))} by {what}{end}"
    return table(title, [what, *map(arms.label, order)], rows)
