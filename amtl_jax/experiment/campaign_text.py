"""What the commands of a campaign print: requests, receipts and where it stands."""

from collections.abc import Mapping

from amtl_jax.experiment.campaign_types import Receipt, Request, Status
from amtl_jax.experiment.text_table import table_lines

_MOST_LINES = 40
_MOST_SOURCES = 5


def request_text(request: Request, outstanding: Mapping[str, int], workdir: str) -> str:
    """A request as a table, a line a task, and what to do about it."""
    amount = _amount(request.cost, request.budget_left, request.unit)
    lines = [f"request {request.id}: round {request.round} of {request.num_rounds}, {amount} left"]
    is_part = sum(outstanding.values()) < sum(request.counts.values())
    rows = [["task", "samples"] + ["still"] * is_part + ["price"] * (request.unit == "money")]
    for task, count in request.counts.items():
        row = [task, f"{count:,}"]
        row += [f"{outstanding.get(task, 0):,}"] * is_part
        row += [f"{request.price[task]:g}"] * (request.unit == "money")
        rows.append(row)
    lines += table_lines(rows)
    for names in request.together:
        lines.append(f"  together, as labels of the same inputs: {_names(names)}")
    lines.append(
        f"in {workdir}/requests/{request.id}.json; when collected: amtl tell {workdir} FILE"
    )
    return "\n".join(lines)


def receipt_text(receipt: Receipt) -> str:
    """A receipt, a line for each fate."""
    accepted = sum(receipt.accepted.values())
    name = "nothing was accepted" if receipt.number is None else f"delivery {receipt.number}"
    lines = [f"{name}: {accepted:,} source samples, {receipt.target:,} rows of the target"]
    for what, counts in (
        ("accepted", receipt.accepted),
        ("of these late", receipt.late),
        ("of these surplus", receipt.surplus),
        ("without a label, weight 0", receipt.unlabelled),
    ):
        if counts:
            lines.append(f"  {what}: {_counts(counts)}")
    for one in receipt.refused:
        examples = f" ({', '.join(one.examples)}{', …' * (one.rows > len(one.examples))})"
        lines.append(
            f"  refused: {one.task} {one.rows:,}{examples if one.examples else ''}: {one.reason}"
        )
    if receipt.number is None and not receipt.refused:
        lines = []
    lines.append(f"  paid {receipt.paid:,.10g}, {receipt.budget_left:,.10g} of the budget left")
    if receipt.outstanding:
        lines.append(f"  still asked: {_counts(receipt.outstanding)}")
    return "\n".join(lines)


def status_text(status: Status) -> str:
    """Where a campaign stands, in a few lines."""
    spent = f"{_amount(status.paid, status.budget, status.unit)} paid"
    lines = [
        f"{status.name}: target {status.target}, {status.num_target:,} rows; {status.rounds} of "
        f"{status.num_rounds} rounds fitted, {spent}"
    ]
    if status.relevance:
        strongest = list(status.relevance.items())[:_MOST_SOURCES]
        lines.append("  most relevant: " + ", ".join(f"{name} {nu:+.2f}" for name, nu in strongest))
    known = {name: value for name, value in status.error.items() if value is not None}
    if known:
        metrics = ", ".join(f"{name} {value:.4g}" for name, value in known.items())
        lines.append(f"  the model on the target's test rows: {metrics}")
    if status.target_loss is not None:
        lines.append(f"  its leave-one-out error on the target's sample: {status.target_loss:.4g}")
    if status.finished:
        lines.append(f"  finished: {status.finished}")
    return "\n".join(lines)


def _amount(part: float, whole: float, unit: str) -> str:
    if unit == "samples":
        return f"{part:,.10g} of {whole:,.10g} samples"
    return f"money for {part:,.6g} of {whole:,.6g}"


def _counts(counts: Mapping[str, int]) -> str:
    shown = [f"{task} {count:,}" for task, count in list(counts.items())[:_MOST_LINES]]
    more = len(counts) - len(shown)
    return ", ".join(shown) + (f" and {more} more tasks" if more else "")


def _names(names: list[str]) -> str:
    more = len(names) - _MOST_SOURCES
    return ", ".join(names[:_MOST_SOURCES]) + (f" and {more} more" if more > 0 else "")
