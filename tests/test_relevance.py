"""Relevance solvers against hand-solved cases, NumPy, scikit-learn and a linear program."""

import functools
import warnings

import chex
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy.optimize import linprog
from sklearn.linear_model import Lasso

from amtl_jax import relevance
from amtl_jax.relevance import basis_pursuit, lasso, min_norm

pytestmark = pytest.mark.usefixtures("full_compiles")

ROUNDING = 2e-6  # of a few hundred float32 operations


# This file spends its time compiling; the test of `vmap` compiles as users do.
_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@_jit
def solve_min_norm(sources, target, ridge):
    return min_norm(sources, target, ridge=ridge)


@_jit
def solve_lasso(sources, target, penalty):
    return lasso(sources, target, penalty=penalty)


solve_pursuit = _jit(basis_pursuit)


# Cases: W [K, M] in float32, as columns, and a target.


def _conditioned(rng, num_rows, num_columns, condition):
    left = np.linalg.qr(rng.standard_normal((num_rows, num_rows)))[0]
    right = np.linalg.qr(rng.standard_normal((num_columns, num_columns)))[0]
    rank = min(num_rows, num_columns)
    sizes = np.geomspace(1, 1 / condition, rank)
    return (left[:, :rank] * sizes) @ right[:rank]


def _case(name, num_rows=10, num_columns=40):
    rng = np.random.default_rng(sum(map(ord, name)) + 1000 * num_rows + num_columns)
    w = rng.standard_normal((num_rows, num_columns))
    target = rng.standard_normal(num_rows)
    if name == "one of the sources":
        target = w[:, 0]
    elif name == "spread over all":
        target = w @ rng.choice([-1, 1], num_columns)
    elif name.startswith("condition"):
        w = _conditioned(rng, num_rows, num_columns, float(name.split()[1]))
        target = target if name.endswith("weak") else w @ rng.standard_normal(num_columns)
    elif name.startswith("near copies"):
        w = 0.02 * rng.standard_normal((num_rows, num_columns))
        w[np.arange(num_columns - 1) % (num_rows - 1), np.arange(num_columns - 1)] += 1
        w[-1, -1] += 1
        target = np.eye(num_rows)[-1] + 0.0
        if name.endswith("mixed"):
            target[0], target[-1] = 1, 0.5
    elif name == "exact copies":
        w[:, 1::2] = w[:, : num_columns - 1 : 2]
    elif name == "collinear":  # rank num_rows - 1, and every source twice, negated and doubled
        w[1] = w[0]
        half = num_columns // 2
        w[:, half : 2 * half] = -2 * w[:, :half]
    elif name == "degenerate":  # many ties among vertices
        w = rng.integers(-1, 2, (num_rows, num_columns))
        target = rng.integers(-1, 2, num_rows)
    return np.asarray(w, np.float32), np.asarray(target, np.float32)


NAMES = (
    "gauss",
    "one of the sources",
    "spread over all",
    "condition 300 strong",
    "condition 300 weak",
    "condition 1000 weak",
    "near copies",
    "near copies mixed",
    "exact copies",
    "collinear",
    "degenerate",
)
SHAPES = ((10, 40), (50, 150), (30, 12))
CASES = [
    (name, *shape)
    for shape in SHAPES
    for name in NAMES
    if shape != (30, 12) or not name.startswith("near copies")
]
EDGES = [("gauss", 50, 1), ("gauss", 1, 10), ("condition 300 weak", 20, 20)]


def _heads(w, target):
    return jnp.asarray(w.T[:, :, None]), jnp.asarray(target[:, None])


# Oracles, in float64.


def _pinv(w):
    # Directions that exact copies lack are rounding error in float64 and real from 1e-3 on.
    return np.linalg.pinv(w.astype(np.float64), rcond=1e-7)


def _project(w, target):
    return w.astype(np.float64) @ (_pinv(w) @ target)


def _linear_program(w, target):
    left, sizes, right = np.linalg.svd(w.astype(np.float64), full_matrices=False)
    keep = sizes > 1e-7 * sizes[0]
    rows, b = right[keep], (left[:, keep].T @ target) / sizes[keep]
    tight = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    answer = linprog(np.ones(2 * w.shape[1]), A_eq=np.hstack([rows, -rows]), b_eq=b, options=tight)
    assert answer.success, answer.message
    return answer.fun


def _lasso_objective(w, target, penalty, nu):
    w, nu = w.astype(np.float64), np.asarray(nu, np.float64)
    return 0.5 * np.sum((w @ nu - target) ** 2) + float(penalty) * np.sum(np.abs(nu))


def _lasso_optimum(w, target, penalty):
    """The objective of scikit-learn's answer, which is at or above the optimum."""
    model = Lasso(
        alpha=float(penalty) / len(target), fit_intercept=False, tol=1e-12, max_iter=50_000
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it may stop early; the bound below is checked instead
        model.fit(w.astype(np.float64), target.astype(np.float64))
    return _lasso_objective(w, target, penalty, model.coef_)


# Golden tables: heads as rows, solved by hand.

E1, E2, SUM = [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]
GOLDEN_MIN_NORM = [
    # heads, target, ridge, nu, residual
    ([E1, E2], [3.0, -4.0], 0.0, [3.0, -4.0], 0.0),
    ([E1, E1, E2], [2.0, 5.0], 0.0, [1.0, 1.0, 5.0], 0.0),  # copies share evenly
    ([E1, E1], [2.0, 0.0], 2.0, [0.5, 0.5], 0.5),  # 1·2/(2 + 2) each
    ([E1, [3.0, 0.0]], [10.0, 0.0], 0.0, [1.0, 3.0], 0.0),  # in proportion to the heads
    ([E1], [3.0, 4.0], 0.0, [3.0], 0.8),  # the second coordinate is out of reach
    ([E1, E2], [0.0, 0.0], 0.0, [0.0, 0.0], 0.0),
    ([[0.0, 0.0]], [1.0, 0.0], 0.0, [0.0], 1.0),
]
GOLDEN_LASSO = [
    # heads, target, penalty, nu, residual: orthonormal heads soften the target
    ([E1, E2], [3.0, -4.0], 1.0, [2.0, -3.0], 0.2 * 2**0.5),
    ([E1, E2], [3.0, -4.0], 3.5, [0.0, -0.5], (9 + 3.5**2) ** 0.5 / 5),
    ([E1, E2], [3.0, -4.0], 4.0, [0.0, 0.0], 1.0),  # max |Wᵀw_T|: exactly 0 from here on
    ([E1, E2], [3.0, -4.0], 9.0, [0.0, 0.0], 1.0),
    ([[2.0, 0.0]], [3.0, 0.0], 2.0, [1.0], 1 / 3),  # (2·3 − 2)/4
    ([E1, E2, SUM], [1.0, 1.0], 0.5, [0.0, 0.0, 0.75], 0.25),  # (2 − 0.5)/2: the short way
    ([E1, E2], [0.0, 0.0], 1.0, [0.0, 0.0], 0.0),
    ([[0.0, 0.0]], [1.0, 0.0], 1.0, [0.0], 1.0),
]
GOLDEN_PURSUIT = [
    # heads, target, nu, residual
    ([E1, E2], [3.0, -4.0], [3.0, -4.0], 0.0),
    ([E1, E2, SUM], [1.0, 1.0], [0.0, 0.0, 1.0], 0.0),  # 1 instead of 1 + 1
    ([E1, E2, SUM], [2.0, 1.0], [1.0, 0.0, 1.0], 0.0),  # at most two sources for two features
    ([E1, [3.0, 0.0], E2], [6.0, 1.0], [0.0, 2.0, 1.0], 0.0),  # the long head is cheaper
    ([E1], [3.0, 4.0], [3.0], 0.8),
    ([E1, E2], [0.0, 0.0], [0.0, 0.0], 0.0),
    ([[0.0, 0.0]], [1.0, 0.0], [0.0], 1.0),
]


def _golden_heads(heads, target):
    # Zero heads are never used, and make all rows of the tables one compiled shape.
    padded = heads + [[0.0, 0.0]] * (3 - len(heads))
    return _heads(np.array(padded).T, np.array(target))


def _check_golden(result, nu, residual):
    nu = nu + [0.0] * (3 - len(nu))
    np.testing.assert_allclose(result.nu, nu, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(result.nu) == 0, np.array(nu) == 0)
    np.testing.assert_allclose(result.residual, residual, atol=1e-6)
    assert result.gap <= 1e-6
    assert result.ok


@pytest.mark.parametrize(("heads", "target", "ridge", "nu", "residual"), GOLDEN_MIN_NORM)
def test_min_norm_golden(heads, target, ridge, nu, residual):
    _check_golden(solve_min_norm(*_golden_heads(heads, target), ridge), nu, residual)


@pytest.mark.parametrize(("heads", "target", "penalty", "nu", "residual"), GOLDEN_LASSO)
def test_lasso_golden(heads, target, penalty, nu, residual):
    _check_golden(solve_lasso(*_golden_heads(heads, target), penalty), nu, residual)


@pytest.mark.parametrize(("heads", "target", "nu", "residual"), GOLDEN_PURSUIT)
def test_basis_pursuit_golden(heads, target, nu, residual):
    _check_golden(solve_pursuit(*_golden_heads(heads, target)), nu, residual)


# Oracles.


@pytest.mark.parametrize(("name", "num_rows", "num_columns"), CASES + EDGES)
def test_min_norm_is_the_pseudo_inverse(name, num_rows, num_columns):
    w, target = _case(name, num_rows, num_columns)
    result = solve_min_norm(*_heads(w, target), 0.0)
    expected = _pinv(w) @ target
    assert np.linalg.norm(result.nu - expected) <= 1e-5 * np.linalg.norm(expected)
    outside = np.linalg.norm(target - _project(w, target)) / np.linalg.norm(target)
    np.testing.assert_allclose(result.residual, outside, atol=1e-4)
    assert result.ok


@pytest.mark.parametrize("ridge", [1e-6, 1e-2, 10.0])
@pytest.mark.parametrize("name", ["gauss", "condition 300 weak", "exact copies"])
@pytest.mark.parametrize(("num_rows", "num_columns"), [(10, 40), (30, 12)])
def test_min_norm_with_ridge(name, num_rows, num_columns, ridge):
    w, target = _case(name, num_rows, num_columns)
    result = solve_min_norm(*_heads(w, target), ridge)
    wide = w.astype(np.float64)
    expected = wide.T @ np.linalg.solve(wide @ wide.T + ridge * np.eye(num_rows), target)
    assert np.linalg.norm(result.nu - expected) <= 1e-5 * np.linalg.norm(expected)
    assert result.ok


@pytest.mark.parametrize(("name", "num_rows", "num_columns"), CASES)
@pytest.mark.parametrize("fraction", [0.3, 0.01])
def test_lasso_is_the_optimum(name, num_rows, num_columns, fraction):
    w, target = _case(name, num_rows, num_columns)
    penalty = np.float32(fraction * np.max(np.abs(w.T @ target)))
    result = solve_lasso(*_heads(w, target), penalty)
    objective = _lasso_objective(w, target, penalty, result.nu)
    reference = _lasso_optimum(w, target, penalty)
    assert objective <= reference * (1 + 1e-7)
    assert objective >= reference * (1 - 1e-5) or name.startswith("condition")
    # scikit-learn's objective is above the optimum, so this bounds the suboptimality too.
    assert (objective - reference) / objective <= result.gap + ROUNDING
    assert result.gap <= 1e-5
    assert result.ok


@pytest.mark.parametrize("fraction", [1.0 + 1e-5, 3.0])
@pytest.mark.parametrize("name", ["gauss", "condition 300 weak", "exact copies"])
def test_lasso_is_zero_for_a_large_penalty(name, fraction):
    w, target = _case(name)
    penalty = np.float32(fraction * np.max(np.abs(w.T @ target)))
    result = solve_lasso(*_heads(w, target), penalty)
    np.testing.assert_array_equal(result.nu, 0)
    assert result.ok


@pytest.mark.parametrize(("name", "num_rows", "num_columns"), CASES + EDGES)
def test_basis_pursuit_is_the_linear_program(name, num_rows, num_columns):
    w, target = _case(name, num_rows, num_columns)
    result = solve_pursuit(*_heads(w, target))
    nu = np.asarray(result.nu, np.float64)
    norm, optimum = np.sum(np.abs(nu)), _linear_program(w, target)
    assert abs(norm - optimum) <= 1e-5 * optimum
    assert np.linalg.norm(w @ nu - _project(w, target)) <= 1e-4 * np.linalg.norm(target)
    assert np.count_nonzero(nu) <= np.linalg.matrix_rank(w.astype(np.float64), rtol=1e-7)
    assert abs(norm - optimum) / norm <= result.gap + ROUNDING
    assert result.gap <= 1e-5
    assert result.ok


def test_basis_pursuit_is_the_limit_of_lasso():
    heads = _heads(*_case("gauss"))
    limit = solve_pursuit(*heads).nu
    np.testing.assert_allclose(solve_lasso(*heads, np.float32(1e-6)).nu, limit, atol=1e-5)


def test_certificates_grow_when_the_answer_is_wrong(monkeypatch):
    # Solvers that stop early must say so: the gap bounds what is really missing.
    def early(solver):
        def solve(*args):
            x, y = solver(*args)
            return 1.01 * x, 0.9 * y

        return solve

    w, target = _case("gauss")
    heads = _heads(w, target)
    penalty = np.float32(0.01 * np.max(np.abs(w.T @ target)))
    best = _lasso_objective(w, target, penalty, solve_lasso(*heads, penalty).nu)
    for name in ("solve_lasso", "solve_basis_pursuit"):
        monkeypatch.setattr(relevance, name, early(getattr(relevance, name)))

    result = _jit(functools.partial(lasso, penalty=penalty))(*heads)
    objective = _lasso_objective(w, target, penalty, result.nu)
    assert 1e-5 < (objective - best) / objective <= result.gap
    assert not result.ok

    result = _jit(lambda *heads: basis_pursuit(*heads))(*heads)
    assert 1e-2 < result.gap < 1
    assert not result.ok


# Properties.

SOLVERS = {
    "min_norm": lambda s, t: min_norm(s, t),
    "lasso": lambda s, t: lasso(s, t, penalty=1e-2 * jnp.linalg.norm(t)),
    "basis_pursuit": basis_pursuit,
}
JITTED = {name: _jit(solver) for name, solver in SOLVERS.items()}


@pytest.mark.parametrize("name", SOLVERS)
@hypothesis.given(seed=st.integers(0, 1000), scale=st.sampled_from([1e-6, 0.3, 7.0, 1e6]))
def test_permutation_and_scale(name, seed, scale):
    rng = np.random.default_rng(seed)
    w, target = rng.standard_normal((6, 20)), rng.standard_normal(6)
    order = rng.permutation(20)
    solve = JITTED[name]
    nu = solve(*_heads(w, target)).nu
    np.testing.assert_allclose(solve(*_heads(w[:, order], target)).nu, nu[order], atol=2e-5)
    np.testing.assert_allclose(solve(*_heads(w, scale * target)).nu / scale, nu, atol=2e-5)


@pytest.mark.parametrize("name", SOLVERS)
def test_vmap_equals_loop(name):
    sources, _ = _heads(*_case("gauss"))
    cases = [_case(case)[1] for case in ("gauss", "near copies mixed", "degenerate")]
    targets = jnp.stack([*cases, np.zeros(10, np.float32), sources[3, :, 0]])[:, :, None]
    looped = jax.tree.map(lambda *x: jnp.stack(x), *[JITTED[name](sources, t) for t in targets])
    batched = jax.jit(jax.vmap(SOLVERS[name], in_axes=(None, 0)))(sources, targets)
    chex.assert_trees_all_close(batched, looped, atol=1e-5)
    assert jnp.all(batched.ok)


def test_outputs_are_stacked():
    w, target = _case("gauss")
    expected = _pinv(w) @ target
    sources, target = jnp.asarray(w.T).reshape(40, 5, 2), jnp.asarray(target).reshape(5, 2)
    np.testing.assert_allclose(solve_min_norm(sources, target, 0.0).nu, expected, atol=1e-5)


@pytest.mark.parametrize("name", SOLVERS)
def test_float64(name):
    w, target = _case("condition 1000 weak")
    with jax.enable_x64(True):
        heads = _heads(w.astype(np.float64), target.astype(np.float64))
        result = _jit(SOLVERS[name])(*heads)
        chex.assert_trees_all_equal_dtypes(result.nu, heads[0])
        assert result.ok
        assert result.gap <= 1e-12
        if name == "min_norm":
            np.testing.assert_allclose(result.nu, _pinv(w) @ target, rtol=1e-10)
        if name == "basis_pursuit":
            norm = np.sum(np.abs(result.nu))
            np.testing.assert_allclose(norm, _linear_program(w, target), rtol=1e-10)


@pytest.mark.parametrize("name", SOLVERS)
def test_traces_once(name):
    solve = _jit(chex.assert_max_traces(SOLVERS[name], n=1))
    for scale in (1.0, -2.0, 0.0):
        result = solve(jnp.full((1, 1, 1), 4.0), jnp.full((1, 1), scale))
        assert result.ok
        shrunk = scale - jnp.sign(scale) * (1e-2 * abs(scale) / 4 if name == "lasso" else 0)
        np.testing.assert_allclose(result.nu, [shrunk / 4], rtol=1e-5)


# Errors.


@pytest.mark.parametrize("solve", SOLVERS.values())
@pytest.mark.parametrize(
    ("sources", "target", "message"),
    [
        ((4, 3), (3, 1), r"source_heads: expected a shape \[M, K, O\].*got \(4, 3\)"),
        ((0, 3, 1), (3, 1), r"source_heads: expected .* without zeros, got \(0, 3, 1\)"),
        ((4, 3, 1), (3,), r"target_head: expected shape \(3, 1\).*got \(3,\)"),
        ((4, 3, 1), (2, 1), r"target_head: expected shape \(3, 1\).*got \(2, 1\)"),
    ],
)
def test_shapes_are_checked(solve, sources, target, message):
    with pytest.raises(ValueError, match=message):
        solve(jnp.ones(sources), jnp.ones(target))


@pytest.mark.parametrize("name", SOLVERS)
def test_values_are_checked(name):
    sources, target = _heads(*_case("gauss", 6, 20))
    with pytest.raises(ValueError, match="source_heads: expected finite values, got 1 NaN or inf"):
        SOLVERS[name](sources.at[2, 3, 0].set(jnp.inf), target)
    with pytest.raises(ValueError, match="target_head: expected finite values, got 2 NaN or inf"):
        SOLVERS[name](sources, target.at[3:5, 0].set(jnp.nan))
    # Under a trace the result says it, and the other members of a batch do not notice.
    many_sources = jnp.stack([sources, sources, sources.at[2, 3, 0].set(jnp.inf)])
    many_targets = jnp.stack([target, target.at[3, 0].set(jnp.nan), target])
    result = _jit(jax.vmap(SOLVERS[name]))(many_sources, many_targets)
    np.testing.assert_array_equal(result.ok, [True, False, False])
    np.testing.assert_allclose(result.nu[0], JITTED[name](sources, target).nu, atol=1e-5)
    for value in (result.nu, result.residual, result.gap):
        assert jnp.all(jnp.isnan(value[1:]))


def test_weights_are_checked():
    heads = _heads(*_case("gauss", 6, 20))
    with pytest.raises(ValueError, match=r"penalty: expected a finite .* at least 0, got -1\.0"):
        lasso(*heads, penalty=-1.0)
    with pytest.raises(ValueError, match=r"ridge: expected a finite .* at least 0, got -0\.5"):
        min_norm(*heads, ridge=-0.5)
    with pytest.raises(ValueError, match=r"penalty: expected a scalar, got shape \(2,\)"):
        lasso(*heads, penalty=jnp.ones(2))
    heads = _heads(*_case("gauss"))
    assert not solve_lasso(*heads, np.float32(-1)).ok
    assert jnp.all(jnp.isnan(solve_min_norm(*heads, -1.0).nu))


@pytest.mark.parametrize("condition", [3, 300])
def test_targets_of_few_sources_are_certified(condition):
    """A primal method goes round in circles here: most coefficients of a basis are zero."""
    rng = np.random.default_rng(0)
    w = _conditioned(rng, 50, 150, condition) * 10
    mix = rng.standard_normal((40, 150))
    order = np.argsort(rng.uniform(size=mix.shape), axis=1)
    mix[np.arange(40)[:, None], order[:, 15:]] = 0
    w = w.astype(np.float32)
    targets = (mix @ w.T).astype(np.float32)
    solve = _jit(jax.vmap(lambda target: basis_pursuit(w.T[..., None], target[:, None])))
    found = solve(targets)
    assert found.ok.all()
    assert (np.sum(np.asarray(found.nu) != 0, axis=1) <= 50).all()
    # The mixture is feasible up to the rounding of the targets, so no answer is larger.
    sizes, known = np.sum(np.abs(np.asarray(found.nu)), axis=1), np.sum(np.abs(mix), axis=1)
    assert (sizes <= known * (1 + 1e-5 * condition)).all()
    for target, size in zip(targets[:3].astype(float), sizes, strict=False):
        signed = np.concatenate([w, -w], axis=1).astype(float)
        best = linprog(np.ones(300), A_eq=signed, b_eq=target, method="highs").fun
        assert size == pytest.approx(best, rel=2e-5)


@pytest.mark.parametrize("name", ["exact copies", "near copies mixed"])
def test_sources_that_repeat_each_other_are_certified(name):
    """Rounding in the inverse of the basis, carried on from step to step, stopped some short."""
    w, _ = _case(name, 50, 150)
    targets = np.concatenate([w.T[:12], (w[:, :36:3] - 0.5 * w[:, 1:36:3]).T])
    solve = _jit(jax.vmap(lambda target: basis_pursuit(w.T[..., None], target[:, None])))
    found = solve(targets)
    assert found.ok.all()
    assert (np.sum(np.abs(np.asarray(found.nu)), axis=1)[:12] <= 1 + 1e-5).all()


def test_exact_products_lose_nothing_to_cancellation():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((50, 150)).astype(np.float32)
    b = (rng.standard_normal((150, 40)) * np.geomspace(1e-3, 1e3, 40)).astype(np.float32)
    product = a.astype(float) @ b.astype(float)
    rounded = product.astype(np.float32)
    slices = (relevance._slices(a, axis=1), relevance._slices(-b, axis=0))
    left = jax.jit(lambda plus: relevance._exact_product(*slices, plus=plus))(rounded)
    lost = np.abs(left - (rounded - product)) - np.abs(rounded - product) * 2**-24
    sizes = np.max(np.abs(a), axis=1, keepdims=True) * np.max(np.abs(b), axis=0)
    assert (lost <= 2**-28 * sizes).all()
    assert (np.abs(rounded - product) > 2**-24 * sizes).any()
    twice = relevance._exact_matmul(jnp.asarray(a), jnp.asarray(b))
    np.testing.assert_array_max_ulp(np.asarray(twice), rounded, 1)


@pytest.mark.parametrize("name", SOLVERS)
def test_heads_may_be_constants_of_a_trace(name):
    sources, target = _heads(*_case("gauss"))
    solve = SOLVERS[name]
    inside = jax.jit(lambda scale: solve(sources, scale * target))(jnp.float32(1))
    chex.assert_trees_all_close(inside.nu, solve(sources, target).nu, rtol=1e-4, atol=1e-5)
    broken = sources.at[0, 0, 0].set(jnp.nan)
    with pytest.raises(ValueError, match="source_heads: expected finite values, got 1 NaN"):
        jax.jit(lambda scale: solve(broken, scale * target))(1.0)
