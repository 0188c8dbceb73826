"""Noise of every task: from residuals, shrunk as far as the tasks are alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import digamma, polygamma

from amtl_jax.heads import head_stats, solve_heads
from amtl_jax.label_noise import (
    head_leverage,
    noise_variance,
    num_parameters,
    residual_squares,
    shrunk_noise,
)
from amtl_jax.packing import pack

K, NOISE = 4, 0.3


def problem(counts, outputs=1):
    rng = np.random.default_rng(0)
    task = np.repeat(np.arange(len(counts)), counts)
    features = rng.normal(size=(len(task), K)) * [1.0, 3.0, 0.1, 1.0] + 2.0
    heads = rng.normal(size=(len(counts), K, outputs))
    y = np.einsum("nk,nko->no", features, heads[task]) + 5.0
    y = y + rng.normal(size=y.shape) * np.sqrt(NOISE)
    x = features.astype(np.float32)
    batch = pack(x, y.astype(np.float32), task, num_tasks=len(counts), block_rows=8)
    return features, y, task, head_stats(batch.x, batch, num_tasks=len(counts))


def shrunk(squares, freedom, **options):
    """The library's noise for tasks of K free numbers each."""
    options = {"input_dim": float(K), "held_out_loss": jnp.nan, "num_features": float(K)} | options
    squares = jnp.asarray(squares, jnp.float32)[:, None]
    freedom = jnp.asarray(freedom, jnp.float32)
    leverage = jnp.full_like(squares, K / len(squares))
    noise, pooled = jax.jit(shrunk_noise)(squares, freedom + K, freedom, leverage, **options)
    return np.asarray(noise)[:, 0], float(pooled[0])


def oracle(squares, freedom):
    """Smyth's estimate in float64, with the weights that the docstring gives."""
    half = np.asarray(freedom) / 2
    logs = np.log(np.asarray(squares) / freedom) - digamma(half) + np.log(half)
    scatter = polygamma(1, half)
    weight = 1 / (scatter + 0.5)
    weight /= weight.sum()
    middle = weight @ logs
    excess = weight @ (logs - middle) ** 2 / (1 - weight @ weight) - weight @ scatter
    rows = 2 * brentq(lambda x: polygamma(1, x) - excess, 0.5, 5e3)
    usual = np.exp(middle + digamma(rows / 2) - np.log(rows / 2))
    return (squares + rows * usual) / (freedom + rows)


def test_noise_is_found_and_shrunk():
    *_, stats = problem((400, 3, 500, 400))
    heads = solve_heads(stats, ridge=1e-3)
    options = {"ridge": 1e-3, "input_dim": float(K)}
    noise, pooled = noise_variance(stats, heads, held_out_loss=jnp.nan, **options)
    assert pooled.shape == (1,)
    np.testing.assert_allclose(noise[:, 0], NOISE, rtol=0.2)
    # Three rows meet four features: their residual is 0, and the usual noise decides.
    np.testing.assert_allclose(noise[1], pooled, rtol=0.05)
    # So many inputs that residuals of the fit say nothing: the held-out error stands in for all.
    options |= {"input_dim": 784.0}
    thin, pooled = noise_variance(stats, heads, held_out_loss=7.0, **options)
    np.testing.assert_allclose(pooled, 7.0)
    np.testing.assert_allclose(thin, 7.0, rtol=1e-6)


@pytest.mark.parametrize("intercept", [True, False])
def test_the_pooled_noise_counts_what_the_heads_took(intercept):
    """Ten rows for a head of four features: with an intercept half of them are used up."""
    features, y, task, _ = problem((10,) * 400)
    y = y - 5.0 * (not intercept)
    x, y = features.astype(np.float32), y.astype(np.float32)
    batch = pack(x, y, task, num_tasks=400, block_rows=8)
    stats = head_stats(batch.x, batch, num_tasks=400)
    heads = solve_heads(stats, ridge=1e-4, intercept=intercept)
    options = {"ridge": 1e-4, "input_dim": float(K), "held_out_loss": jnp.nan}
    _, pooled = noise_variance(stats, heads, intercept=intercept, **options)
    np.testing.assert_allclose(pooled, NOISE, rtol=0.06)  # 2,000 degrees of freedom or more


@pytest.mark.parametrize("spread", [0.6, 2.2])
def test_agrees_with_float64(spread):
    rng = np.random.default_rng(1)
    freedom = rng.integers(2, 40, size=30).astype(float)
    squares = np.exp(rng.uniform(-spread, spread, 30)) * rng.chisquare(freedom)
    noise, _ = shrunk(squares, freedom)
    np.testing.assert_allclose(noise, oracle(squares, freedom), rtol=2e-3)


@pytest.mark.parametrize("freedom", [4, 12, 60])
@pytest.mark.parametrize("spread", [0.0, 2.2])
def test_is_closer_to_the_truth_than_each_task_by_itself_and_than_all_alike(spread, freedom):
    rng = np.random.default_rng(2)
    truth = np.exp(rng.uniform(-spread, spread, 60))
    squares = truth * rng.chisquare(freedom, 60)
    noise, pooled = shrunk(squares, np.full(60, freedom))

    def error(values):
        return np.sqrt(np.mean(np.log(values / truth) ** 2))

    own = error(squares / freedom)
    alike = error(np.full(60, pooled))
    assert error(noise) < 1.05 * min(own, alike) + (0.1 if spread == 0 else 0.0)
    if spread == 0:  # weights of rows by noise must not be noise themselves
        assert error(noise) < own / 2
    elif freedom == 4:
        assert error(noise) < 0.95 * own


def test_few_tasks_take_ten_rows_of_the_pooled_noise():
    noise, pooled = shrunk([40.0, 5.0], [40.0, 10.0])
    np.testing.assert_allclose(pooled, 45 / 50, rtol=1e-6)
    np.testing.assert_allclose(noise, [(40 + 9) / 50, (5 + 9) / 20], rtol=1e-6)


@pytest.mark.parametrize("label", [0.0, -0.3, 1.7])
def test_a_task_whose_labels_are_constant_has_the_usual_noise(label):
    features, y, task, _ = problem((30,) * 8)
    y = y - 5.0
    y[task == 2] = label
    batch = pack(features.astype(np.float32), y.astype(np.float32), task, num_tasks=8, block_rows=8)
    stats = head_stats(batch.x, batch, num_tasks=8)
    heads = solve_heads(stats, ridge=1e-3)
    noise, _ = noise_variance(stats, heads, ridge=1e-3, input_dim=float(K), held_out_loss=jnp.nan)
    np.testing.assert_allclose(noise[2, 0], NOISE, rtol=0.4)
    np.testing.assert_allclose(noise[:, 0], NOISE, rtol=0.7)


def test_outputs_share_the_turns_and_sources_without_rows_have_no_head():
    count = jnp.asarray([50.0, 0.0, 30.0])
    found = num_parameters(count, jnp.float32(4), jnp.float32(36), 3)
    assert float(found) == 4 * (2 + 12)


def test_the_representation_takes_its_share_of_the_freedom():
    """Residuals of a fit with K(D−K) more parameters are smaller; the noise is not."""
    rng = np.random.default_rng(3)
    rows, turns = np.full(40, 60.0), K * 36.0  # 3.6 of the 56 of every task
    squares = 2.0 * rng.chisquare(rows - K - turns / 40)
    noise, pooled = shrunk(squares, rows - K, input_dim=40.0)
    np.testing.assert_allclose(pooled, 2.0, rtol=0.05)
    np.testing.assert_allclose(noise, 2.0, rtol=0.15)


def test_leverage_is_that_of_the_turns_of_a_fit():
    """How much of a row's own label a fit of all turns at once takes up, in float64."""
    rng = np.random.default_rng(4)
    rows, free = np.array([30, 10, 50, 20, 40]), 6
    heads = rng.normal(size=(5, 2))
    task = np.repeat(np.arange(5), rows)
    # First order in the turn G [free, K]: a row's prediction changes by z'G w_m.
    design = np.einsum("nf,nk->nfk", rng.normal(size=(len(task), free)), heads[task])
    design = design.reshape(len(task), -1)
    hat = np.einsum("ni,ij,nj->n", design, np.linalg.inv(design.T @ design), design)
    wanted = np.bincount(task, hat)  # sums to 2 * free
    found = head_leverage(jnp.asarray(heads[..., None], jnp.float32), jnp.asarray(rows, float))
    np.testing.assert_allclose(np.sum(found), 2, rtol=1e-5)
    np.testing.assert_allclose(free * found[:, 0], wanted, rtol=0.3)


def test_residual_squares_are_those_of_the_rows():
    features, y, task, stats = problem((60, 3, 0, 25), outputs=2)
    heads = solve_heads(stats, ridge=1.0)
    fitted = np.einsum("nk,nko->no", features, np.asarray(heads.weight)[task])
    squares = (y - fitted - np.asarray(heads.bias)[task]) ** 2
    wanted = np.stack([squares[task == m].sum(axis=0) for m in range(4)])
    np.testing.assert_allclose(residual_squares(stats, heads), wanted, rtol=0.02, atol=0.05)
