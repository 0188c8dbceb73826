"""Predicted risk, the saving, and round budgets: golden values and dense formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amtl_jax.planning import first_order_risk, round_floor, saving, split_budget


def test_first_order_risk_golden():
    # Orthonormal heads: Σ nu²/n = .36/50 + .64/100 = .0136, times σ²(D−K) = 4·8; head 4·2/20.
    risk = first_order_risk(
        np.eye(2), [0.6, 0.8], [50, 100], noise_variance=4.0, input_dim=10, num_target=20
    )
    np.testing.assert_allclose(risk, (0.0136 * 32, 0.4), rtol=1e-6)


def test_first_order_risk_is_the_quadratic_form_and_goes_on_where_it_is_singular():
    rng = np.random.default_rng(3)
    heads, target, counts = rng.normal(size=(9, 4)), rng.normal(size=4), rng.integers(1, 99, 9)

    def representation(counts):
        setting = {"noise_variance": 2.0, "input_dim": 24, "num_target": 10}
        return float(first_order_risk(heads, target, counts, **setting).representation)

    inverse = np.linalg.inv(heads.T @ np.diag(counts) @ heads)
    np.testing.assert_allclose(representation(counts), 40 * target @ inverse @ target, rtol=1e-5)
    target = 3 * heads[5]
    only_five = np.where(np.arange(9) == 5, 50, 0)
    np.testing.assert_allclose(representation(only_five), 40 * 9 / 50, rtol=1e-5)
    assert representation(np.roll(only_five, 1)) == np.inf
    assert representation(np.zeros(9)) == np.inf


def test_saving_golden():
    # Three sources e_1, one e_2. Target e_2: uniform puts a quarter where all of it is needed.
    # Target e_1: uniform only wastes the quarter spent on e_2.
    heads = jnp.array([[1.0, 0], [1, 0], [1, 0], [0, 1]])
    ratio = jax.jit(saving)
    np.testing.assert_allclose(ratio(heads, jnp.array([0.0, 1.0])), 4, rtol=1e-4)
    np.testing.assert_allclose(ratio(heads, jnp.array([1.0, 0.0])), 4 / 3, rtol=1e-4)
    assert np.isnan(ratio(heads, jnp.array([np.nan, 1.0])))


def test_split_budget():
    assert split_budget(121_875, (1, 1.5, 2.25, 3.375)) == (15_000, 22_500, 33_750, 50_625)
    assert split_budget(10, (1, 1, 1)) == (4, 3, 3)
    assert split_budget(7, [0.3]) == (7,)


def test_round_floor():
    assert round_floor(15_000, 150, count=100) == 100
    assert round_floor(1_000, 10) == 20
    assert round_floor(100, 1, share=0.29) == 29
    assert round_floor(22_500, 150, root=True) == 150


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: split_budget(10, ()), "one positive share a round"),
        (lambda: split_budget(10, (1, -1)), "one positive share a round"),
        (lambda: split_budget(2, (1, 1, 1)), "raise the total or use fewer rounds"),
        (lambda: round_floor(15_000, 150, root=True), "at least M² = 22500"),
        (lambda: round_floor(100, 10, count=11), "10 tasks × 11 samples .* count ≤ 10"),
        (lambda: round_floor(100, 10, share=1.5), r"a share in \[0, 1\]"),
        (lambda: round_floor(100, 10, count=1, root=True), "at most one of"),
        (lambda: saving(np.ones((3, 2, 1)), np.ones((2, 1))), "one output at a time"),
        (
            lambda: first_order_risk(
                np.eye(2), np.ones(2), [1, 2, 3], noise_variance=1, input_dim=4, num_target=5
            ),
            r"counts of shape \[2\]",
        ),
    ],
)
def test_planning_error_text(call, message):
    with pytest.raises(ValueError, match=message):
        call()
