"""The units of a workdir: a verified file each, and what is made of all of them."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from amtl_jax.experiment import checkpoint
from amtl_jax.experiment.checkpoint import Checkpoint, CheckpointError
from amtl_jax.experiment.evaluate import evaluate
from amtl_jax.experiment.study.field import ArmRound
from amtl_jax.experiment.study.grid import Grid, Unit
from amtl_jax.experiment.study_rows import METRICS, Row
from amtl_jax.experiment.workdir import UNITS

_STATE = "['state']['"


class UnitResult(NamedTuple):
    """What a unit leaves behind.

    Attributes:
      rows: its lines of `results.csv`.
      target_losses: leave-one-out error of the target head after each arm's last round.
      counts: `[R, M]` int32 samples bought per round, by arm that buys.
      nu: `[M]` float32 relevance that the last round was bought by, by arm that estimates one.
      device: that computed it.
    """

    rows: tuple[Row, ...]
    target_losses: dict[str, float]
    counts: dict[str, np.ndarray]
    nu: dict[str, np.ndarray]
    device: str


def unit_result(
    unit: Unit, rounds: Sequence[ArmRound], test_label: np.ndarray, device: str
) -> UnitResult:
    """Evaluates the rounds of all arms of a unit on the test rows.

    Args:
      unit: whose they are.
      rounds: of every arm in turn.
      test_label: `[n]` class of each test row.
      device: kind of device that computed them.
    """
    digit = int(unit.target.rpartition("_")[2])
    labels = (test_label == digit).astype(np.float32)[:, None]
    rows, losses, counts, nu = [], {}, {}, {}
    for one in rounds:
        found = evaluate(one.outputs[:, None], labels, kind="binary")
        rows.append(
            Row(
                target=unit.target,
                corruption=unit.corruption,
                digit=digit,
                arm=one.arm,
                seed=unit.seed,
                budget=unit.budget,
                round=one.index + 1,
                samples_total=one.samples,
                target_samples=unit.target_samples,
                seconds=round(one.seconds, 4),
                **{name: found[name] if np.isfinite(found[name]) else None for name in METRICS},
            )
        )
        losses[one.arm] = one.target_loss
        if one.counts is not None:
            counts.setdefault(one.arm, []).append(np.asarray(one.counts, np.int32))
        if one.nu is not None:
            nu[one.arm] = np.asarray(one.nu, np.float32)
    stacked = {arm: np.stack(own) for arm, own in counts.items()}
    return UnitResult(tuple(rows), losses, stacked, nu, device)


def unit_path(workdir: Path, unit: Unit) -> Path:
    """Returns the file of a unit."""
    return workdir / UNITS / f"{unit.name}.ckpt"


def save_unit(workdir: Path, fingerprint: str, unit: Unit, result: UnitResult) -> None:
    """Writes a unit atomically.

    Raises:
      OSError: if it cannot be written.
    """
    record = {
        "rows": [row._asdict() for row in result.rows],
        "target_losses": result.target_losses,
        "device": result.device,
    }
    arrays = {f"counts/{arm}": array for arm, array in result.counts.items()}
    arrays |= {f"nu/{arm}": array for arm, array in result.nu.items()}
    one = Checkpoint(arrays, np.zeros(0, np.float32), record)
    path, identity = unit_path(workdir, unit), {"config": fingerprint, **unit._asdict()}
    checkpoint.save(path, one, identity=identity)


def load_unit(workdir: Path, fingerprint: str, unit: Unit) -> UnitResult:
    """Reads and verifies a unit.

    Raises:
      CheckpointError: if the file is truncated or altered, or another's.
      OSError: if it cannot be read.
    """
    path = unit_path(workdir, unit)
    record, arrays = checkpoint.load_arrays(
        path, identity={"config": fingerprint, **unit._asdict()}
    )
    try:
        found: dict[str, dict[str, np.ndarray]] = {"counts": {}, "nu": {}}
        for name, array in arrays.items():
            if name.startswith(_STATE):  # ['state']['counts/uniform']
                kind, _, arm = name.removeprefix(_STATE).removesuffix("']").partition("/")
                found[kind][arm] = array
        rows = tuple(Row(**row) for row in record["rows"])
        return UnitResult(rows, record["target_losses"], **found, device=record["device"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: holds no unit of a study.") from error


def restore(workdir: Path, fingerprint: str, units: Iterable[Unit]) -> dict[Unit, UnitResult]:
    """Loads all good units; damaged ones are named in a warning and computed anew.

    Raises:
      OSError: if a file cannot be read.
    """
    found, errors = {}, []
    for unit in units:
        if not unit_path(workdir, unit).exists():
            continue
        try:
            found[unit] = load_unit(workdir, fingerprint, unit)
        except CheckpointError as error:
            errors.append(error)
    if errors:
        more = f" So are {len(errors) - 1:,} more." if len(errors) > 1 else ""
        warnings.warn(f"{errors[0]} This unit is computed again.{more}", stacklevel=2)
    return found


def study_arrays(
    grid: Grid, tasks: Sequence[str], results: dict[Unit, UnitResult]
) -> dict[str, np.ndarray]:
    """What `arrays.npz` holds: relevance, counts and predictions of the largest budget.

    Args:
      grid: of the study.
      tasks: names of all P tasks, in order.
      results: of the units that are there.

    Returns:
      `tasks` `[P]` and `targets` `[T]` names; by arm `nu/<arm>` `[T, P]` that the last round was
      bought by, NaN where a task is no source; `counts/<arm>` `[T, R, P]`; `predicted/<arm>` and
      `measured/<arm>` `[T]`, the difference to uniform of the leave-one-out error and of the test
      MSE; `loo/uniform` `[T]`, that error of uniform. All are means over seeds, at the first number
      of target samples and the largest budget of which there is a unit.
    """
    place = {name: index for index, name in enumerate(tasks)}
    arrays: dict[str, np.ndarray] = {
        "tasks": np.asarray(tasks, str),
        "targets": np.asarray(grid.targets, str),
    }
    samples = grid.target_samples[0]
    there = [unit.budget for unit in results if unit.target_samples == samples]
    budget = max(there, default=max(grid.budgets))

    def over_targets(values_of: Any, shape: tuple[int, ...]) -> np.ndarray:
        """`[T, *shape]` means over seeds; NaN where nothing is there."""
        whole = np.full((len(grid.targets), *shape), np.nan, np.float32)
        for number, target in enumerate(grid.targets):
            units = [Unit(target, seed, budget, samples) for seed in grid.seeds]
            found = [values_of(unit, results[unit]) for unit in units if unit in results]
            found = [one for one in found if one is not None]
            if found:
                whole[number] = np.mean(found, axis=0)
        return whole

    def spread(values: np.ndarray | None, target: str) -> np.ndarray | None:
        """`[..., M]` values of the sources of a target as `[..., P]`."""
        if values is None:
            return None
        own = target.rpartition("_")[0]
        sources = [place[name] for name in tasks if name.rpartition("_")[0] != own]
        whole = np.full((*values.shape[:-1], len(tasks)), np.nan, np.float32)
        whole[..., sources] = values
        return whole

    for arm in grid.arms:
        rounds = {len(one.counts[arm]) for one in results.values() if arm in one.counts}
        if any(arm in one.nu for one in results.values()):
            arrays[f"nu/{arm}"] = over_targets(
                lambda unit, one, arm=arm: spread(one.nu.get(arm), unit.target), (len(tasks),)
            )
        if rounds:
            shape = (max(rounds), len(tasks))
            found = over_targets(
                lambda unit, one, arm=arm: spread(one.counts.get(arm), unit.target), shape
            )
            arrays[f"counts/{arm}"] = np.nan_to_num(found)
        if arm != "uniform" and "uniform" in grid.arms:
            arrays[f"predicted/{arm}"] = over_targets(
                lambda unit, one, arm=arm: _less(one.target_losses, arm), ()
            )
            arrays[f"measured/{arm}"] = over_targets(
                lambda unit, one, arm=arm: _less(_last_mse(one.rows), arm), ()
            )
    if "uniform" in grid.arms:
        arrays["loo/uniform"] = over_targets(lambda unit, one: one.target_losses.get("uniform"), ())
    return arrays


def _last_mse(rows: Sequence[Row]) -> dict[str, float | None]:
    """MSE after each arm's last round."""
    return {row.arm: row.mse for row in sorted(rows, key=lambda row: row.round)}


def _less(values: dict[str, float | None], arm: str) -> float | None:
    """A value of an arm less that of uniform, or None where one is missing."""
    pair = values.get(arm), values.get("uniform")
    return None if None in pair else pair[0] - pair[1]
