"""What is varied to see how costs grow, and the measurement of one axis."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from amtl_jax.scale.mesh import in_force, make_mesh, place_batch
from benchmarks import head_ways
from benchmarks.jobs import Job, time_jobs
from benchmarks.slopes import Point, Slope, number, slope_of, slope_text
from benchmarks.throughput_fits import pass_job
from benchmarks.throughput_jobs import solution_job, statistics_job

DEVICES = "devices"
STATISTICS, SOLUTION, GRADIENT = "statistics", "solve_heads", "gradient pass"
_MOST_SECONDS = 90.0  # of timing an axis


class Problem(NamedTuple):
    """Rows to make.

    Attributes:
      num_tasks: M.
      num_rows: N.
      width: K of the heads, and D of the linear fit.
      largest: share of all rows in the first task; None: the tasks have as many each.
      devices: that share the rows and the tasks; None: no mesh.
    """

    num_tasks: int
    num_rows: int
    width: int
    largest: float | None = None
    devices: int | None = None


_SMALLEST = Problem(1, 2, 1)


class Axis(NamedTuple):
    """What is varied.

    Attributes:
      name: of the axis.
      unit: of its values.
      fixed: what is not varied, in words.
      values: that are tried, ascending.
      problem: of a value.
      operations: that are timed.
      limits: of the slopes, by operation; tiny sizes have none.
      most_ratio: most times the seconds of the first value, of every operation; None: ratios do
        not matter.
    """

    name: str
    unit: str
    fixed: str
    values: tuple[float, ...]
    problem: Callable[[float], Problem]
    operations: tuple[str, ...]
    limits: dict[str, tuple[float, float]] = {}  # noqa: RUF012  never changed
    most_ratio: float | None = None


class Found(NamedTuple):
    """An axis, measured.

    Attributes:
      axis: that was varied.
      points: of every operation in turn, values ascending.
      slopes: of every operation.
    """

    axis: Axis
    points: list[Point]
    slopes: list[Slope]


def axes(*, quick: bool) -> dict[str, Axis]:
    """The axes by name. Blocks are those that `pack` chooses, with their padding."""
    linear = (0.9, 1.1)
    tasks, rows, width, few = (5, 5_000, 4, 2_000) if quick else (100, 200_000, 50, 20_000)
    fewer, each, many = (5, 4, 20) if quick else (10, 20, 1_000)
    found = (
        Axis(
            "rows",
            "rows",
            f"M = {fewer}, K = D = {width}",
            (1_000, 100_000) if quick else (10_000, 31_600, 100_000, 316_000, 1_000_000),
            lambda value: Problem(fewer, int(value), width),
            (STATISTICS, SOLUTION, GRADIENT),
            {} if quick else {STATISTICS: linear, GRADIENT: linear},
        ),
        Axis(
            "rows_a_task",
            "rows a task",
            f"M = {many:,}, K = D = 16",
            (4, 40) if quick else (4, 13, 40, 130, 400, 1_300),
            lambda value: Problem(many, many * int(value), 16),
            (STATISTICS, GRADIENT),
        ),
        Axis(
            "tasks",
            "tasks",
            f"K = 16, {each} rows a task",
            (10, 1_000) if quick else (1_000, 3_160, 10_000, 31_600, 100_000),
            lambda value: Problem(int(value), each * int(value), 16),
            (STATISTICS, SOLUTION),
            {} if quick else {STATISTICS: linear, SOLUTION: linear},
        ),
        Axis(
            "features",
            "features K",
            f"M = {tasks}, {few:,} rows",
            (2, 20) if quick else (5, 16, 50, 160, 500),
            lambda value: Problem(tasks, few, int(value)),
            (STATISTICS, SOLUTION),
        ),
        Axis(
            "inputs",
            "inputs D",
            f"M = {tasks}, {few:,} rows",
            (10, 100) if quick else (10, 32, 100, 320, 1_000),
            lambda value: Problem(tasks, few, int(value)),
            (GRADIENT,),
        ),
        Axis(
            "skew",
            "share of the rows in the largest task",
            f"M = {tasks}, K = D = {width}, {rows:,} rows",
            (1 / tasks, 0.5) if quick else (1 / tasks, 0.02, 0.05, 0.1, 0.2, 0.5),
            lambda value: Problem(tasks, rows, width, value),
            (STATISTICS, SOLUTION, GRADIENT),
            most_ratio=math.inf if quick else 1.15,
        ),
        Axis(
            DEVICES,
            "devices",
            f"M = {tasks}, K = D = {width}, {5 * rows:,} rows",
            tuple(2.0**power for power in range(len(jax.devices()).bit_length())),
            lambda value: Problem(tasks, 5 * rows, width, devices=int(value)),
            (STATISTICS, SOLUTION, GRADIENT),
        ),
    )
    return {axis.name: axis for axis in found}


def measure(axis: Axis, *, rounds: int) -> Found:
    """Times all points of an axis in turn, and with them the smallest calls."""
    jobs, _ = _jobs(_SMALLEST, axis.operations)
    of_values = [_jobs(axis.problem(value), axis.operations) for value in axis.values]
    every = [*jobs, *(job for own, _ in of_values for job in own)]
    seconds = time_jobs(every, rounds=rounds, most_seconds=_MOST_SECONDS)
    points, slopes = [], []
    for place, operation in enumerate(axis.operations):
        smallest, *own = seconds[place :: len(axis.operations)]
        some = [
            Point(axis.name, operation, value, float(np.min(one)), float(np.median(one)), stored)
            for value, one, (_, stored) in zip(axis.values, own, of_values, strict=True)
        ]
        points += some
        slopes.append(slope_of(some, float(np.min(smallest))))
    return Found(axis, points, slopes)


def _jobs(problem: Problem, operations: Sequence[str]) -> tuple[list[Job], float]:
    """A job of every operation, which share the packed rows; and the rows stored, a row."""
    num_tasks, num_rows, width, largest, devices = problem
    rows = head_ways.make_rows(num_tasks, width, num_rows, largest=largest)
    batch = head_ways.packed(rows, has_padding=devices is None)
    stored = batch.weight.size / num_rows
    mesh = None if devices is None else make_mesh(tasks=devices)
    if mesh is not None:
        batch = place_batch(batch, mesh)
    makers = {
        STATISTICS: lambda: statistics_job(rows, batch),
        SOLUTION: lambda: solution_job(rows, batch),
        GRADIENT: lambda: pass_job(batch, num_tasks, num_rows),
    }
    with in_force(mesh):
        return [makers[operation]() for operation in operations], stored


def misses(found: Found) -> list[str]:
    """What is outside the limits of an axis, in words."""
    lines = []
    for slope in found.slopes:
        if slope.operation not in found.axis.limits:
            continue
        low, high = found.axis.limits[slope.operation]
        if not low <= slope.slope <= high:  # NaN among them
            got = slope_text(slope)
            lines.append(f"{slope.operation}: expected a slope of {low:g} to {high:g}, got {got}")
    most = found.axis.most_ratio
    for point, ratio in zip(found.points, ratios(found), strict=True):
        if most is not None and not ratio <= most:
            lines.append(
                f"{point.operation}: expected at most {most:g} times the first point, got "
                f"{ratio:.2f} at {number(point.value)}"
            )
    return lines


def ratios(found: Found) -> list[float]:
    """Seconds of every point over those of its operation at the axis' first value."""
    first = {}
    for point in found.points:
        first.setdefault(point.operation, point.seconds)
    return [point.seconds / first[point.operation] for point in found.points]
