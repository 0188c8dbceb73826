"""The form of a study's summary and arrays."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from amtl_jax.experiment.page.checks import (
    Check,
    Damaged,
    anything,
    count,
    distinct,
    fields,
    flag,
    listed,
    maybe,
    named,
    number,
    text,
)
from amtl_jax.experiment.study_outcomes import BASES
from amtl_jax.experiment.study_rows import METRICS

_MOST_ARMS, _MOST_CELLS, _MOST_TASKS, _MOST_ROUNDS = 40, 64, 1000, 200
_MOST_RESAMPLES = 1_000_000


def _by_metric(check: Check) -> Check:
    return fields(dict.fromkeys(METRICS, check))


_ENDS = dict.fromkeys(("difference", "low", "high"), maybe(number))
_COUNTS = dict.fromkeys(("wins", "ties", "losses"), count)
_VALUES = _by_metric(fields({"value": maybe(number), "difference": maybe(number)}))
_NEEDS = {"samples": number, "factor": maybe(number), "compute_factor": maybe(number)}
_NEEDS |= {"is_bound": flag, "side": maybe(text)}
_ARM = fields(
    {
        "targets": count,
        "samples_total": count,
        "seconds": number,
        "metrics": _by_metric(maybe(number)),
        "difference": named(_by_metric(fields(_ENDS | _COUNTS))),
        "per_corruption": named(_VALUES),
        "per_digit": named(_VALUES),
        "per_target": named(_VALUES),
        "curve": listed(
            fields({"round": count, "samples": count} | dict.fromkeys(METRICS, maybe(number))),
            least=1,
            most=_MOST_ROUNDS,
        ),
        "uniform_needs": named(fields(_NEEDS)),
    }
)
_CELL = fields({"budget": count, "target_samples": count, "arms": named(_ARM, most=_MOST_ARMS)})
_SUMMARY = fields(
    {
        "name": text,
        "corruptions": listed(text, most=_MOST_TASKS),
        "digits": listed(count, most=_MOST_TASKS),
        "targets": listed(text, most=_MOST_TASKS),
        "arms": listed(text, most=_MOST_ARMS),
        "seeds": listed(count, most=_MOST_TASKS),
        "level": number,
        "num_resamples": count,
        "units": fields({"done": count, "of": count}),
        "cells": listed(_CELL, most=_MOST_CELLS),
        "versions": named(text, most=200),
        "device": text,
        "seconds": number,
        "reading": listed(text, most=10_000),
        "kind": anything,
    }
)


def summary_form(value: Any, place: str) -> None:
    """A check of `summary.json` of a study: its form, and that its names fit together."""
    _SUMMARY(value, place)
    for name in ("corruptions", "targets", "arms"):
        distinct(value[name], f"{place}.{name}")
    if not (0 < value["level"] < 1 and 0 < value["num_resamples"] <= _MOST_RESAMPLES):
        raise Damaged(
            f"{place}: expected a level in (0, 1) and 1 to {_MOST_RESAMPLES:,} resamples, got "
            f"{value['level']} and {value['num_resamples']}"
        )
    kinds = set(value["corruptions"]), {str(digit) for digit in value["digits"]}
    for index, target in enumerate(value["targets"]):
        parts = target.rpartition("_")[::2]
        if any(part not in known for part, known in zip(parts, kinds, strict=True)):
            raise Damaged(
                f"{place}.targets[{index}]: expected one of its corruptions and digits, got "
                f"{target!r:.80}"
            )
    for index, cell in enumerate(value["cells"]):
        for arm, found in cell["arms"].items():
            if arm not in value["arms"]:
                raise Damaged(f"{place}.cells[{index}]: no arm of this study is {arm!r:.80}")
            other = [base for base in found["difference"] if base not in BASES]
            if other:
                raise Damaged(
                    f"{place}.cells[{index}]: expected differences to {' and '.join(BASES)}, got "
                    f"{other[0]!r:.80}"
                )


def checked_arrays(
    arrays: Mapping[str, np.ndarray], summary: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Those arrays of `arrays.npz` that a page draws; what it does not know is left out.

    Args:
      arrays: as read.
      summary: of the same study.

    Returns:
      `tasks` and `targets` as names, all others as float.

    Raises:
      Damaged: for an array of another kind, shape or range than expected.
    """
    tasks, targets = (_names(arrays, name) for name in ("tasks", "targets"))
    if targets.tolist() != summary["targets"]:
        raise Damaged(
            f"targets: expected the {len(summary['targets'])} of summary.json, got others"
        )
    unknown = sorted(set(targets.tolist()) - set(tasks.tolist()))
    if unknown:
        raise Damaged(f"tasks: expected all targets among them, {unknown[0]!r:.80} is not")
    found = {"tasks": tasks, "targets": targets}
    for arm in summary["arms"]:
        shapes = {
            f"nu/{arm}": (len(targets), len(tasks)),
            f"counts/{arm}": (len(targets), None, len(tasks)),
            f"predicted/{arm}": (len(targets),),
            f"measured/{arm}": (len(targets),),
            f"loo/{arm}": (len(targets),),
        }
        for name, shape in shapes.items():
            if name in arrays:
                found[name] = _values(arrays[name], shape, name)
        counts = found.get(f"counts/{arm}", np.zeros(1))
        if not (np.isfinite(counts).all() and (counts >= 0).all()):
            raise Damaged(f"counts/{arm}: expected finite numbers from 0, got others")
    return found


def _names(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in arrays:
        raise Damaged(f"{name} is missing")
    found = arrays[name]
    if found.ndim != 1 or found.dtype.kind != "U" or not 0 < len(found) <= _MOST_TASKS:
        raise Damaged(
            f"{name}: expected 1 to {_MOST_TASKS:,} names, got {found.dtype} of the shape "
            f"{found.shape}"
        )
    distinct(found.tolist(), name)
    return found


def _values(found: np.ndarray, shape: tuple[int | None, ...], name: str) -> np.ndarray:
    fits = found.ndim == len(shape) and found.dtype.kind in "biuf"
    fits = fits and all(
        wanted in (None, got) for wanted, got in zip(shape, found.shape, strict=True)
    )
    if not fits or (len(shape) == 3 and not 0 < found.shape[1] <= _MOST_ROUNDS):
        wanted = ", ".join("rounds" if one is None else str(one) for one in shape)
        raise Damaged(
            f"{name}: expected numbers of the shape ({wanted}), got {found.dtype} of the shape "
            f"{found.shape}"
        )
    if np.isinf(found).any() or (np.abs(found[np.isfinite(found)]) > 1e15).any():
        raise Damaged(f"{name}: expected finite numbers or NaN, got others")
    return found.astype(float)
