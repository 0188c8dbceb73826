"""Heat maps of corruption × digit: tables whose cells are coloured and hold their number."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from amtl_jax.experiment.page.colours import NUM_STEPS
from amtl_jax.experiment.page.markup import Html, element, join, shortened
from amtl_jax.experiment.page.numbers import Unit, heading, minus, name_of, unit_of
from amtl_jax.experiment.page.study_tables import UNBOUND, UNIFORM, Arms, near_arms
from amtl_jax.experiment.page.tables import caption_of, folded, scrolling

_MOST_OF_RANGE = 98  # percentile of sizes that has the strongest colour


class Shade(NamedTuple):
    """How differences become colours and numbers.

    Attributes:
      unit: in which they are written.
      limit: size in that unit that has the strongest colour.
    """

    unit: Unit
    limit: float

    def step(self, value: float) -> int:
        """Place of a difference among the diverging colours, the largest gain first."""
        share = self.unit.sign * self.unit.factor * value / self.limit
        return NUM_STEPS - round(NUM_STEPS * min(max(share, -1.0), 1.0))


def difference_maps(summary: dict[str, Any], cell: dict[str, Any], metric: str, arms: Arms) -> Html:
    """A map for every arm of a cell but uniform; empty where uniform was not run.

    Args:
      summary: content of `summary.json`.
      cell: one of its cells.
      metric: what differs.
      arms: of the page.
    """
    found = {arm: own for arm, own in cell["arms"].items() if UNIFORM in own["difference"]}
    if not found:
        return Html("")
    shade = _shade(near_arms(cell), metric)
    maps = {arm: _map(summary, own, metric, shade, arms.label(arm)) for arm, own in found.items()}
    near = [one for arm, one in maps.items() if arm not in UNBOUND]
    far = [one for arm, one in maps.items() if arm in UNBOUND]
    of = f", {shade.unit.name}" if shade.unit.name else ""
    note = (
        f"{heading(name_of(metric))} less uniform’s{of}, by corruption and digit of the target. "
        "Blue and bold: better than uniform; orange: worse. The last column and row are means. "
        "All maps of this group have one scale, beyond which colours no longer grow."
    )
    parts = [element("p", {"class": "note"}, note), legend(shade)]
    if near:
        parts.append(element("div", {"class": "maps"}, *near))
    if far:
        inside = element("div", {"class": "maps"}, *far)
        title = "Arms that no budget bounds"
        parts.append(folded(title, inside) if near else inside)
    return join(parts)


def _shade(near: Mapping[str, Any], metric: str) -> Shade:
    sizes = [
        abs(one[metric]["difference"])
        for own in near.values()
        for one in own["per_target"].values()
        if one[metric]["difference"] is not None
    ]
    largest = float(np.percentile(sizes, _MOST_OF_RANGE)) if sizes else 0.0
    unit = unit_of(metric, [largest])
    return Shade(unit, _round_up(unit.factor * largest))


def _round_up(value: float) -> float:
    """The next number of one or two digits; 1 where there is none."""
    if value <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(step * power for step in (1, 1.6, 2, 4, 6, 8, 10) if step * power >= value))


def _map(
    summary: dict[str, Any], own: dict[str, Any], metric: str, shade: Shade, label: Html
) -> Html:
    digits = [str(digit) for digit in summary["digits"]]
    parts = {
        name: {key: one[metric]["difference"] for key, one in own[name].items()}
        for name in ("per_corruption", "per_digit", "per_target")
    }
    rows = [
        [
            *(parts["per_target"].get(f"{corruption}_{digit}") for digit in digits),
            parts["per_corruption"].get(corruption),
        ]
        for corruption in summary["corruptions"]
    ]
    whole = own["difference"][UNIFORM][metric]["difference"]
    rows.append([*(parts["per_digit"].get(digit) for digit in digits), whole])
    names = [*(shortened(one, 20) for one in summary["corruptions"]), "mean"]
    cells = [[_cell(value, shade) for value in row] for row in rows]
    return grid(label, ["", *digits, "mean"], names, cells, kind="heat sums")


def _cell(value: float | None, shade: Shade) -> Html:
    if value is None:
        return element("td", {"class": "none"})
    text = shade.unit.short_text(value)
    is_better = shade.unit.sign * value > 0
    return element(
        "td", {"class": f"d{shade.step(value)}"}, element("b", None, text) if is_better else text
    )


def grid(
    caption: str,
    head: Sequence[str],
    names: Sequence[str],
    cells: Sequence[Sequence[Html]],
    *,
    kind: str,
) -> Html:
    """A table of coloured cells.

    Args:
      caption: what it shows.
      head: name of the first column, which names the rows, and of every other one.
      names: of the rows.
      cells: `td` elements.
      kind: class of the table.
    """
    top = [element("th", {"scope": "col"}, one) for one in head]
    body = [
        element("tr", None, element("th", {"scope": "row"}, name), *row)
        for name, row in zip(names, cells, strict=True)
    ]
    return scrolling(
        element(
            "table",
            {"class": kind},
            caption_of(caption),
            element("thead", None, element("tr", None, *top)),
            element("tbody", None, *body),
        )
    )


def legend(shade: Shade) -> Html:
    """The diverging colours with their ranges, from the largest gain to the largest loss."""
    parts = []
    for step in range(2 * NUM_STEPS + 1):
        value = shade.unit.sign * (NUM_STEPS - step) / NUM_STEPS * shade.limit
        text = minus(f"{value:+.3g}") if value else "0"
        inside = element("b", None, text) if step < NUM_STEPS else text
        parts.append(element("span", {"class": f"d{step}"}, inside))
    ends = [element("span", {"class": "end"}, text) for text in ("better", "worse")]
    return element("p", {"class": "legend"}, ends[0], *parts, ends[1])
