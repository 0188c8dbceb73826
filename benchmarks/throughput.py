"""How fast the library's parts are, and how far from what the machine can do.

    python -m benchmarks throughput
    python -m benchmarks throughput --cores 1 --out throughput.json
    python -m benchmarks throughput --quick

One table: times are medians over rounds, warm, and compiling is told apart. Rates are of operations
and bytes that are needed (benchmarks/counts.py says how they are counted), held to a large copy and
a large float32 matmul at precision HIGHEST, which are measured in the same run. `peers` has the
same beside what people use instead.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from amtl_jax.data.corruptions import CORRUPTIONS
from benchmarks.jobs import Job, time_jobs
from benchmarks.machine import Ceiling, describe, measure_ceiling, peak_memory
from benchmarks.options import measuring_parser, parsed, write_json
from benchmarks.peers import SIZES, TARGETS
from benchmarks.throughput_fits import FitSizes, fit_jobs, round_jobs
from benchmarks.throughput_jobs import corruption_jobs, head_jobs, relevance_jobs
from benchmarks.throughput_study import StudySizes, study_seconds

_PARTS = ("heads", "relevance", "fits", "corruptions", "round", "study")
# What is left out compiles for long: the round, the study, and networks.
_QUICK_PARTS, _QUICK_FITS = ("heads", "relevance", "fits", "corruptions"), 2
_MOST_SECONDS = 20.0  # of timing a line; two rounds are made of what takes longer
_IMAGES, _QUICK_IMAGES = 1_000, 20
_QUICK_HEADS, _QUICK_TARGETS = ((6, 5, 400),), (12, 4, 5)
_QUICK_FIT = FitSizes(4, 64, 3, 120, 20, 40)
_QUICK_STUDY = StudySizes(40, 600, 10, 1, 2, 5)


class Row(NamedTuple):
    """A line of the table.

    Attributes:
      what: was done.
      sizes: in words.
      unit: rows, tasks, targets or images.
      seconds: median of one go; NaN where the noise is larger.
      quartiles: of these seconds.
      per_second: units.
      flops: needed operations a second, NaN where unknown.
      bandwidth: needed bytes a second, NaN where unknown.
      compute_share: of the ceiling's matmul.
      copy_share: of the ceiling's copy.
      compile_seconds: tracing and compiling.
      temporary_bytes: beside arguments and results, NaN where nobody tells.
    """

    what: str
    sizes: str
    unit: str
    seconds: float
    quartiles: tuple[float, float]
    per_second: float
    flops: float
    bandwidth: float
    compute_share: float
    copy_share: float
    compile_seconds: float
    temporary_bytes: float


def main(argv: Sequence[str]) -> None:
    """Prints the table."""
    parser = measuring_parser("throughput", rounds=10)
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=_PARTS,
        help="of the table [default: all; with --quick all that compile fast]",
    )
    options = parsed(parser, argv)
    parts = options.parts or (_QUICK_PARTS if options.quick else _PARTS)
    ceiling, machine = measure_ceiling(small=options.quick), describe()
    print(
        f"On {machine['device']}, {machine['cores']} cores; the ceilings: a copy moves "
        f"{ceiling.copy / 1e9:.1f} GB/s, a float32 matmul at precision HIGHEST makes "
        f"{ceiling.matmul / 1e9:.0f} GFLOP/s.\n\n{header()}",
        flush=True,
    )
    rows = []
    for row in measured(parts, quick=options.quick, rounds=options.rounds, ceiling=ceiling):
        rows.append(row)
        print(line(row), flush=True)
    peak = peak_memory()
    print(f"\nPeak memory of the process: {peak / 1e9:.2f} GB.")
    if options.out is not None:
        found = {
            "machine": machine,
            "ceiling": ceiling._asdict() | {"precision": "float32, HIGHEST"},
            "peak_bytes": peak,
            "rows": [row._asdict() for row in rows],
        }
        write_json(options.out, found)


def measured(parts: Sequence[str], *, quick: bool, rounds: int, ceiling: Ceiling) -> Iterator[Row]:
    """Measures the lines of some parts, one after the other: none is a ratio to another."""
    for part in parts:
        if part == "study":
            yield study_row(_QUICK_STUDY if quick else StudySizes())
            continue
        for job in jobs_of(part, quick=quick):
            (seconds,) = time_jobs([job], rounds=rounds, most_seconds=_MOST_SECONDS)
            yield row_of(job, seconds, ceiling)


def jobs_of(part: str, *, quick: bool) -> Iterator[Job]:
    """The jobs of a part, made one by one where they are large."""
    fit = _QUICK_FIT if quick else FitSizes()
    if part == "heads":
        for sizes in _QUICK_HEADS if quick else SIZES:
            yield from head_jobs(*sizes)
    elif part == "relevance":
        num_sources, num_targets, num_features = _QUICK_TARGETS if quick else TARGETS
        for number in (num_targets,) if quick else (1, num_targets):
            yield from relevance_jobs(num_sources, number, num_features)
    elif part == "fits":
        yield from itertools.islice(fit_jobs(fit), _QUICK_FITS if quick else None)
    elif part == "corruptions":
        names = ("stripe",) if quick else CORRUPTIONS
        yield from corruption_jobs(_QUICK_IMAGES if quick else _IMAGES, names)
    else:
        yield from round_jobs(fit)


def row_of(job: Job, seconds: np.ndarray, ceiling: Ceiling) -> Row:
    """The line of a job that took so many seconds, `[rounds]`."""
    low, middle, high = (float(value) for value in np.quantile(seconds, (0.25, 0.5, 0.75)))
    if middle <= 0:  # a difference of two times, below their noise
        middle = float("nan")
    flops, bandwidth = job.work.operations / middle, job.work.bytes / middle
    return Row(
        job.what,
        job.sizes,
        job.unit,
        middle,
        (low, high),
        job.number / middle,
        flops,
        bandwidth,
        flops / ceiling.matmul,
        bandwidth / ceiling.copy,
        job.way.compile_seconds,
        job.way.temporary_bytes,
    )


def study_row(sizes: StudySizes) -> Row:
    """The line of the study: of a warm context, with what its targets share."""
    first, *warm = (float(value) for value in study_seconds(sizes))
    low, middle, high = (float(value) for value in np.quantile(warm, (0.25, 0.5, 0.75)))
    unknown = float("nan")
    return Row(
        "study, a context of a corruption",
        f"{sizes.num_targets} targets, 4 arms, {sizes.budget:,} samples",
        "targets",
        middle,
        (low, high),
        sizes.num_targets / middle,
        unknown,
        unknown,
        unknown,
        unknown,
        first - middle,
        unknown,
    )


def header() -> str:
    """The first two lines of the table."""
    return (
        "| what | sizes | ms | per second | GFLOP/s | GB/s | of the ceiling | compile s | "
        "temporary MB |\n|---|---|---:|---:|---:|---:|---:|---:|---:|"
    )


def line(row: Row) -> str:
    """A line of the table; cells of what is not known are empty."""
    per_second = _said(row.per_second, ",.0f" if row.per_second >= 100 else ".3g")
    cells = (
        row.what,
        row.sizes,
        _said(1e3 * row.seconds, ".3f" if row.seconds < 1e-3 else ",.2f") or "below noise",
        f"{per_second} {row.unit}" if per_second else "",
        _said(row.flops / 1e9, ".1f"),
        _said(row.bandwidth / 1e9, ".2f"),
        _share(row),
        _said(row.compile_seconds, ".1f"),
        _said(row.temporary_bytes / 1e6, ".1f"),
    )
    return f"| {' | '.join(cells)} |"


def _share(row: Row) -> str:
    """The larger share, of what is nearer to its limit."""
    shares = {"matmul": row.compute_share, "copy": row.copy_share}
    known = {name: share for name, share in shares.items() if not np.isnan(share)}
    if not known:
        return ""
    name = max(known, key=known.__getitem__)
    return f"{known[name]:.0%} {name}"


def _said(value: float, form: str) -> str:
    return "" if np.isnan(value) else format(value, form)
