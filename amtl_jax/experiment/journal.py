"""The rounds of a workdir: a checkpoint each, and a line each in `metrics.jsonl`.

The checkpoints are the truth and `metrics.jsonl` is made from them: whole when a run starts and
ends, a line at a time in between. A run that is killed between the two loses no line for good.
"""

import json
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from amtl_jax.experiment import checkpoint
from amtl_jax.experiment.checkpoint import Checkpoint, CheckpointError
from amtl_jax.files import write_atomically


class Slot(NamedTuple):
    """Place of a round in a run."""

    seed: int
    arm: str
    index: int


class Journal(NamedTuple):
    """Where the rounds of a run are kept.

    Attributes:
      workdir: folder of the run.
      config: fingerprint of its config; a checkpoint of another one is not believed.
      slots: all rounds of the run, in the order of `metrics.jsonl`.
      is_writer: whether this process writes; of several the first does.
    """

    workdir: Path
    config: str
    slots: tuple[Slot, ...]
    is_writer: bool = True

    def path(self, slot: Slot) -> Path:
        """Returns the file of a round."""
        folder = self.workdir / "checkpoints" / f"seed_{slot.seed}" / slot.arm
        return folder / f"round_{slot.index}.ckpt"

    def identity(self, slot: Slot) -> dict[str, Any]:
        """Returns what a round's checkpoint says about whose it is."""
        return {"config": self.config, **slot._asdict()}

    def restore(self, templates: dict[str, Checkpoint]) -> dict[Slot, Checkpoint]:
        """Loads all good checkpoints; a damaged one is named in a warning and made anew.

        Args:
          templates: structure of a checkpoint by arm.

        Raises:
          OSError: if a file cannot be read.
        """
        found = {}
        for slot in self.slots:
            path = self.path(slot)
            if not path.exists():
                continue
            try:
                found[slot] = checkpoint.load(
                    path, templates[slot.arm], identity=self.identity(slot)
                )
            except CheckpointError as error:
                warnings.warn(f"{error} This round is computed again.", stacklevel=2)
        return found

    def keep(self, slot: Slot, one: Checkpoint) -> None:
        """Writes a round down: the checkpoint first, then its line.

        Raises:
          OSError: if the workdir cannot be written.
        """
        if not self.is_writer:
            return
        checkpoint.save(self.path(slot), one, identity=self.identity(slot))
        with (self.workdir / "metrics.jsonl").open("a") as file:
            file.write(_line(one.record))

    def write_metrics(self, records: Iterable[dict[str, Any]]) -> None:
        """Writes `metrics.jsonl` whole.

        Raises:
          OSError: if the workdir cannot be written.
        """
        body = "".join(map(_line, records)).encode()
        if self.is_writer:
            write_atomically(self.workdir / "metrics.jsonl", body)


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, allow_nan=False) + "\n"
