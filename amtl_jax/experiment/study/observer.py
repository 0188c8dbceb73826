"""Who hears how a study goes: a progress bar on a terminal, lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TextIO

from amtl_jax.experiment.progress import is_live
from amtl_jax.experiment.study_rows import Row

_PAUSE = 30.0  # seconds between lines


class StudyObserver:
    """Hears what happens in a study. This one keeps quiet: override what you need."""

    def planned(self, text: str, done: int, total: int) -> None:
        """Hears what will be run, and how many of its units are there already."""

    def working(self, text: str) -> None:
        """Hears what is computed now."""

    def kept(self, rows: Sequence[Row]) -> None:
        """Hears the lines of `results.csv` of a unit: those of a resumed study too, in order."""

    def finished(self, done: int, total: int) -> None:
        """Hears that one more unit is computed and kept."""

    def noted(self, text: str) -> None:
        """Hears what a person should know and nobody needs to act on."""

    def ended(self, text: str) -> None:
        """Hears the closing tables."""


class LineObserver(StudyObserver):
    """Tells plain lines, one about every half minute."""

    def __init__(self, stream: TextIO | None = None):
        self._stream = stream or sys.stdout
        self._started = self._last = time.monotonic()
        self._begun, self._doing = 0, ""

    def _tell(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def planned(self, text: str, done: int, total: int) -> None:
        """Tells one line."""
        self._begun, self._started = done, time.monotonic()
        self._tell(text)
        if done:
            self._tell(f"  {done:,} of {total:,} units are there already")

    def working(self, text: str) -> None:
        """Remembers it."""
        self._doing = text

    def finished(self, done: int, total: int) -> None:
        """Tells a line where the last one was some time ago."""
        now = time.monotonic()
        if now - self._last < _PAUSE and done < total:
            return
        self._last = now
        left = (now - self._started) / max(done - self._begun, 1) * (total - done)
        self._tell(f"  {done:,} of {total:,} units, {self._doing}, about {_minutes(left)} left")

    def noted(self, text: str) -> None:
        """Tells a note."""
        self._tell(f"  note: {text}")

    def ended(self, text: str) -> None:
        """Tells the tables."""
        self._tell(f"\n{text}")


class BarObserver(LineObserver):
    """Shows a bar with the time that is left; imports rich."""

    def __init__(self, stream: TextIO):
        super().__init__(stream)
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self.progress: Progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(file=stream, force_jupyter=False, highlight=False, markup=False),
            transient=True,
            speed_estimate_period=600,
        )
        self._bar = None

    def planned(self, text: str, done: int, total: int) -> None:
        """Shows the bar."""
        self.progress.console.print(text, soft_wrap=True)
        self._bar = self.progress.add_task("Compiling", total=total, completed=done)

    def working(self, text: str) -> None:
        """Shows it beside the bar."""
        if self._bar is not None:
            self.progress.update(self._bar, description=text)

    def finished(self, done: int, total: int) -> None:
        """Moves the bar."""
        if self._bar is not None:
            self.progress.update(self._bar, completed=done)

    def noted(self, text: str) -> None:
        """Tells it above the bar."""
        self.progress.console.print(f"  note: {text}", soft_wrap=True)

    def ended(self, text: str) -> None:
        """Tells the tables below."""
        self.progress.stop()
        self._tell(f"\n{text}")


@contextlib.contextmanager
def study_observer(stream: TextIO | None = None) -> Iterator[StudyObserver]:
    """What shows a study on `stream`, stdout unless told; leaving it restores a terminal."""
    stream = stream or sys.stdout
    if not is_live(stream):
        yield LineObserver(stream)
        return
    observer = BarObserver(stream)
    with observer.progress:
        yield observer


def _minutes(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
