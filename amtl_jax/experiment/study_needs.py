"""How many source samples, and how much computing, uniform would need for an arm's error."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from amtl_jax.experiment.study_outcomes import Cell, Outcome, mean
from amtl_jax.experiment.study_rows import METRICS, SHARES

_ROUNDING = 1e-6  # of errors that are computed in float32


class Needs(NamedTuple):
    """Samples for an error; exact where `side` is None.

    Attributes:
      samples: that the curve needs, or the end of it beyond which the answer lies.
      side: `more` where they are more than the curve's largest, `less` where fewer than its
        smallest; None: between.
    """

    samples: float
    side: str | None


def samples_for_error(samples: np.ndarray, errors: np.ndarray, error: float) -> Needs:
    """The fewest samples at which a curve is down to an error, straight between logarithms.

    Measured curves wiggle: errors of more samples count as at most those of fewer, the running
    minimum, which favours the curve.

    Args:
      samples: `[n]` positive, increasing, n ≥ 1.
      errors: `[n]` non-negative.
      error: the one wanted.
    """
    envelope = np.minimum.accumulate(errors)
    nearest = envelope[np.argmin(np.abs(envelope - error))]
    if abs(nearest - error) <= _ROUNDING * nearest:
        error = nearest  # equal arms must not look like bounds
    if error > envelope[0]:
        return Needs(float(samples[0]), "less")
    if error < envelope[-1]:
        return Needs(float(samples[-1]), "more")
    after = int(np.argmax(envelope <= error))
    if envelope[after] == error or after == 0:
        return Needs(float(samples[after]), None)
    if error <= 0 or envelope[after] <= 0:  # no logarithm: straight between the errors themselves
        start, wanted, end = envelope[after - 1], error, envelope[after]
    else:
        start, wanted, end = np.log([envelope[after - 1], error, envelope[after]])
    share = (start - wanted) / (start - end)
    logs = np.log(samples[after - 1 : after + 1])
    return Needs(float(np.exp(logs[0] + share * (logs[1] - logs[0]))), None)


def uniform_needs(
    arm: Outcome, cells: Mapping[Cell, Mapping[str, Outcome]], cell: Cell
) -> dict[str, dict[str, Any]]:
    """What uniform would need for the errors of an arm, by metric; empty where it was not run.

    Args:
      arm: its outcome in a cell.
      cells: all outcomes; uniform's curve is made of all its budgets and rounds.
      cell: the arm's; the curve is of the same number of target samples.
    """
    curves = [
        (one.samples, one.metrics)
        for (_, target_samples), arms in cells.items()
        if target_samples == cell[1] and "uniform" in arms
        for one in arms["uniform"].rounds.values()
        if one.samples > 0
    ]
    found = {}
    for metric in METRICS:
        error = _error(metric, arm.last.metrics[metric])
        points = [
            (samples, _paired_mean(_error(metric, metrics[metric]), error))
            for samples, metrics in curves
        ]
        points = [point for point in points if np.isfinite(point[1])]
        if not points:
            continue
        levels = np.unique([samples for samples, _ in points])
        errors = [np.mean([one for number, one in points if number == size]) for size in levels]
        needs = samples_for_error(levels.astype(float), np.array(errors), float(mean(error)))
        uniform = cells[cell].get("uniform")
        found[metric] = {
            "samples": needs.samples,
            "factor": needs.samples / arm.last.samples if arm.last.samples else None,
            "compute_factor": uniform and _compute_factor(needs.samples, uniform, arm),
            "is_bound": needs.side is not None,
            "side": needs.side,
        }
    return found


def _error(metric: str, values: np.ndarray) -> np.ndarray:
    return 1 - values if metric in SHARES else values


def _paired_mean(values: np.ndarray, own: np.ndarray) -> float:
    """Mean of a point of the curve over the units of the arm's own errors.

    Where the point lacks some of them, it is the arm's mean times the ratio on those that both
    have: units that are harder than others would bend the curve. NaN where there are none.
    """
    is_paired = ~np.isnan(values + own)
    found, base = (float(mean(np.where(is_paired, one, np.nan))) for one in (values, own))
    return found * float(mean(own)) / base if base > 0 else found


def _compute_factor(samples: float, uniform: Outcome, arm: Outcome) -> float | None:
    """Uniform's seconds for `samples`, in proportion to those it took, over the arm's seconds."""
    is_paired = uniform.is_there & arm.is_there
    own, others = (float(np.sum(one.seconds[is_paired])) for one in (arm, uniform))
    if not own or not others or not uniform.last.samples:
        return None
    return others / uniform.last.samples * samples / own
