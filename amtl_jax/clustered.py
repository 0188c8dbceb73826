"""Bootstrap interval of a mean over targets that come in clusters, over seeds too; in NumPy."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class ClusteredMean(NamedTuple):
    """A mean with its percentile interval over whole clusters and seeds.

    Attributes:
      mean: over all cells that hold a value.
      low: lower end; NaN where there is one cluster only.
      high: upper end; NaN where there is one cluster only.
    """

    mean: float
    low: float
    high: float


def clustered_mean(
    values: ArrayLike,
    clusters: ArrayLike,
    *,
    num_resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> ClusteredMean:
    """Percentile interval of a mean over targets, of which those of a cluster are alike.

    A resample draws as many clusters as there are, with replacement, each with all its targets,
    and likewise seeds: what the targets of a cluster share, such as test images, then counts once
    and not once per target, and what a seed did to all targets too. Cells without a value are
    left out of the mean; clusters and seeds without any are as if they were not there, and
    a resample that meets no value is drawn again. The same arguments give the same interval. For
    the difference of two arms pass the paired differences. Percentile intervals over few clusters
    are too short: below about 8 read them with care. With one seed the interval says
    nothing about others.

    Args:
      values: `[T, S]` float, targets × seeds; NaN where there is none.
      clusters: `[T]` cluster of every target, integers or strings.
      num_resamples: number of resamples.
      level: coverage that is asked for, in (0, 1).
      seed: of the resamples.

    Returns:
      Mean and interval; all NaN where there is no value.

    Raises:
      ValueError: for shapes that do not fit, infinite values, a level outside (0, 1), or no
        resamples.

    References:
      Efron, Tibshirani. An Introduction to the Bootstrap. 1993 (clusters: chapter 8).
      Cameron, Gelbach, Miller. Bootstrap-based improvements for inference with clustered errors.
      Review of Economics and Statistics, 2008.
    """
    values, clusters = np.asarray(values, float), np.asarray(clusters)
    if values.ndim != 2 or 0 in values.shape or clusters.shape != values.shape[:1]:
        raise ValueError(
            "clustered_mean: expected values [T, S], none empty, and clusters [T], got "
            f"{list(values.shape)} and {list(clusters.shape)}."
        )
    if np.isinf(values).any():
        raise ValueError("clustered_mean: expected finite values or NaN, got infinite ones.")
    if not 0 < level < 1 or num_resamples < 1:
        raise ValueError(
            "clustered_mean: expected a level in (0, 1) and num_resamples ≥ 1, "
            f"got level={level}, num_resamples={num_resamples}."
        )
    total, count = _by_cluster(values, clusters)
    if not count.size:
        return ClusteredMean(np.nan, np.nan, np.nan)
    mean = float(total.sum() / count.sum())
    if len(count) == 1:
        return ClusteredMean(mean, np.nan, np.nan)
    means = _resampled(total, count, num_resamples, np.random.default_rng(seed))
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return ClusteredMean(mean, float(low), float(high))


def _by_cluster(values: np.ndarray, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the values of every cluster and seed, `[C, S]`, those with any."""
    names, index = np.unique(clusters, return_inverse=True)
    is_there = ~np.isnan(values)
    total, count = np.zeros((2, len(names), values.shape[1]))
    np.add.at(total, index, np.where(is_there, values, 0))
    np.add.at(count, index, is_there)
    rows, columns = count.any(axis=1), count.any(axis=0)
    return total[rows][:, columns], count[rows][:, columns]


def _resampled(
    total: np.ndarray, count: np.ndarray, num_resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """Means of the resamples, `[num_resamples]`."""
    means = np.full(num_resamples, np.nan)
    while (missing := np.isnan(means)).any():  # a draw meets one with a chance above .39
        clusters, seeds = (
            rng.multinomial(size, np.full(size, 1 / size), size=missing.sum())
            for size in count.shape
        )
        numerator, denominator = (
            np.sum(clusters @ cells * seeds, axis=1) for cells in (total, count)
        )
        with np.errstate(invalid="ignore"):
            means[missing] = numerator / denominator
    return means
