"""Results of the predictions: one row a cell, its tables, its file and its bars."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.curves_checks import Check
from benchmarks.predictions_fixed import FixedRisks
from benchmarks.predictions_runs import Beforehand, Forecasts

Row = dict[str, Any]
MOST_DEVIATION = 0.08  # median over the grid of fixed allocations
LEAST_COVERED = 0.90
LEAST_WON = 0.95
MOST_WORSE = 0.04  # predicted share at which a single run's plan counts as "pays"
_ROUNDING = 1e-4


def fixed_row(found: FixedRisks) -> Row:
    """What is kept of a fixed allocation: means over seeds, and the error of their ratio."""
    measured, predicted = float(np.mean(found.measured)), float(np.mean(found.predicted))
    error = np.std(found.measured - predicted / measured * found.predicted, ddof=1)
    return {
        "measured": measured,
        "predicted_over_measured": predicted / measured,
        "error": float(error / measured / np.sqrt(len(found.measured))),
        "first_order_over_measured": float(np.mean(found.first_order)) / measured,
        "rows_over_dim": float(np.median(found.rows)),
    }


def runs_row(own: Forecasts | None, even: Forecasts | None, before: Beforehand) -> Row:
    """What is kept of the campaigns of `c_optimal` and `uniform` in one cell."""
    row: Row = {"beforehand": before._asdict()}
    if own is None or even is None:
        return row
    for name, found in (("c_optimal", own), ("uniform", even)):
        final = found.risk[:, -1:]
        row[name] = {
            "mean_risk": float(final.mean()),
            "covered": _shares((found.end_low <= final) & (final <= found.end_high)),
            "below": _shares(final < found.end_low),
            "covered_now": _shares((found.own_low <= found.risk) & (found.risk <= found.own_high)),
            "median_ratio": np.median(found.end / final, axis=0).round(4).tolist(),
        }
    lost = own.risk[:, -1] > even.risk[:, -1] * (1 + _ROUNDING)
    says = own.worse[:, 0] <= MOST_WORSE
    return row | {
        "ratio": float(own.risk[:, -1].mean() / even.risk[:, -1].mean()),
        "lost": float(lost.mean()),
        "runs": len(lost),
        "predicted_worse": float(own.worse[:, 0].mean()),
        "says_it_pays": int(says.sum()),
        "says_it_pays_and_lost": int((says & lost).sum()),
    }


def _shares(held: Any) -> list[float]:
    return np.mean(held, axis=0).round(4).tolist()


def checks_of(rows: Sequence[Row]) -> list[Check]:
    """The bars that these rows can answer."""
    checks = []
    fixed = [abs(row["predicted_over_measured"] - 1) for row in rows if row["part"] == "fixed"]
    if fixed:
        name = f"median deviation of predicted risk, {len(fixed)} fixed allocations"
        checks.append(Check(name, float(np.median(fixed)), 0, MOST_DEVIATION))
    for row in rows:
        if row["part"] != "runs":
            continue
        for rule in ("c_optimal", "uniform"):
            covered = row[rule]["covered"]
            for index in range(2, len(covered)):  # the first look at most of the heads is over
                name = f"{row['scenario']}, n_T = {row['num_target']}, {rule}: runs covered"
                checks.append(
                    Check(f"{name} after round {index + 1}", covered[index], LEAST_COVERED)
                )
    made = [row for row in rows if "lost" in row]
    before = [row for row in made if row["beforehand"]["pays"]]
    if before:
        runs = sum(row["runs"] for row in before)
        won = 1 - sum(row["lost"] * row["runs"] for row in before) / runs
        name = f"adaptive wins where it is said beforehand to pay, {runs} runs"
        checks.append(Check(name, won, LEAST_WON))
    said = sum(row["says_it_pays"] for row in made)
    if said:
        won = 1 - sum(row["says_it_pays_and_lost"] for row in made) / said
        name = f"adaptive wins where the plan after the first round says so, {said} runs"
        checks.append(Check(name, won, LEAST_WON))
    return checks


def print_rows(rows: Sequence[Row]) -> None:
    """Prints a table for each part."""
    console = Console(width=200)
    for parts, draw in (
        (("fixed",), _fixed_table),
        (("runs",), _runs_table),
        (("runs", "pays"), _pays_table),
    ):
        own = [row for row in rows if row["part"] in parts]
        if own:
            console.print(draw(own))


def _table(*columns: str) -> Table:
    table = Table(box=box.MARKDOWN)
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index else "left", no_wrap=True)
    return table


def _fixed_table(rows: Sequence[Row]) -> Table:
    table = _table("scenario", "N", "split", "rows/D", "risk", "pred/meas", "first order/meas")
    for row in rows:
        table.add_row(
            row["scenario"],
            f"{row['budget']:,}",
            row["split"],
            f"{row['rows_over_dim']:.1f}",
            f"{row['measured']:.3g}",
            f"{row['predicted_over_measured']:.2f} ± {row['error']:.2f}",
            f"{row['first_order_over_measured']:.2f}",
        )
    return table


def _runs_table(rows: Sequence[Row]) -> Table:
    table = _table("scenario", "n_T", "N", "arm", "covered after rounds 1, 2, ...", "pred/meas")
    for row in rows:
        for rule in ("c_optimal", "uniform"):
            table.add_row(
                row["scenario"],
                f"{row['num_target']}",
                f"{row['budget']:,}",
                rule,
                ", ".join(f"{100 * share:.0f} %" for share in row[rule]["covered"]),
                ", ".join(f"{ratio:.2f}" for ratio in row[rule]["median_ratio"]),
            )
    return table


def _pays_table(rows: Sequence[Row]) -> Table:
    table = _table(
        "scenario", "M", "D", "K", "n_T", "N", "pays", "loses: said", "lost", "ratio", "in-run said"
    )
    sizes = ("num_tasks", "input_dim", "num_features", "num_target", "budget")
    for row in rows:
        before, made = row["beforehand"], "lost" in row
        table.add_row(
            row["scenario"],
            *(f"{row[name]:,}" for name in sizes),
            "yes" if before["pays"] else "no",
            f"{100 * before['worse']:.1f} %",
            f"{100 * row['lost']:.1f} %" if made else "",
            f"{row['ratio']:.2f}" if made else "",
            f"{row['says_it_pays']} of {row['runs']}, {row['says_it_pays_and_lost']} lost"
            if made
            else "",
        )
    return table
