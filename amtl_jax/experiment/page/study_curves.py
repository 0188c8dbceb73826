"""Error against samples of a study: every arm and budget, and the difference to uniform."""

from collections.abc import Iterator
from typing import Any

from amtl_jax.experiment.page.curves import Chart, Line, Point, charts
from amtl_jax.experiment.page.markup import Html, element, join, shortened
from amtl_jax.experiment.page.numbers import as_error, error_name, heading, name_of, unit_of
from amtl_jax.experiment.page.study_tables import FIRST_METRICS, UNBOUND, UNIFORM, Arms
from amtl_jax.experiment.study_rows import SHARES


def study_curves(summary: dict[str, Any], arms: Arms) -> Html:
    """Charts for every number of target samples.

    Args:
      summary: content of `summary.json`.
      arms: of the page.
    """
    given = list(dict.fromkeys(cell["target_samples"] for cell in summary["cells"]))
    parts = []
    for samples in given:
        cells = [cell for cell in summary["cells"] if cell["target_samples"] == samples]
        if len(given) > 1:
            parts.append(element("h3", None, f"{samples:,} target samples"))
        parts.append(charts(list(_charts(cells, samples, arms))))
    return join(parts)


def _charts(cells: list[dict[str, Any]], samples: int, arms: Arms) -> Iterator[Chart]:
    for metric in FIRST_METRICS:
        unit = "%" if metric in SHARES else ""
        lines = list(_lines(cells, metric, arms))
        levels = list(_levels(cells, metric, arms))
        name = f"curve-{samples}-{metric}"
        yield Chart(
            name,
            heading(error_name(metric)),
            f"Means over targets and seeds after every round, {samples:,} target samples. "
            + _described(lines),
            unit,
            lines,
            levels,
        )
        found = list(_differences(cells, metric, arms))
        if found:
            better = "below" if unit_of(metric, []).sign < 0 else "above"
            points = ", points" if unit else ""
            yield Chart(
                f"{name}-less",
                f"{heading(name_of(metric))} less uniform's{points}: {better} 0 is better",
                "Difference of means after every round, of the same samples. " + _described(found),
                "",
                found,
                is_difference=True,
                reference=UNIFORM,
            )


def _lines(cells: list[dict[str, Any]], metric: str, arms: Arms) -> Iterator[Line]:
    for arm in arms.names:
        if arm in UNBOUND:
            continue
        pieces = [
            [
                Point(one["samples"], as_error(metric, one[metric]))
                for one in cell["arms"][arm]["curve"]
                if one["samples"] > 0 and one[metric] is not None
            ]
            for cell in cells
            if arm in cell["arms"]
        ]
        yield from _line(arm, pieces, arms)


def _line(arm: str, pieces: list[list[Point]], arms: Arms) -> Iterator[Line]:
    """A line of the pieces that have points, if any has."""
    pieces = [piece for piece in pieces if piece]
    if pieces:
        yield Line(arm, arms.looks[arm], arms.index[arm], pieces)


def _levels(cells: list[dict[str, Any]], metric: str, arms: Arms) -> Iterator[Line]:
    """Arms that no budget bounds: they reach the same whatever the budget."""
    for arm in arms.names:
        found = [cell["arms"][arm]["curve"][-1] for cell in cells if arm in cell["arms"]]
        if arm in UNBOUND and found and found[-1][metric] is not None:
            point = Point(found[-1]["samples"], as_error(metric, found[-1][metric]))
            yield Line(arm, arms.looks[arm], arms.index[arm], [[point]])


def _differences(cells: list[dict[str, Any]], metric: str, arms: Arms) -> Iterator[Line]:
    factor = 100 if metric in SHARES else 1
    for arm in arms.names:
        if arm in UNBOUND or arm == UNIFORM:
            continue
        pieces = []
        for cell in cells:
            if arm not in cell["arms"] or UNIFORM not in cell["arms"]:
                continue
            base = {one["samples"]: one[metric] for one in cell["arms"][UNIFORM]["curve"]}
            pieces.append(
                [
                    Point(one["samples"], factor * (one[metric] - base[one["samples"]]))
                    for one in cell["arms"][arm]["curve"]
                    if one["samples"] > 0
                    and one[metric] is not None
                    and base.get(one["samples"]) is not None
                ]
            )
        yield from _line(arm, pieces, arms)


def _described(lines: list[Line]) -> str:
    """The ends of all lines in words."""
    return "; ".join(
        f"{shortened(one.arm)} {one.last.value:.4g} at {one.last.samples:,.0f} samples"
        for one in lines
    )
