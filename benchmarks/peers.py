"""The library beside what people use instead, on the same data to the same answer, in one run.

    python -m benchmarks peers
    python -m benchmarks peers --cores 1 --out peers.json
    python -m benchmarks peers --only fit --root mnist_c
    python -m benchmarks peers --quick

Heads of many tasks, with as many rows each and with a fifth of all rows in one, held to float64;
basis pursuit of many targets, held to HiGHS; and the fit of a linear representation beside training
loops, on MNIST-C where `--root` gives its folder and otherwise on made rows of its sizes. Ratios
are medians over rounds in which all ways take turns. `--cores` keeps the process to that many
cores. Ways in PyTorch are left out where it is not installed.
"""

import argparse
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import counts
from benchmarks.machine import Ceiling, describe, measure_ceiling
from benchmarks.options import measuring_parser, parsed, write_json
from benchmarks.timing import Way, ratio_to, side_by_side

BASE = "amtl_jax"
PARTS = ("heads", "relevance", "fit")
NO_TORCH = "PyTorch is not installed, its ways are left out: pip install 'amtl-jax[bench]'."
SIZES = ((150, 50, 50_000), (2_000, 64, 400_000))  # M, K, N
_QUICK = ((6, 5, 400),)
_SKEWS, _LARGEST = ("uniform", "skewed"), 0.2
TARGETS, _QUICK_TARGETS = (150, 160, 50), (12, 4, 5)  # M, T, K
_CONDITIONS = (10.0, 300.0)  # of the source heads
FIT, _QUICK_FIT = (150, 812, 784, 50), (6, 40, 12, 3)  # M, rows of a task, D, K


class Row(NamedTuple):
    """A line of the table.

    Attributes:
      way: what computes.
      seconds: median of a call.
      ratio: times the seconds of ours: median and quartiles over rounds.
      error: largest relative error: of a head against float64, or of the least ℓ1 norm above that
        of HiGHS; NaN for what is neither.
      compile_seconds: tracing and compiling, NaN where nothing is compiled.
      temporary_bytes: beside arguments and results, NaN where nobody tells.
    """

    way: str
    seconds: float
    ratio: tuple[float, float, float]
    error: float
    compile_seconds: float
    temporary_bytes: float


def main(argv: Sequence[str]) -> None:
    """Prints the tables."""
    parser = measuring_parser("peers", rounds=15)
    parser.add_argument(
        "--only", action="append", choices=PARTS, help="part to run; may be given again"
    )
    parser.add_argument("--root", type=Path, help="folder of MNIST-C, for the fit")
    parser.add_argument(
        "--most-seconds", type=float, default=300.0, help="that a training loop is run for"
    )
    options = parsed(parser, argv)
    if options.quick and options.root:
        parser.error("--quick is of made rows: leave --root out.")
    ceiling = measure_ceiling(small=options.quick)
    machine = describe()
    print(
        f"On {machine['device']}, {machine['cores']} cores; a copy moves {ceiling.copy / 1e9:.1f} "
        f"GB/s, a float32 matmul makes {ceiling.matmul / 1e9:.0f} GFLOP/s."
    )
    parts = options.only or PARTS
    if not has_torch() and {"heads", "fit"} & set(parts):
        print(NO_TORCH)
    results, fit = {}, {}
    if "heads" in parts:
        results |= _head_part(options, ceiling)
    if "relevance" in parts:
        results |= _relevance_part(options)
    if "fit" in parts:
        table, fit = _fit_part(options)
        results |= table
    if options.out:
        found = {"machine": machine, "ceiling": ceiling._asdict(), "tables": results, "fit": fit}
        write_json(options.out, found)


def has_torch() -> bool:
    """Whether PyTorch is installed."""
    return importlib.util.find_spec("torch") is not None


def _head_part(options: argparse.Namespace, ceiling: Ceiling) -> dict[str, Any]:
    results = {}
    for sizes in _QUICK if options.quick else SIZES:
        for skew in _SKEWS:
            name = f"heads, M = {sizes[0]:,}, K = {sizes[1]}, {sizes[2]:,} rows, {skew}"
            rows = head_table(*sizes, skewed=skew == "skewed", rounds=options.rounds)
            results[name] = [row._asdict() for row in rows]
            print(f"\n{name}\n\n{markdown(rows)}\n\n{reached(rows, sizes, ceiling)}", flush=True)
    return results


def _relevance_part(options: argparse.Namespace) -> dict[str, Any]:
    results = {}
    for condition in _CONDITIONS:
        num_sources, num_targets, num_features = _QUICK_TARGETS if options.quick else TARGETS
        name = (
            f"basis pursuit, M = {num_sources}, K = {num_features}, {num_targets} targets, "
            f"condition {condition:g}"
        )
        rows = relevance_table(
            num_sources, num_targets, num_features, condition=condition, rounds=options.rounds
        )
        results[name] = [row._asdict() for row in rows]
        print(f"\n{name}\n\n{markdown(rows)}", flush=True)
    return results


def _fit_part(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """The table, and what the fit reached."""
    from benchmarks import fit_table

    problem = fit_table.fit_problem(options.root, *(_QUICK_FIT if options.quick else FIT))
    table = fit_table.fit_table(
        problem,
        rounds=options.rounds,
        most_seconds=options.most_seconds,
        with_torch=has_torch(),
    )
    text = f"{fit_table.markdown(table.rows)}\n\n{fit_table.said(table)}"
    print(f"\n{problem.name}\n\n{text}", flush=True)
    found = table._asdict() | {"speeds": table.speeds._asdict()}
    rows = [row._asdict() for row in found.pop("rows")]
    return {problem.name: rows}, found


def head_table(
    num_tasks: int, num_features: int, num_rows: int, *, skewed: bool, rounds: int
) -> list[Row]:
    """Times and checks every way to the heads of these sizes."""
    from benchmarks import head_ways

    largest = _LARGEST if skewed else None
    rows = head_ways.make_rows(num_tasks, num_features, num_rows, largest=largest)
    padded = head_ways.pad(rows)
    ways = head_ways.ours(rows) | head_ways.on_devices(rows)
    if padded is not None:
        ways["padded jax.vmap"] = head_ways.padded_vmap(padded, rows.ridge)
    ways |= head_ways.loops(rows)
    if has_torch():
        ways["torch.linalg in a loop"] = head_ways.torch_loop(rows)
    if has_torch() and padded is not None:
        ways["padded torch.linalg"] = head_ways.padded_torch(padded, rows.ridge)
    truth = head_ways.in_float64(rows)
    return timed(ways, lambda found: _head_error(found, truth), rounds=rounds)


def relevance_table(
    num_sources: int, num_targets: int, num_features: int, *, condition: float, rounds: int
) -> list[Row]:
    """Times and checks every way to the relevance of all targets."""
    from benchmarks import relevance_ways

    heads = relevance_ways.make_heads(num_sources, num_targets, num_features, condition=condition)
    peers = relevance_ways.peers(heads)
    optimum = np.sum(np.abs(peers[relevance_ways.HIGHS].call()), axis=1)

    def gap(found: Any) -> float:
        nu = np.asarray(getattr(found, "nu", found), float)
        return float(np.max(relevance_ways.true_gaps(heads, nu, optimum)))

    return timed({BASE: relevance_ways.ours(heads)} | peers, gap, rounds=rounds)


def timed(ways: dict[str, Way], error_of: Callable[[Any], float], *, rounds: int) -> list[Row]:
    """Times ways side by side and checks what each returns."""
    calls = {name: way.call for name, way in ways.items()}
    errors = {name: error_of(call()) for name, call in calls.items()}
    seconds = side_by_side(calls, rounds=rounds)
    ratios = ratio_to(seconds, BASE)
    return [
        Row(
            name,
            float(np.median(seconds[name])),
            ratios[name],
            errors[name],
            way.compile_seconds,
            way.temporary_bytes,
        )
        for name, way in ways.items()
    ]


def _head_error(found: Any, truth: np.ndarray) -> float:
    """Largest error of a head relative to its size; NaN for what is no heads."""
    heads = getattr(found, "weight", found[0])
    heads = np.asarray(heads, float)
    if heads.size != truth.size:
        return float("nan")
    off = np.linalg.norm(heads.reshape(truth.shape) - truth, axis=1)
    return float(np.max(off / np.linalg.norm(truth, axis=1)))


def markdown(rows: Sequence[Row]) -> str:
    """The table, times in milliseconds."""
    lines = [
        "| way | ms | times ours | error | compile s | temporary MB |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        middle, low, high = row.ratio
        lines.append(
            f"| {row.way} | {1e3 * row.seconds:.2f} | {middle:.2f} [{low:.2f}, {high:.2f}] | "
            f"{_said(row.error, '.0e')} | {_said(row.compile_seconds, '.2f')} | "
            f"{_said(row.temporary_bytes / 1e6, '.1f')} |"
        )
    return "\n".join(lines)


def _said(value: float, form: str) -> str:
    return "" if np.isnan(value) else format(value, form)


def reached(rows: Sequence[Row], sizes: tuple[int, int, int], ceiling: Ceiling) -> str:
    """How far the statistics are from what the machine can do."""
    num_tasks, num_features, num_rows = sizes
    (seconds,) = [row.seconds for row in rows if row.way == "amtl_jax, statistics"]
    work = counts.statistics(num_rows, num_features, num_tasks)
    moved, operations = work.bytes / seconds, work.operations / seconds
    return (
        f"Statistics: {num_rows / seconds / 1e6:.1f} million rows a second, "
        f"{moved / 1e9:.1f} GB/s read and written ({moved / ceiling.copy:.0%} of a copy), "
        f"{operations / 1e9:.1f} GFLOP/s ({operations / ceiling.matmul:.0%} of a matmul)."
    )
