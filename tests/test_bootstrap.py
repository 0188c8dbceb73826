"""Paired bootstrap intervals: coverage of a known truth, pairing, clusters, seeds."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amtl_jax import bootstrap, metrics


def _bootstrap(metric=metrics.mean_squared_error, **kwargs):
    kwargs = {"num_resamples": 150} | kwargs
    return jax.jit(functools.partial(bootstrap.paired_bootstrap, metric, **kwargs))


def _interval(scores_a, scores_b, labels, key, **kwargs):
    return _bootstrap(**kwargs)(scores_a, scores_b, labels, key=key)


def _coverage(draw, truth, **kwargs):
    """Share of 150 drawn data sets whose 90 % interval covers `truth`."""
    keys = jax.random.split(jax.random.key(0), 150)

    @jax.jit
    @jax.vmap
    def covers(key):
        data_key, boot_key = jax.random.split(key)
        a, b = draw(data_key)
        interval = _interval(a, b, jnp.zeros(a.shape[-1]), boot_key, level=0.9, **kwargs)
        return (interval.low <= truth) & (truth <= interval.high)

    return float(jnp.mean(covers(keys)))


def test_bootstrap_covers_the_true_difference():
    def draw(key):  # squared errors differ by 1 + noise, beside a large part in common
        common, own = jax.random.normal(key, (2, 80))
        return jnp.sqrt(9 + common**2 + 1 + 0.5 * jnp.tanh(own)), jnp.sqrt(9 + common**2)

    assert 0.84 <= _coverage(draw, 1.0) <= 0.96


def test_clustered_bootstrap_covers_where_rows_do_not():
    groups = jnp.repeat(jnp.arange(20), 8)

    def draw(key):  # all the noise of a row is its group's
        effect = jax.random.normal(key, (20,))[groups]
        return jnp.sqrt(9 + effect), jnp.sqrt(9 + jnp.zeros(160))

    assert 0.82 <= _coverage(draw, 0.0, groups=groups, num_groups=20) <= 0.96
    assert _coverage(draw, 0.0) < 0.6  # rows alone promise far too much


def test_bootstrap_draws_seeds_too():
    def draw(key):  # all the noise is the seed's
        effect = jax.random.normal(key, (15, 1))
        return jnp.sqrt(9 + effect) * jnp.ones((15, 30)), 3 * jnp.ones((15, 30))

    assert 0.78 <= _coverage(draw, 0.0) <= 0.97


def test_bootstrap_is_paired_deterministic_and_chunked(monkeypatch):
    rng = np.random.default_rng(5)
    labels, noise = rng.integers(0, 2, 50), rng.normal(size=50)
    scores, key = labels + noise, jax.random.key(3)
    a, b = np.stack([scores, scores + 0.1]), np.stack([scores + 0.3, scores])
    run = _bootstrap()
    np.testing.assert_allclose(run(a, a, labels, key=key), np.zeros(3), atol=1e-6)
    whole = run(a, b, labels, key=key)
    np.testing.assert_array_equal(run(a, b, labels, key=key), whole)
    expected = np.mean((a - labels) ** 2) - np.mean((b - labels) ** 2)
    np.testing.assert_allclose(whole.difference, expected, rtol=1e-5)
    assert whole.low < whole.difference < whole.high
    monkeypatch.setattr(bootstrap, "_CHUNK", 700)  # 7 resamples at once, 150 is no multiple of it
    np.testing.assert_allclose(_bootstrap()(a, b, labels, key=key), whole, rtol=1e-5)


@pytest.mark.parametrize("metric", [metrics.balanced_accuracy, metrics.roc_auc])
def test_bootstrap_takes_row_metrics(metric):
    rng = np.random.default_rng(6)
    labels = rng.integers(0, 2, 100)
    good, bad = labels + 0.5 * rng.normal(size=100), rng.normal(size=100)
    interval = _interval(good, bad, labels, jax.random.key(0), metric=metric)
    assert abs(float(interval.difference)) > 0.1
    assert interval.low < interval.difference < interval.high
    assert np.sign(interval.low) == np.sign(interval.high)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: _interval(np.ones(3), np.ones(4), np.ones(3), jax.random.key(0)),
            r"got \[3\], \[4\] and \[3\]",
        ),
        (
            lambda: _interval(np.ones(3), np.ones(3), np.ones(3), jax.random.key(0), level=95),
            "got level=95",
        ),
        (
            lambda: _interval(
                np.ones(3), np.ones(3), np.ones(3), jax.random.key(0), groups=np.array([0, 2, 2])
            ),
            "every group 0 … 2, got 2 groups from 0 to 2; number them without gaps",
        ),
    ],
)
def test_error_text(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_interval_of_one_arm_covers_its_metric():
    """Mean squared errors of 1 by construction: 90 % intervals hold 1 in nine of ten data sets."""
    keys = jax.random.split(jax.random.key(0), 150)

    @jax.jit
    @jax.vmap
    def covers(key):
        data_key, boot_key = jax.random.split(key)
        scores = jax.random.normal(data_key, (120,))
        found = bootstrap.unpaired_bootstrap(
            metrics.mean_squared_error,
            scores,
            jnp.zeros(120),
            key=boot_key,
            num_resamples=150,
            level=0.9,
        )
        return (found.low <= 1) & (found.high >= 1)

    assert np.mean(covers(keys)) == pytest.approx(0.9, abs=0.07)


def test_one_arm_against_a_perfect_one_is_the_paired_difference():
    """The metric of a perfect arm is 0 on every resample, so both intervals are the same."""
    key, labels = jax.random.key(3), jnp.arange(40.0)
    scores = labels[None] + jax.random.normal(jax.random.key(4), (2, 40))
    options = {"key": key, "num_resamples": 60, "level": 0.8}
    alone = bootstrap.unpaired_bootstrap(metrics.mean_squared_error, scores, labels, **options)
    perfect = jnp.stack([labels, labels])
    paired = bootstrap.paired_bootstrap(
        metrics.mean_squared_error, scores, perfect, labels, **options
    )
    np.testing.assert_allclose(alone, paired, rtol=1e-5)


def test_errors_of_the_interval_of_one_arm():
    options = {"key": jax.random.key(0)}
    with pytest.raises(ValueError, match=r"got \[3\] and \[4\]"):
        bootstrap.unpaired_bootstrap(metrics.accuracy, np.zeros(3), np.zeros(4), **options)
    with pytest.raises(ValueError, match="level=95"):
        bootstrap.unpaired_bootstrap(
            metrics.accuracy, np.zeros(3), np.zeros(3), level=95, **options
        )
