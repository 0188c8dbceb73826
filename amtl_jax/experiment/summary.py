"""The final numbers of a run: all arms over all seeds, and what they differ by."""

from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np

import amtl_jax
from amtl_jax.experiment import report
from amtl_jax.experiment.build import Problem
from amtl_jax.experiment.checkpoint import Checkpoint
from amtl_jax.experiment.config import Config
from amtl_jax.experiment.evaluate import differences, estimates
from amtl_jax.experiment.records import TARGET_ONLY, number

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
_NUM_TOP = 5


def summarise(
    config: Config, problem: Problem, arms: Mapping[str, Sequence[Sequence[Checkpoint]]]
) -> dict[str, Any]:
    """Averages over seeds and compares the arms on the test rows.

    Args:
      config: of the run.
      problem: its tasks.
      arms: all rounds of every seed, by arm, seeds in the same order.

    Returns:
      The content of `summary.json`, without the seconds.
    """
    ends = {arm: [rounds[-1] for rounds in seeds] for arm, seeds in arms.items()}
    strategies = {}
    for arm, rounds in ends.items():
        records = [one.record for one in rounds]
        bases = [base for base in ("uniform", TARGET_ONLY) if base in ends and base != arm]
        strategies[arm] = {
            "samples_total": max(record["samples_total"] for record in records),
            "target": {
                name: _mean([record["target"][name] for record in records])
                for name in records[0]["target"]
            },
            "target_loo": _mean([record["target_loo"] for record in records]),
            "difference": {base: _compare(config, problem, rounds, ends[base]) for base in bases},
            "top_sources": _top(records, problem.source.names),
        }
    devices = {one.record["device"] for rounds in ends.values() for one in rounds}
    return {
        "name": config.name,
        "target": problem.target_name,
        "num_sources": len(problem.source.names),
        "source_names": list(problem.source.names),
        "seeds": list(config.seeds),
        "evidence": {"test_rows": len(problem.test.x), "level": config.level},
        "chosen_arm": _chosen(strategies),
        "strategies": strategies,
        "curve": {arm: _curve(config, problem, seeds) for arm, seeds in arms.items()},
        "versions": {
            "amtl_jax": amtl_jax.__version__,
            **{name: metadata.version(name) for name in _PACKAGES},
        },
        "device": ", ".join(sorted(devices)),
    }


def _curve(
    config: Config, problem: Problem, seeds: Sequence[Sequence[Checkpoint]]
) -> list[dict[str, Any]]:
    """Samples bought and every test metric, with its interval, after each round of an arm.

    Metrics against a known truth have no test rows to resample: their ends are null.
    """
    points = []
    for rounds in zip(*seeds, strict=True):
        records = [one.record for one in rounds]
        found = estimates(
            _stacked(rounds),
            problem.test.y[:, 0],
            is_classification=problem.is_classification,
            num_resamples=config.num_resamples,
            level=config.level,
        )
        point: dict[str, Any] = {"samples": max(record["samples_total"] for record in records)}
        for name in records[0]["target"]:
            value = _mean([record["target"][name] for record in records])
            ends = found.get(name, {"low": np.nan, "high": np.nan})
            point[name] = {"value": value} | {end: number(ends[end]) for end in ("low", "high")}
        points.append(point)
    return points


def _chosen(strategies: dict[str, Any]) -> str | None:
    """The buying arm of least leave-one-out error on the target sample: no test row has a say."""
    errors = {
        arm: found["target_loo"]
        for arm, found in strategies.items()
        if arm != TARGET_ONLY and found["target_loo"] is not None
    }
    return min(errors, key=errors.get, default=None)


def _compare(config: Config, problem: Problem, arm: list[Checkpoint], base: list[Checkpoint]):
    """Paired intervals of every test metric, arm minus base."""
    found = differences(
        _stacked(arm),
        _stacked(base),
        problem.test.y[:, 0],
        is_classification=problem.is_classification,
        num_resamples=config.num_resamples,
        level=config.level,
    )
    return {
        metric: {end: number(value) for end, value in interval.items()}
        for metric, interval in found.items()
    }


def _stacked(rounds: Sequence[Checkpoint]) -> np.ndarray:
    return np.stack([one.predictions[:, 0] for one in rounds])


def _top(records: list[dict[str, Any]], names: tuple[str, ...]) -> list[dict[str, Any]]:
    """The sources of largest mean |nu| over seeds, with mean nu and mean |nu|."""
    if not records[0]["nu"]:
        return []
    values = np.asarray([record["nu"] for record in records], float)  # null becomes NaN
    size = [number(value) for value in np.abs(values).mean(axis=0)]
    mean = dict(zip(names, values.mean(axis=0), strict=True))
    return [
        {"name": name, "nu": float(mean[name]), "abs_nu": abs_nu}
        for name, abs_nu in report.top_sources({"nu": size}, names, _NUM_TOP)
    ]


def _mean(values: list[float | None]) -> float | None:
    return None if None in values else float(np.mean(values))
