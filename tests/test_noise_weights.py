"""Tasks weighed by their noise: raw rows outside, the truth tracked, and a better fit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import amtl_jax as amtl
from amtl_jax.noise_weights import in_raw_rows, noise_factors, relative_noise, weigh_tasks

M, D, K, NUM_TARGET, BUDGET = 10, 12, 3, 60, 1000
KEY = jax.random.key(0)


@functools.cache
def fitter(intercept=False):
    encoder = amtl.linear_encoder(K)
    return amtl.lbfgs_fitter(encoder, num_tasks=M + 1, intercept=intercept, num_steps=60)


@functools.cache
def source(seed):
    truth = amtl.synthetic_truth("noise", seed=seed, num_tasks=M, input_dim=D, num_features=K)
    return truth, amtl.SyntheticSource(truth)


def batch_of(seed, each):
    _, data = source(seed)
    key = jax.random.key(seed)
    rows, target = data.draw(key, np.full(M, each)), data.draw_target(key, NUM_TARGET)
    x, y, task = (np.concatenate(parts) for parts in zip(rows[:3], target[:3], strict=True))
    num_blocks = amtl.max_blocks(BUDGET + NUM_TARGET, M + 1, 16)
    return amtl.pack(x, y, task, num_tasks=M + 1, block_rows=16, num_blocks=num_blocks)


def learner_of(strategy=None, **options):
    options = {"schedule": (0.3, 0.7), "penalty": 1e-4, "weigh_noise": True} | options
    return amtl.active_learner(
        fitter(),
        strategy or amtl.uniform(),
        num_sources=M,
        num_target=NUM_TARGET,
        budget=BUDGET,
        **options,
    )


def test_factors_are_one_over_the_noise_at_the_same_total_weight():
    batch = amtl.pack(np.zeros((6, 1)), np.zeros((6, 1)), [0, 0, 0, 0, 1, 1], num_tasks=3)
    # 4 rows of noise 1 and 2 of noise 4: weights 1 and 1/4, 4.5 in all, brought to 6.
    factors = noise_factors(batch, jnp.array([1.0, 4.0, 2.0]))
    np.testing.assert_allclose(factors, np.array([1, 1 / 4, 1 / 2]) * 6 / 4.5, rtol=1e-6)
    np.testing.assert_allclose(weigh_tasks(batch, factors).weight.sum(), 6, rtol=1e-6)
    empty = batch._replace(weight=jnp.zeros_like(batch.weight))
    np.testing.assert_allclose(noise_factors(empty, jnp.ones(3)), 1)


def test_a_weighted_fit_in_raw_rows_has_its_own_heads_and_plain_statistics():
    intercept = True
    batch, penalty = batch_of(0, 30), jnp.float32(1e-2)
    factors = noise_factors(batch, jnp.linspace(0.3, 3, M + 1))
    fit = fitter(intercept)
    weighted = fit.fit(fit.init(KEY, batch, penalty), weigh_tasks(batch, factors), penalty)
    raw = in_raw_rows(weighted, factors, penalty=penalty, intercept=intercept)
    np.testing.assert_allclose(raw.heads.weight, weighted.heads.weight, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(raw.heads.bias, weighted.heads.bias, rtol=1e-3, atol=1e-5)
    features = jnp.einsum("brd,dk->brk", batch.x, raw.params["params"]["kernel"])
    plain = amtl.head_stats(features, batch, num_tasks=M + 1)
    for found, expected in zip(raw.stats, plain, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    # Residuals of unweighted rows: the noise of every task, not 1.
    task = np.repeat(np.asarray(batch.task), batch.weight.shape[1])
    left = np.asarray(batch.y - amtl.predict_heads(raw.heads, features, batch))
    square = np.bincount(task, (np.asarray(batch.weight) * left[..., 0] ** 2).ravel())
    count = np.bincount(task, np.asarray(batch.weight).ravel())
    ratio = np.asarray(raw.heads.residual_variance[:, 0]) * (count - 1 - K) / square
    np.testing.assert_allclose(ratio, 1, atol=0.05)  # a ridge takes less than K rows


def test_relative_noise_does_not_depend_on_the_labels_unit():
    batch, penalty = batch_of(1, 30), jnp.float32(1e-3)
    fit = fitter().fit(fitter().init(KEY, batch, penalty), batch, penalty)

    def noise(unit):
        scale = jnp.array([unit])
        stats = fit.stats._replace(
            moment=fit.stats.moment * scale[None, None],
            energy=fit.stats.energy * scale[None] ** 2,
            label_sum=fit.stats.label_sum * scale[None],
        )
        heads = fit.heads._replace(weight=fit.heads.weight * scale[None, None])
        return relative_noise(
            stats,
            heads,
            ridge=jnp.full(M + 1, penalty * stats.count.sum()),
            input_dim=D,
            held_out_loss=jnp.float32(jnp.nan),
            fit_weight=jnp.ones(M + 1),
            intercept=False,
        )

    np.testing.assert_allclose(noise(100.0), noise(1.0), rtol=1e-4)
    assert 0.05 < noise(1.0).min() < 1 < noise(1.0).max()


@functools.cache
def risks(weigh):
    """Representation risk `[S]` of two uniform rounds, and the last noise `[S, M + 1]`."""
    learner = learner_of(weigh_noise=weigh)
    tell = jax.jit(learner.tell)
    found = []
    for seed in range(10):
        truth, _ = source(seed)
        state = learner.init(KEY, batch_of(seed, 30))
        for each in (30, 100):
            state, info = tell(jax.random.key(seed), state, batch_of(seed, each))
            assert info.is_finite
        theta = jnp.asarray(truth.target_theta()[:, 0], jnp.float32)
        risk = amtl.representation_risk(state.params["params"]["kernel"], theta)
        found.append((float(risk), np.asarray(state.task_noise)))
    return np.array([risk for risk, _ in found]), np.stack([noise for _, noise in found])


def test_the_noise_is_tracked():
    _, found = risks(True)
    truth = np.stack([np.append(source(seed)[0].noise, 1.0) for seed in range(10)]) ** 2
    for own, true in zip(np.log(found), np.log(truth), strict=True):
        assert np.corrcoef(own, true)[0, 1] > 0.9
    ratio = found / truth
    assert np.median(ratio / np.median(ratio, axis=1, keepdims=True)) < 1.5


def test_weighing_lowers_the_risk_of_uniform_sampling():
    (weighted, _), (plain, noise) = risks(True), risks(False)
    np.testing.assert_array_equal(noise, 1)  # unasked for, nothing is estimated
    assert weighted.mean() < 0.5 * plain.mean()
    assert (weighted < plain).mean() >= 0.8


def test_evidence_is_of_raw_rows_and_the_target_counts_by_its_noise_where_it_joins():
    seen = {}

    def watching(name):
        def update(evidence, state):
            seen[name] = evidence
            return amtl.uniform().update(evidence, state)

        return amtl.uniform(target_in_fit=True)._replace(update=update)

    batch = batch_of(2, 100)
    for weigh in (False, True):
        learner = learner_of(watching(weigh), weigh_noise=weigh, join_target=True)
        state, info = learner.tell(KEY, learner.init(KEY, batch), batch)
        assert info.is_finite
    plain, weighted = seen[False], seen[True]
    np.testing.assert_allclose(weighted.source_stats.count, 100, rtol=1e-5)
    np.testing.assert_allclose(weighted.ridge, plain.ridge, rtol=1e-5)
    np.testing.assert_allclose(weighted.source_stats.energy, plain.source_stats.energy, rtol=1e-4)
    truth = source(2)[0].noise ** 2
    np.testing.assert_allclose(weighted.noise, truth, rtol=0.5)
    np.testing.assert_allclose(state.target_head.weight, weighted.target_head.weight)
    # Of what joins, rows of the target weigh as its noise says.
    factors = noise_factors(batch, state.task_noise)
    again = fitter().fit(state.params, weigh_tasks(batch, factors), state.penalty)
    np.testing.assert_allclose(again.objective, info.fit.objective, rtol=1e-3)
