"""The final numbers of a study: what every arm reached, and what it gained over the bases."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from amtl_jax.clustered import clustered_mean
from amtl_jax.experiment.evaluate import LOWER_IS_BETTER
from amtl_jax.experiment.records import number
from amtl_jax.experiment.study_needs import uniform_needs
from amtl_jax.experiment.study_outcomes import (
    BASES,
    Cell,
    Outcome,
    difference,
    mean,
    outcomes,
    win_tie_loss,
)
from amtl_jax.experiment.study_reading import reading
from amtl_jax.experiment.study_rows import METRICS, Row


class _Axis(NamedTuple):
    """What is known of the targets: names, corruption and digit of each, `[T]`."""

    targets: np.ndarray
    corruptions: np.ndarray
    digits: np.ndarray


def summarise_study(
    rows: Iterable[Row],
    *,
    name: str,
    targets: Sequence[str],
    arms: Sequence[str],
    budgets: Sequence[int],
    target_samples: Sequence[int],
    seeds: Sequence[int],
    level: float = 0.95,
    num_resamples: int = 2000,
    versions: Mapping[str, str] | None = None,
    device: str = "",
    seconds: float = 0.0,
) -> dict[str, Any]:
    """Averages the rows of a study and compares its arms; units may be missing.

    Means are over all targets and seeds that are there, differences over the units that both arms
    have. Intervals draw whole corruptions, whose targets share test images, and seeds; ends are
    None where there is one corruption only.

    Args:
      rows: of `results.csv`.
      name: of the study.
      targets: `<corruption>_<digit>`, in order.
      arms: in order.
      budgets: of its cells, in order.
      target_samples: of its cells, in order.
      seeds: in order.
      level: coverage of the intervals, in (0, 1).
      num_resamples: bootstrap resamples behind an interval.
      versions: of the packages that computed the rows, by name.
      device: that computed them.
      seconds: of computing, see `computing_seconds`.

    Returns:
      The content of `summary.json`: plain data, without NaN.

    Raises:
      ValueError: for rows of another target, arm, cell or seed than those of the study, or a
        target whose name does not end in its digit.
    """
    axis = _axis(targets)
    found = outcomes(rows, targets=targets, seeds=seeds)
    grid = [(budget, samples) for budget in budgets for samples in target_samples]
    _refuse_others(found, grid, arms)
    cells = []
    for cell in filter(found.__contains__, grid):
        numbers = {
            arm: _arm(arm, found, cell, axis, level=level, num_resamples=num_resamples)
            for arm in arms
            if arm in found[cell]
        }
        cells.append({"budget": cell[0], "target_samples": cell[1], "arms": numbers})
    summary = {
        "kind": "study",
        "name": name,
        "corruptions": list(dict.fromkeys(axis.corruptions.tolist())),
        "digits": np.unique(axis.digits).tolist(),
        "targets": list(targets),
        "arms": list(arms),
        "seeds": list(seeds),
        "level": level,
        "num_resamples": num_resamples,
        "units": {
            "done": sum(_num_whole(found.get(cell, {}), arms) for cell in grid),
            "of": len(grid) * len(targets) * len(seeds),
        },
        "cells": cells,
        "versions": dict(versions or {}),
        "device": device,
        "seconds": seconds,
    }
    return summary | {"reading": reading(summary)}


def _axis(targets: Sequence[str]) -> _Axis:
    pairs = [target.rpartition("_")[::2] for target in targets]
    for target, (corruption, digit) in zip(targets, pairs, strict=True):
        if not (corruption and digit.isascii() and digit.isdigit()):
            raise ValueError(
                f"Expected targets called <corruption>_<digit>, such as fog_3, got {target!r}."
            )
    corruptions, digits = zip(*pairs, strict=True) if pairs else ((), ())
    return _Axis(np.array(targets), np.array(corruptions), np.array(digits, int))


def _refuse_others(
    found: Mapping[Cell, Mapping[str, Outcome]], grid: Sequence[Cell], arms: Sequence[str]
) -> None:
    for cell in found:
        if cell not in grid:
            raise ValueError(
                f"Expected rows of this study's budgets and numbers of target samples, "
                f"{', '.join(map(str, grid))}, got {cell}; results of several studies do not mix."
            )
        for arm in found[cell]:
            if arm not in arms:
                raise ValueError(
                    f"Expected rows of this study's arms, {', '.join(arms)}, got {arm!r}; results "
                    "of several studies do not mix."
                )


def _num_whole(found: Mapping[str, Outcome], arms: Sequence[str]) -> int:
    """Units of a cell that hold every arm."""
    if not all(arm in found for arm in arms):
        return 0
    return int(np.sum(np.all([found[arm].is_there for arm in arms], axis=0)))


def _arm(
    arm: str,
    found: Mapping[Cell, Mapping[str, Outcome]],
    cell: Cell,
    axis: _Axis,
    *,
    level: float,
    num_resamples: int,
) -> dict[str, Any]:
    """The numbers of an arm in a cell."""
    own, others = found[cell][arm], found[cell]
    compared = {
        base: {
            metric: _compared(metric, own, others[base], axis, level, num_resamples)
            for metric in METRICS
        }
        for base in BASES
        if base in others and base != arm
    }
    to_uniform = {
        metric: difference(values, others["uniform"].last.metrics[metric])
        for metric, values in own.last.metrics.items()
        if "uniform" in others
    }
    return {
        "targets": int(np.sum(own.is_there.any(axis=1))),
        "samples_total": own.last.samples,
        "seconds": float(np.nansum(own.seconds)),
        "metrics": {metric: number(mean(own.last.metrics[metric])) for metric in METRICS},
        "difference": compared,
        "per_corruption": _by(axis.corruptions, own, to_uniform),
        "per_digit": _by(axis.digits, own, to_uniform),
        "per_target": _by(axis.targets, own, to_uniform),
        "curve": [
            {"round": index, "samples": one.samples}
            | {metric: number(mean(one.metrics[metric])) for metric in METRICS}
            for index, one in own.rounds.items()
        ],
        "uniform_needs": {} if arm == "uniform" else uniform_needs(own, found, cell),
    }


def _compared(
    metric: str, arm: Outcome, base: Outcome, axis: _Axis, level: float, num_resamples: int
) -> dict[str, Any]:
    """Arm minus base in a metric, with its clustered interval, and on how many targets it wins."""
    values, others = (one.last.metrics[metric] for one in (arm, base))
    interval = clustered_mean(
        difference(values, others), axis.corruptions, level=level, num_resamples=num_resamples
    )
    counts = win_tie_loss(values, others, lower_is_better=metric in LOWER_IS_BETTER)
    ends = zip(("difference", "low", "high"), map(number, interval), strict=True)
    return dict(ends) | dict(zip(("wins", "ties", "losses"), counts, strict=True))


def _by(
    groups: np.ndarray, arm: Outcome, to_uniform: Mapping[str, np.ndarray]
) -> dict[str, dict[str, Any]]:
    """Means over the targets of every group in which the arm has units, by metric."""
    found = {}
    for group in dict.fromkeys(groups.tolist()):
        chosen = groups == group
        if arm.is_there[chosen].any():
            found[str(group)] = {
                metric: {
                    "value": number(mean(values[chosen])),
                    "difference": number(mean(to_uniform[metric][chosen])) if to_uniform else None,
                }
                for metric, values in arm.last.metrics.items()
            }
    return found
