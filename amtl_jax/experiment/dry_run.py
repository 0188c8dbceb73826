"""What `--dry-run` says: a preview in words."""

import math

from amtl_jax.experiment.preview import Preview, seconds_range

_MEGABYTE = 1e6


def describe(found: Preview) -> str:
    """Puts a preview in words, a few lines with counts, memory and time."""
    endless = found.available is None
    supply = "samples without limit" if endless else f"{found.available:,} samples in all"
    total = found.num_seeds * sum(found.num_rounds.values())
    seeds = f"{found.num_seeds} seed{'s' * (found.num_seeds > 1)}"
    lines = [
        f"{found.name}: target {found.target}, {found.num_target:,} rows to learn from and "
        f"{found.num_test:,} to test on, on {found.device}",
        f"sources  {found.num_sources}, {supply}",
        f"arms     {', '.join(map(_arm_text, found.num_rounds.items()))}; with {seeds} "
        f"{total} round{'s' * (total > 1)}",
        *_round_lines(found),
        *_memory_lines(found),
        *_time_lines(found),
        "A dry run: nothing was started, nothing written.",
    ]
    return "\n".join(lines)


def _arm_text(item: tuple[str, int]) -> str:
    arm, rounds = item
    return f"{arm} {rounds} round{'s' * (rounds > 1)}"


def _round_lines(found: Preview) -> list[str]:
    """Budget and floor of each round that buys."""
    lines = []
    for index, (budget, floor) in enumerate(zip(found.budgets, found.floors, strict=True)):
        amount = f"money for {budget:,.6g}" if found.has_prices else f"{budget:,} samples an arm"
        lines.append(f"round {index + 1}  {amount}, of these at least {floor:,} a source")
    return lines


def _memory_lines(found: Preview) -> list[str]:
    if found.cost is None:
        return ["memory   the inputs alone: no arm buys samples"]
    blocks, rows, *inputs = found.batch_shape
    shape = f"{blocks} blocks × {rows} rows × {' × '.join(map(str, inputs))} inputs"
    work = found.cost.work_bytes
    if work is None:
        needs = "what a round needs besides it is not known before it runs"
    else:
        what = "fit" if found.cost.is_bound else "round"
        needs = f"a {what} needs {_size(work)} besides it, as the compiler plans"
    what = f"packed batch of {shape}: {_size(found.batch_bytes)}"
    if found.num_chunks is not None:
        sums, chunk = _size(found.batch_bytes), _size(4 * math.prod(found.batch_shape))
        what = (
            f"sums: {sums}, twice that where λ is chosen; of {found.num_chunks:,} chunks of "
            f"{shape}, {chunk} each, two at a time"
        )
    return [
        f"memory   {what}; {needs}",
        "         not counted: the data on the host, the test rows, and JAX itself",
    ]


def _time_lines(found: Preview) -> list[str]:
    if found.cost is None:
        return ["time     seconds: ridge on the target sample is all there is to fit"]
    fewest, most = found.num_fits
    cost, (low, high) = found.cost, seconds_range(found)
    fits = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    if cost.is_bound:
        span, each = f"at most about {_span(high)}", f"{cost.seconds:.3g} s if it takes all steps"
    else:
        same = _span(low) == _span(high)
        span = f"about {_span(low)}" if same else f"about {_span(low)} to {_span(high)}"
        each = f"{cost.seconds:.3g} s"
    return [
        f"time     {span}: {fits} fits, each {each}, after {cost.compile_seconds:.2g} s of "
        "compiling, as measured now",
        "         not counted: loading the data, checkpoints, and the final intervals",
    ]


def _size(num_bytes: int) -> str:
    megabytes = num_bytes / _MEGABYTE
    return f"{megabytes / 1e3:,.1f} GB" if megabytes >= 1e3 else f"{megabytes:,.1f} MB"


def _span(seconds: float) -> str:
    """Seconds as coarsely as an estimate deserves."""
    if seconds < 90:
        return f"{max(round(seconds, -1 if seconds >= 20 else 0), 1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
