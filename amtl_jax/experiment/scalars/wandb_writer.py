"""Runs of Weights & Biases: one a series, those of a workdir in one group."""

import hashlib
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amtl_jax.experiment.config import ConfigError
from amtl_jax.experiment.scalars.writers import WANDB, Job, Series, package_missing
from amtl_jax.files import write_atomically

_PROJECT = "amtl_jax"  # unless WANDB_PROJECT says another
_WITHOUT_LOGIN = ("offline", "dryrun", "disabled")
_TOKEN = re.compile(r"[0-9a-f]{12}")


def require() -> None:
    """Imports wandb and logs in, which may ask a person for a key, as wandb does.

    Raises:
      ImportError: names the extra.
      ConfigError: if there is no key, or the server cannot be reached.
    """
    try:
        from wandb import init, login  # noqa: F401  # a mere folder called wandb has no init
    except ImportError as error:
        raise package_missing(WANDB, "wandb", error) from error
    if os.environ.get("WANDB_MODE", "") in _WITHOUT_LOGIN:
        return
    try:
        login()
    except Exception as error:  # wandb has many kinds
        raise ConfigError(
            f"--wandb: {error} With WANDB_MODE=offline it writes into the workdir, for wandb sync."
        ) from error


class WandbWriter:
    """Writes a run of Weights & Biases a series; the variables WANDB_... keep their say.

    Its id is the same in every process, by a token in the workdir. A resumed run is continued:
    steps that the server has are not sent again. Offline, where nobody knows what it has, every
    process writes whole runs, and equal steps hold equal numbers.

    Args:
      job: whose numbers they are.
    """

    name = "Weights & Biases"

    def __init__(self, job: Job):
        self._job = job
        self._runs: dict[str, Any] = {}
        self._has_told = False

    def write(self, series: Series, step: int, values: Mapping[str, float]) -> None:
        """Logs the values of a step that is not there yet."""
        if series.name not in self._runs:
            self._runs[series.name] = self._open(series)
        run = self._runs[series.name]
        if step >= run.step:
            run.log(dict(values), step=step)

    def end(self, series: Series) -> None:
        """Finishes a run."""
        if series.name in self._runs:
            self._runs.pop(series.name).finish(exit_code=0)

    def close(self) -> None:
        """Finishes the others as failed: something has stopped them."""
        while self._runs:
            self._runs.popitem()[1].finish(exit_code=1)

    def _open(self, series: Series) -> Any:
        import wandb

        job = self._job
        token = _token(job.workdir / WANDB / f"amtl_{job.part or 'run'}.id")
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            group=os.environ.get("WANDB_RUN_GROUP", f"{job.name}-{token}"),
            name=series.name,
            id=token + hashlib.sha256(series.name.encode()).hexdigest()[:12],
            resume="allow",
            reinit="create_new",  # the arms of a study are open side by side
            dir=str(job.workdir),
            config={**job.config, **series.facts},
            # The terminal belongs to the display, and stdout is not to be caught.
            settings={"silent": True, "console": "off"},
        )
        if not self._has_told:
            self._has_told = True
            folder = job.workdir / WANDB
            where = f"in {folder}, for wandb sync" if run.offline else f"at {run.url or 'no place'}"
            job.note(f"{self.name}: {where}")
        return run


def _token(path: Path) -> str:
    """What tells the runs of this workdir from others: kept in a file, made where there is none."""
    if path.exists():
        token = path.read_text(errors="replace").strip()
        if _TOKEN.fullmatch(token):
            return token
    token = secrets.token_hex(6)
    write_atomically(path, token.encode() + b"\n")
    return token
