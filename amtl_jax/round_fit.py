"""The fits of one round: the representation on the sources, and with the targets as tasks too."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from amtl_jax.fitting.penalty import PenaltyFit
from amtl_jax.noise_weights import raw_ridge, relative_noise
from amtl_jax.round_moments import RoundMoments, moments_of_all
from amtl_jax.round_parts import Parts
from amtl_jax.source_fit import all_rows, fit_at, fit_sources_alone, sources_of
from amtl_jax.target import TargetFit, fit_target
from amtl_jax.types import Array, FitResult, LearnerState, Params, TaskBatch


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


def fit_sources(
    parts: Parts, key: Array, state: LearnerState, batch: TaskBatch | RoundMoments
) -> PenaltyFit:
    """Fits the sources alone, whatever the targets; see `Learner.fit_sources`."""
    sources, factors = sources_of(parts, state, batch)
    return fit_sources_alone(parts, key, state, sources, factors)


def fit_round(
    parts: Parts,
    key: Array,
    state: LearnerState,
    batch: TaskBatch | RoundMoments,
    chosen: PenaltyFit | None = None,
) -> RoundFit:
    """Fits the sources, and from there all tasks where somebody wants the target in the fit.

    λ is chosen on rows of the sources, whatever the target's part in the fits. Where tasks are
    weighed by their noise, the fit of the sources is there to estimate it and is then repeated.
    A fit of the sources that is `chosen` already, by `fit_sources`, is not made again.
    """
    own = batch.target if isinstance(batch, RoundMoments) else batch
    sources, factors = sources_of(parts, state, batch)
    if chosen is None:
        chosen = fit_sources_alone(parts, key, state, sources, factors)
    noise, plain = state.task_noise, chosen.fit
    if factors is not None:
        noise = _noise(parts, chosen, factors, own)
        plain = fit_at(parts, plain.params, all_rows(sources), chosen.penalty, noise)
    joint = plain
    if parts.join_target or parts.strategy.target_in_fit:
        intercept = parts.fitter.intercept
        is_sums = isinstance(batch, RoundMoments)
        rows = moments_of_all(batch, intercept=intercept) if is_sums else batch
        joint = fit_at(parts, plain.params, rows, chosen.penalty, noise)
    seen = joint if parts.strategy.target_in_fit else plain
    kept = joint if parts.join_target else plain
    seen_target = _fit_targets(parts, seen.params, own)
    return RoundFit(
        seen=seen,
        seen_target=seen_target,
        kept=kept,
        kept_target=seen_target if kept is seen else _fit_targets(parts, kept.params, own),
        task_noise=noise,
        penalty=chosen.penalty,
        held_out_loss=chosen.held_out_loss,
        penalty_losses=chosen.losses,
        input_dim=jnp.float32(_num_inputs(own)),
    )


def _num_inputs(batch: TaskBatch) -> int:
    return int(np.prod(batch.x.shape[2:]))


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
