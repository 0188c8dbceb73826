"""How costs grow: with rows, tasks, features, inputs, and with the skew of an allocation.

    python -m benchmarks scaling
    python -m benchmarks scaling --axes tasks skew --cores 1 --out scaling.json --plots plots
    python -m benchmarks scaling --quick
    XLA_FLAGS=--xla_force_host_platform_device_count=2 python -m benchmarks scaling --axes devices

A table an axis, with the slopes of its log-log curves: least squares over the points whose time is
at least ten times that of the smallest call, the same operation of one task, two rows and one
feature; a star marks the others. Times are of the fastest of the rounds, in which all points of an
axis take turns. Stored are rows in blocks with their padding, for each row. A gradient pass is the
reading of all rows by a step of the linear fit by L-BFGS.
"""

from collections.abc import Sequence
from pathlib import Path

import jax

from benchmarks.machine import describe, peak_memory
from benchmarks.options import measuring_parser, parsed, write_json
from benchmarks.scaling_axes import DEVICES, Found, axes, measure, misses, ratios
from benchmarks.slopes import number, slope_text

_STAR = r" \*"


def main(argv: Sequence[str]) -> None:
    """Prints the tables."""
    parser = measuring_parser("scaling", rounds=9)
    parser.add_argument(
        "--axes", nargs="+", choices=axes(quick=True), help="to vary [default: all there are]"
    )
    parser.add_argument("--plots", type=Path, metavar="DIR", help="folder for a PNG an axis")
    options = parsed(parser, argv)
    if options.plots is not None and options.plots.is_file():
        parser.error(f"--plots expects a folder, got the file {options.plots}.")
    machine = describe()
    print(f"On {machine['device']}, {machine['cores']} cores.", flush=True)
    known, every = axes(quick=options.quick), []
    # One device has nothing to share.
    default = [name for name in known if name != DEVICES or len(jax.devices()) > 1]
    for name in options.axes or default:
        found = measure(known[name], rounds=options.rounds)
        every.append(found)
        print(f"\n{markdown(found)}", flush=True)
        if options.plots is not None:
            from benchmarks.scaling_plots import write_plot

            write_plot(found, options.plots)
    peak = peak_memory()
    print(f"\nPeak memory of the process: {peak / 1e9:.2f} GB.")
    if options.out is not None:
        tables = [
            {
                "axis": found.axis.name,
                "fixed": found.axis.fixed,
                "points": [point._asdict() for point in found.points],
                "slopes": [slope._asdict() for slope in found.slopes],
                "outside": misses(found),
            }
            for found in every
        ]
        write_json(options.out, {"machine": machine, "peak_bytes": peak, "axes": tables})


def markdown(found: Found) -> str:
    """The table of an axis: a line a value, and what the curves' slopes are."""
    axis, slopes = found.axis, {slope.operation: slope for slope in found.slopes}
    cells = {(point.operation, point.value): point for point in found.points}
    relative = {
        (point.operation, point.value): ratio
        for point, ratio in zip(found.points, ratios(found), strict=True)
    }
    titles = ["stored", *(f"{operation}, ms" for operation in axis.operations)]
    if axis.most_ratio is not None:
        titles += [f"{operation}, ratio" for operation in axis.operations]
    lines = [
        f"{axis.name}: {axis.fixed}",
        "",
        f"| {' | '.join([axis.unit, *titles])} |",
        f"|{'---:|' * (1 + len(titles))}",
    ]
    for value in axis.values:
        own = [cells[operation, value] for operation in axis.operations]
        stars = ["" if value in slopes[one.operation].used else _STAR for one in own]
        texts = [f"{1e3 * one.seconds:,.3f}{star}" for one, star in zip(own, stars, strict=True)]
        if axis.most_ratio is not None:
            texts += [f"{relative[operation, value]:.2f}" for operation in axis.operations]
        lines.append(f"| {' | '.join([number(value), f'{own[0].stored:.2f}', *texts])} |")
    ends = [] if axis.most_ratio is None else [""] * len(axis.operations)
    said = [slope_text(slopes[operation]) for operation in axis.operations]
    lines.append(f"| {' | '.join(['slope', '', *said, *ends])} |")
    outside = misses(found)
    if outside:
        lines += ["", *(f"Outside the limits: {one}." for one in outside)]
    return "\n".join(lines)
