"""What every arm of a study reached in a cell, as arrays over targets and seeds."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from amtl_jax.experiment.study_rows import METRICS, Row

_ROUNDING = 4 * float(np.finfo(np.float32).eps)  # of metrics, which are computed in float32

BASES = ("uniform", "target_only")  # the arms that all are compared with
Cell = tuple[int, int]  # budget, target samples


class Round(NamedTuple):
    """An arm after a round; T targets × S seeds, NaN where a unit is missing or undefined.

    Attributes:
      samples: source samples charged so far, the largest of all units.
      metrics: `[T, S]` by name.
    """

    samples: int
    metrics: Mapping[str, np.ndarray]


class Outcome(NamedTuple):
    """An arm in a cell.

    Attributes:
      rounds: by number, in order.
      last: the last round of every unit, which is the arm's result.
      is_there: `[T, S]` whether the arm has the unit.
      seconds: `[T, S]` of all rounds together; NaN where there is no unit.
    """

    rounds: Mapping[int, Round]
    last: Round
    is_there: np.ndarray
    seconds: np.ndarray


def outcomes(
    rows: Iterable[Row], *, targets: Sequence[str], seeds: Sequence[int]
) -> dict[Cell, dict[str, Outcome]]:
    """Sorts rows by cell and arm into arrays over targets and seeds.

    Raises:
      ValueError: for a row of another target or seed than the given ones.
    """
    place_of_target = {target: place for place, target in enumerate(targets)}
    place_of_seed = {seed: place for place, seed in enumerate(seeds)}
    found: dict[Cell, dict[str, list[Row]]] = {}
    for row in rows:
        if row.target not in place_of_target or row.seed not in place_of_seed:
            raise ValueError(
                f"Expected rows of the {len(targets)} targets and the seeds "
                f"{', '.join(map(str, seeds))} of this study, got target {row.target!r}, seed "
                f"{row.seed}; results of several studies do not mix."
            )
        cell = found.setdefault((row.budget, row.target_samples), {})
        cell.setdefault(row.arm, []).append(row)
    shape = len(targets), len(seeds)

    def outcome(rows: list[Row]) -> Outcome:
        places = np.array([(place_of_target[row.target], place_of_seed[row.seed]) for row in rows])
        return _outcome(rows, places, shape)

    return {
        cell: {arm: outcome(rows) for arm, rows in arms.items()} for cell, arms in found.items()
    }


def _outcome(rows: list[Row], places: np.ndarray, shape: tuple[int, int]) -> Outcome:
    """The outcome of the rows of an arm in a cell; `places` `[n, 2]` says where they belong."""
    number = np.array([row.round for row in rows])
    samples = np.array([row.samples_total for row in rows])
    values = {name: np.array([getattr(row, name) for row in rows], float) for name in METRICS}

    def of(chosen: np.ndarray) -> Round:
        at = tuple(places[chosen].T)
        metrics = {}
        for name in METRICS:
            metrics[name] = np.full(shape, np.nan)
            metrics[name][at] = values[name][chosen]
        return Round(int(samples[chosen].max()), metrics)

    last = np.zeros(shape, int)
    np.maximum.at(last, tuple(places.T), number)
    seconds = np.zeros(shape)
    np.add.at(seconds, tuple(places.T), [row.seconds for row in rows])
    return Outcome(
        {int(one): of(number == one) for one in np.unique(number)},
        of(number == last[tuple(places.T)]),
        last > 0,
        np.where(last > 0, seconds, np.nan),
    )


def difference(arm: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Arm minus base; what float32 cannot tell from 0 is 0, so that equal arms tie.

    Args:
      arm: metrics of any shape, NaN where missing.
      base: of the same shape.
    """
    found = arm - base
    size = np.maximum(np.abs(arm), np.abs(base))
    return np.where(np.abs(found) <= _ROUNDING * size, 0.0, found)


def mean(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Mean of the values that are there; NaN where there is none."""
    count = np.sum(~np.isnan(values), axis=axis)
    total = np.nansum(values, axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def win_tie_loss(
    arm: np.ndarray, base: np.ndarray, *, lower_is_better: bool
) -> tuple[int, int, int]:
    """Targets on which an arm is better than a base, exactly as good, and worse.

    Args:
      arm: `[T, S]` metric, NaN where missing.
      base: of the same shape; both are averaged over the seeds in which both are there.
      lower_is_better: whether a smaller metric is the better one.
    """
    is_paired = ~np.isnan(arm + base)
    means = (mean(np.where(is_paired, values, np.nan), axis=1) for values in (arm, base))
    found = difference(*means)
    better, worse = np.sum(found > 0), np.sum(found < 0)
    if lower_is_better:
        better, worse = worse, better
    return int(better), int(np.sum(found == 0)), int(worse)
