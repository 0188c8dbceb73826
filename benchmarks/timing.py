"""Times ways to do one thing side by side: in turn, warm, and until the numbers are there.

Machines are shared and noisy, so what counts is a ratio within one round of a run, and the median
of these over the rounds.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np


class Way(NamedTuple):
    """A function with its arguments.

    Attributes:
      call: computes it.
      compile_seconds: what tracing and compiling took; NaN where nothing is compiled.
      temporary_bytes: memory it takes beside arguments and results; NaN where nobody tells.
    """

    call: Callable[[], Any]
    compile_seconds: float = float("nan")
    temporary_bytes: float = float("nan")


def compiled(function: Callable[..., Any], *arguments: Any) -> Way:
    """Compiles a function for its arguments."""
    started = time.perf_counter()
    executable = jax.jit(function).lower(*arguments).compile()
    seconds = time.perf_counter() - started
    analysis = executable.memory_analysis()
    temporary = analysis.temp_size_in_bytes if analysis else float("nan")
    return Way(lambda: executable(*arguments), seconds, temporary)


def side_by_side(
    ways: Mapping[str, Callable[[], Any]], *, rounds: int, most_seconds: float = 60.0
) -> dict[str, np.ndarray]:
    """Times each way once a round, in a random order, after a call that warms it.

    What ran before decides what is in the caches, and what memory is at hand: no way may have the
    same one before it in every round.

    Args:
      ways: by name; what they return is waited for.
      rounds: how often.
      most_seconds: no further round begins after so long; two are always made.

    Returns:
      `[rounds]` seconds of each way.
    """
    for way in ways.values():
        jax.block_until_ready(way())
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    names, rng, began = list(ways), np.random.default_rng(0), time.perf_counter()
    for index in range(rounds):
        if index > 1 and time.perf_counter() - began > most_seconds:
            break
        for place in rng.permutation(len(names)):
            name = names[place]
            started = time.perf_counter()
            jax.block_until_ready(ways[name]())
            seconds[name].append(time.perf_counter() - started)
    return {name: np.asarray(values) for name, values in seconds.items()}


def ratio_to(seconds: Mapping[str, np.ndarray], base: str) -> dict[str, tuple[float, float, float]]:
    """How many times the seconds of `base` each way took: median and quartiles over rounds."""
    quartiles = {
        name: np.quantile(values / seconds[base], (0.5, 0.25, 0.75))
        for name, values in seconds.items()
    }
    return {name: tuple(map(float, values)) for name, values in quartiles.items()}
