"""Predicted risk: exact where heads are known, with what finite samples add, and intervals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import amtl_jax as amtl
from amtl_jax.forecast import draw_risks, known_heads, predicted_risk

D, K, M = 40, 4, 12


def heads(seed=0):
    rng = np.random.default_rng(seed)
    source, target = rng.normal(size=(M, K)), rng.normal(size=K)
    return source / np.linalg.norm(source, axis=1, keepdims=True), target / np.linalg.norm(target)


def test_known_heads_with_many_samples_have_the_first_order_risk():
    source, target = heads()
    counts = np.random.default_rng(1).integers(100_000, 900_000, M)
    noise = np.exp(np.random.default_rng(2).uniform(-1, 1, M))
    draws = known_heads(
        source, target, noise_variance=noise, input_dim=D, target_noise_variance=0.7
    )
    found = predicted_risk(draws, counts, num_target=200)
    matrix = np.einsum("mk,m,ml->kl", source, counts / noise, source)
    exact = (D - K) * target @ np.linalg.inv(matrix) @ target
    np.testing.assert_allclose(found.representation, [exact], rtol=1e-3)
    np.testing.assert_allclose(found.head, [0.7 * K / 200], rtol=1e-6)
    risk = amtl.first_order_risk(
        source, target, counts, noise_variance=1.0, input_dim=D, num_target=200
    )
    same = known_heads(source, target, noise_variance=1.0, input_dim=D)
    again = predicted_risk(same, counts, num_target=200)
    np.testing.assert_allclose(again.representation[0], risk.representation, rtol=1e-3)
    np.testing.assert_allclose(again.head[0], risk.head, rtol=1e-6)


def test_one_source_alone_is_the_angle_of_least_squares():
    # y = x₁ + noise: what the fitted direction misses of the true one, 1 − cos²
    draws = known_heads(np.ones((1, 1)), np.ones(1), noise_variance=1.0, input_dim=D)
    rng = np.random.default_rng(0)
    for number in (60, 160, 1000):
        x, noise = rng.normal(size=(300, number, D)), rng.normal(size=(300, number, 1))
        gram = np.einsum("rni,rnj->rij", x, x)
        fitted = np.linalg.solve(gram, np.einsum("rni,rnj->rij", x, x[:, :, :1] + noise))[..., 0]
        missed = 1 - fitted[:, 0] ** 2 / np.sum(fitted**2, axis=1)
        found = draw_risks(draws, jnp.array([float(number)]))
        np.testing.assert_allclose(found, [[missed.mean()]], rtol=0.05)


def test_random_inputs_and_noisy_heads_cost_what_a_singular_value_decomposition_shows():
    # 60 heads of one feature, learnt from estimates of 30 rows: the rank-1 part of them
    draws = known_heads(np.ones((60, 1)), np.ones(1), noise_variance=1.0, input_dim=D)
    rng = np.random.default_rng(1)
    first = np.zeros(D)
    first[0] = 1.0
    noisy = np.sqrt(3.0) * first[:, None] + rng.normal(size=(200, D, 60))
    left = np.linalg.svd(noisy, full_matrices=False)[0][:, :, 0]
    missed = 1 - left[:, 0] ** 2
    # 4 rows each, of which one teaches its head: ‖√3‖² · 60 as information, of 60 noisy heads
    a, extra = 180.0, 59.0
    loss = 1 / (1 - 40 / 181)  # of random inputs, which the matrix above has not
    for b, found in ((39.0, missed.mean()), (39 * loss, draw_risks(draws, jnp.full(60, 4.0)))):
        expected = b * (a + extra) / (a**2 + b * a + b * extra * b / (a + b))
        np.testing.assert_allclose(found, np.full(np.shape(found), expected), rtol=0.04)


def test_no_risk_is_above_that_of_predicting_nothing():
    source, target = heads()
    draws = known_heads(source, 3 * target, noise_variance=1.0, input_dim=D)
    nothing = predicted_risk(draws, np.zeros(M), num_target=50)
    np.testing.assert_allclose(nothing.representation, [9.0], rtol=0.03)
    assert nothing.representation[0] <= 9.0
    assert np.isfinite(nothing.high).all()


@pytest.mark.parametrize(
    ("input_dim", "num_tasks", "information"), [(2, 1000, 7), (6, 100, 10), (40, 150, 40)]
)
def test_many_noisy_heads_beside_a_weak_direction_are_no_worse_than_nothing(
    input_dim, num_tasks, information
):
    source = np.full((num_tasks, 1), np.sqrt(information / num_tasks / 9))  # of 9 rows each
    draws = known_heads(source, [1.0], noise_variance=1.0, input_dim=input_dim)
    risk = draw_risks(draws, jnp.full(num_tasks, 10.0))
    assert 0.5 < risk[0, 0] <= 1.0


def test_more_samples_are_no_worse_where_heads_first_appear():
    draws = known_heads(np.full((100, 1), 0.3), [1.0], noise_variance=1.0, input_dim=6)
    risks = [float(draw_risks(draws, jnp.full(100, n))[0, 0]) for n in (1.6, 3.0, 4.0, 8.0)]
    assert (np.diff(risks) <= 1e-6).all(), risks


def test_interval_holds_a_runs_own_scatter():
    source, target = heads()
    draws = known_heads(source, target, noise_variance=1.0, input_dim=D)
    found = predicted_risk(draws, np.full(M, 4000), num_target=50, level=0.9, repeats=20_000)
    from_table = np.array([0.6457, 1.4165])  # χ² with 36 degrees of freedom over 36, 5 and 95 %
    ends = np.array([found.low[0], found.high[0]]) / found.representation[0]
    np.testing.assert_allclose(ends, from_table, rtol=0.02)


def test_several_targets_and_jit():
    source, target = heads()
    other = heads(5)[1]
    draws = known_heads(source, np.stack([target, other]), noise_variance=1.0, input_dim=D)
    found = jax.jit(lambda counts: predicted_risk(draws, counts, num_target=np.array([50, 100])))(
        np.full(M, 500.0)
    )
    for index, one in enumerate((target, other)):
        alone = known_heads(source, one, noise_variance=1.0, input_dim=D)
        single = predicted_risk(alone, np.full(M, 500), num_target=50 * (index + 1))
        np.testing.assert_allclose(found.representation[index], single.representation[0], rtol=1e-5)
        np.testing.assert_allclose(found.head[index], single.head[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: predicted_risk(d, [1, 2], num_target=5), r"counts \[M\] = \[12\], got \[2\]"),
        (lambda d: predicted_risk(d, np.ones(M), num_target=5, level=95), "a level in"),
        (
            lambda d: known_heads(np.ones((3, 2)), np.ones(3), noise_variance=1.0, input_dim=9),
            r"got \[3, 2\] and \[3\]",
        ),
        (
            lambda d: known_heads(np.ones((3, 2)), np.ones(2), noise_variance=1.0, input_dim=1),
            "input_dim >= K = 2, got 1",
        ),
        (
            lambda d: known_heads(np.ones((3, 2)), np.ones(2), noise_variance=[1, 1], input_dim=9),
            r"\[M\] = \[3\], got shape \[2\]",
        ),
    ],
)
def test_error_text(call, message):
    source, target = heads()
    with pytest.raises(ValueError, match=message):
        call(known_heads(source, target, noise_variance=1.0, input_dim=D))
