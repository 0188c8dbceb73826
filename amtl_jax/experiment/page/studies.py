"""A study as its workdir holds it, or the shards of one study as one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from amtl_jax.data.columns import TableError
from amtl_jax.data.npz import read_npz
from amtl_jax.experiment.config import ConfigError
from amtl_jax.experiment.page.checks import Damaged
from amtl_jax.experiment.page.reading import checked, read_json
from amtl_jax.experiment.page.study_checks import checked_arrays, summary_form

_MOST_ARRAYS = 2**29  # bytes of arrays.npz


class Study(NamedTuple):
    """The numbers of a study.

    Attributes:
      config: as in `config.json`.
      summary: as in `summary.json`; of shards, computed anew from all rows.
      arrays: as in `arrays.npz`; empty where there is none.
      workdirs: where it was read from.
      notes: what a reader should know about the reading.
    """

    config: dict[str, Any]
    summary: dict[str, Any]
    arrays: dict[str, np.ndarray]
    workdirs: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def read_studies(workdirs: Sequence[Path]) -> Study:
    """Reads one study; several workdirs are its shards.

    Raises:
      ConfigError: if a file is missing or damaged, the workdirs are of several studies or versions,
        or a unit that several of them have is not the same in all.
      OSError: if a file cannot be read.
    """
    found = [read_one(workdir) for workdir in workdirs]
    if len(found) == 1:
        return found[0]
    from amtl_jax.experiment.page.shards import merged  # counts all rows again, which needs JAX

    return merged(found)


def read_one(workdir: Path) -> Study:
    """Reads the study of a workdir.

    Raises:
      ConfigError: if a file is missing or damaged.
      OSError: if a file cannot be read.
    """
    config = read_json(workdir / "config.json")
    summary = read_json(workdir / "summary.json")
    checked(summary, summary_form, str(workdir / "summary.json"), "summary")
    path = workdir / "arrays.npz"
    if not path.is_file():
        note = f"{path} does not exist: nothing is drawn of relevance, counts and predictions."
        return Study(config, summary, {}, (workdir,), (note,))
    if path.stat().st_size > _MOST_ARRAYS:
        raise ConfigError(f"{path} has more than {_MOST_ARRAYS:,} bytes, which no study writes.")
    try:
        arrays = checked_arrays(read_npz(path), summary)
    except (TableError, Damaged) as error:
        raise ConfigError(f"{path} is damaged: {str(error).rstrip('.')}.") from error
    return Study(config, summary, arrays, (workdir,))
