"""Shards of a study become one: rows are put together, and everything is counted anew."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amtl_jax.experiment.config import ConfigError, shown
from amtl_jax.experiment.page.studies import Study
from amtl_jax.experiment.study_rows import METRICS, Row, RowsError, computing_seconds, read_rows
from amtl_jax.experiment.study_summary import summarise_study

_MOST_CHANGES = 5
_ROUNDING = 1e-5  # by which machines differ in float32
_AXES = ("name", "targets", "arms", "seeds", "level", "num_resamples")
_Unit = tuple[str, int, int, int]


def merged(studies: Sequence[Study]) -> Study:
    """Puts the shards of a study together.

    Args:
      studies: as their workdirs hold them, two or more.

    Raises:
      ConfigError: if they are of several studies or versions, or a unit that several of them have
        is not the same in all.
      OSError: if rows cannot be read.
    """
    first = studies[0]
    for other in studies[1:]:
        _refuse_other(first, other)
    found = [_units(study.workdirs[0], study.summary) for study in studies]
    rows = _joined(studies, found)
    budgets, samples = _axes(first)
    try:
        summary = summarise_study(
            rows,
            name=first.summary["name"],
            targets=first.summary["targets"],
            arms=first.summary["arms"],
            budgets=budgets,
            target_samples=samples,
            seeds=first.summary["seeds"],
            level=first.summary["level"],
            num_resamples=first.summary["num_resamples"],
            versions=_versions(studies),
            device=", ".join(sorted({study.summary["device"] for study in studies})),
            seconds=computing_seconds(rows),
        )
    except ValueError as error:
        raise ConfigError(f"The rows of these workdirs are of no one study: {error}") from error
    there = [row.budget for row in rows if row.target_samples == samples[0]]
    cell = max(there, default=max(budgets)), samples[0]
    arrays, notes = _arrays(studies, found, cell)
    notes = [note for study in studies for note in study.notes] + notes
    paths = tuple(path for study in studies for path in study.workdirs)
    return Study(first.config, summary, arrays, paths, tuple(notes))


def _refuse_other(first: Study, other: Study) -> None:
    """Raises where two workdirs are of several configs or versions, and names what differs."""
    paths = f"{first.workdirs[0]} and {other.workdirs[0]}"
    changes = _changes(first.config, other.config)
    for name in _AXES:
        changes += _changes(first.summary[name], other.summary[name], name)
    versions = [study.summary["versions"].get("amtl_jax") for study in (first, other)]
    changes += _changes(*versions, "version of amtl_jax")
    if changes:
        more = f" and {len(changes) - _MOST_CHANGES} more" if len(changes) > _MOST_CHANGES else ""
        raise ConfigError(
            f"{paths} are no shards of one study: {'; '.join(changes[:_MOST_CHANGES])}{more}. Give "
            "workdirs of one config and version."
        )


def _changes(first: Any, other: Any, name: str = "") -> list[str]:
    """What differs, as `name: first X, then Y`."""
    if isinstance(first, dict) and isinstance(other, dict):
        found = []
        for key in sorted({*first, *other}):
            found += _changes(first.get(key), other.get(key), f"{name}.{key}".lstrip("."))
        return found
    if first == other:
        return []
    return [f"{name[:80]}: first {shown(first)}, then {shown(other)}"]


def _axes(study: Study) -> tuple[list[int], list[int]]:
    """Budgets and numbers of target samples of the grid, as the config has them."""
    config, plain = study.config, study.config.get("study") or {}
    found = (
        plain.get("budgets") or [config.get("budget")],
        plain.get("target_samples") or [config.get("num_target")],
    )
    for name, values in zip(("budgets", "target_samples"), found, strict=True):
        if not isinstance(values, list) or not all(type(one) is int for one in values):
            raise ConfigError(
                f"{study.workdirs[0] / 'config.json'} is damaged: expected whole numbers for "
                f"study.{name}, got {shown(values)}."
            )
    return found


def _units(workdir: Path, summary: Mapping[str, Any]) -> dict[_Unit, list[Row]]:
    """Rows of a workdir by unit."""
    try:
        rows = read_rows(workdir / "results.csv")
    except RowsError as error:
        raise ConfigError(str(error)) from error
    found: dict[_Unit, list[Row]] = {}
    for row in rows:
        found.setdefault((row.target, row.seed, row.budget, row.target_samples), []).append(row)
    order = {arm: place for place, arm in enumerate(summary["arms"])}
    for own in found.values():
        own.sort(key=lambda row: (order.get(row.arm, len(order)), row.arm, row.round))
    return found


def _joined(studies: Sequence[Study], found: Sequence[dict[_Unit, list[Row]]]) -> list[Row]:
    """All rows; a unit that several workdirs have must be the same in all, and counts once."""
    rows: dict[_Unit, list[Row]] = {}
    origin: dict[_Unit, Path] = {}
    for study, units in zip(studies, found, strict=True):
        for unit, own in units.items():
            if unit not in rows:
                rows[unit], origin[unit] = own, study.workdirs[0]
                continue
            difference = _difference(rows[unit], own)
            if difference:
                target, seed, budget, samples = unit
                raise ConfigError(
                    f"{origin[unit]} and {study.workdirs[0]} disagree on target {target}, seed "
                    f"{seed}, budget {budget:,}, {samples:,} target samples: {difference}. One of "
                    "them is damaged, or computed by another config."
                )
    return [row for own in rows.values() for row in own]


def _difference(first: Sequence[Row], other: Sequence[Row]) -> str:
    """How rows of a unit differ, beyond rounding and seconds; empty where they do not."""
    keys = [[(row.arm, row.round, row.samples_total) for row in own] for own in (first, other)]
    if keys[0] != keys[1]:
        return "arms, rounds or samples differ"
    for one, two in zip(first, other, strict=True):
        for name in METRICS:
            pair = getattr(one, name), getattr(two, name)
            if (None in pair and pair[0] != pair[1]) or (
                None not in pair and not math.isclose(*pair, rel_tol=_ROUNDING, abs_tol=_ROUNDING)
            ):
                return f"{name} of {one.arm} in round {one.round} is {pair[0]} and {pair[1]}"
    return ""


def _versions(studies: Sequence[Study]) -> dict[str, str]:
    """Versions of all packages; several where machines had several."""
    found: dict[str, dict[str, None]] = {}
    for study in studies:
        for name, version in study.summary["versions"].items():
            found.setdefault(name, {})[version] = None
    return {name: ", ".join(versions) for name, versions in found.items()}


def _arrays(
    studies: Sequence[Study], found: Sequence[dict[_Unit, list[Row]]], cell: tuple[int, int]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Means over seeds of the arrays; of shards that share some seeds of a target, the larger one.

    Returns:
      The arrays, and sentences on what they leave out.
    """
    known = [place for place, study in enumerate(studies) if study.arrays]
    if not known:
        return {}, []
    first = studies[known[0]].arrays
    for place in known[1:]:
        if studies[place].arrays["tasks"].tolist() != first["tasks"].tolist():
            pair = " and ".join(str(studies[one].workdirs[0]) for one in (known[0], place))
            raise ConfigError(
                f"{pair} are no shards of one study: their arrays.npz have other tasks."
            )
    seeds: list[dict[str, set[int]]] = [{} for _ in studies]
    for own, units in zip(seeds, found, strict=True):
        for target, seed, budget, samples in units:
            if (budget, samples) == cell:
                own.setdefault(target, set()).add(seed)
    merged = {"tasks": first["tasks"], "targets": first["targets"]}
    left_out = set()
    names = [name for place in known for name in studies[place].arrays if "/" in name]
    for name in dict.fromkeys(names):
        holders = [place for place in known if name in studies[place].arrays]
        shapes = {studies[place].arrays[name].shape for place in holders}
        if len(shapes) > 1:
            raise ConfigError(
                f"The shards have {name} of several shapes, {sorted(shapes)}; give workdirs of one "
                "study."
            )
        empty = 0.0 if name.startswith("counts/") else np.nan
        whole = np.full(shapes.pop(), empty)
        for index, target in enumerate(first["targets"].tolist()):
            chosen, rest = _chosen([(place, seeds[place].get(target, set())) for place in holders])
            if rest:
                left_out.add(target)
            if chosen:
                weights = [len(seeds[place][target]) for place in chosen]
                parts = [studies[place].arrays[name][index] for place in chosen]
                whole[index] = np.average(parts, axis=0, weights=weights)
        merged[name] = whole
    notes = []
    if left_out:
        notes.append(
            f"The shards share some seeds of {len(left_out):,} targets and not all: pictures of "
            "relevance, counts and predictions are of the seeds of the larger shard there."
        )
    return merged, notes


def _chosen(holders: list[tuple[int, set[int]]]) -> tuple[list[int], bool]:
    """Shards whose seeds of a target do not overlap, the largest first; whether seeds are left."""
    taken: set[int] = set()
    chosen: list[int] = []
    for place, seeds in sorted(holders, key=lambda one: -len(one[1])):
        if seeds and not seeds & taken:
            chosen.append(place)
            taken |= seeds
    return chosen, bool(set().union(*(seeds for _, seeds in holders)) - taken)
