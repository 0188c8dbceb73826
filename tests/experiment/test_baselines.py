"""Pooled ridge against the leave-one-out ridge of the library, and against itself with weights."""

import numpy as np
import pytest

import amtl_jax as amtl
from amtl_jax.data.sources import Rows
from amtl_jax.experiment.baselines import pooled_ridge


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 5)) + 2
    y = x @ rng.normal(size=(5, 2)) + 3 + rng.normal(size=(40, 2))
    return x, y


def pooled(*parts, intercept):
    """Of parts `(x, y, weight)`."""
    rows = [Rows(x, y, np.zeros(len(x), np.int32), weight) for x, y, weight in parts]
    return pooled_ridge(lambda: rows, intercept=intercept)


@pytest.mark.parametrize("intercept", [True, False])
def test_it_is_the_ridge_of_least_left_out_error(rows, intercept):
    x, y = rows
    weight, bias, ridge, loss = pooled((x, y, np.ones(40)), intercept=intercept)
    wanted = amtl.loo_ridge(
        x.astype(np.float32), y.astype(np.float32), np.ones(40, np.float32), intercept=intercept
    )
    assert ridge == pytest.approx(float(wanted.ridge), rel=1e-3)
    assert loss == pytest.approx(float(wanted.loss), rel=1e-3)
    np.testing.assert_allclose(weight, wanted.head.weight, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(bias, wanted.head.bias, rtol=1e-3, atol=1e-3)


def test_rows_of_weight_0_change_nothing(rows):
    x, y = rows
    plain = pooled((x, y, np.ones(40)), intercept=True)
    more = np.concatenate([x, 100 * np.ones((3, 5))]), np.concatenate([y, np.zeros((3, 2))])
    padded = pooled((*more, np.append(np.ones(40), np.zeros(3))), intercept=True)
    for a, b in zip(plain, padded, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_constant_inputs_predict_the_mean():
    y = np.arange(6.0)[:, None]
    weight, bias, *_ = pooled((np.ones((6, 3)), y, np.ones(6)), intercept=True)
    np.testing.assert_allclose(np.ones((1, 3)) @ weight + bias, [[2.5]], rtol=1e-6)


@pytest.mark.parametrize("intercept", [True, False])
def test_parts_give_what_all_rows_together_give(rows, intercept):
    x, y = rows
    weight = np.random.default_rng(1).uniform(0, 2, 40)
    whole = pooled((x, y, weight), intercept=intercept)
    cuts = [slice(0, 7), slice(7, 8), slice(8, 40)]
    parts = pooled(*((x[cut], y[cut], weight[cut]) for cut in cuts), intercept=intercept)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
