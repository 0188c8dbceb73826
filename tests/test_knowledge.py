"""What a round knows of the heads: the formulas in float64, units, and dead directions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amtl_jax.heads import head_stats
from amtl_jax.knowledge import draw_knowledge, head_knowledge, thinness
from amtl_jax.label_noise import head_leverage, shrunk_noise
from amtl_jax.packing import pack
from amtl_jax.posterior import covariance
from amtl_jax.types import HeadStats

D, K, M = 12, 3, 7
RIDGE = 0.5


def rows(seed=0, *, intercept=False, own_rows=40, noise=0.5):
    """Features, labels and tasks; the target is task M."""
    rng = np.random.default_rng(seed)
    task = np.repeat(np.arange(M + 1), [50, 30, 80, 20, 40, 60, 35, own_rows])
    features = rng.normal(size=(len(task), K)) @ np.array([[2.0, 0, 0], [0.5, 1, 0], [0, 0, 0.3]])
    heads = rng.normal(size=(M + 1, K)) / [2, 1, 0.3]
    y = np.sum(features * heads[task], axis=1) + noise * rng.normal(size=len(task))
    shift = 3.0 * intercept
    return features + shift, (y + shift * task)[:, None], task


def stats_of(features, y, task):
    batch = pack(
        features.astype(np.float32), y.astype(np.float32), task, num_tasks=M + 1, block_rows=16
    )
    stats = head_stats(batch.x, batch, num_tasks=M + 1)
    return (
        jax.tree.map(lambda leaf: leaf[:M], stats),
        jax.tree.map(lambda leaf: leaf[M:], stats),
    )


def known(features, y, task, *, intercept=False, held_out_loss=np.nan):
    source, target = stats_of(features, y, task)
    return jax.jit(head_knowledge)(
        source,
        target,
        ridge=RIDGE,
        input_dim=D,
        held_out_loss=held_out_loss,
        intercept=intercept,
    )


def oracle(features, y, task, intercept):
    """ALGORITHMS: noise, prior, inflation, posterior means and covariances, in float64."""
    own = [(features[task == m], y[task == m, 0]) for m in range(M + 1)]
    if intercept:
        own = [(x - x.mean(axis=0), label - label.mean()) for x, label in own]
    pooled = sum(x.T @ x for x, _ in own[:M]) / sum(len(x) - intercept for x, _ in own[:M])
    size, axes = np.linalg.eigh(pooled)
    turn = axes / np.sqrt(size)  # features @ turn are white
    own = [(x @ turn, label) for x, label in own]
    rows_of = np.array([len(x) - intercept for x, _ in own], float)
    gram = np.stack([x.T @ x for x, _ in own])
    moment = np.stack([x.T @ label for x, label in own])
    inverse = np.linalg.inv(gram + RIDGE * np.eye(K))
    heads = np.einsum("mkl,ml->mk", inverse, moment)
    squares = np.array([np.sum((label - x @ w) ** 2) for (x, label), w in zip(own, heads)])
    total = rows_of[:M].sum()
    pooled_noise = squares[:M].sum() / max(total - K * (M + D - K), total / 5)
    freedom = rows_of - np.einsum("mkl,mlk->m", gram, inverse)
    shrunk, _ = shrunk_noise(  # has a float64 oracle of its own
        squares[:M, None].astype(np.float32),
        rows_of[:M].astype(np.float32),
        freedom[:M].astype(np.float32),
        head_leverage(heads[:M, :, None].astype(np.float32), rows_of[:M].astype(np.float32)),
        input_dim=float(D),
        held_out_loss=np.nan,
        num_features=float(K),
    )
    noise = np.append(shrunk[:, 0], 0.0).astype(float)
    noise[M] = max(squares[M] / freedom[M], pooled_noise)
    added = np.mean(noise[:M] * np.trace(inverse[:M], axis1=1, axis2=2)) / K
    square = np.mean(heads[:M] ** 2)
    prior = np.full(M + 1, max(square - added, square / 10))
    prior[M] *= K
    information = np.einsum("mk,m,ml->kl", heads[:M], rows_of[:M] / noise[:M], heads[:M])
    outer = np.linalg.inv(information + (D - K) * np.eye(K))
    inflation = 1 + (D - K) * np.einsum("mk,kl,ml->m", heads, outer, heads) / noise
    inflation *= total / (total - K * (M + D - K))
    spread = (noise * inflation)[:, None, None]
    covariance = np.linalg.inv(np.eye(K)[None] / prior[:, None, None] + gram / spread)
    mean = np.einsum("mkl,ml->mk", covariance, moment / spread[:, :, 0])
    # in the features as they were: a head's predictions do not depend on the coordinates
    mean = mean @ turn.T
    covariance = turn @ covariance @ turn.T
    return noise, mean, covariance


@pytest.mark.parametrize("intercept", [False, True])
def test_formulas_in_float64(intercept):
    features, y, task = rows(intercept=intercept)
    found = known(features, y, task, intercept=intercept)
    noise, mean, covariance = oracle(features, y, task, intercept)
    np.testing.assert_allclose(found.noise[:, 0], noise[:M], rtol=2e-3)
    np.testing.assert_allclose(found.target_noise[0, 0], noise[M], rtol=2e-3)
    # compare predictions, whatever the whitened coordinates
    draws = draw_knowledge(jax.random.key(0), found, num_draws=20_000)
    white = np.asarray(draws.heads[..., 0])  # [S, M, K]
    np.testing.assert_allclose(
        np.linalg.norm(white.mean(axis=0), axis=1) ** 2,
        _size(features, task, mean, intercept)[:M],
        rtol=0.05,
    )
    variance = white.var(axis=0).sum(axis=1)
    expected = np.einsum("kl,mlk->m", _pooled(features, task, intercept), covariance)
    np.testing.assert_allclose(variance, expected[:M], rtol=0.05)
    moment = _size(features, task, mean, intercept)[M] + expected[M]
    np.testing.assert_allclose(np.trace(draws.target[0]), moment, rtol=2e-3)


def _pooled(features, task, intercept):
    parts = [features[task == m] for m in range(M)]
    parts = [x - x.mean(axis=0) * intercept for x in parts]
    return sum(x.T @ x for x in parts) / sum(len(x) - intercept for x in parts)


def _size(features, task, mean, intercept):
    return np.einsum("mk,kl,ml->m", mean, _pooled(features, task, intercept), mean)


def test_units_and_unused_features_change_nothing():
    features, y, task = rows()
    plain = draw_knowledge(jax.random.key(0), known(features, y, task), num_draws=4000)
    turned = features @ np.array([[1.0, 2, 0], [0, 10, 1], [0.1, 0, 1]])
    widened = np.concatenate([turned, np.zeros((len(task), 2))], axis=1)
    other_known = known(widened, y, task)
    other = draw_knowledge(jax.random.key(1), other_known, num_draws=4000)
    assert int(other.num_features) == int(plain.num_features) == K
    np.testing.assert_allclose(other.free, plain.free)
    np.testing.assert_allclose(other.noise, plain.noise, rtol=1e-3)
    sizes = [np.sum(np.square(one.heads), axis=(2, 3)).mean(axis=0) for one in (plain, other)]
    np.testing.assert_allclose(sizes[0], sizes[1], rtol=0.05)
    # nothing is drawn, and nothing is wanted, where no feature is
    dead = np.asarray(other_known.alive) == 0
    assert dead.sum() == 2
    assert (np.asarray(other.heads)[:, :, dead] == 0).all()
    assert (np.asarray(other.target)[:, dead] == 0).all()


def test_a_target_that_the_features_miss_has_noisy_labels():
    features, y, task = rows(own_rows=200)
    own = task == M
    missed = y + np.where(own, np.random.default_rng(9).normal(size=len(task)) * 2, 0)[:, None]
    plain, worse = known(features, y, task), known(features, missed, task)
    assert worse.target_noise[0, 0] > 10 * plain.target_noise[0, 0]
    np.testing.assert_allclose(worse.noise, plain.noise, rtol=1e-3)
    # one that fits better than the sources still has their noise
    lucky = np.where(own[:, None], 0.0, y)
    assert known(features, lucky, task).target_noise[0, 0] > 0.1


def test_thin_data_take_the_held_out_error_for_noise():
    features, y, task = rows()
    few = np.concatenate([np.flatnonzero(task == m)[:5] for m in range(M + 1)])
    found = known(features[few], y[few], task[few], held_out_loss=4.0)
    assert (np.asarray(found.noise) > 2.0).all()
    alone = known(features[few], y[few], task[few])
    assert (np.asarray(alone.noise) < 2.0).all()


def test_no_rows_at_all_leave_the_prior():
    features, y, task = rows()
    source, target = stats_of(features, y, task)
    empty = jax.tree.map(lambda leaf: leaf.at[2].set(0.0), source)
    found = head_knowledge(
        HeadStats(*empty),
        target,
        ridge=0.0,
        input_dim=D,
        held_out_loss=jnp.nan,
        intercept=False,
    )
    draws = draw_knowledge(jax.random.key(0), found, num_draws=4000)
    assert np.isfinite(draws.heads).all()
    spread = np.asarray(draws.heads).var(axis=0)[..., 0].mean(axis=1)
    assert spread[2] > 5 * np.delete(spread, 2).max()


def test_a_thin_fit_is_known_as_such_and_features_that_were_not_fitted_are_exact():
    features, y, task = rows()
    source, target = stats_of(features, y, task)
    options = {"ridge": RIDGE, "held_out_loss": np.nan, "intercept": False}

    def spread(input_dim):
        found = head_knowledge(source, target, input_dim=input_dim, **options)
        return covariance(found.sources)[0, 0], found.noise[0, 0]

    # Frozen features: the posterior of a Bayesian regression, whatever the number of heads.
    exact, noise = spread(K)
    identity = np.linalg.inv(np.asarray(exact)) * float(noise)  # F_m plus the prior's
    assert np.linalg.eigvalsh(identity).min() > 50 * 0.2  # of 50 white rows
    assert float(thinness(jnp.float32(100), jnp.float32(50))) == 2
    assert float(thinness(jnp.float32(100), jnp.float32(400))) == 10
    assert float(thinness(jnp.float32(0), jnp.float32(5))) == 1
