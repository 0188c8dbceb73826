"""The final numbers of a run: all arms over all seeds, and what they differ by."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from amtl_jax.experiment import report
from amtl_jax.experiment.checkpoint import Checkpoint
from amtl_jax.experiment.config import Config
from amtl_jax.experiment.evaluate import differences, estimates
from amtl_jax.experiment.expectation import expected_to_pay
from amtl_jax.experiment.problem import Problem
from amtl_jax.experiment.records import NOT_BUYING, number
from amtl_jax.experiment.result import ranking
from amtl_jax.experiment.versions import package_versions

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
        bases = [base for base in report.BASES if base in ends and base != arm]
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
        "expected": None
        if config.target_in_final_fit
        else expected_to_pay(strategies, problem.num_target),
        "answer": _answer(config, problem, ends, _chosen(strategies)),
        "relevance": _relevance(arms, _chosen(strategies), problem.source.names),
        "rank": {
            "is_chosen": config.encoder.num_features == "aic",
            "warning": _rank_warning(arms),
        },
        "curve": {arm: _curve(config, problem, seeds) for arm, seeds in arms.items()},
        "versions": package_versions(),
        "device": ", ".join(sorted(devices)),
    }


def _curve(
    config: Config, problem: Problem, seeds: Sequence[Sequence[Checkpoint]]
) -> list[dict[str, Any]]:
    """Samples bought and every test metric, with its interval, after each round of an arm.

    Metrics against a known truth have no test rows to resample: their ends are null.
    """
    points = []
    # Seeds may stop after different rounds, where a wished error ends them.
    for index in range(max(map(len, seeds))):
        rounds = [rounds[min(index, len(rounds) - 1)] for rounds in seeds]
        records = [one.record for one in rounds]
        found = estimates(
            _stacked(rounds),
            problem.test.y,
            kind=problem.kind,
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
        if arm not in NOT_BUYING and found["target_loo"] is not None
    }
    return min(errors, key=errors.get, default=None)


def _compare(config: Config, problem: Problem, arm: list[Checkpoint], base: list[Checkpoint]):
    """Paired intervals of every test metric, arm minus base."""
    found = differences(
        _stacked(arm),
        _stacked(base),
        problem.test.y,
        kind=problem.kind,
        num_resamples=config.num_resamples,
        level=config.level,
    )
    return {
        metric: {end: number(value) for end, value in interval.items()}
        for metric, interval in found.items()
    }


def _stacked(rounds: Sequence[Checkpoint]) -> np.ndarray:
    return np.stack([one.predictions for one in rounds])


def _answer(
    config: Config, problem: Problem, ends: Mapping[str, Sequence[Checkpoint]], arm: str | None
) -> dict[str, Any] | None:
    """What is returned: the safe answer on the chosen arm's representation, averaged over seeds."""
    if arm is None:
        return None
    rounds = ends[arm]
    answers = [one.record["answer"] for one in rounds]
    answered = [one._replace(predictions=one.answered) for one in rounds]
    parts = {
        part: {name: _mean([one[part][name] for one in answers]) for name in answers[0][part]}
        for part in ("shares", "losses", "target")
    }
    diagnoses = [one.record["diagnosis"] for one in rounds]
    return parts | {
        "arm": arm,
        "samples_total": max(one.record["samples_total"] for one in rounds),
        "target_loo": _mean([one["loo"] for one in answers]),
        "difference": {
            base: _compare(config, problem, answered, ends[base])
            for base in report.BASES
            if base in ends
        },
        "diagnosis": {name: _mean([one[name] for one in diagnoses]) for name in diagnoses[0]},
        "num_features": _mean([one.record["num_features"] for one in rounds]),
    }


def _rank_warning(arms: Mapping[str, Sequence[Sequence[Checkpoint]]]) -> str | None:
    """Why the representation looks too small, in the words of the first round that was found so."""
    records = (one.record for seeds in arms.values() for rounds in seeds for one in rounds)
    return next(filter(None, (record.get("rank_warning") for record in records)), None)


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


def _relevance(
    arms: Mapping[str, Sequence[Sequence[Checkpoint]]], arm: str | None, names: Sequence[str]
) -> list[dict[str, Any]]:
    """The sources that help most in the answer's arm, strongest first, with what was bought.

    Medians of the posterior are averaged over seeds; the ends are the widest of all seeds.
    """
    if arm is None:
        return []
    records = [rounds[-1].record for rounds in arms[arm]]
    bought = [[one.record["counts"] for one in rounds] for rounds in arms[arm]]
    samples = np.mean([np.sum(counts, axis=0) for counts in bought], axis=0)
    rows = []
    for index in ranking(records)[:_NUM_TOP]:
        known = [record["relevance"] for record in records]
        low, high = ([one[end][index] for one in known] for end in ("low", "high"))
        rows.append(
            {
                "source": names[index],
                "relevance": _mean([one["middle"][index] for one in known]),
                "low": None if None in low else min(low),
                "high": None if None in high else max(high),
                "samples": float(samples[index]),
            }
        )
    return rows


def _mean(values: list[float | None]) -> float | None:
    return None if None in values else float(np.mean(values))
