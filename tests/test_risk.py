"""First-order risk, the best split, the saving: values by hand, dense formulas, linear programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog

import amtl_jax as amtl


def test_first_order_risk_golden():
    # Orthonormal heads: Σ nu²/n = .36/50 + .64/100 = .0136, times σ²(D−K) = 4·8; head 4·2/20.
    risk = amtl.first_order_risk(
        np.eye(2), [0.6, 0.8], [50, 100], noise_variance=4.0, input_dim=10, num_target=20
    )
    np.testing.assert_allclose(risk, (0.0136 * 32, 0.4), rtol=1e-6)
    # Noise of their own: 8 (4 · .36/50 + 1 · .64/100), and 3 · 2/20 of the target's.
    risk = amtl.first_order_risk(
        np.eye(2),
        [0.6, 0.8],
        [50, 100],
        noise_variance=[4.0, 1.0],
        input_dim=10,
        num_target=20,
        target_noise_variance=3.0,
    )
    np.testing.assert_allclose(risk, (0.2816, 0.3), rtol=1e-6)


def test_first_order_risk_is_the_quadratic_form_and_goes_on_where_it_is_singular():
    rng = np.random.default_rng(3)
    heads, target, counts = rng.normal(size=(9, 4)), rng.normal(size=4), rng.integers(1, 99, 9)

    def representation(counts):
        setting = {"noise_variance": 2.0, "input_dim": 24, "num_target": 10}
        return float(amtl.first_order_risk(heads, target, counts, **setting).representation)

    inverse = np.linalg.inv(heads.T @ np.diag(counts) @ heads)
    np.testing.assert_allclose(representation(counts), 40 * target @ inverse @ target, rtol=1e-5)
    target = 3 * heads[5]
    only_five = np.where(np.arange(9) == 5, 50, 0)
    np.testing.assert_allclose(representation(only_five), 40 * 9 / 50, rtol=1e-5)
    assert representation(np.roll(only_five, 1)) == np.inf
    assert representation(np.zeros(9)) == np.inf


@pytest.mark.parametrize("weighted", [True, False])
def test_noise_per_source_is_the_dense_formula(weighted):
    rng = np.random.default_rng(4)
    heads, target, counts = rng.normal(size=(9, 4)), rng.normal(size=4), rng.integers(1, 99, 9)
    noise = np.exp(rng.normal(size=9))

    def representation(noise, weighted, target_noise=1.0):
        return amtl.first_order_risk(
            heads,
            target,
            counts,
            noise_variance=noise,
            input_dim=24,
            num_target=10,
            target_noise_variance=target_noise,
            weighted=weighted,
        ).representation

    weight = 1 / noise if weighted else np.ones(9)
    inverse = np.linalg.inv(heads.T @ np.diag(counts * weight) @ heads)
    spread = heads.T @ np.diag(counts * weight**2 * noise) @ heads
    expected = 20 * target @ inverse @ spread @ inverse @ target
    np.testing.assert_allclose(representation(noise, weighted), expected, rtol=1e-5)
    assert representation(noise, True) < representation(noise, False)
    alike = representation(np.full(9, 2.5), weighted)
    np.testing.assert_allclose(alike, representation(2.5, weighted, None), rtol=1e-5)


def test_saving_golden():
    # Three sources e_1, one e_2. Target e_2: uniform puts a quarter where all of it is needed.
    # Target e_1: uniform only wastes the quarter spent on e_2.
    heads = jnp.array([[1.0, 0], [1, 0], [1, 0], [0, 1]])
    ratio = jax.jit(amtl.saving)
    np.testing.assert_allclose(ratio(heads, jnp.array([0.0, 1.0])), 4, rtol=1e-4)
    np.testing.assert_allclose(ratio(heads, jnp.array([1.0, 0.0])), 4 / 3, rtol=1e-4)
    assert np.isnan(ratio(heads, jnp.array([np.nan, 1.0])))


def test_best_allocation_golden():
    # Σ √c σ |nu| = 2 · 3 · .6 + 1 · 1 · .8 = 4.4; counts ∝ σ|nu|/√c = (.9, .8), cost 4 · .9 + .8.
    best = jax.jit(amtl.best_allocation, static_argnames="input_dim")(
        np.eye(2),
        np.array([0.6, -0.8]),
        budget=440.0,
        noise_variance=np.array([9.0, 1.0]),
        price=np.array([4.0, 1.0]),
        input_dim=12,
    )
    np.testing.assert_allclose(best.counts, (90, 80), rtol=1e-4)
    np.testing.assert_allclose(best.nu, (0.6, -0.8), rtol=1e-4)
    np.testing.assert_allclose(best.representation, 10 * 4.4**2 / 440, rtol=1e-4)


def linear_program(heads, target, cost):
    """Min Σ cost |nu| subject to W nu = w_T: nu = a − b with a, b ≥ 0."""
    columns = np.hstack([heads.T, -heads.T])
    solution = linprog(np.tile(cost, 2), A_eq=columns, b_eq=target)
    assert solution.status == 0
    return solution.fun


def test_best_allocation_is_the_linear_program_and_no_split_is_better():
    rng = np.random.default_rng(7)
    best_allocation = jax.jit(amtl.best_allocation, static_argnames="input_dim")
    num_tasks, num_features = 60, 10
    for _ in range(3):
        heads = rng.normal(size=(num_tasks, num_features))
        target = rng.normal(size=num_features)
        noise, price = np.exp(rng.uniform(-2, 2, num_tasks)), np.exp(rng.normal(size=num_tasks))
        best = best_allocation(
            heads, target, budget=500.0, noise_variance=noise, price=price, input_dim=20
        )
        counts = np.asarray(best.counts, float)
        np.testing.assert_allclose(counts @ price, 500, rtol=1e-5)
        assert np.count_nonzero(counts) <= num_features
        np.testing.assert_allclose(heads.T @ best.nu, target, atol=1e-4)
        lowest = linear_program(heads, target, np.sqrt(price * noise))
        np.testing.assert_allclose(
            best.representation, (20 - num_features) * lowest**2 / 500, rtol=1e-4
        )

        def risk(counts, heads=heads, target=target, noise=noise):
            setting = {"input_dim": 20, "num_target": 1, "target_noise_variance": 1.0}
            found = amtl.first_order_risk(heads, target, counts, noise_variance=noise, **setting)
            return float(found.representation)

        np.testing.assert_allclose(risk(counts), best.representation, rtol=1e-3)
        for other in rng.gamma(0.3, size=(5, num_tasks)):
            mixed = 0.95 * counts + 0.05 * 500 * other / (other @ price)
            assert risk(mixed) > 0.9999 * float(best.representation)


def test_best_allocation_outside_the_span_and_under_jit():
    heads = jnp.array([[1.0, 0, 0], [0, 1, 0], [1, 1, 0]])

    @jax.jit
    def best(target):
        return amtl.best_allocation(heads, target, budget=10.0, noise_variance=1.0, input_dim=5)

    outside = best(jnp.array([1.0, 0, 1]))
    assert np.isinf(outside.representation)
    np.testing.assert_allclose(outside.counts, (10, 0, 0), rtol=1e-4, atol=1e-4)
    assert np.all(np.isnan(best(jnp.zeros(3)).counts))
    assert np.isnan(best(jnp.array([np.nan, 0, 0])).representation)
    targets = jnp.array([[1.0, 0, 0], [2.0, 2.0, 0]])
    np.testing.assert_allclose(jax.vmap(best)(targets).representation, (0.2, 0.8), rtol=1e-4)


def test_required_samples_golden_and_inverse():
    required_samples = jax.jit(amtl.required_samples, static_argnames="input_dim")
    heads, target = np.array([[1.0, 0], [1, 0], [1, 0], [0, 1]]), np.array([0.0, 1.0])

    def required(noise, price):
        return required_samples(
            heads,
            target,
            representation_risk=0.05,
            noise_variance=np.asarray(noise),
            price=np.asarray(price),
            input_dim=10,
        )

    # (D − K) σ² / risk = 8 · 3 / .05 = 480 for the best split; uniform needs four times that, the
    # saving of `test_saving_golden`.
    np.testing.assert_allclose(required([3.0] * 4, [1.0] * 4), (1920, 480), rtol=1e-4)

    # With noise and prices: the budgets found are worth the risk that was wanted.
    noise, price = np.array([0.5, 1, 2, 3]), np.array([1.0, 2, 3, 4])
    found = required(noise, price)
    np.testing.assert_allclose(found.best, 4 * 480, rtol=1e-4)
    uniform = amtl.first_order_risk(
        heads,
        target,
        np.full(4, found.uniform / 10),
        noise_variance=noise,
        input_dim=10,
        num_target=1,
        target_noise_variance=1.0,
    )
    np.testing.assert_allclose(uniform.representation, 0.05, rtol=1e-4)


def risk_of(**changes):
    setting = {"noise_variance": 1.0, "input_dim": 4, "num_target": 5}
    return amtl.first_order_risk(np.eye(2), np.ones(2), [1, 2], **{**setting, **changes})


def best_of(**changes):
    setting = {"budget": 10.0, "noise_variance": 1.0, "input_dim": 4}
    return amtl.best_allocation(np.eye(2), np.ones(2), **{**setting, **changes})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: amtl.saving(np.ones((3, 2, 1)), np.ones((2, 1))), "one output at a time"),
        (
            lambda: amtl.first_order_risk(
                np.eye(2), np.ones(2), [1, 2, 3], noise_variance=1, input_dim=4, num_target=5
            ),
            r"counts of shape \[2\]",
        ),
        (lambda: risk_of(input_dim=1), "input_dim ≥ K = 2"),
        (lambda: risk_of(num_target=0), "num_target ≥ 1"),
        (lambda: risk_of(noise_variance=[1.0, 2.0]), "target_noise_variance beside"),
        (lambda: risk_of(noise_variance=[1.0, 2.0, 3.0]), r"one or \[2\], got shape \[3\]"),
        (
            lambda: risk_of(noise_variance=[1.0, 0.0], target_noise_variance=1.0),
            "noise_variance to be positive and finite, got 0",
        ),
        (lambda: best_of(budget=0), "budget to be positive"),
        (lambda: best_of(budget=[1.0, 2.0]), r"budget to be a number, got shape \[2\]"),
        (lambda: best_of(price=[1.0, -2.0]), "price to be positive and finite, got -2"),
        (lambda: best_of(input_dim=1), "input_dim ≥ K = 2, got 1"),
        (
            lambda: amtl.required_samples(
                np.eye(2), np.ones(2), representation_risk=0, noise_variance=1, input_dim=4
            ),
            "representation_risk to be positive",
        ),
    ],
)
def test_risk_error_text(call, message):
    with pytest.raises(ValueError, match=message):
        call()
