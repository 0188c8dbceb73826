"""What a study gives back, and the files that are made of its units."""

import io
import json
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import amtl_jax
from amtl_jax.experiment.config import Config, ConfigError, to_plain
from amtl_jax.experiment.study.grid import Grid, Unit
from amtl_jax.experiment.study.units import UnitResult, study_arrays
from amtl_jax.experiment.study_rows import Row, write_rows
from amtl_jax.experiment.study_summary import summarise_study
from amtl_jax.files import write_atomically

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


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


def study_result(
    config: Config,
    workdir: Path,
    grid: Grid,
    tasks: Sequence[str],
    results: dict[Unit, UnitResult],
) -> StudyResult:
    """Gathers the units that are there.

    Raises:
      ConfigError: if there is none.
    """
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
        versions={
            "amtl_jax": amtl_jax.__version__,
            **{name: metadata.version(name) for name in _PACKAGES},
        },
        device=", ".join(sorted({one.device for one in results.values()})),
        seconds=round(sum(row.seconds for row in rows), 2),
    )
    return StudyResult(to_plain(config), workdir, rows, summary, study_arrays(grid, tasks, results))


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
