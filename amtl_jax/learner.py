"""One round of active multi-task representation learning as two pure functions."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from amtl_jax.allocation import allocate
from amtl_jax.fitting.penalty import PENALTIES, PenaltyFit, fit_with_penalty
from amtl_jax.heads import head_stats
from amtl_jax.planning import round_floor, split_budget
from amtl_jax.target import LooRidge, loo_ridge
from amtl_jax.types import (
    Array,
    Evidence,
    Fitter,
    Heads,
    HeadStats,
    Learner,
    LearnerState,
    RoundInfo,
    Strategy,
    TaskBatch,
)

# First a broad look, then at least three rounds that learn from it: growth 1.5 after the first.
SCHEDULE = (0.300, 0.147, 0.221, 0.332)
_HELD_OUT_KEY, _STRATEGY_KEY, _INIT_KEY = range(3)


class Floor(NamedTuple):
    """What every source gets in every round, whatever the scores; at most one field is set.

    Attributes:
      count: samples per source.
      share: share of the round's budget, spread evenly; 0.2 where nothing is set.
      root: the papers' √(round budget) samples per source.
    """

    count: int | None = None
    share: float | None = None
    root: bool = False


def active_learner(
    fitter: Fitter,
    strategy: Strategy,
    *,
    num_sources: int,
    num_target: int,
    budget: float,
    schedule: Sequence[float] = SCHEDULE,
    floor: Floor = Floor(),  # noqa: B008  (an immutable tuple)
    capacity=None,
    price=None,
    penalty: float | None = None,
    penalties: Sequence[float] = PENALTIES,
    intercept: bool = True,
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
      budget: samples to buy in all rounds together; with prices, money.
      schedule: shares of the budget per round, unless the strategy has its own.
      floor: what every source gets in each round.
      capacity: `[M]` samples that each source can give in all; None: no limit.
      price: `[M]` price of one sample; None: the budget counts samples.
      penalty: λ of the fit; None: chosen in the first round on held-out rows, then kept.
      penalties: the grid it is chosen from, strongest first.
      intercept: whether the target's head has an intercept; match the fitter's.

    Returns:
      `Learner` of pure functions; nothing is jitted here. Jit `ask` and `tell` for speed.

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
    if penalty is None and (len(penalties) < 1 or list(penalties) != sorted(penalties)[::-1]):
        raise ValueError(f"active_learner expects penalties, strongest first, got {penalties}.")
    capacity = _per_source(capacity, "capacity", num_sources, np.iinfo(np.int32).max).astype(int)
    prices = None if price is None else _per_source(price, "price", num_sources, 1.0)
    budgets, floors = _plan(
        budget, strategy.schedule or tuple(schedule), floor, num_sources, capacity, prices
    )
    num_rounds = len(budgets)
    # Behind the last round there is nothing to buy.
    budget_table = np.asarray([*budgets, 0], np.int32 if price is None else np.float32)
    floor_table = np.asarray([*floors, 0], np.int32)
    unit_price = np.ones(num_sources) if prices is None else prices

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

    def ask(key: Array, state: LearnerState) -> Array:
        del key  # every present rule is deterministic; bandits will want it
        index = jnp.minimum(state.round, num_rounds)
        floor_now = jnp.asarray(floor_table)[index]
        proposal = state.proposal
        missing = jnp.maximum(proposal.scores - state.spent - floor_now, 0.0)
        return allocate(
            jnp.where(proposal.cumulative, missing, proposal.scores),
            budget=jnp.asarray(budget_table)[index],
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
        target = _fit_target(fitter, chosen.fit.params, batch, num_sources, num_target, intercept)
        # Only real rows count as bought: a batch that lacks some shows in `spent`.
        rows = jax.ops.segment_sum(
            jnp.sum(sources.weight > 0, axis=1, dtype=jnp.int32), batch.task, num_sources + 1
        )[:num_sources]

        seen, seen_target = chosen.fit, target
        if strategy.target_in_fit:
            seen = fitter.fit(chosen.fit.params, batch, chosen.penalty)
            seen_target = _fit_target(
                fitter, seen.params, batch, num_sources, num_target, intercept
            )
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
            ridge=chosen.penalty * jnp.sum(sources.weight),
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


def alignment(source_heads: Heads, target_stats: HeadStats) -> Array:
    """Correlates the target's labels with every source head's predictions on the target sample.

    Needs no predictions: numerator and denominator are quadratic forms of the statistics.

    Args:
      source_heads: heads of M sources.
      target_stats: the target's statistics on the same features, no leading axis.

    Returns:
      `[M]` correlations in [-1, 1], averaged over outputs; 0 where a side is constant.
    """
    count = jnp.maximum(target_stats.count, 1.0)
    mean = target_stats.feature_sum / count
    gram = target_stats.gram - count * jnp.outer(mean, mean)
    moment = target_stats.moment - jnp.outer(mean, target_stats.label_sum)
    energy = target_stats.energy - target_stats.label_sum**2 / count
    covariance = jnp.einsum("mko,ko->mo", source_heads.weight, moment)
    projected = jnp.einsum("kl,mlo->mko", gram, source_heads.weight)
    variance = jnp.sum(source_heads.weight * projected, axis=1) * energy[None]
    safe = jnp.where(variance > 0, variance, 1.0)
    correlation = jnp.where(variance > 0, covariance * jax.lax.rsqrt(safe), 0.0)
    return jnp.clip(correlation, -1.0, 1.0).mean(axis=-1)


class _TargetFit(NamedTuple):
    ridge: LooRidge
    stats: HeadStats


def _fit_target(fitter, params, batch, num_sources, num_target, intercept) -> _TargetFit:
    """Fits the target's head on its rows, which `pack` leaves adjacent."""
    block_rows = batch.weight.shape[1]
    num_blocks = min(-(-num_target // block_rows), len(batch.task))
    first = jnp.searchsorted(batch.task, jnp.asarray(num_sources, batch.task.dtype))
    own = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, first, num_blocks), batch)
    # Where the target's blocks end the batch, the slice may start before them.
    own = own._replace(weight=jnp.where((own.task == num_sources)[:, None], own.weight, 0))
    features = fitter.encoder.apply(params, own.x)
    stats = head_stats(features, own, num_tasks=num_sources + 1)
    num_rows = num_blocks * block_rows
    ridge = loo_ridge(
        features.reshape(num_rows, -1),
        own.y.reshape(num_rows, -1),
        own.weight.reshape(num_rows),
        intercept=intercept,
    )
    return _TargetFit(ridge, jax.tree.map(lambda leaf: leaf[num_sources], stats))


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


def _per_source(values, name, num_sources, default):
    """Validates a positive number per source; None gives the default for all."""
    array = np.full(num_sources, default) if values is None else np.asarray(values)
    if array.shape != (num_sources,) or not (np.isfinite(array).all() and (array > 0).all()):
        raise ValueError(
            f"active_learner expects {name} as {num_sources} positive numbers, one per source, "
            f"got shape {array.shape}: {array!r}."
        )
    return array


def _plan(budget, shares, floor: Floor, num_sources, capacity, prices):
    """Budgets and floors of all rounds as Python numbers; raises where they cannot be met."""
    floor_options = {"count": floor.count, "share": floor.share, "root": floor.root}
    if prices is None:
        budgets = split_budget(budget, shares)
        if budget > capacity.sum():
            raise ValueError(
                f"The budget of {budget} samples is beyond the sources' capacity of "
                f"{capacity.sum()}. Lower the budget or add sources."
            )
        floors = tuple(round_floor(amount, num_sources, **floor_options) for amount in budgets)
        return budgets, floors
    total = sum(shares)
    budgets = tuple(budget * share / total for share in shares)
    worth = float((capacity * prices).sum())
    if budget > worth:
        raise ValueError(f"The budget of {budget} is beyond the price of all samples, {worth}.")
    # One sample of every source costs Σ c_m: count in such rounds of the table.
    floors = tuple(
        round_floor(int(amount * num_sources / prices.sum()), num_sources, **floor_options)
        for amount in budgets
    )
    return budgets, floors
