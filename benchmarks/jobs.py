"""Something to time, with what it needs: jobs of `throughput` and `scaling`."""

import functools
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from amtl_jax.types import Fitter, TaskBatch
from benchmarks.counts import UNKNOWN, Work
from benchmarks.timing import Way, compiled, side_by_side

_LEAST_SECONDS, _MOST_CALLS = 0.01, 1000  # of a round
_PENALTY = 1e-3  # λ of fits: how long a pass takes does not depend on it


class Job(NamedTuple):
    """A way, and what it does in one go.

    Attributes:
      what: it is.
      sizes: in words.
      way: to do it; its compile seconds and its memory are those of the table.
      number: of the units that one go deals with.
      unit: rows, tasks, targets or images.
      work: what one go needs.
      less: a way to do everything else that `way` does; None: nothing else.
      goes: of `way` behind `less`.
    """

    what: str
    sizes: str
    way: Way
    number: int
    unit: str
    work: Work = UNKNOWN
    less: Way | None = None
    goes: int = 1


def time_jobs(jobs: Sequence[Job], *, rounds: int, most_seconds: float = 60.0) -> list[np.ndarray]:
    """Times jobs side by side; in a round, a short one is called as often as takes 10 ms.

    Returns:
      `[rounds]` seconds of one go of each job. Where it is a difference, noise may make it
      negative.
    """
    ways = {(index, "way"): job.way for index, job in enumerate(jobs)}
    ways |= {(index, "less"): job.less for index, job in enumerate(jobs) if job.less is not None}
    repeats = {name: _repeats(way) for name, way in ways.items()}
    calls = {name: functools.partial(_call, way, repeats[name]) for name, way in ways.items()}
    seconds = side_by_side(calls, rounds=rounds, most_seconds=most_seconds)
    each = {name: values / repeats[name] for name, values in seconds.items()}
    return [
        (each[index, "way"] - (0 if job.less is None else each[index, "less"])) / job.goes
        for index, job in enumerate(jobs)
    ]


def _repeats(way: Way) -> int:
    """Calls that take 10 ms, at least one."""
    _call(way, 1)
    started = time.perf_counter()
    _call(way, 1)
    return max(1, min(_MOST_CALLS, round(_LEAST_SECONDS / (time.perf_counter() - started))))


def _call(way: Way, repeats: int) -> None:
    for _ in range(repeats):
        jax.block_until_ready(way.call())


def passes(
    fitter_of: Callable[[int], Fitter], batch: TaskBatch, *, first: int, goes: int
) -> tuple[Way, Way]:
    """A fit of `first + goes` steps and one of `first`: their difference is that of the steps.

    So what a fit does once, its start, its heads and its result, does not count as a step.

    Args:
      fitter_of: from a number of steps to a fitter that makes all of them.
      batch: to fit.
      first: steps of the short fit.
      goes: further steps.

    Raises:
      RuntimeError: if a fit makes another number of steps, as their difference would mislead.
    """
    start = fitter_of(first)
    penalty = jax.numpy.asarray(_PENALTY)
    params = jax.jit(start.init)(jax.random.key(0), batch, penalty)
    ways = []
    for steps in (first + goes, first):
        way = compiled(fitter_of(steps).fit, params, batch, penalty)
        made = int(way.call().steps)
        if made != steps:
            raise RuntimeError(f"passes expects a fit of {steps} steps, got one of {made}.")
        ways.append(way)
    return ways[0], ways[1]
