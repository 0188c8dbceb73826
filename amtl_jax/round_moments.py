"""What a round needs of rows that are nowhere all at once: sums, and the target's own sample."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from amtl_jax.fitting.joined_moments import join_moments, weigh_moments
from amtl_jax.fitting.moments import TaskMoments, task_moments
from amtl_jax.types import Array, TaskBatch


class RoundMoments(NamedTuple):
    """Samples of a round as sums, in place of a `TaskBatch`, for fits that have `of_moments`.

    Attributes:
      moments: of the sources' rows, less those held out; zeros for the target, which is task M.
      held_out: of the rows of the sources that λ is chosen on; None where it is known.
      num_rows: `[M]` int32 rows of positive weight of each source.
      target: the target's sample, packed, as task M.
    """

    moments: TaskMoments
    held_out: TaskMoments | None
    num_rows: Array
    target: TaskBatch


def moments_of_sources(samples: RoundMoments) -> TaskMoments:
    """Moments of all rows of the sources; zeros for the target."""
    if samples.held_out is None:
        return samples.moments
    return join_moments(samples.moments, samples.held_out)


def moments_of_all(samples: RoundMoments, *, intercept: bool) -> TaskMoments:
    """Moments of all rows, the target's too, as one more task."""
    sources = moments_of_sources(samples)
    own = task_moments(samples.target, num_tasks=len(sources.count), intercept=intercept)
    return jax.tree.map(jnp.add, sources, own)  # no task is in both


def weigh_sources(samples: RoundMoments, factors: Array) -> RoundMoments:
    """The sources' moments for weights that are multiplied by their task's factor, `[M + 1]`."""
    held_out = None if samples.held_out is None else weigh_moments(samples.held_out, factors)
    return samples._replace(moments=weigh_moments(samples.moments, factors), held_out=held_out)
