"""The fits of one round: the representation on the sources, and with the targets as tasks too."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from amtl_jax.fitting.penalty import PenaltyFit, fit_with_penalty
from amtl_jax.noise_weights import (
    in_raw_rows,
    noise_factors,
    raw_ridge,
    relative_noise,
    weigh_tasks,
)
from amtl_jax.purse import Purse
from amtl_jax.target import TargetFit, fit_target
from amtl_jax.types import Array, FitResult, Fitter, LearnerState, Params, Strategy, TaskBatch

_HELD_OUT_KEY, _INIT_KEY = 0, 2  # folded into the round's key; `one_round` has the other


class Parts(NamedTuple):
    """What the functions of a learner close over; see `active_learner`."""

    fitter: Fitter
    strategy: Strategy
    purse: Purse
    num_sources: int
    num_target: int
    num_targets: int | None
    penalty: float | None
    penalties: tuple[float, ...]
    join_target: bool
    weigh_noise: bool
    warm_start: bool


class RoundFit(NamedTuple):
    """What the fits of a round found; statistics and heads are in unweighted rows.

    Attributes:
      seen: the fit whose heads the strategy looks at.
      seen_target: the target's head on its features; with T targets all leaves have a leading
        axis.
      kept: the fit that the round returns.
      kept_target: the target's head on its features.
      task_noise: `[M + 1]` see `LearnerState`.
      penalty: `[]` λ.
      held_out_loss: `[]` see `LearnerState`.
      penalty_losses: `[G]` see `RoundInfo`.
      input_dim: `[]` D.
    """

    seen: FitResult
    seen_target: TargetFit
    kept: FitResult
    kept_target: TargetFit
    task_noise: Array
    penalty: Array
    held_out_loss: Array
    penalty_losses: Array
    input_dim: Array


def over_targets(parts: Parts, function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function of one target's arrays, or of each target's along their leading axis."""
    return function(*arguments) if parts.num_targets is None else jax.vmap(function)(*arguments)


def fit_sources(parts: Parts, key: Array, state: LearnerState, batch: TaskBatch) -> PenaltyFit:
    """Fits the sources alone, whatever the targets; see `Learner.fit_sources`."""
    sources, factors = _sources(parts, state, batch)
    return _fit_sources(parts, key, state, sources, factors)


def fit_round(
    parts: Parts,
    key: Array,
    state: LearnerState,
    batch: TaskBatch,
    chosen: PenaltyFit | None = None,
) -> RoundFit:
    """Fits the sources, and from there all tasks where somebody wants the target in the fit.

    λ is chosen on rows of the sources, whatever the target's part in the fits. Where tasks are
    weighed by their noise, the fit of the sources is there to estimate it and is then repeated.
    A fit of the sources that is `chosen` already, by `fit_sources`, is not made again.
    """
    sources, factors = _sources(parts, state, batch)
    if chosen is None:
        chosen = _fit_sources(parts, key, state, sources, factors)
    noise, plain = state.task_noise, chosen.fit
    if factors is not None:
        noise = _noise(parts, chosen, factors, batch)
        plain = _fit(parts, plain.params, sources, chosen.penalty, noise)
    joint = plain
    if parts.join_target or parts.strategy.target_in_fit:
        joint = _fit(parts, plain.params, batch, chosen.penalty, noise)
    seen = joint if parts.strategy.target_in_fit else plain
    kept = joint if parts.join_target else plain
    seen_target = _fit_targets(parts, seen.params, batch)
    return RoundFit(
        seen=seen,
        seen_target=seen_target,
        kept=kept,
        kept_target=seen_target if kept is seen else _fit_targets(parts, kept.params, batch),
        task_noise=noise,
        penalty=chosen.penalty,
        held_out_loss=chosen.held_out_loss,
        penalty_losses=chosen.losses,
        input_dim=jnp.float32(_num_inputs(batch)),
    )


def _sources(parts: Parts, state: LearnerState, batch: TaskBatch) -> tuple[TaskBatch, Array | None]:
    """The batch without the targets' rows, and how the fit weighs its tasks."""
    is_source = (batch.task < parts.num_sources)[:, None]
    sources = batch._replace(weight=jnp.where(is_source, batch.weight, 0))
    return sources, noise_factors(sources, state.task_noise) if parts.weigh_noise else None


def _num_inputs(batch: TaskBatch) -> int:
    return int(np.prod(batch.x.shape[2:]))


def _fit_sources(
    parts: Parts, key: Array, state: LearnerState, sources: TaskBatch, factors: Array | None
) -> PenaltyFit:
    """Fits the representation, the first time from the fitter's own start."""
    start = jax.lax.cond(
        (state.round == 0) | (not parts.warm_start),
        lambda: parts.fitter.init(jax.random.fold_in(key, _INIT_KEY), sources, state.penalty),
        lambda: state.params,
    )
    chosen = fit_with_penalty(
        parts.fitter,
        jax.random.fold_in(key, _HELD_OUT_KEY),
        start,
        sources if factors is None else weigh_tasks(sources, factors),
        penalty=state.penalty,
        held_out_loss=state.held_out_loss,
        penalties=parts.penalties,
    )
    if factors is None:
        return chosen
    intercept = parts.fitter.intercept
    raw = in_raw_rows(chosen.fit, factors, penalty=chosen.penalty, intercept=intercept)
    return chosen._replace(fit=raw)


def _fit(parts: Parts, params: Params, batch: TaskBatch, penalty: Array, noise: Array) -> FitResult:
    """Fits at a λ, every task weighed by its noise where that is wanted."""
    if not parts.weigh_noise:
        return parts.fitter.fit(params, batch, penalty)
    factors = noise_factors(batch, noise)
    fit = parts.fitter.fit(params, weigh_tasks(batch, factors), penalty)
    return in_raw_rows(fit, factors, penalty=penalty, intercept=parts.fitter.intercept)


def _noise(parts: Parts, chosen: PenaltyFit, factors: Array, batch: TaskBatch) -> Array:
    """`[M + 1]` relative noise of the sources in this fit, and of the target around its head."""
    target = _fit_targets(parts, chosen.fit.params, batch)
    own = (target.stats, target.ridge.head, target.ridge.ridge)
    if parts.num_targets is None:
        own = jax.tree.map(lambda leaf: leaf[None], own)
    ridge = raw_ridge(chosen.fit, factors, chosen.penalty)
    stats, heads, ridge = jax.tree.map(
        lambda ours, theirs: jnp.concatenate([ours[: parts.num_sources], theirs]),
        (chosen.fit.stats, chosen.fit.heads, ridge),
        own,
    )
    return relative_noise(
        stats,
        heads,
        ridge=ridge,
        input_dim=_num_inputs(batch),
        held_out_loss=chosen.held_out_loss,
        fit_weight=jnp.where(jnp.arange(len(ridge)) < parts.num_sources, factors, 0.0),
        intercept=parts.fitter.intercept,
    )


def _fit_targets(parts: Parts, params: Params, batch: TaskBatch) -> TargetFit:
    """The target's head on features that are held fixed, or the heads of all targets."""
    fit = functools.partial(
        fit_target,
        parts.fitter.encoder,
        params,
        batch,
        num_target=parts.num_target,
        intercept=parts.fitter.intercept,
    )
    tasks = jnp.int32(parts.num_sources) + jnp.arange(parts.num_targets or 1, dtype=jnp.int32)
    tasks = tasks[0] if parts.num_targets is None else tasks
    return over_targets(parts, lambda task: fit(task=task), tasks)
