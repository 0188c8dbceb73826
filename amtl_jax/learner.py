"""One round of active multi-task representation learning as two pure functions."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from amtl_jax.allocation import allocate
from amtl_jax.campaign import SCHEDULE, Floor, plan_rounds, source_capacity, source_price
from amtl_jax.fitting.penalty import (
    PENALTIES,
    PenaltyFit,
    check_penalties,
    fit_with_penalty,
)
from amtl_jax.label_alignment import alignment
from amtl_jax.target import LooRidge, fit_target
from amtl_jax.types import (
    Array,
    Evidence,
    Fitter,
    Heads,
    Learner,
    LearnerState,
    Numbers,
    RoundInfo,
    Strategy,
    TaskBatch,
)

_HELD_OUT_KEY, _STRATEGY_KEY, _INIT_KEY = range(3)


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
    penalty: float | None = None,
    penalties: Sequence[float] = PENALTIES,
) -> Learner:
    """Builds the learner of one campaign: ask for counts, buy, tell, until the budget is spent.

    A round of `tell` fits the representation and all heads on everything bought so far, fits
    the target's head on the target sample with exact leave-one-out ridge, and lets the strategy
    turn the evidence into its next proposal. `ask` rounds the proposal to integer counts. The
    target's rows travel in the batch, as task M, so one compiled `tell` serves every target,
    seed and allocation of the same shape.

    Args:
      fitter: fits the representation with `num_tasks = num_sources + 1`.
      strategy: the rule that proposes.
      num_sources: M.
      num_target: n_T, rows of the target sample.
      budget: samples to buy in all rounds together; with prices, money. What a round leaves of
        its money goes to the next.
      schedule: shares of the budget per round, unless the strategy has its own.
      floor: what every source gets in each round.
      capacity: `[M]` whole samples that each source can give in all, 0 where it is exhausted,
        inf or None where there is no limit.
      price: `[M]` price of one sample; None: the budget counts samples.
      penalty: λ of the fit; None: chosen in the first round on held-out rows, then kept.
      penalties: the grid it is chosen from, strongest first.

    Returns:
      `Learner` of pure functions. Jit `tell` for speed. Counts of -1 from `ask` report that the
        round cannot be met.

    Raises:
      ValueError: where the numbers do not fit together: budgets beyond the capacity, a floor
        that a round cannot pay, shapes that do not match M.

    References:
      Chen, Du, Jamieson. Active Multi-Task Representation Learning. ICML 2022, Algorithm 2.
    """
    if num_sources < 1 or num_target < 1:
        raise ValueError(
            "active_learner expects at least one source and one target row, got "
            f"num_sources={num_sources}, num_target={num_target}."
        )
    if penalty is not None and not penalty >= 0:
        raise ValueError(f"active_learner expects penalty >= 0 or None, got {penalty}.")
    if fitter.num_tasks != num_sources + 1:
        raise ValueError(
            f"active_learner expects a fitter of num_tasks = num_sources + 1 = {num_sources + 1}, "
            f"the target being one more task, got {fitter.num_tasks}."
        )
    check_penalties("active_learner", penalties)
    capacity = source_capacity(capacity, num_sources)
    prices = None if price is None else source_price(price, num_sources)
    budgets, floors = plan_rounds(
        budget, strategy.schedule or tuple(schedule), floor, num_sources, capacity, prices
    )
    num_rounds = len(budgets)
    # Behind the last round there is nothing to buy.
    budget_table = np.asarray([*budgets, 0], np.int32 if price is None else np.float32)
    money_table = np.cumsum(budgets, dtype=np.float32)
    floor_table = np.asarray([*floors, 0], np.int32)
    unit_price = np.ones(num_sources) if prices is None else prices

    fit_own_head = functools.partial(
        fit_target,
        fitter.encoder,
        num_sources=num_sources,
        num_target=num_target,
        intercept=fitter.intercept,
    )

    def init(key: Array, batch: TaskBatch) -> LearnerState:
        proposal, strategy_state = strategy.init(num_sources)
        abstract = jax.eval_shape(fitter.init, key, batch, jnp.zeros(()))
        num_features, num_outputs = fitter.encoder.num_features, batch.y.shape[-1]
        unknown = jnp.full((), jnp.nan if penalty is None else penalty)
        state = LearnerState(
            round=jnp.int32(0),
            spent=jnp.zeros(num_sources, jnp.int32),
            proposal=proposal,
            strategy_state=strategy_state,
            params=jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), abstract),
            penalty=unknown,
            held_out_loss=jnp.full((), jnp.nan),
            target_head=Heads(
                jnp.zeros((num_features, num_outputs)),
                jnp.zeros(num_outputs),
                jnp.zeros(num_outputs),
            ),
        )
        return _with_strong_types(state)

    @jax.jit  # eager and jitted callers must get the same rounding
    def ask(key: Array, state: LearnerState) -> Array:
        del key  # every present rule is deterministic; bandits will want it
        index = jnp.minimum(state.round, num_rounds)
        budget_now = jnp.asarray(budget_table)[index]
        if prices is not None:  # what a round could not spend to the last coin, the next one can
            left = jnp.asarray(money_table)[index] - jnp.sum(
                jnp.asarray(prices, jnp.float32) * state.spent
            )
            budget_now = jnp.where(index < num_rounds, left, 0.0)
        floor_now = jnp.asarray(floor_table)[index]
        proposal = state.proposal
        missing = jnp.maximum(proposal.scores - state.spent - floor_now, 0.0)
        return allocate(
            jnp.where(proposal.cumulative, missing, proposal.scores),
            budget=budget_now,
            floor=floor_now,
            capacity=jnp.asarray(capacity, jnp.int32) - state.spent,
            price=None if prices is None else jnp.asarray(prices, jnp.float32),
        )

    def tell(key: Array, state: LearnerState, batch: TaskBatch) -> tuple[LearnerState, RoundInfo]:
        on_target = batch.task == num_sources
        sources = batch._replace(weight=jnp.where(on_target[:, None], 0, batch.weight))
        start = jax.lax.cond(
            state.round == 0,
            lambda: fitter.init(jax.random.fold_in(key, _INIT_KEY), sources, state.penalty),
            lambda: state.params,
        )
        held_out_key = jax.random.fold_in(key, _HELD_OUT_KEY)
        chosen = fit_with_penalty(
            fitter,
            held_out_key,
            start,
            sources,
            penalty=state.penalty,
            held_out_loss=state.held_out_loss,
            penalties=tuple(penalties),
        )
        target = fit_own_head(chosen.fit.params, batch)
        # Only real rows count as bought: a batch that lacks some shows in `spent`.
        rows = jax.ops.segment_sum(
            jnp.sum(sources.weight > 0, axis=1, dtype=jnp.int32), batch.task, num_sources + 1
        )[:num_sources]

        seen, seen_target = chosen.fit, target
        if strategy.target_in_fit:
            seen = fitter.fit(chosen.fit.params, batch, chosen.penalty)
            seen_target = fit_own_head(seen.params, batch)
        target_stats = seen_target.stats
        source_heads = jax.tree.map(lambda leaf: leaf[:num_sources], seen.heads)
        following = jnp.minimum(state.round + 1, num_rounds)
        evidence = Evidence(
            source_heads=source_heads,
            target_head=seen_target.ridge.head,
            source_stats=jax.tree.map(lambda leaf: leaf[:num_sources], seen.stats),
            target_stats=target_stats,
            alignment=alignment(source_heads, target_stats),
            noise=source_heads.residual_variance.mean(axis=-1),
            target_loss=seen_target.ridge.loss,
            ridge=chosen.penalty * jnp.sum(seen.stats.count),
            held_out_loss=chosen.held_out_loss,
            input_dim=jnp.float32(np.prod(batch.x.shape[2:])),
            spent=rows,
            price=jnp.asarray(unit_price, jnp.float32),
            capacity=jnp.asarray(capacity, jnp.int32),
            floor=jnp.asarray(floor_table)[following],
            budget=jnp.asarray(budget_table)[following],
            key=jax.random.fold_in(key, _STRATEGY_KEY),
        )
        proposal, strategy_state = strategy.update(evidence, state.strategy_state)
        new_state = LearnerState(
            round=state.round + 1,
            spent=rows,
            proposal=proposal,
            strategy_state=strategy_state,
            params=chosen.fit.params,
            penalty=chosen.penalty,
            held_out_loss=chosen.held_out_loss,
            target_head=target.ridge.head,
        )
        new_state = _with_strong_types(new_state)
        return new_state, _round_info(rows - state.spent, chosen, target.ridge, evidence, proposal)

    return Learner(init, ask, tell, budgets, floors)


def _with_strong_types(state: LearnerState) -> LearnerState:
    """Drops weak types: a state that went through `tell` must not trace it anew."""
    return jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype), state)


def _round_info(counts, chosen: PenaltyFit, target: LooRidge, evidence, proposal) -> RoundInfo:
    """Gathers what a person wants to know."""
    values = (target.loss, target.head.weight, evidence.alignment, proposal.scores)
    finite = jnp.stack([jnp.isfinite(value).all() for value in values]).all()
    return RoundInfo(
        counts=counts,
        fit=chosen.fit._replace(params=None, stats=None),
        relevance=proposal.relevance,
        alignment=evidence.alignment,
        target_ridge=target.ridge,
        target_loss=target.loss,
        penalty=chosen.penalty,
        penalty_losses=chosen.losses,
        is_finite=chosen.fit.ok & finite,
    )
