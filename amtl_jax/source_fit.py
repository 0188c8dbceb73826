"""One fit of a round, to samples or to their moments, tasks weighed by their noise where wanted."""

import jax
import jax.numpy as jnp

from amtl_jax.fitting.joined_moments import weigh_moments
from amtl_jax.fitting.moments import TaskMoments
from amtl_jax.fitting.penalty import PenaltyFit, fit_moments_with_penalty, fit_with_penalty
from amtl_jax.noise_weights import factors_of, in_raw_rows, noise_factors, weigh_tasks
from amtl_jax.round_moments import RoundMoments, moments_of_sources, weigh_sources
from amtl_jax.round_parts import Parts
from amtl_jax.types import Array, FitResult, LearnerState, MomentFit, Params, TaskBatch

HELD_OUT_KEY, _INIT_KEY = 0, 2  # folded into the round's key; `one_round` has the other


def sources_of(
    parts: Parts, state: LearnerState, batch: TaskBatch | RoundMoments
) -> tuple[TaskBatch | RoundMoments, Array | None]:
    """The samples without those of the targets, and how the fit weighs its tasks."""
    if isinstance(batch, RoundMoments):
        weight = moments_of_sources(batch).count
        return batch, factors_of(weight, state.task_noise) if parts.weigh_noise else None
    is_source = (batch.task < parts.num_sources)[:, None]
    sources = batch._replace(weight=jnp.where(is_source, batch.weight, 0))
    return sources, noise_factors(sources, state.task_noise) if parts.weigh_noise else None


def all_rows(sources: TaskBatch | RoundMoments) -> TaskBatch | TaskMoments:
    """All rows of the sources, as a fit takes them."""
    return moments_of_sources(sources) if isinstance(sources, RoundMoments) else sources


def _of_moments(parts: Parts) -> MomentFit:
    """The fit of moments, where there is one."""
    if parts.fitter.of_moments is None:
        raise ValueError(
            "A round of RoundMoments expects a fit of moments, gram_fitter or frozen_fitter of "
            "identity_encoder, got one that needs its samples: give a TaskBatch."
        )
    return parts.fitter.of_moments


def fit_sources_alone(
    parts: Parts,
    key: Array,
    state: LearnerState,
    sources: TaskBatch | RoundMoments,
    factors: Array | None,
) -> PenaltyFit:
    """Fits the representation, the first time from the fitter's own start."""

    def own_start() -> Params:
        if isinstance(sources, RoundMoments):
            return _of_moments(parts).init(moments_of_sources(sources), state.penalty)
        return parts.fitter.init(jax.random.fold_in(key, _INIT_KEY), sources, state.penalty)

    is_first = (state.round == 0) | (not parts.warm_start)
    start = jax.lax.cond(is_first, own_start, lambda: state.params)
    options = {
        "penalty": state.penalty,
        "held_out_loss": state.held_out_loss,
        "penalties": parts.penalties,
    }
    if isinstance(sources, RoundMoments):
        weighed = sources if factors is None else weigh_sources(sources, factors)
        chosen = fit_moments_with_penalty(
            _of_moments(parts), start, weighed.moments, weighed.held_out, **options
        )
    else:
        weighed = sources if factors is None else weigh_tasks(sources, factors)
        key = jax.random.fold_in(key, HELD_OUT_KEY)
        chosen = fit_with_penalty(parts.fitter, key, start, weighed, **options)
    if factors is None:
        return chosen
    intercept = parts.fitter.intercept
    raw = in_raw_rows(chosen.fit, factors, penalty=chosen.penalty, intercept=intercept)
    return chosen._replace(fit=raw)


def fit_at(
    parts: Parts, params: Params, rows: TaskBatch | TaskMoments, penalty: Array, noise: Array
) -> FitResult:
    """Fits at a λ, every task weighed by its noise where that is wanted."""
    if isinstance(rows, TaskMoments):
        factors = factors_of(rows.count, noise)
        weighed = weigh_moments(rows, factors) if parts.weigh_noise else rows
        fit = _of_moments(parts).fit(params, weighed, penalty)
    else:
        factors = noise_factors(rows, noise)
        weighed = weigh_tasks(rows, factors) if parts.weigh_noise else rows
        fit = parts.fitter.fit(params, weighed, penalty)
    if not parts.weigh_noise:
        return fit
    return in_raw_rows(fit, factors, penalty=penalty, intercept=parts.fitter.intercept)
