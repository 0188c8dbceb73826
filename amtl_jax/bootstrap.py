"""Bootstrap intervals over test rows: of one arm, and paired, of the difference of two."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from amtl_jax.types import Array

_CHUNK = 2**21  # row weights held at once by the bootstrap: 8 MB of float32


class Interval(NamedTuple):
    """A difference of two arms with its percentile bootstrap interval.

    Attributes:
      difference: `[]` metric of a minus metric of b on the rows as given.
      low: `[]` lower end of the interval.
      high: `[]` upper end.
    """

    difference: Array
    low: Array
    high: Array


class Estimate(NamedTuple):
    """A metric of one arm with its percentile bootstrap interval.

    Attributes:
      value: `[]` metric on the rows as given, the mean over seeds.
      low: `[]` lower end of the interval.
      high: `[]` upper end.
    """

    value: Array
    low: Array
    high: Array


def paired_bootstrap(
    metric: Callable[..., Array],
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    labels: ArrayLike,
    *,
    key: Array,
    num_resamples: int = 2000,
    level: float = 0.95,
    groups: ArrayLike | None = None,
    num_groups: int | None = None,
) -> Interval:
    """Percentile interval of `metric(a) − metric(b)` over resampled test rows.

    Both arms see the same resample, so what makes a row hard for both cancels. A resample is a
    vector of row weights (how often each row was drawn): nothing is gathered. With `groups`
    whole groups are drawn, for rows that are not independent of each other. With a leading
    axis of replicate seeds the difference is averaged over seeds, and they are drawn too.
    For many intervals of one shape, jit it: almost all the time of one call is compilation.

    Args:
      metric: `(scores [n], labels [n], weight=[n]) -> []`, such as `accuracy`.
      scores_a: `[n]` or `[S, n]` scores of arm a.
      scores_b: of the same shape, paired row by row and seed by seed.
      labels: `[n]`.
      key: PRNG key.
      num_resamples: number of resamples.
      level: coverage that is asked for, in (0, 1).
      groups: `[n]` int, group of each row, in `[0, num_groups)`; None: every row by itself.
      num_groups: static number of groups, every one with rows; needed under a trace.

    Returns:
      The interval. NaN ends if the metric is undefined on any resample: use fewer, larger
      groups or another metric.

    Raises:
      ValueError: for shapes that differ, a level outside (0, 1), or groups out of range.

    References:
      Efron, Tibshirani. An Introduction to the Bootstrap. 1993 (clusters: chapter 8).
    """
    shape = np.shape(scores_a)
    if len(shape) not in (1, 2) or np.shape(scores_b) != shape or np.shape(labels) != shape[-1:]:
        raise ValueError(
            "paired_bootstrap: expected scores [n] or [S, n] of both arms and labels [n], got "
            f"{list(shape)}, {list(np.shape(scores_b))} and {list(np.shape(labels))}."
        )
    if not 0 < level < 1 or num_resamples < 1:
        raise ValueError(
            "paired_bootstrap: expected a level in (0, 1) and num_resamples ≥ 1, "
            f"got level={level}, num_resamples={num_resamples}."
        )
    num_rows = shape[-1]
    groups, num_groups = _check_groups(groups, num_groups, num_rows)
    arm_a, arm_b = (jnp.atleast_2d(jnp.asarray(scores, float)) for scores in (scores_a, scores_b))
    labels, num_seeds = jnp.asarray(labels), arm_a.shape[0]

    def difference(weight, seed_weight):
        def of_seed(a, b):
            return metric(a, labels, weight=weight) - metric(b, labels, weight=weight)

        return jnp.sum(seed_weight * jax.vmap(of_seed)(arm_a, arm_b)) / jnp.sum(seed_weight)

    resampled = _resampled(difference, key, groups, num_groups, num_rows, num_seeds, num_resamples)
    low, high = jnp.quantile(resampled, jnp.array([(1 - level) / 2, (1 + level) / 2]))
    return Interval(difference(jnp.ones(num_rows), jnp.ones(num_seeds)), low, high)


def unpaired_bootstrap(
    metric: Callable[..., Array],
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    key: Array,
    num_resamples: int = 2000,
    level: float = 0.95,
) -> Estimate:
    """Percentile interval of the metric of one arm over resampled test rows and seeds.

    For what one arm gained over another use `paired_bootstrap`: intervals of two arms that
    overlap do not say that the arms are alike, since both saw the same rows.

    Args:
      metric: `(scores [n], labels [n], weight=[n]) -> []`, such as `accuracy`.
      scores: `[n]` or `[S, n]`, a row for each replicate seed.
      labels: `[n]`.
      key: PRNG key.
      num_resamples: number of resamples.
      level: coverage that is asked for, in (0, 1).

    Returns:
      The metric, averaged over seeds, and its interval. NaN ends if it is undefined on any
      resample.

    Raises:
      ValueError: for shapes that do not fit, or a level outside (0, 1).

    References:
      Efron, Tibshirani. An Introduction to the Bootstrap. 1993.
    """
    shape = np.shape(scores)
    if len(shape) not in (1, 2) or 0 in shape or np.shape(labels) != shape[-1:]:
        raise ValueError(
            "unpaired_bootstrap: expected scores [n] or [S, n] and labels [n], none empty, "
            f"got {list(shape)} and {list(np.shape(labels))}."
        )
    if not 0 < level < 1 or num_resamples < 1:
        raise ValueError(
            "unpaired_bootstrap: expected a level in (0, 1) and num_resamples ≥ 1, "
            f"got level={level}, num_resamples={num_resamples}."
        )
    arm, labels = jnp.atleast_2d(jnp.asarray(scores, float)), jnp.asarray(labels)
    num_rows = shape[-1]

    def mean(weight: Array, seed_weight: Array) -> Array:
        values = jax.vmap(lambda row: metric(row, labels, weight=weight))(arm)
        return jnp.sum(seed_weight * values) / jnp.sum(seed_weight)

    resampled = _resampled(
        mean, key, jnp.arange(num_rows), num_rows, num_rows, len(arm), num_resamples
    )
    low, high = jnp.quantile(resampled, jnp.array([(1 - level) / 2, (1 + level) / 2]))
    return Estimate(mean(jnp.ones(num_rows), jnp.ones(len(arm))), low, high)


def _resampled(
    statistic: Callable[[Array, Array], Array],
    key: Array,
    groups: Array | np.ndarray,
    num_groups: int,
    num_rows: int,
    num_seeds: int,
    num_resamples: int,
) -> Array:
    """`statistic(row weights [n], seed weights [S])` of every resample, `[num_resamples]`."""

    def resample(key: Array) -> Array:
        bits = jax.random.bits(key, (num_groups + num_seeds,))  # modulo: a bias below n / 2³²
        rows = jnp.bincount(bits[:num_groups] % num_groups, length=num_groups)
        seeds = jnp.bincount(bits[num_groups:] % num_seeds, length=num_seeds)
        return statistic(rows.astype(float)[groups], seeds.astype(float))

    # Equal chunks where possible: a shorter last one would be compiled on its own.
    fewest = -(-num_resamples * num_rows * num_seeds // _CHUNK)
    equal = (n for n in range(fewest, 2 * fewest + 1) if num_resamples % n == 0)
    chunk = max(1, -(-num_resamples // next(equal, fewest)))
    return jax.lax.map(resample, jax.random.split(key, num_resamples), batch_size=chunk)


def _check_groups(
    groups: ArrayLike | None, num_groups: int | None, num_rows: int
) -> tuple[Array | np.ndarray, int]:
    if groups is None:
        if num_groups is not None:
            raise ValueError(
                f"paired_bootstrap: expected groups along with num_groups={num_groups}, got None."
            )
        return jnp.arange(num_rows), num_rows
    traced = isinstance(groups, Tracer)
    groups = groups if traced else np.asarray(groups)
    if groups.shape != (num_rows,) or not jnp.issubdtype(groups.dtype, jnp.integer):
        raise ValueError(
            f"paired_bootstrap: expected integer groups of shape [{num_rows}], got "
            f"{groups.dtype} {list(groups.shape)}."
        )
    if traced:
        if num_groups is None:
            raise ValueError("paired_bootstrap: expected a static num_groups under a trace.")
        return groups, num_groups
    present = np.unique(groups)
    num_groups = int(present[-1]) + 1 if num_groups is None else num_groups
    if not np.array_equal(present, np.arange(num_groups)):
        raise ValueError(
            f"paired_bootstrap: expected rows in every group 0 … {num_groups - 1}, got "
            f"{len(present)} groups from {present[0]} to {present[-1]}; number them without gaps, "
            "e.g. by numpy.unique(groups, return_inverse=True)."
        )
    return jnp.asarray(groups), num_groups
