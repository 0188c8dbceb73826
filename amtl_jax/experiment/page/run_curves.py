"""Test error against source samples of a run, with the interval of every arm."""

from typing import Any

from amtl_jax.experiment.evaluate import LOWER_IS_BETTER
from amtl_jax.experiment.page.curves import Chart, Line, Point, charts
from amtl_jax.experiment.page.markup import Html, shortened
from amtl_jax.experiment.page.numbers import as_error, error_name, heading
from amtl_jax.experiment.page.run_tables import metrics_of
from amtl_jax.experiment.page.study_tables import Arms

_MOST_PANELS = 4
_DRAWN = frozenset({"balanced_accuracy", "mse", "accuracy", "auc", "excess_risk"})


def run_curves(summary: dict[str, Any], buying: list[str], arms: Arms) -> Html:
    """A chart for each metric.

    Args:
      summary: content of `summary.json`.
      buying: names of the arms that buy samples.
      arms: of the page.
    """
    metrics = [metric for metric in metrics_of(summary) if metric in _DRAWN][:_MOST_PANELS]
    return charts([_chart(summary, buying, arms, metric) for metric in metrics])


def _chart(summary: dict[str, Any], buying: list[str], arms: Arms, metric: str) -> Chart:
    lines, levels = [], []
    for arm, curve in summary["curve"].items():
        points = [_point(one, metric) for one in curve if metric in one]
        points = [point for point in points if point.value == point.value]
        if not points:
            continue
        one = Line(arm, arms.looks[arm], arms.index[arm], [points])
        (lines if arm in buying else levels).append(one)
    told = "; ".join(
        f"{shortened(one.arm)} {one.last.value:.4g} at {one.last.samples:,.0f} samples"
        for one in lines
    )
    return Chart(
        f"curve-{metric}",
        heading(error_name(metric)),
        f"Test error after every round. {told}",
        "" if metric in LOWER_IS_BETTER else "%",
        lines,
        levels,
    )


def _point(one: dict[str, Any], metric: str) -> Point:
    """A point of a curve as an error, the lower end of its interval first."""
    found = one[metric]
    ends = [found[name] for name in ("low", "high")]
    if None in ends:
        return Point(one["samples"], as_error(metric, found["value"]))
    low, high = sorted(as_error(metric, end) for end in ends)
    return Point(one["samples"], as_error(metric, found["value"]), low, high)
