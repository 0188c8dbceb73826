"""Whole campaigns of one arm, every seed with a truth and samples of its own, as one program."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from amtl_jax.allocation import allocate
from amtl_jax.encoders.linear import linear_encoder
from amtl_jax.fitting.gram import gram_fitter
from amtl_jax.learner import active_learner
from amtl_jax.metrics import representation_risk
from amtl_jax.packing import max_blocks
from amtl_jax.relevance import basis_pursuit
from amtl_jax.types import Array, Fitter, Learner, LearnerState, TaskBatch
from benchmarks.curves_arms import Arm
from benchmarks.curves_prices import priced_learner
from benchmarks.curves_rows import packed_rows
from benchmarks.curves_truths import LEAST_PRICE, Sizes, Truths, draw_truths

PENALTY = 1e-7  # λ → 0
_BLOCK_ROWS = 32
SAMPLES, LEARNER = 0, 1  # folded into the seed's key
_CHUNK = 48  # most seeds at a time
_MOST_FEATURES = 10  # of which the rank is chosen
_PRECISION = jax.lax.Precision.HIGHEST
_Tree = TypeVar("_Tree")


class Cell(NamedTuple):
    """Where arms are compared.

    Attributes:
      scenario: one of `SCENARIOS`.
      num_target: n_T.
      budget: N samples, or money where samples have prices.
      sizes: of the simulation.
      join_target: whether the target's sample joins every arm's final fit.
      rank: K of the fit; None: that of the truth; "aic": chosen.
    """

    scenario: str
    num_target: int = 400
    budget: int = 8000
    sizes: Sizes = Sizes()
    join_target: bool = False
    rank: int | str | None = None


class Outcome(NamedTuple):
    """What came of an arm.

    Attributes:
      risk: `[S]` representation-limited risk.
      counts: `[S, M]` samples bought.
    """

    risk: Array | np.ndarray
    counts: Array | np.ndarray


def run_arm(cell: Cell, arm: Arm, seeds: Sequence[int], *, chunk: int = _CHUNK) -> Outcome:
    """Runs an arm on every seed.

    Args:
      cell: scenario and sizes.
      arm: what buys.
      seeds: of truths and samples; arms that share seeds share samples as far as both buy them.
      chunk: seeds that run at once.

    Raises:
      ValueError: if a risk is not finite.
    """
    truths = draw_truths(cell.scenario, seeds, cell.sizes)
    program = _compiled(cell._replace(scenario=""), arm, truths.price is not None)
    outcome = over_seeds(program, truths, seeds, chunk=chunk)
    bad = ~np.isfinite(outcome.risk)
    if bad.any():
        raise ValueError(
            f"Risk of seeds {np.asarray(seeds)[bad].tolist()} is not finite in {cell}: the fit or "
            "the rule failed there."
        )
    return outcome


def over_seeds(
    program: Callable[[Truths, Array], _Tree],
    truths: Truths,
    seeds: Sequence[int],
    *,
    chunk: int = _CHUNK,
) -> _Tree:
    """What a compiled program makes of every seed, in chunks of one shape, as NumPy arrays.

    Args:
      program: from truths and keys with a leading axis to a tree of arrays with the same.
      truths: of the seeds.
      seeds: keys of samples.
      chunk: seeds that run at once.
    """
    number = -(-len(seeds) // chunk)
    size = -(-len(seeds) // number)
    parts = []
    for part in range(number):
        # The last chunk repeats a seed rather than have a shape, and a compilation, of its own.
        index = np.minimum(np.arange(part * size, (part + 1) * size), len(seeds) - 1)
        keys = jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32)[index])
        own = jax.tree.map(functools.partial(np.take, indices=index, axis=0), truths)
        parts.append(jax.device_get(program(own, keys)))
    return jax.tree.map(lambda *values: np.concatenate(values)[: len(seeds)], *parts)


@functools.lru_cache(maxsize=64)
def _compiled(cell: Cell, arm: Arm, priced: bool) -> Callable[[Truths, Array], Outcome]:
    """Scenarios differ in their truths alone: those of one shape share a program."""
    fitter = cell_fitter(cell, arm)
    if arm.strategy is None:
        return jax.jit(jax.vmap(functools.partial(_purchase, cell, arm, fitter)))
    strategy = arm.strategy()
    if priced:

        def learner_of(truth: Truths) -> Learner:
            return priced_learner(
                fitter,
                strategy,
                truth.price,
                num_target=cell.num_target,
                budget=cell.budget,
                schedule=arm.schedule,
                penalty=PENALTY,
                join_target=cell.join_target,
            )
    else:
        learner = cell_learner(cell, arm)

        def learner_of(truth: Truths) -> Learner:
            del truth  # without prices one learner serves all
            return learner

    return jax.jit(jax.vmap(functools.partial(_campaign, cell, learner_of)))


def cell_learner(cell: Cell, arm: Arm) -> Learner:
    """The learner of a rule where samples have no prices.

    Raises:
      ValueError: for an arm without a rule.
    """
    if arm.strategy is None:
        raise ValueError("cell_learner expects an arm with a strategy, got one purchase.")
    return active_learner(
        cell_fitter(cell, arm),
        arm.strategy(),
        num_sources=cell.sizes.num_tasks,
        num_target=cell.num_target,
        budget=cell.budget,
        schedule=arm.schedule,
        floor=arm.floor,
        penalty=PENALTY,
        join_target=cell.join_target,
    )


def _purchase(cell: Cell, arm: Arm, fitter: Fitter, truth: Truths, key: Array) -> Outcome:
    """Risk and counts of one seed where everything is bought at once."""
    counts = split_at_once(cell, arm, truth)
    batch = cell_rows(jax.random.fold_in(key, SAMPLES), cell, truth, counts)
    if truth.price is not None:  # noise differs from task to task, and these arms know it
        batch = batch._replace(weight=batch.weight / truth.noise[batch.task][:, None] ** 2)
    if not cell.join_target:
        on_target = (batch.task == cell.sizes.num_tasks)[:, None]
        batch = batch._replace(weight=jnp.where(on_target, 0, batch.weight))
    start = fitter.init(jax.random.key(0), batch, PENALTY)
    kernel = fitter.fit(start, batch, PENALTY).params["params"]["kernel"]
    return Outcome(kernel_risk(kernel, truth), counts)


def _campaign(
    cell: Cell, learner_of: Callable[[Truths], Learner], truth: Truths, key: Array
) -> Outcome:
    """Risk and counts of one seed of a rule that learns."""
    learner = learner_of(truth)
    sample_key = jax.random.fold_in(key, SAMPLES)
    learner_key = jax.random.fold_in(key, LEARNER)

    def one_round(_, state: LearnerState) -> LearnerState:
        wanted = learner.ask(learner_key, state)
        batch = cell_rows(sample_key, cell, truth, state.spent + wanted)
        return learner.tell(learner_key, state, batch)[0]

    # One body for all rounds: the last proposal, which nobody reads, costs less than compiling it.
    start = learner.init(learner_key, no_rows(cell))
    state = jax.lax.fori_loop(0, len(learner.budgets), one_round, start)
    return Outcome(kernel_risk(state.params["params"]["kernel"], truth), state.spent)


def no_rows(cell: Cell) -> TaskBatch:
    """A batch of the shapes that a campaign's state depends on."""
    return TaskBatch(
        x=jnp.zeros((1, 1, cell.sizes.input_dim)),
        y=jnp.zeros((1, 1, 1)),
        weight=jnp.zeros((1, 1)),
        task=jnp.zeros(1, jnp.int32),
    )


def cell_fitter(cell: Cell, arm: Arm) -> Fitter:
    """The fitter of a cell's arm: of the rank that the arm is fitted with, without intercepts."""
    rank = cell.sizes.num_features if arm.keeps_rank or cell.rank is None else cell.rank
    return gram_fitter(
        linear_encoder(_MOST_FEATURES if rank == "aic" else rank),
        num_tasks=cell.sizes.num_tasks + 1,
        intercept=False,
        num_steps=300,
        tolerance=1e-6,
        rank="aic" if rank == "aic" else None,
    )


def split_at_once(cell: Cell, arm: Arm, truth: Truths) -> Array:
    """The whole budget at once, `[M]`: uniform, or the best split for the true heads.

    Unequal noise and prices enter as they do in the theory: nu of least Σ √c_m σ_m |nu_m|, and
    counts ∝ σ_m |nu_m| / √c_m.
    """
    scores = jnp.zeros(cell.sizes.num_tasks)
    if arm.known:
        price = jnp.ones_like(scores) if truth.price is None else truth.price
        cost = jnp.sqrt(price) * truth.noise[:-1]
        scaled = truth.heads / cost[:, None]
        found = basis_pursuit(scaled[..., None], truth.target_head[:, None])
        scores = jnp.abs(found.nu) / price
    # A budget that is traced: concrete ones are split on the host, which vmap cannot.
    return allocate(scores, budget=jnp.asarray(cell.budget, float), price=truth.price)


def cell_rows(key: Array, cell: Cell, truth: Truths, counts: Array) -> TaskBatch:
    """The rows of `counts` `[M]`, which the budget pays, and the target's."""
    num_tasks = cell.sizes.num_tasks + 1
    most = cell.budget if truth.price is None else cell.budget / LEAST_PRICE
    return packed_rows(
        key,
        truth,
        counts,
        cell.num_target,
        num_blocks=max_blocks(math.ceil(most) + cell.num_target, num_tasks, _BLOCK_ROWS),
        block_rows=_BLOCK_ROWS,
    )


def kernel_risk(kernel: Array, truth: Truths) -> Array:
    """`[]` what a representation `[D, K]` costs the target: the risk without the head's term."""
    covariance = None
    if truth.factor is not None:
        covariance = jnp.matmul(truth.factor[-1], truth.factor[-1].T, precision=_PRECISION)
    return representation_risk(kernel, truth.theta[-1], input_covariance=covariance)
