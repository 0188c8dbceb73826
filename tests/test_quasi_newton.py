"""The direction of L-BFGS from products of its pairs is that of the two-loop recursion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amtl_jax.fitting.quasi_newton import empty_history, quasi_newton_direction, remember

pytestmark = pytest.mark.usefixtures("full_compiles")

SIZE = 40


def two_loops(gradient, pairs):
    """Nocedal and Wright, algorithm 7.4, on float64 pairs, oldest first."""
    vector, alphas = gradient.copy(), []
    for step, change in reversed(pairs):
        alpha = (step @ vector) / (step @ change)
        vector -= alpha * change
        alphas.append(alpha)
    if pairs:
        step, change = pairs[-1]
        vector *= (step @ change) / (change @ change)
    for (step, change), alpha in zip(pairs, reversed(alphas), strict=True):
        vector += (alpha - (change @ vector) / (step @ change)) * step
    return -vector


def quadratic(rng):
    """A positive definite matrix, of condition 1,000."""
    basis, _ = np.linalg.qr(rng.normal(size=(SIZE, SIZE)))
    return basis * np.geomspace(1, 1000, SIZE) @ basis.T


@pytest.mark.parametrize("memory", [1, 3, 10])
@pytest.mark.parametrize("number", [0, 1, 3, 11, 25])  # pairs seen: none, some, all, round the ring
def test_direction_is_that_of_the_two_loops(memory, number):
    rng = np.random.default_rng(number)
    hessian, history, pairs = quadratic(rng), empty_history(memory, jnp.zeros(SIZE)), []
    for _ in range(number):
        step = rng.normal(size=SIZE) * rng.uniform(0.1, 10)
        change = hessian @ step
        history = jax.jit(remember)(history, jnp.float32(step), jnp.float32(change))
        pairs = [*pairs, (step, change)][-memory:]
    gradient = rng.normal(size=SIZE)
    found = jax.jit(quasi_newton_direction)(jnp.float32(gradient), history)
    expected = two_loops(gradient, pairs)
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())


def test_a_pair_without_curvature_is_not_remembered():
    rng = np.random.default_rng(0)
    hessian, history, pairs = quadratic(rng), empty_history(3, jnp.zeros(SIZE)), []
    for number in range(8):
        step = rng.normal(size=SIZE)
        change = hessian @ step
        if number % 2:
            pairs = [*pairs, (step, change)][-3:]
        else:
            change = -change if number % 4 else 0 * change
        history = remember(history, jnp.float32(step), jnp.float32(change))
    gradient = rng.normal(size=SIZE)
    found, expected = (
        quasi_newton_direction(jnp.float32(gradient), history),
        two_loops(gradient, pairs),
    )
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())


def test_histories_of_several_descents_go_their_own_ways():
    rng = np.random.default_rng(0)
    hessian, gradient = quadratic(rng), jnp.asarray(rng.normal(size=SIZE), jnp.float32)
    steps = rng.normal(size=(4, SIZE))
    together = jax.vmap(lambda _: empty_history(3, jnp.zeros(SIZE)))(jnp.zeros(2))
    alone = [empty_history(3, jnp.zeros(SIZE))] * 2
    for number, step in enumerate(steps):
        signs = (1.0, -1.0 if number == 1 else 1.0)  # the second forgets one
        changes = jnp.asarray([sign * hessian @ step for sign in signs], jnp.float32)
        both = jnp.asarray([step, step], jnp.float32)
        together = jax.vmap(remember)(together, both, changes)
        alone = [remember(*one) for one in zip(alone, both, changes, strict=True)]
    found = jax.vmap(quasi_newton_direction, in_axes=(None, 0))(gradient, together)
    for own, history in zip(found, alone, strict=True):
        np.testing.assert_allclose(own, quasi_newton_direction(gradient, history), rtol=1e-3)
    assert not np.allclose(found[0], found[1])
