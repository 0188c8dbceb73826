"""The fits: the same optimum by every way, few passes over the data, λ chosen as one would."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import amtl_jax as amtl
from amtl_jax.fitting.penalty import PENALTIES

NUM_TASKS, INPUT_DIM, NUM_FEATURES = 12, 15, 3


@functools.cache
def small_batch(num_outputs=1):
    truth = amtl.synthetic_truth(
        "gauss",
        num_tasks=NUM_TASKS,
        input_dim=INPUT_DIM,
        num_features=NUM_FEATURES,
        num_outputs=num_outputs,
        noise=0.5,
    )
    rows = amtl.SyntheticSource(truth).draw(jax.random.key(0), np.full(NUM_TASKS, 60))
    return amtl.pack(*rows, num_tasks=NUM_TASKS, block_rows=32)


def run(fitter, batch, penalty, key=0):
    @jax.jit
    def fit(key, batch, penalty):
        return fitter.fit(fitter.init(key, batch, penalty), batch, penalty)

    return fit(jax.random.key(key), batch, jnp.float32(penalty))


def joint(encoder=None, **options):
    encoder = encoder or amtl.linear_encoder(NUM_FEATURES)
    return amtl.lbfgs_fitter(encoder, num_tasks=NUM_TASKS, **options)


def dense_objective(result, batch, penalty):
    """The objective from its definition, in float64 NumPy, row by row."""
    kernel = np.asarray(result.params["params"]["kernel"], np.float64)
    weight, bias = (np.asarray(leaf, np.float64) for leaf in result.heads[:2])
    total, count = 0.0, 0.0
    for x, y, omega, task in zip(*map(np.asarray, batch), strict=True):
        error = y - (x @ kernel @ weight[task] + bias[task])
        total += (omega[:, None] * error**2).sum()
        count += omega.sum()
    return total / count + penalty * ((kernel**2).sum() + (weight**2).sum())


@pytest.mark.parametrize("penalty", [1e-6, 1e-2])
@pytest.mark.parametrize("optimizer", [optax.lbfgs(), optax.adam(0.03)], ids=["lbfgs", "adam"])
def test_joint_fit_and_variable_projection_reach_the_same_optimum(penalty, optimizer):
    batch = small_batch()
    reference = run(joint(num_steps=300, tolerance=1e-7), batch, penalty)
    projected = amtl.variable_projection_fitter(
        amtl.linear_encoder(NUM_FEATURES), optimizer, num_tasks=NUM_TASKS, num_steps=400
    )
    result = run(projected, batch, penalty)
    assert result.ok
    assert reference.ok
    assert float(result.objective) == pytest.approx(float(reference.objective), rel=3e-4)
    for found in (result, reference):
        assert float(found.objective) == pytest.approx(
            dense_objective(found, batch, penalty), rel=1e-5
        )


@pytest.mark.parametrize(("rate", "helps"), [(0.03, True), (300.0, False)])
def test_variable_projection_keeps_its_last_step_where_that_is_the_best(rate, helps):
    batch = small_batch()
    encoder = amtl.linear_encoder(NUM_FEATURES)
    fitter = amtl.variable_projection_fitter(
        encoder, optax.sgd(rate), num_tasks=NUM_TASKS, num_steps=1
    )
    result = run(fitter, batch, 1e-2)
    start = fitter.init(jax.random.key(0), batch, 1e-2)
    frozen = amtl.frozen_fitter(encoder, num_tasks=NUM_TASKS)
    before = float(frozen.fit(start, batch, jnp.float32(1e-2)).objective)
    if helps:
        assert float(result.objective) < before * (1 - 1e-3)
    else:
        assert float(result.objective) == pytest.approx(before, rel=1e-5)
        chex.assert_trees_all_close(result.params, start, rtol=1e-5)


@pytest.mark.parametrize("intercept", [True, False])
def test_joint_fit_ends_where_the_gradient_is_zero(intercept):
    batch = small_batch(2)
    result = run(joint(num_steps=300, tolerance=0.0, intercept=intercept), batch, 1e-3)
    assert result.gradient_norm < 1e-3

    def objective(kernel):
        features = jnp.matmul(batch.x, kernel, precision="highest")
        stats = amtl.head_stats(features, batch, num_tasks=NUM_TASKS)
        ridge = 1e-3 * stats.count.sum()
        heads = amtl.solve_heads(stats, ridge=ridge, intercept=intercept)
        error = (batch.y - amtl.predict_heads(heads, features, batch)) ** 2
        penalty = 1e-3 * (jnp.sum(kernel**2) + jnp.sum(heads.weight**2))
        return jnp.sum(batch.weight[..., None] * error) / stats.count.sum() + penalty

    kernel = result.params["params"]["kernel"]
    start = amtl.linear_encoder(NUM_FEATURES).init(jax.random.key(0), batch.x[0])
    gradient = jax.grad(objective)(kernel)
    at_start = jax.grad(objective)(start["params"]["kernel"])
    assert jnp.linalg.norm(gradient) < 2e-3 * jnp.linalg.norm(at_start)
    # balanced factors: BᵀB = Σ_m W_m W_mᵀ
    weight = jnp.moveaxis(result.heads.weight, 1, 0).reshape(NUM_FEATURES, -1)
    np.testing.assert_allclose(kernel.T @ kernel, weight @ weight.T, atol=3e-3)


def test_forty_gradient_passes_reach_the_optimum_within_one_per_cent():
    # 15,000 rows of 150 tasks whose inputs have the spectrum of images
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(300, 300)) / np.sqrt(300) * np.arange(1, 301)[:, None] ** -1.0
    task = np.repeat(np.arange(150), 100)
    x = (rng.normal(size=(15_000, 300)) @ mixing).astype(np.float32)
    theta = rng.normal(size=(300, 20)) @ rng.normal(size=(20, 150)) / 20
    y = np.einsum("nd,dn->n", x, theta[:, task]) + 0.3 * rng.normal(size=15_000)
    batch = amtl.pack(x, y, task, num_tasks=150)
    for penalty in (1e-3, 3e-4):
        encoder = amtl.linear_encoder(50)
        short, long = (
            amtl.lbfgs_fitter(encoder, num_tasks=150, num_steps=steps, tolerance=tolerance)
            for steps, tolerance in ((40, 0.0), (400, 1e-6))
        )
        quick, best = run(short, batch, penalty), run(long, batch, penalty)
        assert quick.steps == 40
        assert best.objective <= quick.objective <= 1.01 * best.objective


@pytest.mark.parametrize("num_features", [1, INPUT_DIM + 5])
def test_more_features_than_inputs_or_one(num_features):
    result = run(joint(amtl.linear_encoder(num_features), num_steps=30), small_batch(), 1e-3)
    assert result.ok
    chex.assert_shape(result.params["params"]["kernel"], (INPUT_DIM, num_features))


def test_empty_tasks_and_zero_weights_change_nothing():
    batch = small_batch()
    masked = batch._replace(weight=jnp.where((batch.task == 4)[:, None], 0, batch.weight))
    without = jax.tree.map(lambda leaf: leaf[np.asarray(batch.task) != 4], batch)
    first, second = (run(joint(num_steps=60), part, 1e-3) for part in (masked, without))
    assert float(first.objective) == pytest.approx(float(second.objective), rel=1e-4)
    assert (first.heads.weight[4] == 0).all()


def test_nan_is_reported_not_repaired():
    batch = small_batch()
    spoilt = batch._replace(x=batch.x.at[0, 0, 0].set(jnp.nan))
    assert not run(joint(num_steps=5), spoilt, 1e-3).ok


def test_penalty_is_the_best_of_the_held_out_path():
    batch = small_batch()
    fitter = joint(num_steps=60)
    key = jax.random.key(1)
    start = fitter.init(key, batch, 1e-3)

    @jax.jit
    def choose(penalty):
        return amtl.fit_with_penalty(
            fitter, key, start, batch, penalty=penalty, held_out_loss=jnp.float32(jnp.nan)
        )

    chosen = choose(jnp.float32(jnp.nan))
    tried = np.asarray(chosen.losses)
    assert float(chosen.penalty) == pytest.approx(PENALTIES[int(np.nanargmin(tried))])
    assert float(chosen.held_out_loss) == pytest.approx(np.nanmin(tried))
    # the held-out error of the noise-free optimum is about the noise, 0.25
    assert 0.15 < chosen.held_out_loss < 0.45
    given = choose(chosen.penalty)
    assert np.isnan(given.losses).all()
    assert float(given.fit.objective) == pytest.approx(float(chosen.fit.objective), rel=1e-3)


def test_a_path_goes_on_from_penalties_that_leave_nothing():
    """From λ so strong that the encoder vanishes no fit can start: the next one starts afresh."""
    batch = small_batch()
    fitter = joint(num_steps=60)
    start = fitter.init(jax.random.key(0), batch, 1e-3)

    def choose(penalties):
        return amtl.fit_with_penalty(
            fitter,
            jax.random.key(1),
            start,
            batch,
            penalty=jnp.float32(jnp.nan),
            held_out_loss=jnp.float32(jnp.nan),
            penalties=penalties,
        )

    dead = (100.0, 50.0, 20.0, 10.0)
    found, plain = choose((*dead, 1e-2, 1e-3)), choose((1e-2, 1e-3))
    (kernel,) = jax.tree.leaves(fitter.fit(start, batch, jnp.float32(10.0)).params)
    assert float(jnp.sum(kernel**2)) < 1e-3
    assert float(found.penalty) == float(plain.penalty)
    assert float(found.fit.objective) == pytest.approx(float(plain.fit.objective), rel=1e-3)


def test_one_trace_for_every_penalty_and_sample():
    fitter = joint(num_steps=3)
    batch = small_batch()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def fit(batch, penalty):
        return fitter.fit(fitter.init(jax.random.key(0), batch, penalty), batch, penalty).objective

    first = fit(batch, jnp.float32(1e-3))
    assert float(fit(batch._replace(y=-batch.y), jnp.float32(1e-3))) == pytest.approx(float(first))
    assert fit(batch, jnp.float32(1e-2)) > first


def test_errors():
    with pytest.raises(ValueError, match=r"num_steps >= 1.*got 0"):
        joint(num_steps=0)
    with pytest.raises(ValueError, match="num_steps >= 1, got 0"):
        amtl.variable_projection_fitter(
            amtl.linear_encoder(2), optax.sgd(0.1), num_tasks=2, num_steps=0
        )
