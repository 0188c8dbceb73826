"""Posterior of the heads and of the relevance: a float64 oracle, coverage, and ties."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amtl_jax import posterior
from amtl_jax.heads import head_stats, solve_heads
from amtl_jax.packing import pack
from amtl_jax.relevance import basis_pursuit, min_norm
from amtl_jax.types import HeadStats

pytestmark = pytest.mark.usefixtures("full_compiles")

K, OUTPUTS = 4, 2
NOISE, PRIOR = 0.3, 0.8


def problem(seed=0, counts=(60, 3, 0, 25), outputs=OUTPUTS, offset=2.0):
    """Features, labels and tasks of tasks with known heads; task 2 has no rows."""
    rng = np.random.default_rng(seed)
    task = np.repeat(np.arange(len(counts)), counts)
    features = rng.normal(size=(len(task), K)) * [1.0, 3.0, 0.1, 1.0] + offset
    heads = rng.normal(size=(len(counts), K, outputs)) * np.sqrt(PRIOR)
    y = np.einsum("nk,nko->no", features, heads[task]) + 5.0
    return features, y + rng.normal(size=y.shape) * np.sqrt(NOISE), task, heads


def stats_of(features, y, task, num_tasks):
    batch = pack(
        features.astype(np.float32), y.astype(np.float32), task, num_tasks=num_tasks, block_rows=8
    )
    return head_stats(batch.x, batch, num_tasks=num_tasks)


def oracle(features, y, *, noise, prior, intercept):
    """Mean `[K, O]` and covariance `[O, K, K]` of one task in float64."""
    if intercept and len(features):
        features, y = features - features.mean(axis=0), y - y.mean(axis=0)
    means, covariances = [], []
    for output in range(y.shape[1]):
        precision = np.eye(K) / prior + features.T @ features / noise[output]
        covariances.append(np.linalg.inv(precision))
        means.append(covariances[-1] @ features.T @ y[:, output] / noise[output])
    return np.stack(means, axis=1), np.stack(covariances)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("inflation", [1.0, 3.0])
def test_mean_and_covariance_match_float64(intercept, inflation):
    features, y, task, _ = problem()
    noise = np.asarray([[0.3, 0.6], [0.1, 0.2], [0.3, 0.3], [2.0, 0.5]])
    found = posterior.head_posterior(
        stats_of(features, y, task, 4),
        noise=jnp.asarray(noise),
        prior_variance=PRIOR,
        inflation=inflation,
        intercept=intercept,
    )
    covariance = posterior.covariance(found)
    for m in range(4):
        own = task == m
        mean, wanted = oracle(
            features[own], y[own], noise=inflation * noise[m], prior=PRIOR, intercept=intercept
        )
        np.testing.assert_allclose(found.mean[m], mean, rtol=2e-3, atol=2e-3)
        np.testing.assert_allclose(covariance[m], wanted, rtol=1e-2, atol=2e-4)


def test_a_task_without_rows_keeps_its_prior():
    features, y, task, _ = problem()
    found = posterior.head_posterior(
        stats_of(features, y, task, 4), noise=jnp.full((4, OUTPUTS), NOISE), prior_variance=PRIOR
    )
    np.testing.assert_array_equal(found.mean[2], 0)
    np.testing.assert_allclose(posterior.covariance(found)[2, 0], PRIOR * np.eye(K), rtol=1e-4)


def test_the_prior_of_a_ridge_gives_the_ridge_head():
    features, y, task, _ = problem()
    stats, ridge = stats_of(features, y, task, 4), 2.5
    heads = solve_heads(stats, ridge=ridge)
    noise = jnp.full((4, OUTPUTS), NOISE)
    found = posterior.head_posterior(stats, noise=noise, prior_variance=noise / ridge)
    np.testing.assert_allclose(found.mean, heads.weight, rtol=1e-3, atol=1e-3)


def test_draws_have_the_mean_and_covariance_of_the_posterior():
    features, y, task, _ = problem()
    found = posterior.head_posterior(
        stats_of(features, y, task, 4), noise=jnp.full((4, OUTPUTS), NOISE), prior_variance=PRIOR
    )
    keys = jax.random.split(jax.random.key(0), 4000)
    draws = np.asarray(jax.vmap(lambda key: posterior.draw_heads(key, found))(keys))
    covariance = np.asarray(posterior.covariance(found))
    for m in range(4):
        for output in range(OUTPUTS):
            some = draws[:, m, :, output]
            scale = np.sqrt(np.diagonal(covariance[m, output]))
            off = np.abs(some.mean(axis=0) - found.mean[m, :, output]) / scale
            assert off.max() < 5 / np.sqrt(4000)
            ratio = np.cov(some.T) / np.outer(scale, scale)
            wanted = covariance[m, output] / np.outer(scale, scale)
            np.testing.assert_allclose(ratio, wanted, atol=0.12)


def test_intervals_of_heads_cover_what_they_say():
    """Heads drawn from the prior: 90 % intervals hold 90 % of them."""
    inside = []
    for seed in range(12):
        features, y, task, heads = problem(seed, counts=(6, 12, 30, 8, 5, 40), outputs=1)
        found = posterior.head_posterior(
            stats_of(features, y, task, 6), noise=jnp.full((6, 1), NOISE), prior_variance=PRIOR
        )
        spread = np.sqrt(np.diagonal(posterior.covariance(found)[:, 0], axis1=1, axis2=2))
        inside.append(np.abs(np.asarray(found.mean)[..., 0] - heads[..., 0]) < 1.645 * spread)
    assert np.mean(inside) == pytest.approx(0.9, abs=0.04)  # 288 coefficients


def known_posterior(heads, spread):
    """A posterior with given means `[M, K, 1]` and standard deviations `[M]`."""
    num_tasks, num_features, _ = heads.shape
    root = jnp.eye(num_features)[None, None] / jnp.asarray(spread)[:, None, None, None]
    return posterior.HeadPosterior(jnp.asarray(heads), root, jnp.ones((num_tasks, num_features)))


def intervals(heads, target, *, spread, target_spread=0.01, solver=min_norm, num_draws=200):
    draws = posterior.relevance_draws(
        jax.random.key(1),
        known_posterior(heads, spread),
        known_posterior(target[None], [target_spread]),
        solver,
        num_draws=num_draws,
    )
    return draws, posterior.relevance_interval(draws, level=0.9)


@pytest.mark.parametrize("solver", [min_norm, basis_pursuit])
def test_copies_of_a_source_cannot_be_told_apart(solver):
    """Sources 0 and 1 are one and the same; the others point elsewhere."""
    heads = np.zeros((5, 4, 1), np.float32)
    heads[0, 0] = heads[1, 0] = heads[2, 1] = heads[3, 2] = heads[4, 3] = 1
    target = np.asarray([[1.0], [0], [0], [0]], np.float32)
    draws, found = intervals(heads, target, spread=[0.05] * 5, solver=solver)
    assert draws.shape == (200, 5)
    assert int(found.top) in (0, 1)
    assert np.asarray(found.tied)[:2].tolist() == [True, True]
    if solver is min_norm:
        assert not np.asarray(found.tied)[2:].any()
    else:  # each draw gives all to one of the two: in half of the draws the strongest has 0
        assert np.asarray(found.low)[:2].tolist() == pytest.approx([0, 0], abs=1e-3)


def test_a_dominant_source_is_told_apart_and_its_interval_holds_the_truth():
    heads = np.zeros((3, 3, 1), np.float32)
    heads[[0, 1, 2], [0, 1, 2]] = 1
    target = np.asarray([[0.1], [-2.0], [0.3]], np.float32)
    draws, found = intervals(heads, target, spread=[0.02] * 3, solver=basis_pursuit)
    assert int(found.top) == 1
    assert np.asarray(found.tied).tolist() == [False, True, False]
    assert (found.low < target[:, 0]).all()
    assert (target[:, 0] < found.high).all()
    np.testing.assert_allclose(found.middle, np.median(draws, axis=0), rtol=1e-5)
    wide = intervals(heads, target, spread=[0.02] * 3, target_spread=2.0)[1]
    assert np.asarray(wide.tied).all()


def test_relevance_intervals_cover_the_truth():
    """Data from known heads: 90 % intervals of nu hold the nu of the true heads."""
    inside = []
    draw = jax.jit(functools.partial(posterior.relevance_draws, relate=min_norm, num_draws=100))
    for seed in range(20):
        features, y, task, heads = problem(seed, counts=(40,) * 7, outputs=1, offset=0.0)
        features = features / [1.0, 3.0, 0.1, 1.0]
        rng = np.random.default_rng(100 + seed)
        y = np.einsum("nk,nko->no", features, heads[task]) + 0.5 * rng.normal(size=(len(task), 1))
        stats = stats_of(features, y, task, 7)
        found = posterior.head_posterior(stats, noise=jnp.full((7, 1), 0.25), prior_variance=PRIOR)
        sources, target = (
            jax.tree.map(lambda leaf, part=part: leaf[part], found)
            for part in (slice(0, 6), slice(6, 7))
        )
        nu = posterior.relevance_interval(draw(jax.random.key(seed), sources, target), level=0.9)
        truth = np.linalg.pinv(heads[:6, :, 0].T) @ heads[6, :, 0]
        inside.append((nu.low <= truth) & (truth <= nu.high))
    assert np.mean(inside) == pytest.approx(0.9, abs=0.08)  # 120 coefficients, 6 of them together


def test_undefined_draws_are_tied_and_nan():
    draws = jnp.asarray([[3.0, jnp.nan, 0.1], [3.1, 0.2, 0.1]])
    found = posterior.relevance_interval(draws)
    assert np.isnan(found.low[1])
    assert bool(found.tied[1])


def test_errors_name_what_was_expected():
    stats = HeadStats(*(jnp.zeros(s) for s in ((2, 3, 3), (2, 3, 1), (2, 1), (2, 3), (2, 1), (2,))))
    with pytest.raises(ValueError, match=r"noise \[M, O\] = \[2, 1\], got \[2\]"):
        posterior.head_posterior(stats, noise=jnp.ones(2), prior_variance=1.0)
    with pytest.raises(ValueError, match=r"prior_variance as a scalar or .*got shape \[3\]"):
        posterior.head_posterior(stats, noise=jnp.ones((2, 1)), prior_variance=jnp.ones(3))
    with pytest.raises(ValueError, match="at least two draws"):
        posterior.relevance_interval(jnp.ones(4))
    with pytest.raises(ValueError, match=r"level in \(0, 1\), got 95"):
        posterior.relevance_interval(jnp.ones((4, 2)), level=95)


@pytest.mark.parametrize("value", [1.1, 33.0, 1100.0])
def test_a_constant_feature_keeps_its_prior(value):
    features, y, task, _ = problem(counts=(60, 40))
    features[:, 1] = value
    noise = np.full((2, OUTPUTS), NOISE)
    found = posterior.head_posterior(
        stats_of(features, y, task, 2), noise=jnp.asarray(noise), prior_variance=1e6
    )
    assert jnp.isfinite(found.mean).all()
    assert jnp.isfinite(found.root).all()
    np.testing.assert_allclose(found.mean[:, 1], 0.0, atol=1e-3)


def test_relevance_that_is_unknown_has_no_strongest_source():
    interval = posterior.relevance_interval(jnp.full((5, 3), jnp.nan))
    assert interval.top == -1
    assert interval.tied.all()
