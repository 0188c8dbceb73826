"""What a run will do, cost and take: the dry run. It writes nothing."""

import dataclasses
import math
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from amtl_jax.allocation import allocate
from amtl_jax.experiment import build
from amtl_jax.experiment.buying import buy
from amtl_jax.experiment.config import Config
from amtl_jax.experiment.observer import Observer
from amtl_jax.experiment.representation import build_fitter
from amtl_jax.experiment.rounds import Setting, num_rounds, prepare
from amtl_jax.experiment.streamed import chunks_of
from amtl_jax.round_moments import RoundMoments
from amtl_jax.scale.mesh import in_force
from amtl_jax.strategies.one_of import choose
from amtl_jax.types import LearnerState, TaskBatch

_ENDLESS = 2**30  # the capacity of sources that draw afresh
_PROBE_STEPS = (2, 12)
_PATIENCE_SECONDS = 30.0  # for one fit that is run to its end
_LONG_SECONDS = 2.0
_FEWEST_PENALTIES = 3  # the path stops when its held-out error has not improved twice


class Cost(NamedTuple):
    """What a fit, and the round around it, costs on this device with the whole budget bought.

    Attributes:
      seconds: of one fit, with its part of the round around it, without compiling.
      is_bound: whether none was run to its end, as that would take too long: `seconds` is then
        that of a fit that takes all its steps, from the time of a few.
      compile_seconds: of compiling it.
      work_bytes: device memory that it needs besides the batch, as the compiler plans it; None
        where the compiler does not say.
    """

    seconds: float
    is_bound: bool
    compile_seconds: float
    work_bytes: int | None


class Preview(NamedTuple):
    """What a run will do.

    Attributes:
      name: of the experiment.
      target: name of the target task.
      device: kind of device it would run on.
      num_sources: M.
      available: samples of all sources together; None where there is no limit.
      num_target: rows of the target sample.
      num_test: test rows of the target.
      num_seeds: replicates.
      num_rounds: rounds by arm, of one seed.
      budgets: of each round; money where samples have prices.
      floors: samples that every source gets in each round.
      has_prices: whether budgets are money.
      batch_shape: `[B, R, ...]` of the packed inputs, of a chunk where rows come in chunks; None
        where no arm buys.
      batch_bytes: of the packed batch, or of the sums over the chunks.
      num_fits: fewest and most fits of the whole run.
      cost: of one fit; None where no arm buys.
      draw_seconds: of drawing and packing the whole budget once, or of its sums.
      num_chunks: that the rows come in; None where they are one batch.
    """

    name: str
    target: str
    device: str
    num_sources: int
    available: int | None
    num_target: int
    num_test: int
    num_seeds: int
    num_rounds: dict[str, int]
    budgets: tuple[float, ...]
    floors: tuple[int, ...]
    has_prices: bool
    batch_shape: tuple[int, ...] | None
    batch_bytes: int
    num_fits: tuple[int, int]
    cost: Cost | None
    draw_seconds: float
    num_chunks: int | None = None


def preview(config: Config, *, encoder: Any = None) -> Preview:
    """Counts what a run would do, and times a fit of the right shape on real data.

    Args:
      config: what would run.
      encoder: a linen module, where `encoder.kind` is `module`.

    Raises:
      ConfigError: if the config does not fit together.
      ImportError: if the data needs a package that is not installed.
    """
    setting = prepare(config, Observer(), encoder)
    problem, learner, config = setting.problem, setting.learner, setting.config
    capacity = int(problem.source.capacity.sum())
    found = Preview(
        name=config.name,
        target=problem.target_name,
        device=jax.devices()[0].device_kind,
        num_sources=len(problem.source.names),
        available=capacity if problem.source.capacity.max() < _ENDLESS else None,
        num_target=config.num_target,
        num_test=len(problem.test.x),
        num_seeds=len(config.seeds),
        num_rounds={arm: num_rounds(setting, arm) for arm in config.arms},
        budgets=learner.budgets if learner else (),
        floors=learner.floors if learner else (),
        has_prices=build.prices_of(problem.source) is not None,
        batch_shape=None,
        batch_bytes=0,
        num_fits=(0, 0),
        cost=None,
        draw_seconds=0.0,
    )
    if learner is None:
        return found
    _whole_batch(setting)  # compiles what draws
    started = time.monotonic()
    samples = jax.block_until_ready(_whole_batch(setting))
    draw_seconds = time.monotonic() - started
    if isinstance(samples, TaskBatch):
        shape, num_chunks = samples.x.shape, None
    else:
        chunks = chunks_of(config, problem, jax.random.key(0), _whole_counts(setting))
        shape, num_chunks = (*chunks.shape, *problem.source.input_shape), len(chunks)
    with in_force(setting.mesh):
        cost = _cost(setting, samples)
    return found._replace(
        batch_shape=shape,
        batch_bytes=sum(leaf.nbytes for leaf in jax.tree.leaves(samples)),
        num_chunks=num_chunks,
        num_fits=_num_fits(setting),
        cost=cost,
        draw_seconds=draw_seconds,
    )


def _state(setting: Setting) -> LearnerState:
    """The learner's state before the first round."""
    target = setting.problem.draw_target(jax.random.key(0))
    empty = build.empty_batch(setting.config, setting.problem, target)
    return setting.learner.init(jax.random.key(0), empty)


def _whole_counts(setting: Setting) -> np.ndarray:
    """What a last round has bought that had spread the whole budget evenly."""
    config, source = setting.config, setting.problem.source
    prices = build.prices_of(source)
    counts = allocate(
        jnp.zeros(len(source.names)),
        budget=config.budget,
        capacity=jnp.asarray(source.capacity.clip(max=np.iinfo(np.int32).max), jnp.int32),
        price=None if prices is None else jnp.asarray(prices, jnp.float32),
    )
    return np.asarray(counts)


def _whole_batch(setting: Setting) -> TaskBatch | RoundMoments:
    """The samples of that round: the fullest there is."""
    key, counts = jax.random.key(0), _whole_counts(setting)
    target = setting.problem.draw_target(jax.random.key(1))
    return buy(setting.config, setting.problem, setting.mesh, key, counts, target).samples


def _num_fits(setting: Setting) -> tuple[int, int]:
    """Fewest and most fits of a run; arms that want the same first counts share their first."""
    config, rules = setting.config, range(len(setting.rules))
    state = _state(setting)
    firsts = {np.asarray(setting.ask(jax.random.key(0), choose(state, i))).tobytes() for i in rules}
    each = _fits_of_a_round(config)
    later = len(rules) * (len(setting.learner.budgets) - 1) * each
    grid = len(config.fit.penalties) if config.fit.penalty is None else 0
    fewest, most = min(grid, _FEWEST_PENALTIES), grid
    return tuple(
        len(config.seeds) * (len(firsts) * (search + each) + later) for search in (fewest, most)
    )


def _fits_of_a_round(config: Config) -> int:
    """Fits at a known λ: of the sources, again with their noise known, and with the target."""
    with_target = config.target_in_fit or config.target_in_final_fit
    return 1 + config.fit.weigh_noise + with_target


def _cost(setting: Setting, samples: TaskBatch | RoundMoments) -> Cost:
    """Runs a short fit, then a whole round if that is a matter of seconds."""
    config = setting.config
    few, some = (min(steps, config.fit.num_steps) for steps in _PROBE_STEPS)
    short = _short_fit(setting, few, samples)
    if short.seconds * config.fit.num_steps / few <= _PATIENCE_SECONDS:
        # With λ given, the first round is a fit from its own start, like any later one.
        state = _state(setting)
        state = state._replace(penalty=_penalty(config), held_out_loss=jnp.zeros(()))
        cost = _timed(jax.jit(setting.learner.tell), jax.random.key(0), state, samples)
        return cost._replace(seconds=cost.seconds / _fits_of_a_round(config))
    longer = _short_fit(setting, some, samples)
    # What a fit does once, such as its last heads, is in both and drops out.
    step = max(longer.seconds - short.seconds, 0.0) / max(some - few, 1)
    seconds = short.seconds + step * (config.fit.num_steps - few)
    return longer._replace(seconds=seconds, is_bound=True)


def _short_fit(setting: Setting, num_steps: int, samples: TaskBatch | RoundMoments) -> Cost:
    """Times a fit that is cut off after a few steps."""
    config, source = setting.config, setting.problem.source
    num_tasks, num_inputs = len(source.names) + 1, math.prod(source.input_shape)
    fit = dataclasses.replace(config.fit, num_steps=num_steps, tolerance=0.0)
    config = dataclasses.replace(config, fit=fit)
    fitter = build_fitter(config, setting.encoder, num_tasks, num_inputs)
    if isinstance(samples, RoundMoments) and fitter.of_moments is not None:
        params = jax.jit(fitter.of_moments.init)(samples.moments, _penalty(config))
        return _timed(jax.jit(fitter.of_moments.fit), params, samples.moments, _penalty(config))
    params = jax.jit(fitter.init)(jax.random.key(0), samples, _penalty(config))
    return _timed(jax.jit(fitter.fit), params, samples, _penalty(config))


def _penalty(config: Config) -> jax.Array:
    """The λ that is given, or the middle of the grid."""
    grid, given = config.fit.penalties, config.fit.penalty
    return jnp.asarray(grid[len(grid) // 2] if given is None else given, jnp.zeros(()).dtype)


def _timed(function, *arguments) -> Cost:
    """Compiles a jitted function, and times a call."""
    started = time.monotonic()
    compiled = function.lower(*arguments).compile()
    compile_seconds = time.monotonic() - started
    seconds = _seconds_of(compiled, arguments)
    if seconds < _LONG_SECONDS:  # the first call also loads and allocates, which counts then
        seconds = _seconds_of(compiled, arguments)
    plan = compiled.memory_analysis()
    work = None if plan is None else plan.temp_size_in_bytes + plan.output_size_in_bytes
    return Cost(seconds, False, compile_seconds, work)


def _seconds_of(compiled, arguments) -> float:
    started = time.monotonic()
    jax.block_until_ready(compiled(*arguments))
    return time.monotonic() - started


def seconds_range(found: Preview) -> tuple[float, float]:
    """Fewest and most seconds of a run: draws, fits, and compiling a round once."""
    if found.cost is None:
        return 0.0, 0.0
    rounds = found.num_seeds * sum(found.num_rounds.values())
    once = found.cost.compile_seconds + rounds * found.draw_seconds
    return tuple(once + fits * found.cost.seconds for fits in found.num_fits)
