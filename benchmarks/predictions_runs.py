"""Campaigns that are predicted while they run: what each round says of the end, beside the end."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from amtl_jax.experiment.plan_state import fitted_draws
from amtl_jax.forecast import PredictedRisk, predicted_risk
from amtl_jax.knowledge import HeadDraws
from amtl_jax.paired_risk import paired_risks, share_worse
from amtl_jax.plan_ahead import adaptivity_pays
from amtl_jax.plan_split import terms_of, totals
from amtl_jax.strategies.uniform import uniform
from amtl_jax.types import Array, Encoder, Learner, LearnerState
from benchmarks.curves_arms import ARMS, Arm
from benchmarks.curves_campaign import (
    LEARNER,
    SAMPLES,
    Cell,
    cell_fitter,
    cell_learner,
    cell_rows,
    kernel_risk,
    no_rows,
    over_seeds,
)
from benchmarks.curves_truths import Sizes, Truths, draw_truths

_PLAN = 2  # folded into the seed's key; `curves_campaign` has the others
RULES = {"uniform": Arm(uniform), "c_optimal": ARMS["c_optimal"]}


class Forecasts(NamedTuple):
    """What R rounds of S runs predicted, and what came; one target.

    Attributes:
      risk: `[S, R]` representation-limited risk after each round.
      counts: `[S, R, M]` samples bought by then.
      own: `[S, R]` predicted by each round for the samples bought by then.
      own_low: `[S, R]` lower end of its 95 % interval.
      own_high: `[S, R]` upper end.
      end: `[S, R]` predicted by each round for the samples of the last one.
      end_low: `[S, R]`.
      end_high: `[S, R]`.
      worse: `[S, R]` share of runs in which the rule's design for the whole budget, made after
        that round, is predicted to do worse than uniform.
      ratio: `[S, R]` predicted mean risk of that design over that of uniform.
    """

    risk: Array | np.ndarray
    counts: Array | np.ndarray
    own: Array | np.ndarray
    own_low: Array | np.ndarray
    own_high: Array | np.ndarray
    end: Array | np.ndarray
    end_low: Array | np.ndarray
    end_high: Array | np.ndarray
    worse: Array | np.ndarray
    ratio: Array | np.ndarray


class Beforehand(NamedTuple):
    """What `adaptivity_pays` says of a cell before anything is bought."""

    pays: bool
    worse: float
    ratio: float


@functools.lru_cache(maxsize=64)
def _payoff(sizes: Sizes, num_target: int, budget: int) -> Beforehand:
    found = adaptivity_pays(
        sizes.num_tasks,
        sizes.num_features,
        sizes.input_dim,
        budgets=[float(budget)],
        num_target=num_target,
        noise_variance=sizes.noise**2,
    )
    return Beforehand(bool(found.pays[0]), float(found.worse[0]), float(found.ratio[0]))


def pays_beforehand(cell: Cell) -> Beforehand:
    """Asks `adaptivity_pays` for the sizes of a cell; it does not know the scenario."""
    return _payoff(cell.sizes, cell.num_target, cell.budget)


def forecast_runs(cell: Cell, rule: str, seeds: Sequence[int]) -> Forecasts:
    """Runs a rule of `RULES` on every seed and predicts as `amtl plan` would after each round.

    Truths, samples and decisions are those of `learning_curves`.

    Raises:
      ValueError: if a risk is not finite.
    """
    truths = draw_truths(cell.scenario, seeds, cell.sizes)
    found = over_seeds(_compiled(cell._replace(scenario=""), rule), truths, seeds)
    if not np.isfinite(found.risk).all():
        raise ValueError(f"Risks of {rule} are not finite in {cell}: the fit or the rule failed.")
    return found


@functools.lru_cache(maxsize=64)
def _compiled(cell: Cell, rule: str) -> Callable[[Truths, Array], Forecasts]:
    arm = RULES[rule]
    learner, encoder = cell_learner(cell, arm), cell_fitter(cell, arm).encoder
    return jax.jit(jax.vmap(functools.partial(_campaign, cell, learner, encoder)))


def _campaign(cell: Cell, learner: Learner, encoder: Encoder, truth: Truths, key: Array):
    """One seed."""
    sample_key, learner_key, plan_key = (
        jax.random.fold_in(key, number) for number in (SAMPLES, LEARNER, _PLAN)
    )

    def one_round(state: LearnerState, _):
        wanted = learner.ask(learner_key, state)
        batch = cell_rows(sample_key, cell, truth, state.spent + wanted)
        state, _ = learner.tell(learner_key, state, batch)
        draws = fitted_draws(
            plan_key,
            state,
            batch,
            encoder=encoder,
            num_tasks=cell.sizes.num_tasks + 1,
            intercept=False,
            input_dim=float(cell.sizes.input_dim),
        )
        return state, (draws, kernel_risk(state.params["params"]["kernel"], truth), state.spent)

    state = learner.init(learner_key, no_rows(cell))
    _, (draws, risk, counts) = jax.lax.scan(one_round, state, length=len(learner.budgets))

    def look(pair):
        draws, counts = pair
        counts = counts.astype(float)
        # One behind the other: see `centred_stats.after`.
        own = _interval(cell, draws, counts)
        end = _interval(cell, draws, last + 0 * own[0])
        return *own, *end, *_against_uniform(cell, plan_key, draws, counts + 0 * end[0])

    last = counts[-1].astype(float)
    return Forecasts(risk, counts, *jax.lax.map(look, (draws, counts)))


def _interval(cell: Cell, draws: HeadDraws, counts: Array) -> tuple[Array, Array, Array]:
    found: PredictedRisk = predicted_risk(draws, counts, num_target=cell.num_target)
    return found.representation[0], found.low[0], found.high[0]


def _against_uniform(
    cell: Cell, key: Array, draws: HeadDraws, counts: Array
) -> tuple[Array, Array]:
    """What `plan` says of `c_optimal` at the whole budget: share of runs worse, ratio of means."""
    terms = terms_of("plan", draws, counts, None, None, None)
    budget = jnp.asarray(cell.budget, float)
    design = totals(draws, None, budget, terms)
    even = jnp.full_like(design, cell.budget / len(design)) + 0 * design[0]
    own, other = paired_risks(key, draws, design, even)
    return share_worse(own, other), jnp.mean(own) / jnp.mean(other)
