"""The scalars of a run: one series per arm and seed, one step per round."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from amtl_jax.experiment.config import Config, to_plain
from amtl_jax.experiment.journal import Slot
from amtl_jax.experiment.observer import Observer, Plan
from amtl_jax.experiment.scalars.writers import Job, Series, Writers, make_writers

_NUMBERS = (
    "samples_total",
    "seconds",
    "penalty",
    "num_features",
    "train_loss",
    "target_loo",
    "held_out_error",
)


def round_scalars(record: dict[str, Any]) -> dict[str, float]:
    """Picks the scalars of a line of `metrics.jsonl`, under its names; what is null is left out.

    Args:
      record: the line. `target/...` are test metrics of the arm, `answer/...` of the answer.
    """
    found = {name: record.get(name) for name in _NUMBERS}
    answer = record.get("answer", {}).get("target", {})
    for part, metrics in (("target", record["target"]), ("answer", answer)):
        found |= {f"{part}/{name}": value for name, value in metrics.items()}
    return {name: float(value) for name, value in found.items() if value is not None}


@contextlib.contextmanager
def written_run(
    shown: Observer, names: Sequence[str], workdir: str | Path, config: Config
) -> Iterator[Observer]:
    """Gives an observer that writes what it hears and hands it on; leaving it closes all files.

    Args:
      shown: hears everything; given back where there is nothing to write.
      names: of the writers; see `make_writers`.
      workdir: of the run.
      config: of the run.
    """
    if not names:
        yield shown
        return
    job = Job(config.name, Path(workdir), "", to_plain(config), shown.noted)
    with contextlib.closing(make_writers(names, job)) as writers:
        yield WrittenRun(shown, writers)


class WrittenRun(Observer):
    """Writes the rounds it hears of.

    Args:
      shown: hears everything too, before.
      writers: get the numbers.
    """

    def __init__(self, shown: Observer, writers: Writers):
        self._shown = shown
        self._writers = writers
        self._open: Series | None = None

    def preparing(self, what: str) -> None:
        """Hands it on."""
        self._shown.preparing(what)

    def planned(self, plan: Plan) -> None:
        """Hands it on."""
        self._shown.planned(plan)

    def began(self, slot: Slot) -> None:
        """Hands it on."""
        self._shown.began(slot)

    def finished(self, slot: Slot, record: dict[str, Any], *, restored: bool) -> None:
        """Writes the round; arms come one after the other, so another one ends the last."""
        self._shown.finished(slot, record, restored=restored)
        facts = {"arm": slot.arm, "seed": slot.seed}
        series = Series(f"{slot.arm}/seed_{slot.seed}", facts)
        if self._open not in (None, series):
            self._writers.end(self._open)
        self._open = series
        self._writers.write(series, slot.index + 1, round_scalars(record))

    def skipped(self, slot: Slot) -> None:
        """Hands it on."""
        self._shown.skipped(slot)

    def noted(self, text: str) -> None:
        """Hands it on."""
        self._shown.noted(text)

    def ended(self, summary: dict[str, Any]) -> None:
        """Ends the last series."""
        if self._open is not None:
            self._writers.end(self._open)
        self._shown.ended(summary)
