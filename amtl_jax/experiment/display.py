"""The live display of a run on a terminal; imports rich."""

import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TextIO

from rich.console import Console, Group
from rich.constrain import Constrain
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from amtl_jax.experiment import report
from amtl_jax.experiment.journal import Slot
from amtl_jax.experiment.observer import Observer, Plan
from amtl_jax.experiment.records import NOT_BUYING

_TOP = 3
_LEAST = 24  # columns that the top sources need
_ROOM = 3
_TERMINATED = 128 + signal.SIGTERM  # what a shell gives a command that `kill` ended


class LiveDisplay(Observer):
    """Shows the arms so far, what is computed now, and how long it will take.

    Finished rounds scroll by above, a line each. A context manager: on leaving it, however that
    comes about, the live part is gone and the terminal is as it was.

    Args:
      stream: a terminal.
      clock: seconds; for tests.
    """

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic):
        self._console = Console(file=stream, force_jupyter=False, highlight=False, markup=False)
        self._exits = ExitStack()
        self._clock, self._started = clock, clock()
        self._plan: Plan | None = None
        self._latest: dict[str, dict] = {}
        self._num_done, self._speed = 0, _Speed(clock)
        self._spinner = Spinner("dots" if self._console.encoding.startswith("utf") else "line")
        self._now = "starting"
        is_shared = stream is sys.stdout and sys.stderr.isatty()
        self._live = Live(
            console=self._console,
            get_renderable=self._render,
            transient=True,
            refresh_per_second=8,
            # Warnings go above the live part where both share a terminal, else to their file.
            redirect_stdout=False,
            redirect_stderr=is_shared,
        )

    def __enter__(self) -> "LiveDisplay":
        """Starts to draw."""
        self._exits.enter_context(self._live)
        if threading.current_thread() is threading.main_thread():  # else signals are not ours
            before = signal.signal(signal.SIGTERM, _leave)
            self._exits.callback(signal.signal, signal.SIGTERM, before)
        return self

    def __exit__(self, *error: object) -> None:
        """Removes the live part, and shows the cursor again."""
        self._exits.close()

    def preparing(self, what: str) -> None:
        """Shows it beside the spinner."""
        self._now = what.lower()

    def planned(self, plan: Plan) -> None:
        """Tells one line, and starts the bar."""
        self._plan, self._speed = plan, _Speed(self._clock, plan.slots)
        self._now = "looking for finished rounds"
        self._say(report.plan_line(plan), whole=True)

    def began(self, slot: Slot) -> None:
        """Shows the round beside the spinner."""
        where = f"seed {slot.seed}, {slot.arm}"
        if slot.arm in NOT_BUYING:
            self._now = f"{where}: ridge on the target sample"
            return
        is_first = self._speed.is_new
        what = "compiling and fitting the first round" if is_first else "drawing and fitting"
        self._now = f"{where}, round {slot.index + 1}/{self._plan.num_rounds[slot.arm]}: {what}"
        self._speed.start(slot)

    def finished(self, slot: Slot, record: dict[str, Any], *, restored: bool) -> None:
        """Tells the round's line, and moves the bar."""
        self._latest[slot.arm] = record
        self._num_done += 1
        if not restored and slot.arm not in NOT_BUYING:
            self._speed.stop()
        if self._num_done == len(self._plan.slots):
            self._now = "comparing the arms and drawing figures"
        self._say(self._line(slot, record) + ("  (restored)" if restored else ""))

    def skipped(self, slot: Slot) -> None:
        """Moves the bar."""
        self._num_done += 1

    def noted(self, text: str) -> None:
        """Tells a note."""
        self._say(f"  note: {text}", whole=True)

    def ended(self, summary: dict[str, Any]) -> None:
        """Tells the tables, without the live part."""
        self._exits.close()
        self._say("\n" + report.closing(summary), whole=True)

    def _say(self, text: str, *, whole: bool = False) -> None:
        """Prints above the live part; a line that is not wanted whole ends with the terminal."""
        overflow = "fold" if whole else "ellipsis"
        self._console.print(Text(text), no_wrap=not whole, overflow=overflow, soft_wrap=whole)

    def _line(self, slot: Slot, record: dict[str, Any]) -> str:
        """A finished round in one short line."""
        metric, value = next(iter(record["target"].items()))
        rounds = self._plan.num_rounds[slot.arm]
        return (
            f"seed {slot.seed}  {slot.arm:<11} {slot.index + 1}/{rounds}  "
            f"{report.label(metric)} {report.value_text(metric, value):<6}  "
            f"{record['samples_total']:>7,} samples"
        )

    def _render(self) -> Constrain:
        parts = [self._arms()] if self._latest else []
        frame = self._spinner.render(self._console.get_time())
        now = Text.assemble(frame, " ", self._now, no_wrap=True, overflow="ellipsis")
        parts.append(now)
        if self._plan:
            parts.append(self._bar())
        # Room for the ^C that a terminal echoes: it must not wrap the line it stands in.
        return Constrain(Group(*parts), max(self._console.width - _ROOM, 1))

    def _arms(self) -> Table:
        """The latest round of each arm; a new seed replaces the one before."""
        metric = next(iter(next(iter(self._latest.values()))["target"]))
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        columns = ["arm", "seed", "samples", report.label(metric)]
        rows = [
            [
                arm,
                str(record["seed"]),
                f"{record['samples_total']:,}",
                report.value_text(metric, record["target"][metric]),
            ]
            for arm, record in list(self._latest.items())
        ]
        used = sum(max(map(len, column)) + 2 for column in zip(columns, *rows, strict=True))
        left = self._console.width - _ROOM - used
        for name in columns:
            justify = "left" if name == "arm" else "right"
            table.add_column(name, justify=justify, no_wrap=True, overflow="ellipsis")
        if left >= _LEAST:
            table.add_column("top sources", no_wrap=True)
        for row in rows:
            top = [self._top(self._latest[row[0]], left)] if left >= _LEAST else []
            table.add_row(Text(row[0]), *row[1:], *top)
        return table

    def _top(self, record: dict[str, Any], width: int) -> Text:
        """The sources of largest relevance; the arm without sources has none."""
        top = report.top_sources(record, self._plan.source_names, _TOP) if record.get("nu") else []
        text = Text(", ".join(f"{name} {nu:+.2f}" for name, nu in top) or "-")
        text.truncate(width - 2, overflow="ellipsis")
        return text

    def _bar(self) -> Table:
        total = len(self._plan.slots)
        row = Table.grid(padding=(0, 1), expand=True)
        row.add_column(ratio=1)
        row.add_column(no_wrap=True)
        row.add_row(ProgressBar(total, self._num_done), Text(self._times(total)))
        return row

    def _times(self, total: int) -> str:
        """`3/13  0:12, about 0:40 left`."""
        text = f"{self._num_done}/{total}  {_minutes(self._clock() - self._started)}"
        left = self._speed.left(self._plan.slots[self._num_done :])
        return text if left is None else f"{text}, about {_minutes(left)} left"


class _Speed:
    """How long rounds take that buy samples; the others take next to no time.

    The first such round of a seed chooses λ, and the other arms mostly share it: it is a kind
    of its own.
    """

    def __init__(self, clock, slots: tuple[Slot, ...] = ()):
        self._clock = clock
        buying = (slot for slot in reversed(slots) if slot.arm not in NOT_BUYING)
        self._openers = set({slot.seed: slot for slot in buying}.values())
        self._now: tuple[Slot, float] | None = None
        self._seconds: dict[bool, list[float]] = {True: [], False: []}

    @property
    def is_new(self) -> bool:
        return not any(self._seconds.values())

    def start(self, slot: Slot) -> None:
        self._now = slot, self._clock()

    def stop(self) -> None:
        slot, begun = self._now
        self._seconds[slot in self._openers].append(self._clock() - begun)
        self._now = None

    def left(self, slots: tuple[Slot, ...]) -> float | None:
        """Seconds that these rounds will take, or None where nothing like them was seen."""
        seconds, buying = 0.0, [slot for slot in slots if slot.arm not in NOT_BUYING]
        for slot in buying:
            seen = self._seconds[slot in self._openers]
            if not seen:
                return None
            seconds += sum(seen) / len(seen)
        spent = self._clock() - self._now[1] if self._now else 0.0
        return max(seconds - spent, 0.0) if buying else None


def _minutes(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _leave(_number, _frame):
    """Ends the command by way of the display's exit: `kill` must not leave a hidden cursor."""
    raise SystemExit(_TERMINATED)
