"""Results of the simulation: one row a cell and arm, kept in a JSON file as they come."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from amtl_jax.bootstrap import paired_bootstrap
from amtl_jax.files import write_atomically
from benchmarks.curves_campaign import Cell, Outcome

Row = dict[str, Any]
_PLACE = (
    "scenario",
    "num_tasks",
    "num_target",
    "budget",
    "input_dim",
    "num_features",
    "noise",
    "rank",
    "join_target",
    "first_seed",
    "seeds",
)


class Ratio(NamedTuple):
    """An arm's risks against another's, paired by seed.

    Attributes:
      mean: ratio of the means over seeds.
      low: lower end of its 95 % interval, percentile bootstrap over seeds.
      high: upper end.
      median: of the seeds' ratios.
      p95: their 95th percentile.
      worse: share of seeds with a larger risk.
    """

    mean: float
    low: float
    high: float
    median: float
    p95: float
    worse: float


def ratio_of(risks: Sequence[float], reference: Sequence[float]) -> Ratio:
    """Compares an arm with a reference on common seeds."""
    own, other = np.asarray(risks, float), np.asarray(reference, float)
    log_interval = _log_ratio(jnp.asarray(own, jnp.float32), jnp.asarray(other, jnp.float32))
    low, high = (float(np.exp(end)) for end in log_interval[1:])
    each = own / other
    return Ratio(
        mean=float(own.mean() / other.mean()),
        low=low,
        high=high,
        median=float(np.median(each)),
        p95=float(np.quantile(each, 0.95)),
        worse=float(np.mean(own > other)),
    )


@jax.jit
def _log_ratio(own: jax.Array, other: jax.Array):
    def log_mean(scores, labels, *, weight):
        del labels
        return jnp.log(jnp.sum(weight * scores) / jnp.sum(weight))

    labels = jnp.zeros_like(own)
    return paired_bootstrap(log_mean, own, other, labels, key=jax.random.key(0))


def new_row(
    cell: Cell, strategy: str, seeds: range, outcome: Outcome, predicted: np.ndarray, seconds: float
) -> Row:
    """What is kept of an arm's run; `completed` adds what compares it with others."""
    risks = [float(f"{risk:.6g}") for risk in outcome.risk]
    expected = [float(f"{risk:.6g}") if np.isfinite(risk) else None for risk in predicted]
    finite = None not in expected
    mean = float(np.mean(risks))
    return place_of(cell, seeds) | {
        "strategy": strategy,
        "mean_risk": mean,
        "predicted_risk": float(np.mean(expected)) if finite else None,
        "predicted_over_measured": float(np.mean(expected) / mean) if finite else None,
        "mean_samples": float(outcome.counts.sum(axis=1).mean()),
        "seconds": round(seconds, 1),
        "risks": risks,
        "predicted_risks": expected,
    }


def place_of(cell: Cell, seeds: range) -> Row:
    """The settings that name a cell."""
    values = (
        cell.scenario,
        cell.sizes.num_tasks,
        cell.num_target,
        cell.budget,
        cell.sizes.input_dim,
        cell.sizes.num_features,
        cell.sizes.noise,
        cell.rank,
        cell.join_target,
        seeds.start,
        len(seeds),
    )
    return dict(zip(_PLACE, values, strict=True))


def is_at(row: Row, place: Row) -> bool:
    """Whether a row is of a cell with the same settings."""
    return all(row[name] == place[name] for name in _PLACE)


def find(rows: Sequence[Row], strategy: str) -> Row | None:
    """The row of an arm among those of one cell, None where there is none."""
    return next((row for row in rows if row["strategy"] == strategy), None)


def completed(rows: Sequence[Row]) -> list[Row]:
    """Rows of one cell with their ratios to its `uniform` and `known`, null where missing."""
    return [row | _ratios(row, rows) for row in rows]


def _ratios(row: Row, rows: Sequence[Row]) -> Row:
    result = {}
    for reference in ("uniform", "known"):
        other = find(rows, reference)
        ratio = None if other is None else ratio_of(row["risks"], other["risks"])
        result |= {
            f"mean_ratio_{reference}": ratio and ratio.mean,
            f"interval_ratio_{reference}": ratio and [ratio.low, ratio.high],
            f"median_ratio_{reference}": ratio and ratio.median,
            f"p95_ratio_{reference}": ratio and ratio.p95,
        }
        if reference == "uniform":
            result["share_worse"] = ratio and ratio.worse
    return result


_NEEDED = frozenset({*_PLACE, "strategy", "risks", "mean_ratio_uniform"})


def read_rows(path: Path, needed: frozenset[str] = _NEEDED) -> list[Row]:
    """Rows of an earlier run, which have what is needed; none where there is no file.

    Raises:
      ValueError: if the file is something else.
    """
    if not path.exists():
        return []
    try:
        rows = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON file of results: {error}.") from error
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and needed <= set(row) for row in rows
    ):
        raise ValueError(
            f"{path} is no file of this study: expected a list of rows with {sorted(needed)}. "
            "Choose another --out."
        )
    return rows


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Writes all rows at once, so that a run that is stopped leaves a whole file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(row, allow_nan=False) for row in rows)
    write_atomically(path, f"[\n{lines}\n]\n".encode())


def print_rows(rows: Sequence[Row]) -> None:
    """Prints completed rows as a table, in Markdown as it stands in the documentation."""
    table = Table(box=box.MARKDOWN)
    for name in ("scenario", "M", "n_T", "N", "strategy"):
        table.add_column(name, no_wrap=True)
    for name in ("risk", "/ uniform [95 %]", "median", "p95", "/ known", "worse", "pred/meas"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        interval = row["interval_ratio_uniform"]
        ratio = _shown(row["mean_ratio_uniform"])
        if interval is not None and row["strategy"] != "uniform":
            ratio += " [{}, {}]".format(*map(_shown, interval))
        worse = row["share_worse"]
        extra = f", rank {row['rank']}" if row["rank"] is not None else ""
        extra += ", target joins" if row["join_target"] else ""
        table.add_row(
            row["scenario"] + extra,
            *(f"{row[name]:,}" for name in ("num_tasks", "num_target", "budget")),
            row["strategy"],
            _shown(row["mean_risk"]),
            ratio,
            _shown(row["median_ratio_uniform"]),
            _shown(row["p95_ratio_uniform"]),
            _shown(row["mean_ratio_known"]),
            "" if worse is None else f"{100 * worse:.1f} %",
            _shown(row["predicted_over_measured"]),
        )
    Console(width=200).print(table)


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
