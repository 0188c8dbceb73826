"""What a study gives back, and the files that are made of its units."""

import io
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from amtl_jax.data.image_tasks import task_names
from amtl_jax.experiment.config import ConfigError, to_plain
from amtl_jax.experiment.study.contexts import Stage
from amtl_jax.experiment.study.grid import Unit
from amtl_jax.experiment.study.units import UnitResult, restore, study_arrays
from amtl_jax.experiment.study_rows import Row, computing_seconds, write_rows
from amtl_jax.experiment.study_summary import summarise_study
from amtl_jax.experiment.versions import package_versions
from amtl_jax.files import write_atomically

_PAUSE = 60.0  # seconds between the files of a study that goes on
_REST = 20.0  # times what writing them took, where that is longer


class StudyResult(NamedTuple):
    """The numbers of a study, as far as its units are there.

    Attributes:
      config: as in `config.json`.
      workdir: folder of the study.
      rows: the lines of `results.csv`.
      summary: as in `summary.json`.
      arrays: as in `arrays.npz`.
    """

    config: dict[str, Any]
    workdir: Path
    rows: tuple[Row, ...]
    summary: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def __repr__(self) -> str:
        """In one line: the numbers are in the tables."""
        units = self.summary["units"]
        return (
            f"<StudyResult {self.summary['name']}: {units['done']} of {units['of']} units, arms "
            f"{', '.join(self.summary['arms'])}, in {self.workdir}>"
        )


def study_result(stage: Stage, results: Mapping[Unit, UnitResult]) -> StudyResult:
    """Gathers the units that are there.

    Args:
      stage: the study.
      results: units that are known; others are looked for in the workdir, as processes and other
        shards may have finished more.

    Raises:
      ConfigError: if there is none.
      OSError: if a unit cannot be read.
    """
    config, workdir, grid = stage.config, stage.workdir, stage.grid
    others = [unit for unit in grid.units() if unit not in results]
    results = {**results, **restore(workdir, stage.fingerprint, others)}
    if not results:
        raise ConfigError(f"Workdir {workdir} holds no unit of a study yet.")
    rows = tuple(row for unit in grid.units() if unit in results for row in results[unit].rows)
    summary = summarise_study(
        rows,
        name=config.name,
        targets=grid.targets,
        arms=grid.arms,
        budgets=grid.budgets,
        target_samples=grid.target_samples,
        seeds=grid.seeds,
        level=config.level,
        num_resamples=config.num_resamples,
        versions=package_versions(),
        device=", ".join(sorted({one.device for one in results.values()})),
        seconds=computing_seconds(rows),
    )
    arrays = study_arrays(grid, task_names(stage.tasks), results)
    return StudyResult(to_plain(config), workdir, rows, summary, arrays)


def write_outputs(result: StudyResult) -> None:
    """Writes `results.csv`, `arrays.npz` and `summary.json`, each whole or not at all.

    Raises:
      OSError: if one cannot be written.
    """
    write_rows(result.workdir / "results.csv", result.rows)
    stream = io.BytesIO()
    np.savez_compressed(stream, **result.arrays)  # numbers and text: nothing to pickle
    write_atomically(result.workdir / "arrays.npz", stream.getbuffer())
    body = json.dumps(result.summary, indent=2, allow_nan=False)
    write_atomically(result.workdir / "summary.json", body.encode() + b"\n")


class WhileItRuns:
    """Writes the files of a study as it goes, so that a report shows one that goes on or stopped.

    About once a minute, and for a twentieth of the time at most.
    """

    def __init__(self, stage: Stage):
        """Takes the study; its files are not due at once."""
        self._stage = stage
        self._next = time.monotonic() + _PAUSE

    def __call__(self, results: Mapping[Unit, UnitResult]) -> None:
        """Hears the results so far, and writes what is there where it is time.

        Raises:
          OSError: if a file cannot be read or written.
        """
        began = time.monotonic()
        if began < self._next:
            return
        write_outputs(study_result(self._stage, results))
        ended = time.monotonic()
        self._next = ended + max(_PAUSE, _REST * (ended - began))
