"""How the command shows a run: plain lines."""

from collections.abc import Callable

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

    def finished(self, slot: Slot, record: dict, *, restored: bool) -> None:
        """Tells the round's line."""
        num_rounds = self._plan.num_rounds[slot.arm]
        self._echo(report.round_line(record, num_rounds, self._plan.source_names))

    def noted(self, text: str) -> None:
        """Tells a note."""
        self._echo(f"  note: {text}")

    def ended(self, summary: dict) -> None:
        """Tells the tables."""
        self._echo("\n" + report.closing(summary))
