"""How many features a linear representation gets: chosen by the fit, or looked at behind it."""

import functools
import math

import jax
import numpy as np

from amtl_jax.encoders.linear import is_linear
from amtl_jax.fitting.gram import gram_fitter
from amtl_jax.fitting.joined_moments import weigh_moments
from amtl_jax.fitting.moments import TaskMoments
from amtl_jax.fitting.rank import RankChoice, choose_rank, choose_rank_of, rank_warning
from amtl_jax.noise_weights import factors_of, noise_factors, weigh_tasks
from amtl_jax.sharded import everywhere
from amtl_jax.types import Array, Encoder, Fitter, Params, TaskBatch

# Numbers in the second moments of all tasks; a fit reads them in every one of its steps.
MOST_MOMENTS = 2**25
_MORE = 5  # ranks beyond the given one that the check looks at
_CHECK_STEPS, _CHECK_TOLERANCE = 100, 1e-5


def has_moments(num_tasks: int, num_inputs: int) -> bool:
    """Whether the second moments of all tasks are few enough to choose a rank by them."""
    return num_tasks * num_inputs**2 <= MOST_MOMENTS


def rank_fitter(
    encoder: Encoder,
    *,
    num_tasks: int,
    num_inputs: int,
    intercept: bool = True,
    num_steps: int = 200,
    tolerance: float = 1e-6,
) -> Fitter:
    """Returns the fit of a linear encoder that chooses its rank by AIC; see `gram_fitter`.

    Args:
      encoder: linear, of as many features as may be tried.
      num_tasks: of the fit.
      num_inputs: D.
      intercept: whether heads have one.
      num_steps: most steps of the fit of one rank.
      tolerance: of these fits.

    Raises:
      ValueError: if the second moments of all tasks are too many.
    """
    if not has_moments(num_tasks, num_inputs):
        size, most = (4e-6 * one for one in (num_tasks * num_inputs**2, MOST_MOMENTS))
        widest = math.isqrt(MOST_MOMENTS // num_tasks)
        raise ValueError(
            f"A rank chosen by AIC works from {num_inputs} × {num_inputs} second moments of each "
            f"of {num_tasks} tasks: {size:,.0f} MB, more than the {most:,.0f} MB that it is made "
            f"for. Give the number of features, or at most {widest:,} inputs."
        )
    return gram_fitter(
        encoder,
        num_tasks=num_tasks,
        intercept=intercept,
        num_steps=num_steps,
        tolerance=tolerance,
        rank="aic",
    )


def features_in_use(encoder: Encoder, params: Params) -> int:
    """How many features a representation has; one chosen by AIC leaves the others exactly zero."""
    if not is_linear(encoder):
        return encoder.num_features
    return int(np.any(np.asarray(params["params"]["kernel"]) != 0, axis=0).sum())


def rank_doubt(
    samples: TaskBatch | TaskMoments,
    num_features: int,
    *,
    num_sources: int,
    intercept: bool,
    task_noise: Array | None = None,
) -> str | None:
    """Says that a linear representation has too few features for its sources, or None.

    None also where the second moments are too many to look, or nothing more can be fitted.

    Args:
      samples: of the sources, tasks 0 … M−1, and of a target, which are left out; or moments of
        M + 1 tasks, of the samples of the sources alone.
      num_features: K of the representation.
      num_sources: M.
      intercept: whether heads have one.
      task_noise: noise variance of the tasks, any scale, where the fit weighs them by it: unequal
        noise looks like features. None: equal weights.
    """
    num_tasks = num_sources + 1
    is_sums = isinstance(samples, TaskMoments)
    num_inputs = samples.mean.shape[1] if is_sums else math.prod(samples.x.shape[2:])
    most = min(num_features + _MORE, num_inputs)
    if most <= num_features or not has_moments(num_tasks, num_inputs):
        return None
    if is_sums:
        if task_noise is not None:
            samples = weigh_moments(samples, factors_of(samples.count, task_noise))
    else:
        samples = _flat_sources(samples, num_sources)
        if task_noise is not None:
            samples = weigh_tasks(samples, noise_factors(samples, task_noise))
    choice = _ranks(samples, num_tasks=num_tasks, max_rank=most, intercept=intercept)
    return rank_warning(jax.tree.map(np.asarray, choice), num_features)


def _flat_sources(batch: TaskBatch, num_sources: int) -> TaskBatch:
    """The rows of the sources, inputs as vectors."""
    is_source = (batch.task < num_sources)[:, None]
    return batch._replace(
        x=batch.x.reshape(*batch.x.shape[:2], -1), weight=batch.weight * is_source
    )


@functools.partial(jax.jit, static_argnames=("num_tasks", "max_rank", "intercept"))
def _ranks(
    samples: TaskBatch | TaskMoments, *, num_tasks: int, max_rank: int, intercept: bool
) -> RankChoice:
    options = {
        "max_rank": max_rank,
        "intercept": intercept,
        "num_steps": _CHECK_STEPS,
        "tolerance": _CHECK_TOLERANCE,
    }
    if isinstance(samples, TaskMoments):
        return choose_rank_of(samples, **options)
    choice = choose_rank(samples, num_tasks=num_tasks, **options)
    return jax.tree.map(everywhere, choice)
