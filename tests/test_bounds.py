"""The theorem as functions: values by hand, brute force over γ and N, and the exact risk."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import amtl_jax as amtl

# dimension K(M + D) + log 1/δ = 2·(4 + 6) + 1 = 21 for M = 4; M K² D R / σ_min³ = 4·4·6·2·8 = 1536
SETTING = amtl.BoundSetting(
    noise_variance=4.0,
    input_dim=6,
    num_features=2,
    head_norm=2.0,
    smallest_singular_value=0.5,
    failure_probability=float(np.exp(-1)),
)
NU = [1.0, -2.0, 0.0, 1.0]  # ‖nu‖² = 6, so that γ_m = N · (1/6, 4/6, 0, 1/6)


@pytest.mark.parametrize(
    ("num_samples", "value", "gamma"),
    [
        (1, 1.5, 1 / 6),  # γ = 1/6: one source matters, 5/6 · 1 + 1/6 · 4
        (3, 2.5, 1 / 2),  # γ = 1/2: 1/2 · 1 + 1/2 · 4, against 3 at γ = 0
        (6, 3, 0),  # γ = 1 costs M = 4, γ = 0 the three that are not 0
        (10**6, 3, 0),
    ],
)
def test_approximate_sparsity_golden(num_samples, value, gamma):
    found = amtl.approximate_sparsity(NU, num_samples=num_samples)
    np.testing.assert_allclose(found, (value, gamma), rtol=1e-6)


def relevances():
    """`[6, 15]`, the higher the power the more unequal."""
    rng = np.random.default_rng(5)
    random = [rng.normal(size=15) ** power for power in (1, 4, 9)]
    tiny = 1e-25 * rng.normal(size=15)  # squares that float32 does not hold
    return np.array([*random, tiny, np.ones(15), np.repeat([3.0, 1.0, 0.0], 5)])


@jax.jit
@functools.partial(jax.vmap, in_axes=(0, None))
@functools.partial(jax.vmap, in_axes=(None, 0))
def sparsities(nu, num_samples):
    return amtl.approximate_sparsity(nu, num_samples=num_samples).value


def grid_sparsity(nu, num_samples, gammas):
    threshold = np.sqrt(gammas * np.sum(nu**2) / num_samples)
    matter = np.sum(np.abs(nu) > threshold[:, None] * (1 + 1e-12), axis=1)
    return np.min((1 - gammas) * matter + gammas * len(nu))


def test_approximate_sparsity_is_the_minimum_over_a_grid():
    gammas, sizes = np.linspace(0, 1, 4001), np.array([1.0, 10, 100, 1e6])
    for nu, found in zip(relevances(), sparsities(relevances(), sizes), strict=True):
        lowest = [grid_sparsity(nu, num_samples, gammas) for num_samples in sizes]
        assert np.all(found <= np.array(lowest) * (1 + 1e-5))
        assert np.all(found >= np.array(lowest) - 15 / 4000 - 1e-4)


def test_approximate_sparsity_grows_with_samples_up_to_the_nonzeros():
    sizes = np.geomspace(1, 1e9, 40)
    values = np.asarray(sparsities(relevances(), sizes))
    assert np.all(np.diff(values) >= -1e-4)
    assert np.all(values[:, 0] >= 1 - 1e-5)
    np.testing.assert_array_equal(values[3:, -1], (15, 15, 10))
    np.testing.assert_allclose(sparsities(-3 * relevances()[:, ::-1], sizes), values, rtol=1e-5)
    np.testing.assert_allclose(amtl.approximate_sparsity(np.zeros(3), num_samples=5), (0, 0))
    assert np.isnan(amtl.approximate_sparsity([1.0, np.nan], num_samples=5).value)


def test_bounds_golden():
    # ε = .1: 21 · 4 · 3 · 6 / .01 and 1536 √3 · 2 / .1, at an N where s* = 3.
    found = amtl.sample_bound(NU, SETTING, excess_risk=0.01)
    np.testing.assert_allclose(found, (151_200, 30_720 * np.sqrt(3), 3), rtol=1e-5)
    np.testing.assert_allclose(found.total, 151_200 + 30_720 * np.sqrt(3), rtol=1e-5)
    known = amtl.sample_bound(NU, SETTING, excess_risk=0.01, rule="known")
    np.testing.assert_allclose(known, (151_200, 0, 3), rtol=1e-5)
    uniform = amtl.sample_bound(NU, SETTING, excess_risk=0.01, rule="uniform")
    np.testing.assert_allclose(uniform, (201_600, 0, 4), rtol=1e-5)
    # 21 · 4 · 6 · 4 / 504 is 4; with exploration ε solves 504 ε² = 1536 · 2 √3 ε + 84 · 6 · 3.
    uniform = amtl.risk_bound(NU, SETTING, num_samples=504, rule="uniform")
    np.testing.assert_allclose(uniform, 4, rtol=1e-5)
    epsilon = max(np.roots([504, -3072 * np.sqrt(3), -84 * 18]))
    np.testing.assert_allclose(amtl.risk_bound(NU, SETTING, num_samples=504), epsilon**2, rtol=1e-5)


def test_bound_setting_golden():
    heads = np.array([[3.0, 0], [0, 1], [4, 0]])
    setting = amtl.bound_setting(heads, noise_variance=2.0, input_dim=9)
    np.testing.assert_allclose(setting, (2, 9, 2, 4, 1, 0.05), rtol=1e-6)


@pytest.mark.parametrize("rule", ["adaptive", "known", "uniform"])
def test_risk_bound_inverts_sample_bound(rule):
    risks = jnp.asarray([1e-4, 1e-2, 0.3, 4.0, 50.0])

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    @functools.partial(jax.vmap, in_axes=(None, 0))
    def there_and_back(nu, risk):
        total = amtl.sample_bound(nu, SETTING, excess_risk=risk, rule=rule).total
        return total, amtl.risk_bound(nu, SETTING, num_samples=total, rule=rule)

    nu = relevances()
    total, back = there_and_back(nu / np.linalg.norm(nu, axis=1, keepdims=True), risks)
    meaningful = total >= 1
    assert np.all(meaningful[:, :3])
    wanted = np.broadcast_to(risks, total.shape)
    np.testing.assert_allclose(back[meaningful], wanted[meaningful], rtol=1e-3)


def test_fewer_samples_than_the_bound_promise_less():
    nu = np.random.default_rng(2).normal(size=20) ** 3
    risks = [0.02, 0.1, 0.5]
    totals = [float(amtl.sample_bound(nu, SETTING, excess_risk=risk).total) for risk in risks]
    assert sorted(totals, reverse=True) == totals
    for risk, total in zip(risks, totals, strict=True):
        for share, sign in ((0.5, 1), (0.99, 1), (1.01, -1), (2, -1)):
            other = amtl.risk_bound(nu, SETTING, num_samples=share * total)
            assert sign * float(other) > sign * risk


def test_exploration_threshold_golden():
    # s* = 1 of M = 4, A = 21 · 4, E = 1536 · 2: N = E² · 4 / (A · 9), and ε² = A · 4 / N.
    found = amtl.exploration_threshold([0.0, 1.0, 0.0, 0.0], SETTING)
    num_samples = 3072**2 * 4 / (84 * 9)
    np.testing.assert_allclose(found, (num_samples, 84 * 4 / num_samples), rtol=1e-5)
    # Uniform with half the energy saves less: Q = 2 in place of M.
    found = amtl.exploration_threshold([0.0, 1, 0, 0], SETTING, uniform_nu=[0.5, 0.5, 0, 0])
    np.testing.assert_allclose(found.num_samples, 3072**2 * 2 / 84, rtol=1e-5)


def test_adaptivity_pays_from_the_threshold_on():
    rng = np.random.default_rng(8)
    small = np.append(rng.normal(size=3), 1e-7 * rng.normal(size=17))  # the promise ends later
    for nu in (np.append(rng.normal(size=5), np.zeros(15)), small):
        found = amtl.exploration_threshold(nu, SETTING)
        for share, sign in ((0.01, 1), (0.5, 1), (0.98, 1), (1.02, -1), (2, -1)):
            adaptive, uniform = (
                float(amtl.risk_bound(nu, SETTING, num_samples=share * found[0], rule=rule))
                for rule in ("adaptive", "uniform")
            )
            assert sign * adaptive > sign * uniform
        at = amtl.risk_bound(nu, SETTING, num_samples=found[0], rule="uniform")
        np.testing.assert_allclose(found.excess_risk, at, rtol=1e-5)
    # All alike: s* = M from N = M on, and nothing is ever saved.
    never = amtl.exploration_threshold(np.ones(20), SETTING)
    assert (np.isinf(never.num_samples), float(never.excess_risk)) == (True, 0)
    assert np.isnan(amtl.exploration_threshold(np.zeros(3), SETTING).num_samples)


def test_the_threshold_is_the_first_crossing_that_a_scan_finds():
    sizes = jnp.asarray(np.geomspace(1, 1e7, 3000), jnp.float32)

    @jax.jit
    def scan(nu, setting):
        def risk(n, rule):
            return amtl.risk_bound(nu, setting, num_samples=n, rule=rule)

        adaptive = jax.vmap(lambda n: risk(n, "adaptive"))(sizes)
        uniform = jax.vmap(lambda n: risk(n, "uniform"))(sizes)
        return adaptive <= uniform, amtl.exploration_threshold(nu, setting).num_samples

    rng = np.random.default_rng(4)
    outcomes = []
    for spread in (1, 1, 2, 3, 4, 6, 6, 8):
        nu = jnp.asarray(rng.normal(size=15) ** spread, jnp.float32)
        nu = nu / jnp.linalg.norm(nu)
        setting = SETTING._replace(smallest_singular_value=rng.uniform(0.3, 4))
        paying, found = map(np.asarray, scan(nu, setting))
        outcomes.append(paying.any())
        if paying.any():
            np.testing.assert_allclose(found, sizes[np.argmax(paying)], rtol=0.012)
        else:
            assert found == np.inf or found > 1e7
    assert set(outcomes) == {True, False}


def test_the_theorem_bounds_the_exact_risk_of_its_split():
    compare, saving = jax.jit(amtl.compare_with_first_order), jax.jit(amtl.saving)
    rng = np.random.default_rng(6)
    for num_samples in (60, 1000, 50_000):
        heads, target = rng.normal(size=(30, 3)), rng.normal(size=3)
        nu = np.linalg.pinv(heads.T) @ target
        energy = np.sum(nu**2)
        counts = np.maximum(num_samples * nu**2 / energy, 1)
        exact = amtl.first_order_risk(
            heads, target, counts, noise_variance=2.0, input_dim=10, num_target=1
        ).representation
        sparsity = amtl.approximate_sparsity(nu, num_samples=num_samples).value
        bound = 14 * float(sparsity) * energy / num_samples
        assert float(exact) <= bound * (1 + 1e-5)
        assert float(exact) >= bound / 30

        found = compare(heads, target, np.full(30, num_samples / 30))
        np.testing.assert_allclose(found.theorem, sparsity * energy, rtol=1e-4)
        np.testing.assert_allclose(found.given, found.uniform, rtol=1e-4)
        np.testing.assert_allclose(found.uniform, 30 * energy, rtol=1e-4)
        np.testing.assert_allclose(found.promised_saving, 30 / sparsity, rtol=1e-4)
        np.testing.assert_allclose(found.exact_saving, saving(heads, target), rtol=1e-4)
        assert found.best <= found.proportional * (1 + 1e-5)
        assert found.proportional <= (1 + 30 / num_samples) * found.theorem * (1 + 1e-5)
        # Cauchy and Schwarz: ‖nu1‖₁² ≤ K ‖nu1‖₂², and s* is K once samples are many
        assert found.theorem_sparse <= 3 * found.best * (1 + 1e-5)


def test_comparison_golden():
    # Three sources e_1, one e_2, target e_2: all samples at the last one are worth four times.
    heads, target = np.array([[1.0, 0], [1, 0], [1, 0], [0, 1]]), np.array([0.0, 1.0])
    found = jax.jit(amtl.compare_with_first_order)(heads, target, jnp.array([10, 10, 10, 30]))
    expected = {"theorem": 1, "theorem_sparse": 1, "uniform": 4, "best": 1, "given": 2}
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(found, name), value, rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(found.proportional, 1 + 3 / 60, rtol=1e-4)
    np.testing.assert_allclose((found.promised_saving, found.exact_saving), (4, 4), rtol=1e-4)


def test_bounds_are_pure_functions_of_arrays():
    traces = []

    @jax.jit
    @jax.vmap
    def all_of_them(nu, setting, risk):
        traces.append(nu)
        bound = amtl.sample_bound(nu, setting, excess_risk=risk)
        back = amtl.risk_bound(nu, setting, num_samples=bound.total)
        return bound, back, amtl.exploration_threshold(nu, setting)

    relevances = jnp.asarray([NU, [0.0, 1.0, 0.0, 0.0]])
    settings = jax.tree.map(lambda value: jnp.asarray([value, value], float), SETTING)
    for scale in (1, 2):
        bound, _, threshold = all_of_them(scale * relevances, settings, jnp.asarray([0.01, 0.02]))
    assert len(traces) == 1
    np.testing.assert_allclose(bound.leading[0], 4 * 151_200, rtol=1e-5)
    alone = amtl.exploration_threshold(2 * relevances[1], SETTING)
    np.testing.assert_allclose(threshold.num_samples[1], alone.num_samples, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: amtl.approximate_sparsity(np.ones((2, 2)), num_samples=1), r"nu of shape \[M\]"),
        (lambda: amtl.approximate_sparsity(NU, num_samples=0), "num_samples to be positive"),
        (lambda: amtl.sample_bound(NU, SETTING, excess_risk=-1), "excess_risk to be positive"),
        (lambda: amtl.sample_bound(NU, SETTING, excess_risk=1, rule="best"), "got 'best'"),
        (
            lambda: amtl.risk_bound(NU, SETTING._replace(input_dim=0), num_samples=9),
            "input_dim to be positive and finite, got 0",
        ),
        (
            lambda: amtl.risk_bound(NU, SETTING._replace(failure_probability=1), num_samples=9),
            "failure_probability below 1",
        ),
        (
            lambda: amtl.exploration_threshold(NU, SETTING, uniform_nu=[1.0]),
            r"uniform_nu of shape \(4,\)",
        ),
        (
            lambda: amtl.bound_setting(np.ones((2, 3)), noise_variance=1, input_dim=4),
            r"M ≥ K, .* got \[2, 3\]",
        ),
        (
            lambda: amtl.compare_with_first_order(np.eye(2), np.ones(2), [1, 2, 3]),
            r"counts of shape \[2\]",
        ),
    ],
)
def test_bounds_error_text(call, message):
    with pytest.raises(ValueError, match=message):
        call()
