"""Our fit of the linear representation: to its own stop, to the optimum, and what a pass costs."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import amtl_jax as amtl
from amtl_jax.experiment.config import Config
from amtl_jax.experiment.representation import build_encoder, build_fitter
from amtl_jax.fitting.penalty import fit_with_penalty
from amtl_jax.fitting.reading import predict_and_correlate
from benchmarks.fit_rows import FitRows
from benchmarks.timing import Way, compiled, side_by_side

_FEW, _MANY = 5, 25  # steps: what they differ by is the cost of 20
_OPTIMUM = {"num_steps": 2000, "tolerance": 1e-6, "window": 50}


class OurFit(NamedTuple):
    """The fit of a config on rows.

    Attributes:
      way: start and fit.
      result: what it returns.
      penalty: `[]` λ.
      batch: the rows.
      config: of the run.
    """

    way: Way
    result: amtl.FitResult
    penalty: jax.Array
    batch: amtl.TaskBatch
    config: Config


class Speeds(NamedTuple):
    """Seconds, medians in one run.

    Attributes:
      read: a sum of all inputs.
      gradient_pass: predictions of every row and their gradient by every task's predictor.
      step: of the fit, with all that belongs to it.
    """

    read: float
    gradient_pass: float
    step: float


def our_fit(rows: FitRows, config: Config) -> OurFit:
    """Compiles and runs the fit of a config, λ chosen as a run chooses it."""
    batch = amtl.pack(rows.x, rows.y, rows.task, num_tasks=rows.num_tasks)
    fitter = _fitter(rows.num_tasks, rows.x.shape[1], config)
    key, unknown = jax.random.key(0), jnp.float32(np.nan)

    def choose(batch: amtl.TaskBatch) -> jax.Array:
        params = fitter.init(key, batch, unknown)
        given = {"penalty": unknown, "held_out_loss": unknown, "penalties": config.fit.penalties}
        return fit_with_penalty(fitter, key, params, batch, **given).penalty

    penalty = config.fit.penalty
    penalty = jax.jit(choose)(batch) if penalty is None else jnp.float32(penalty)
    way = _whole(batch, penalty, config)
    return OurFit(way, way.call(), penalty, batch, config)


def optimum(ours: OurFit) -> amtl.FitResult:
    """The same fit to a tolerance a thousand times tighter, in at most 2,000 steps."""
    return _whole(ours.batch, ours.penalty, _told(ours.config, **_OPTIMUM)).call()


def passes_within(ours: OurFit, objective: float, *, most: int) -> int:
    """Fewest gradient passes, of at most so many, after which the fit's objective is as small.

    Found by doubling and bisection: with an exact line search the objective falls from pass to
    pass.
    """

    def is_enough(passes: int) -> bool:
        config = _told(ours.config, num_steps=passes, tolerance=0.0)
        return float(_whole(ours.batch, ours.penalty, config).call().objective) <= objective

    low, high = 0, 1
    while high < most and not is_enough(high):
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def speeds(ours: OurFit, *, rounds: int) -> Speeds:
    """Times a read of the inputs, a gradient pass, and a step of the fit."""
    batch, num_tasks = ours.batch, ours.result.heads.weight.shape[0]
    theta = jnp.zeros((1, num_tasks, batch.x.shape[-1]))
    labels = batch.y[None, ..., 0]
    few, many = (
        _whole(batch, ours.penalty, _told(ours.config, num_steps=steps, tolerance=0.0)).call
        for steps in (_FEW, _MANY)
    )
    ways = {
        "read": compiled(jnp.sum, batch.x).call,
        "pass": compiled(
            lambda batch, theta, labels: predict_and_correlate(batch, theta, -labels, num_tasks),
            batch,
            theta,
            labels,
        ).call,
        "few": few,
        "many": many,
    }
    seconds = side_by_side(ways, rounds=rounds)
    step = np.median(seconds["many"] - seconds["few"]) / (_MANY - _FEW)
    return Speeds(float(np.median(seconds["read"])), float(np.median(seconds["pass"])), float(step))


def _fitter(num_tasks: int, num_inputs: int, config: Config) -> amtl.Fitter:
    encoder = build_encoder(config, (num_inputs,))
    return build_fitter(config, encoder, num_tasks, num_inputs)


def _told(config: Config, **settings: float) -> Config:
    return dataclasses.replace(config, fit=dataclasses.replace(config.fit, **settings))


def _whole(batch: amtl.TaskBatch, penalty: jax.Array, config: Config) -> Way:
    """Start and fit, compiled."""
    num_tasks = int(batch.task[-1]) + 1
    fitter = _fitter(num_tasks, batch.x.shape[-1], config)

    def start_and_fit(batch: amtl.TaskBatch, penalty: jax.Array) -> amtl.FitResult:
        return fitter.fit(fitter.init(jax.random.key(0), batch, penalty), batch, penalty)

    return compiled(start_and_fit, batch, penalty)
