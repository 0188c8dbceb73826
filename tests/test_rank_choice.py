"""How many features a linear representation gets, and whether they look enough."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import amtl_jax as amtl
from amtl_jax.fitting.rank import choose_rank, rank_warning
from amtl_jax.noise_weights import noise_factors, weigh_tasks
from amtl_jax.rank_choice import features_in_use, has_moments, rank_doubt, rank_fitter

M, D, K = 8, 12, 3


@functools.cache
def batch_of(noise=0.3, target_noise=0.3):
    """80 rows of each of M sources that span K directions, and of a target outside of them."""
    rng = np.random.default_rng(0)
    theta = np.linalg.qr(rng.normal(size=(D, K)))[0] @ rng.normal(size=(K, M))
    theta = np.concatenate([theta, 5 * rng.normal(size=(D, 1))], axis=1)
    own = np.append(np.broadcast_to(noise, M), target_noise)
    task = np.repeat(np.arange(M + 1), 80)
    x = rng.normal(size=(len(task), D))
    y = (x * theta.T[task]).sum(axis=1) + own[task] * rng.normal(size=len(task))
    return amtl.pack(x, y, task, num_tasks=M + 1)


def doubt(num_features, batch=None, **options):
    batch = batch_of() if batch is None else batch
    return rank_doubt(batch, num_features, num_sources=M, intercept=True, **options)


def test_too_few_features_are_doubted_and_enough_are_not():
    assert doubt(1).startswith("K = 1 looks too small: AIC wants 3 features")
    assert "wants 3 features" in doubt(2)
    assert doubt(K) is None  # the target is outside, and does not count
    assert doubt(K + 1) is None


def test_images_are_vectors():
    batch = batch_of()
    images = batch._replace(x=batch.x.reshape(*batch.x.shape[:2], 3, 4, 1))
    assert doubt(2, images) == doubt(2)


def test_nothing_is_said_where_nothing_can_be_seen(monkeypatch):
    assert doubt(D) is None
    monkeypatch.setattr("amtl_jax.rank_choice.MOST_MOMENTS", (M + 1) * D**2 - 1)
    assert doubt(1) is None


def test_rows_are_weighed_as_in_the_fit():
    noise = np.array([0.05, 3.0] * (M // 2))
    batch, own = batch_of(tuple(noise)), jnp.asarray(np.append(noise, 1.0) ** 2)
    sources = batch._replace(weight=batch.weight * (batch.task < M)[:, None])
    weighed = weigh_tasks(sources, noise_factors(sources, own))
    expected = rank_warning(
        jax.jit(functools.partial(choose_rank, num_tasks=M + 1, max_rank=7))(weighed), 2
    )
    numbers = "lower by"
    found = doubt(2, batch, task_noise=own)
    assert found.split(numbers)[0] == expected.split(numbers)[0]
    assert found != doubt(2, batch)


def test_moments_of_too_many_inputs_are_refused_with_their_size():
    assert has_moments(151, 400)
    assert not has_moments(151, 784)
    with pytest.raises(ValueError, match=r"784 × 784 .* 151 tasks: 371 MB.*at most 471 inputs"):
        rank_fitter(amtl.linear_encoder(50), num_tasks=151, num_inputs=784)
    assert has_moments(151, 471)
    assert not has_moments(151, 472)


def test_features_in_use_are_those_that_are_not_zero():
    encoder = amtl.linear_encoder(6)
    fitter = rank_fitter(encoder, num_tasks=M + 1, num_inputs=D)
    batch = batch_of()
    batch = batch._replace(weight=batch.weight * (batch.task < M)[:, None])
    found = jax.jit(fitter.fit)(fitter.init(jax.random.key(0), batch, 1e-6), batch, 1e-6)
    assert features_in_use(encoder, found.params) == K
    assert features_in_use(encoder, {"params": {"kernel": jnp.ones((D, 6))}}) == 6
    assert features_in_use(amtl.identity_encoder(4), {}) == 4
