"""What a writer of scalars is, which ones there are, and what happens when one fails."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

WRITERS = TENSORBOARD, WANDB = "tensorboard", "wandb"  # as options and as extras


class Series(NamedTuple):
    """A curve that is drawn beside others: a run in the words of both programs.

    Attributes:
      name: unique in the workdir, `uniform/seed_0`; parts are folders.
      facts: what it can be grouped by.
    """

    name: str
    facts: Mapping[str, Any]


class Writer(Protocol):
    """Writes scalars; nothing is made on disk before the first `write`."""

    name: str

    def write(self, series: Series, step: int, values: Mapping[str, float]) -> None:
        """Writes the values of a step; steps of a series grow."""

    def end(self, series: Series) -> None:
        """Hears that a series is whole."""

    def close(self) -> None:
        """Closes what was not ended."""


class Job(NamedTuple):
    """Whose numbers are written.

    Attributes:
      name: of the config.
      workdir: folder of the run or study.
      part: folder name of a shard, or "".
      config: as plain data.
      note: tells a person a line.
    """

    name: str
    workdir: Path
    part: str
    config: Mapping[str, Any]
    note: Callable[[str], None]


class Writers:
    """Hands numbers to several writers; one that fails is told about once and left out.

    Args:
      writers: the writers.
      note: tells a person a line.
    """

    def __init__(self, writers: Sequence[Writer], note: Callable[[str], None]):
        self._writers = list(writers)
        self._note = note

    def write(self, series: Series, step: int, values: Mapping[str, float]) -> None:
        """Writes the values of a step."""
        self._each(lambda writer: writer.write(series, step, values))

    def end(self, series: Series) -> None:
        """Ends a series."""
        self._each(lambda writer: writer.end(series))

    def close(self) -> None:
        """Closes all."""
        self._each(lambda writer: writer.close())

    def _each(self, act: Callable[[Writer], None]) -> None:
        for writer in tuple(self._writers):
            try:
                act(writer)
            except Exception as error:  # anything: hours of computing do not end for a curve
                self._writers.remove(writer)
                with contextlib.suppress(Exception):
                    writer.close()
                what = f"{error}" or type(error).__name__
                self._note(
                    f"{writer.name} gets no more numbers: {what}. The computation goes on, and "
                    "the same command writes those that are missing."
                )


def require_writers(names: Sequence[str]) -> None:
    """Imports the packages of the named writers; call it before anything is written.

    Args:
      names: of `TENSORBOARD` and `WANDB`.

    Raises:
      ImportError: names the extra that brings a package which cannot be imported.
      ConfigError: if Weights & Biases knows nobody to write for.
    """
    if TENSORBOARD in names:
        from amtl_jax.experiment.scalars import tensorboard_writer

        tensorboard_writer.require()
    if WANDB in names:
        from amtl_jax.experiment.scalars import wandb_writer

        wandb_writer.require()


def make_writers(names: Sequence[str], job: Job) -> Writers:
    """Makes the named writers; their packages are imported at the first number.

    Args:
      names: of `TENSORBOARD` and `WANDB`.
      job: whose numbers they write.
    """
    found: list[Writer] = []
    if TENSORBOARD in names:
        from amtl_jax.experiment.scalars.tensorboard_writer import TensorBoardWriter

        found.append(TensorBoardWriter(job.workdir / TENSORBOARD / job.part))
    if WANDB in names:
        from amtl_jax.experiment.scalars.wandb_writer import WandbWriter

        found.append(WandbWriter(job))
    return Writers(found, job.note)


def package_missing(option: str, package: str, error: ImportError) -> ImportError:
    """Returns the error that says what to install.

    Args:
      option: name of the option and of the extra.
      package: that brings what is imported.
      error: what Python said.
    """
    return ImportError(
        f'--{option} needs the package {package} ({error}); run: pip install "amtl-jax[{option}]"'
    )
