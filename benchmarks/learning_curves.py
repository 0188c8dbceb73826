"""Rules of allocation against budget, on truths that are known.

    python -m benchmarks learning_curves --seeds 60
    python -m benchmarks learning_curves --assert --seeds 240 --out curves.json
    python -m benchmarks learning_curves --scenarios gauss --budget 2000 8000 32000 --plots figures
    python -m benchmarks learning_curves --scenarios mis --rank aic

The linear Gaussian family with D = 40, K = 4, M = 40, σ = 1: a whole campaign of a rule is one
program, run for all seeds at once; every sample is charged. The risk is what the representation
costs, `min_w E(xᵀθ_T − xᵀB̂w)²`. Ratios are those of means over common seeds; `uniform` and `known`
are one purchase of the budget, the latter ∝ |nu| of the true heads. Most of the time goes into
compiling: `JAX_COMPILATION_CACHE_DIR=FOLDER` keeps what was compiled for the next time.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from amtl_jax.data.scenarios import SCENARIOS
from benchmarks.curves_arms import ARMS
from benchmarks.curves_campaign import Cell, run_arm
from benchmarks.curves_checks import acceptance_cells, checks_of, print_checks
from benchmarks.curves_results import (
    Row,
    completed,
    find,
    is_at,
    new_row,
    place_of,
    print_rows,
    read_rows,
    write_rows,
)
from benchmarks.curves_truths import Sizes, draw_truths, predicted_risks

_SCENARIOS = ("gauss", "one", "spread", "dup", "dup2")
_REFERENCES = ("uniform", "known")  # of the ratios: always run

Plan = list[tuple[Cell, tuple[str, ...]]]


def main(argv: Sequence[str]) -> None:
    """Runs the study, prints its table, and writes what was asked for."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        plan = _plan(options)
        kept = [] if options.out is None else read_rows(options.out)
    except ValueError as error:
        parser.error(str(error))
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    rows = run_plan(plan, seeds, kept, options.out)
    print_rows(rows)
    if options.plots is not None:
        from benchmarks.curves_plots import write_plots  # only figures need matplotlib

        for path in write_plots(rows, options.plots):
            _say(f"wrote {path}")
    if options.check:
        checks = checks_of(rows)
        if not print_checks(checks):
            sys.exit(1)


def run_plan(plan: Plan, seeds: range, kept: Sequence[Row], out: Path | None) -> list[Row]:
    """Runs what `kept` does not hold yet; the file keeps every row from the moment it is there.

    Args:
      plan: cells with their arms.
      seeds: of all of them.
      kept: rows of earlier runs; those of other cells stay in the file.
      out: the file; None: nothing is written.

    Returns:
      The plan's rows, completed.
    """
    rows, asked = list(kept), []
    for cell, names in plan:
        place = place_of(cell, seeds)
        own = [row for row in rows if is_at(row, place)]
        others = [row for row in rows if not is_at(row, place)]
        for name in names:
            if find(own, name) is None:
                own = completed([*own, _run(cell, name, seeds)])
                if out is not None:
                    write_rows(out, [*others, *own])
        rows = [*others, *own]
        asked += [row for row in own if row["strategy"] in names]
    return asked


def _run(cell: Cell, name: str, seeds: range) -> Row:
    started = time.monotonic()
    outcome = run_arm(cell, ARMS[name], seeds)
    seconds = time.monotonic() - started
    joined = cell.num_target if cell.join_target else 0
    truths = draw_truths(cell.scenario, seeds, cell.sizes)
    predicted = predicted_risks(truths, outcome.counts, joined)
    row = new_row(cell, name, seeds, outcome, predicted, seconds)
    _say(
        f"{cell.scenario}, M = {cell.sizes.num_tasks}, n_T = {cell.num_target}, "
        f"N = {cell.budget:,}, {name}: mean risk {row['mean_risk']:.4g}, {seconds:.0f} s"
    )
    return row


def _plan(options: argparse.Namespace) -> Plan:
    """The cells that the options ask for; with `--assert` alone those of the bars."""
    every = [name for name in ARMS if not name.endswith("_rank") or options.rank is not None]
    wanted = tuple(dict.fromkeys((*_REFERENCES, *(options.strategies or every))))
    chosen = (options.scenarios, options.num_tasks, options.budget, options.target_samples)
    if options.check and not any(chosen) and options.rank is None and not options.join_target:
        plan = acceptance_cells()
        return plan if options.strategies is None else [(cell, wanted) for cell, _ in plan]
    sizes = Sizes(input_dim=options.input_dim, num_features=options.features)
    return [
        (
            Cell(
                scenario,
                num_target,
                budget,
                sizes._replace(num_tasks=num_tasks),
                options.join_target,
                options.rank,
            ),
            wanted,
        )
        for scenario in options.scenarios or _SCENARIOS
        for num_tasks in options.num_tasks or (sizes.num_tasks,)
        for num_target in options.target_samples or (400,)
        for budget in options.budget or (8000,)
    ]


def _rank(text: str) -> int | str:
    if text == "aic":
        return text
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a number or aic, got {text!r}") from error


def whole_number(text: str) -> int:
    """An option's number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {value}")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks learning_curves",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    several = {"nargs": "+", "type": whole_number}
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS)
    parser.add_argument("--num-tasks", **several, help="M (default 40)")
    parser.add_argument("--budget", **several, help="N, or money in `noise` (default 8000)")
    parser.add_argument("--target-samples", **several, help="n_T (default 400)")
    parser.add_argument("--seeds", type=whole_number, default=240, help="how many (default 240)")
    parser.add_argument("--first-seed", type=int, default=0, help="fresh ones for a second look")
    parser.add_argument("--strategies", nargs="+", choices=tuple(ARMS), help="all unless told")
    parser.add_argument("--input-dim", type=whole_number, default=40, help="D (default 40)")
    parser.add_argument(
        "--features", type=whole_number, default=4, help="K of the truth (default 4)"
    )
    parser.add_argument(
        "--rank",
        type=_rank,
        help="K of the rules' fits, or `aic`; `uniform` and `known` keep that of the truth",
    )
    parser.add_argument(
        "--join-target", action="store_true", help="the target's sample joins every final fit"
    )
    parser.add_argument("--out", type=Path, help="JSON file; what it holds already is not run")
    parser.add_argument("--plots", type=Path, help="folder for figures")
    parser.add_argument(
        "--assert",
        dest="check",
        action="store_true",
        help="check the bars; without cells of one's own, on the cells that have them",
    )
    return parser


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
