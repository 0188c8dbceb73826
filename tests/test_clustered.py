"""Clustered bootstrap of a mean: brute force on three clusters, coverage, missing cells."""

import itertools
import time

import numpy as np
import pytest

from amtl_jax.clustered import clustered_mean

NAN = np.nan


def _every_resample(values, clusters):
    """Means of all ways to draw clusters and seeds, equally likely; NaN without any value."""
    names = np.unique(clusters)
    num_seeds = values.shape[1]
    for drawn in itertools.product(names, repeat=len(names)):
        rows = np.concatenate([values[clusters == name] for name in drawn])
        for seeds in itertools.product(range(num_seeds), repeat=num_seeds):
            cells = rows[:, seeds]
            yield np.nanmean(cells) if (~np.isnan(cells)).any() else NAN


VALUES = np.array([[1.0, 2.0], [4.0, NAN], [0.0, 3.0], [5.0, 9.0], [NAN, 7.0]])
CLUSTERS = np.array([0, 0, 1, 2, 2])


@pytest.mark.parametrize(
    "values",
    [
        VALUES,
        VALUES[:, :1],
        np.where(CLUSTERS[:, None] == [0, 1], VALUES, NAN),  # some resamples meet no value
    ],
)
def test_quantiles_are_those_of_every_resample(values):
    kept = np.isin(CLUSTERS, CLUSTERS[(~np.isnan(values)).any(axis=1)])
    means = np.array(list(_every_resample(values[kept], CLUSTERS[kept])))
    for level in (0.4, 0.7, 0.9):
        found = clustered_mean(values, CLUSTERS, num_resamples=20_000, level=level)
        np.testing.assert_allclose(found.mean, np.nanmean(values))
        for end, share in ((found.low, (1 - level) / 2), (found.high, (1 + level) / 2)):
            # Few different means: next to a jump the drawn quantile may be on either side of it.
            below, above = np.nanquantile(means, [share - 0.02, share + 0.02])
            assert below - 1e-9 <= end <= above + 1e-9


def _coverage(clusters_of, num_clusters=16, size=10):
    """Share of 300 simulated studies whose 90 % interval covers the true mean 0."""
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(num_clusters), size)
    covered = 0
    for _ in range(300):
        effect = rng.normal(size=num_clusters)[clusters] + 0.3 * rng.normal(size=len(clusters))
        found = clustered_mean(effect[:, None], clusters_of(clusters), num_resamples=200, level=0.9)
        covered += found.low <= 0 <= found.high
    return covered / 300


def test_clusters_cover_where_targets_by_themselves_do_not():
    assert 0.80 <= _coverage(lambda clusters: clusters) <= 0.95
    assert _coverage(lambda clusters: np.arange(len(clusters))) < 0.55


def test_seeds_are_drawn_too():
    shift = np.array([[-1.0, 0.0, 1.0]])
    found = clustered_mean(np.zeros((6, 1)) + shift, [0, 0, 1, 1, 2, 2])
    assert found.low < -0.5
    assert found.high > 0.5
    assert found.mean == 0


def test_it_is_deterministic_and_knows_no_order_of_targets():
    rng = np.random.default_rng(0)
    values, names = rng.normal(size=(40, 2)), np.array([f"c{i % 8}" for i in range(40)])
    order = rng.permutation(40)
    found = clustered_mean(values, names)
    assert found == clustered_mean(values, names)
    np.testing.assert_allclose(found, clustered_mean(values[order], names[order]))
    assert found != clustered_mean(values, names, seed=1)


def test_cells_without_a_value_change_nothing():
    values = np.random.default_rng(0).normal(size=(9, 2))
    clusters = np.repeat([0, 1, 2], 3)
    padded = np.pad(values, ((0, 2), (0, 1)), constant_values=NAN)
    found = clustered_mean(padded, [*clusters, 2, 3])  # a target, a cluster and a seed without any
    assert found == clustered_mean(values, clusters)


def test_one_cluster_has_no_interval_and_nothing_has_no_mean():
    assert clustered_mean([[1.0], [2.0]], ["a", "a"])[:1] == (1.5,)
    assert np.isnan(clustered_mean([[1.0], [2.0]], ["a", "a"])[1:]).all()
    assert np.isnan(clustered_mean([[1.0], [NAN]], ["a", "b"])[1:]).all()
    assert np.isnan(clustered_mean([[NAN], [NAN]], ["a", "b"])).all()


def test_equal_arms_differ_by_exactly_nothing():
    assert clustered_mean(np.zeros((160, 3)), np.repeat(np.arange(16), 10)) == (0, 0, 0)


def test_a_study_takes_no_time():
    values = np.random.default_rng(0).normal(size=(160, 3))
    start = time.perf_counter()
    clustered_mean(values, np.repeat(np.arange(16), 10), num_resamples=2000)
    assert time.perf_counter() - start < 0.2


@pytest.mark.parametrize(
    ("values", "clusters", "changes", "message"),
    [
        ([1.0, 2.0], [0, 1], {}, r"expected values \[T, S\].*got \[2\] and \[2\]"),
        ([[1.0], [2.0]], [0], {}, r"clusters \[T\], got \[2, 1\] and \[1\]"),
        (np.zeros((0, 1)), [], {}, r"none empty.*got \[0, 1\]"),
        ([[1.0], [np.inf]], [0, 1], {}, "expected finite values or NaN"),
        ([[1.0], [2.0]], [0, 1], {"level": 1.0}, r"expected a level in \(0, 1\).*got level=1.0"),
        ([[1.0], [2.0]], [0, 1], {"num_resamples": 0}, "num_resamples ≥ 1.*num_resamples=0"),
    ],
)
def test_bad_input_is_refused(values, clusters, changes, message):
    with pytest.raises(ValueError, match=message):
        clustered_mean(values, clusters, **changes)
