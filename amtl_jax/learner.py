"""The learner of a campaign: what to buy, and what was learnt from it, as pure functions."""

from collections.abc import Sequence

import jax
from jax.typing import ArrayLike

from amtl_jax.fitting.penalty import PENALTIES, PenaltyFit, check_penalties
from amtl_jax.one_round import bought_rows, conclude_round, fresh_state
from amtl_jax.purse import make_purse
from amtl_jax.round_fit import RoundFit, fit_round, fit_sources
from amtl_jax.round_moments import RoundMoments
from amtl_jax.round_parts import Parts
from amtl_jax.round_plan import SCHEDULE, Floor
from amtl_jax.types import (
    Array,
    Fitter,
    Learner,
    LearnerState,
    Numbers,
    RoundInfo,
    Strategy,
    TaskBatch,
)


def active_learner(
    fitter: Fitter,
    strategy: Strategy,
    *,
    num_sources: int,
    num_target: int,
    budget: float,
    schedule: Sequence[float] = SCHEDULE,
    floor: Floor = Floor(),  # noqa: B008  (an immutable tuple)
    capacity: Numbers | None = None,
    price: Numbers | None = None,
    group: Numbers | None = None,
    penalty: float | None = None,
    penalties: Sequence[float] = PENALTIES,
    join_target: bool = False,
    weigh_noise: bool = False,
    warm_start: bool = True,
    num_targets: int | None = None,
) -> Learner:
    """Builds the learner of one campaign: ask for counts, buy, tell, until the budget is spent.

    A round of `tell` fits the representation and all heads on everything bought so far, fits
    the target's head on the target sample with exact leave-one-out ridge, and lets the strategy
    turn the evidence into its next proposal. `ask` rounds the proposal to integer counts. The
    target's rows travel in the batch, as task M, so one compiled `tell` serves every target,
    seed and allocation of the same shape.

    What came in the end may differ from what was asked: `tell` takes what was bought and paid,
    and a round may spend the plan up to and with it, less what was paid.

    Args:
      fitter: fits the representation with `num_tasks = num_sources + 1`, or + T.
      strategy: the rule that proposes.
      num_sources: M.
      num_target: n_T, rows of the target sample; of several targets the largest.
      budget: samples to buy in all rounds together; with prices, money. What a round leaves of
        it goes to the next.
      schedule: shares of the budget per round, unless the strategy has its own.
      floor: what every source gets in each round; less where what was paid before leaves less.
      capacity: `[M]` whole samples that each source can give in all, 0 where it is exhausted,
        inf or None where there is no limit.
      price: `[M]` price of one sample; None: the budget counts samples.
      group: `[M]` integers; sources of one number are bought together, as labels of the same
        inputs: their counts are equal and a sample is paid once. Their scores join as the root
        of the sum of squares, the c-optimal split for scores ∝ |nu|. None: each by itself.
      penalty: λ of the fit; None: chosen in the first round on held-out rows, then kept.
      penalties: the grid it is chosen from, strongest first.
      join_target: whether the representation that `tell` returns is fitted to the target's sample
        too, as one more task. For comparisons one setting for all rules: unlike a strategy's
        `target_in_fit`, which decides what its evidence is, it changes the result itself.
      weigh_noise: whether the fits weigh every task by one over the noise variance of its labels.
        It is estimated anew in every round, by a fit that is then repeated with the new weights.
      warm_start: whether a round's fit starts where the round before ended; else at the fitter's
        own start, as the first one does.
      num_targets: T, for one campaign that serves several targets: tasks `M … M+T−1` of the batch.
        Whatever is the target's own then has a leading `[T]`, in the evidence, in the state and in
        what `tell` reports, and rules buy for the sum of the targets' risks. None: one target,
        without that axis.

    Returns:
      `Learner` of pure functions. Jit `tell` for speed. Counts of -1 from `ask` report that the
        round cannot be met.

    Raises:
      ValueError: where the numbers do not fit together: budgets beyond the capacity, a floor
        that a round cannot pay, shapes that do not match M, a group of several prices.

    References:
      Chen, Du, Jamieson. Active Multi-Task Representation Learning. ICML 2022, Algorithm 2.
    """
    if num_targets is not None and num_targets < 1:
        raise ValueError(f"active_learner expects num_targets >= 1 or None, got {num_targets}.")
    if num_sources < 1 or num_target < 1:
        raise ValueError(
            "active_learner expects at least one source and one target row, got "
            f"num_sources={num_sources}, num_target={num_target}."
        )
    if penalty is not None and not penalty >= 0:
        raise ValueError(f"active_learner expects penalty >= 0 or None, got {penalty}.")
    num_tasks = num_sources + (num_targets or 1)
    if fitter.num_tasks != num_tasks:
        raise ValueError(
            f"active_learner expects a fitter of num_tasks = num_sources + {num_targets or 1} = "
            f"{num_tasks}, every target being one more task, got {fitter.num_tasks}."
        )
    check_penalties("active_learner", penalties)
    purse = make_purse(
        budget,
        strategy.schedule or tuple(schedule),
        floor,
        num_sources=num_sources,
        capacity=capacity,
        price=price,
        group=group,
    )
    parts = Parts(
        fitter=fitter,
        strategy=strategy,
        purse=purse,
        num_sources=num_sources,
        num_target=num_target,
        num_targets=num_targets,
        penalty=penalty,
        penalties=tuple(penalties),
        join_target=join_target,
        weigh_noise=weigh_noise,
        warm_start=warm_start,
    )

    return learner_of(parts)


def learner_of(parts: Parts) -> Learner:
    """Returns the functions of a learner whose parts fit together; see `active_learner`."""
    purse = parts.purse

    def init(key: Array, batch: TaskBatch) -> LearnerState:
        return fresh_state(parts, key, batch)

    @jax.jit  # eager and jitted callers must get the same rounding
    def ask(key: Array, state: LearnerState) -> Array:
        del key  # every present rule is deterministic; bandits will want it
        return purse.counts(state.proposal, state.round, state.spent, state.paid)

    def tell(
        key: Array,
        state: LearnerState,
        batch: TaskBatch | RoundMoments,
        bought: Numbers | None = None,
        paid: ArrayLike | None = None,
    ) -> tuple[LearnerState, RoundInfo]:
        bought = bought_rows(parts, batch) if bought is None else bought
        return conclude(key, state, fit(key, state, batch), bought, paid)

    def sources(key: Array, state: LearnerState, batch: TaskBatch | RoundMoments) -> PenaltyFit:
        return fit_sources(parts, key, state, batch)

    def fit(
        key: Array,
        state: LearnerState,
        batch: TaskBatch | RoundMoments,
        chosen: PenaltyFit | None = None,
    ) -> RoundFit:
        return fit_round(parts, key, state, batch, chosen)

    def conclude(
        key: Array,
        state: LearnerState,
        fits: RoundFit,
        bought: Numbers,
        paid: ArrayLike | None = None,
    ) -> tuple[LearnerState, RoundInfo]:
        return conclude_round(parts, key, state, fits, bought, paid)

    return Learner(init, ask, tell, purse.budgets, purse.floors, sources, fit, conclude)
