"""Predictions beside what came: risks of fixed allocations, intervals of runs, and "it pays".

    python -m benchmarks predictions
    python -m benchmarks predictions --assert --seeds 240 --out predictions.json
    python -m benchmarks predictions --parts runs --scenarios dup2 --seeds 48

Three things on the linear Gaussian family of `learning_curves`. `fixed`: the predicted risk of an
allocation with known heads, beside the mean risk of fits of drawn samples. `runs`: campaigns of
`c_optimal` and `uniform` that are predicted after every round, as `amtl plan` does, for what they
will have bought in the end; counted is how often the 95 % interval holds the run's risk, and where
`adaptivity_pays` says so beforehand, or a run's plan after its uniform first round, how often
`c_optimal` beats `uniform`. `pays`: the same for other sizes, with runs only where it is said
beforehand. Seeds are not those of the bars of `learning_curves`.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.curves_campaign import Cell
from benchmarks.curves_checks import print_checks
from benchmarks.curves_results import place_of, read_rows, write_rows
from benchmarks.curves_truths import Sizes
from benchmarks.learning_curves import whole_number
from benchmarks.predictions_fixed import SPLITS, fixed_risks
from benchmarks.predictions_results import (
    Row,
    checks_of,
    fixed_row,
    print_rows,
    runs_row,
)
from benchmarks.predictions_runs import forecast_runs, pays_beforehand

PARTS = ("fixed", "runs", "pays")
SCENARIOS = ("gauss", "one", "spread", "dup", "dup2")
_FIRST_SEED = 10_000
_FIXED_BUDGETS = (3200, 8000, 32_000)
_FIXED_SEEDS = 24  # means of so many have an error of 5 %, and a median over cells of less

_RUNS = ((40, 40, 4, 400, 8000), (40, 40, 4, 50, 8000))  # M, D, K, n_T, N
_PAYS = (
    (40, 40, 4, 400, 2000),
    (40, 40, 4, 400, 4000),
    (40, 40, 4, 50, 4000),
    (40, 40, 4, 400, 16_000),
    (10, 40, 4, 400, 2000),
    (10, 40, 4, 400, 8000),
    (20, 20, 2, 100, 2000),
    (20, 20, 2, 100, 8000),
    (80, 40, 8, 400, 16_000),
)


def main(argv: Sequence[str]) -> None:
    """Runs the study, prints its tables, and writes what was asked for."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        rows = [] if options.out is None else read_rows(options.out, frozenset({"part"}))
    except ValueError as error:
        parser.error(str(error))
    asked = []
    for part in options.parts:
        for place, make in _cells(part, options):
            row = next((row for row in rows if place.items() <= row.items()), None)
            if row is None:
                started = time.monotonic()
                row = place | make()
                _say(f"{_named(row)}: {time.monotonic() - started:.0f} s")
                rows.append(row)
                if options.out is not None:
                    write_rows(options.out, rows)
            asked.append(row)
    print_rows(asked)
    if options.check and not print_checks(checks_of(asked)):
        sys.exit(1)


def _cells(part: str, options: argparse.Namespace):
    """Places of a part's rows, each with what makes the row."""
    first, scenarios = options.first_seed, options.scenarios or SCENARIOS
    seeds = range(first, first + options.seeds)
    if part == "fixed":
        few = range(first, first + min(options.seeds, _FIXED_SEEDS))
        for budget in options.budget or _FIXED_BUDGETS:
            for scenario in scenarios:
                cell = Cell(scenario, 50, budget)
                for split in SPLITS:
                    place = {"part": part, **place_of(cell, few), "split": split}
                    yield place, lambda c=cell, s=split: fixed_row(fixed_risks(c, s, few))
        return
    for num_tasks, input_dim, num_features, num_target, budget in (
        _RUNS if part == "runs" else _PAYS
    ):
        if options.budget and budget not in options.budget:
            continue
        sizes = Sizes(num_tasks, input_dim, num_features)
        for scenario in scenarios:
            cell = Cell(scenario, num_target, budget, sizes)
            place = {"part": part, **place_of(cell, seeds)}
            yield place, lambda c=cell: _run(part, c, seeds)


def _run(part: str, cell: Cell, seeds: range) -> Row:
    """A row of campaigns; of `pays` without them where adaptivity is not predicted to pay."""
    before = pays_beforehand(cell)
    if part == "pays" and not before.pays:
        return runs_row(None, None, before)
    own, even = (forecast_runs(cell, rule, seeds) for rule in ("c_optimal", "uniform"))
    return runs_row(own, even, before)


def _named(row: Row) -> str:
    split = f", {row['split']}" if "split" in row else ""
    return (
        f"{row['part']}: {row['scenario']}, M = {row['num_tasks']}, n_T = {row['num_target']}, "
        f"N = {row['budget']:,}{split}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks predictions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS)
    parser.add_argument("--budget", nargs="+", type=whole_number, help="only cells of these N")
    parser.add_argument(
        "--seeds", type=whole_number, default=96, help="runs a cell (default 96; fixed: at most 24)"
    )
    parser.add_argument("--first-seed", type=whole_number, default=_FIRST_SEED)
    parser.add_argument("--out", type=Path, help="JSON file; what it holds already is not run")
    parser.add_argument("--assert", dest="check", action="store_true", help="check the bars")
    return parser


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
