"""Factors of systems that float32 can and cannot factor, and the inverse of a factor."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amtl_jax.cholesky import lower_inverse, raised_cholesky

EPSILON = float(np.finfo(np.float32).eps)


def unit_system(size, rank, seed=0):
    """A random correlation matrix of that rank, float64."""
    rows = np.random.default_rng(seed).normal(size=(rank, size))
    gram = rows.T @ rows
    scale = 1 / np.sqrt(np.diag(gram))
    return gram * np.outer(scale, scale)


@pytest.mark.parametrize("size", [1, 5, 16, 17, 33, 50, 64, 130])
def test_the_factor_and_the_inverse_against_float64(size):
    system = unit_system(size, 3 * size + 2)
    factor, lift = raised_cholesky(jnp.asarray(system, jnp.float32))
    assert lift == pytest.approx(4 * EPSILON)
    assert (np.triu(factor, 1) == 0).all()
    np.testing.assert_allclose(factor @ factor.T, system, atol=3e-6)
    inverse = lower_inverse(factor)
    assert (np.triu(inverse, 1) == 0).all()
    np.testing.assert_allclose(inverse @ factor, np.eye(size), atol=1e-5)
    found = jnp.sum(jnp.square(inverse), axis=0)
    np.testing.assert_allclose(found, np.diag(np.linalg.inv(system)), rtol=2e-4)


def test_a_singular_system_is_raised_by_no_more_than_it_needs():
    system = jnp.asarray(unit_system(40, 10), jnp.float32)
    factor, lift = raised_cholesky(system)
    chex.assert_tree_all_finite(factor)
    assert 4 * EPSILON <= lift < 1e-4
    steps = np.log(float(lift) / (4 * EPSILON)) / np.log(8)
    assert steps == pytest.approx(round(steps), abs=1e-3)
    np.testing.assert_allclose(factor @ factor.T, system + lift * np.eye(40), atol=1e-5)
    if lift > 4 * EPSILON:  # an eighth of it was not enough
        assert not np.isfinite(jnp.linalg.cholesky(system + lift / 8 * jnp.eye(40))).all()


def test_one_bad_system_changes_no_other():
    good, flat = unit_system(6, 20), np.ones((6, 6))
    broken = np.full((6, 6), np.nan)
    stacked = jnp.asarray(np.stack([good, flat, broken]), jnp.float32)
    factors, lifts = jax.vmap(raised_cholesky)(stacked)
    alone, _ = raised_cholesky(stacked[0])
    np.testing.assert_allclose(factors[0], alone, rtol=1e-6)
    assert lifts[0] == pytest.approx(4 * EPSILON)
    assert np.isfinite(factors[1]).all()
    assert np.isnan(factors[2]).any()


def test_the_derivative_is_that_of_the_factor():
    system = jnp.asarray(unit_system(5, 20), jnp.float32)
    change = np.random.default_rng(1).normal(size=(5, 5))
    change = jnp.asarray(change + change.T, jnp.float32)

    def loss(factorize, step):
        return jnp.sum(jnp.sin(3 * factorize(system + step * change)))

    ours = jax.grad(lambda step: loss(lambda one: raised_cholesky(one)[0], step))(0.0)
    plain = jax.grad(lambda step: loss(jnp.linalg.cholesky, step))(0.0)
    np.testing.assert_allclose(ours, plain, rtol=1e-4)
    assert jax.grad(lambda step: raised_cholesky(system + step * change)[1])(0.0) == 0
