"""How the command shows a run: live on a terminal, in plain lines elsewhere."""

import contextlib
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TextIO

from amtl_jax.experiment import report
from amtl_jax.experiment.journal import Slot
from amtl_jax.experiment.observer import Observer, Plan


class Printer(Observer):
    """Tells plain lines, a round each.

    Args:
      echo: gets each line; printed unless told.
    """

    def __init__(self, echo: Callable[[str], None] | None = None):
        self._echo = echo or (lambda line: print(line, flush=True))
        self._plan = None

    def planned(self, plan: Plan) -> None:
        """Tells one line."""
        self._plan = plan
        self._echo(report.plan_line(plan))

    def finished(self, slot: Slot, record: dict[str, Any], *, restored: bool) -> None:
        """Tells the round's line."""
        num_rounds = self._plan.num_rounds[slot.arm]
        self._echo(report.round_line(record, num_rounds, self._plan.source_names))

    def noted(self, text: str) -> None:
        """Tells a note."""
        self._echo(f"  note: {text}")

    def ended(self, summary: dict[str, Any]) -> None:
        """Tells the tables."""
        self._echo("\n" + report.closing(summary))


def command_observer(stream: TextIO | None = None) -> AbstractContextManager[Observer]:
    """Returns what shows a run on `stream`, stdout unless told; leaving it restores a terminal."""
    stream = stream or sys.stdout
    if not is_live(stream):
        return contextlib.nullcontext(Printer())
    from amtl_jax.experiment.display import LiveDisplay  # only a terminal needs rich

    return LiveDisplay(stream)


def is_live(stream: TextIO) -> bool:
    """Whether a stream is a terminal that can redraw lines.

    Only the stream itself is asked: variables such as FORCE_COLOR, which build servers set, must
    not put control characters into a log. A notebook's `!` gives a terminal that cannot redraw.
    """
    if os.environ.get("TERM", "") in ("", "dumb", "unknown") and os.name != "nt":
        return False
    return stream.isatty() and "JPY_PARENT_PID" not in os.environ
