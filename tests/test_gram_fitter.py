"""The fit from second moments: the optimum and the result of the fit that reads the samples."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import amtl_jax as amtl
from amtl_jax.encoding import encode
from amtl_jax.fitting.moment_descent import Descent, descend
from amtl_jax.fitting.moments import task_moments

pytestmark = pytest.mark.usefixtures("full_compiles")

NUM_TASKS, INPUT_DIM, NUM_FEATURES = 10, 12, 3
EMPTY, SHORT = 2, 5  # a task without rows, and one with fewer rows than inputs


@functools.cache
def batch_of(seed=0, num_outputs=1, rows=40):
    truth = amtl.synthetic_truth(
        "mis",
        seed=seed,
        num_tasks=NUM_TASKS,
        input_dim=INPUT_DIM,
        num_features=NUM_FEATURES,
        num_outputs=num_outputs,
    )
    counts = np.full(NUM_TASKS, rows)
    counts[EMPTY], counts[SHORT] = 0, 4
    x, y, task, *_ = amtl.SyntheticSource(truth).draw(jax.random.key(seed), counts)
    weight = np.random.default_rng(seed).uniform(0.3, 3.0, len(x)).astype(np.float32)
    return amtl.pack(x + 1.0, y + 2.0, task, weight, num_tasks=NUM_TASKS, block_rows=32)


@functools.cache
def of_moments(num_features=NUM_FEATURES, **options):
    return amtl.gram_fitter(amtl.linear_encoder(num_features), num_tasks=NUM_TASKS, **options)


@functools.cache
def of_samples(num_features=NUM_FEATURES, **options):
    options = {"num_steps": 1000, "tolerance": 1e-7} | options
    return amtl.lbfgs_fitter(amtl.linear_encoder(num_features), num_tasks=NUM_TASKS, **options)


@functools.cache
def compiled(fitter):
    @jax.jit
    def fit(batch, penalty):
        return fitter.fit(fitter.init(jax.random.key(0), batch, penalty), batch, penalty)

    return fit


def run(fitter, batch, penalty=1e-7):
    return compiled(fitter)(batch, jnp.float32(penalty))


def dense_objective(factors, rows, penalty, intercept):
    """The objective of B and W from its definition, in float64, and its gradient."""
    kernel, weight = factors
    total, count = 0.0, sum(omega.sum() for *_, omega in rows)
    by_kernel, by_weight = 2 * penalty * kernel, 2 * penalty * weight
    for task, (x, y, omega) in enumerate(rows):
        if intercept and len(x):
            x = x - np.average(x, axis=0, weights=omega)
            y = y - np.average(y, axis=0, weights=omega)
        error = y - x @ kernel @ weight[task]
        total += (omega[:, None] * error**2).sum()
        by_theta = -2 / count * x.T @ (omega[:, None] * error)
        by_kernel += by_theta @ weight[task].T
        by_weight[task] += kernel.T @ by_theta
    value = total / count + penalty * ((kernel**2).sum() + (weight**2).sum())
    return value, by_kernel, by_weight


def rows_of_tasks(batch):
    """`(x, y, weight)` of every task in float64, padding left out."""
    block_rows = batch.weight.shape[1]
    task = np.repeat(np.asarray(batch.task), block_rows)
    flat = [np.asarray(leaf, np.float64).reshape(len(task), -1) for leaf in batch[:3]]
    counts = flat[2][:, 0] > 0
    kept = [(task == index) & counts for index in range(NUM_TASKS)]
    return [(flat[0][rows], flat[1][rows], flat[2][rows, 0]) for rows in kept]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("num_outputs", [1, 2])
@pytest.mark.parametrize("intercept", [True, False])
def test_reaches_the_objective_of_the_fit_on_samples(seed, num_outputs, intercept):
    batch = batch_of(seed, num_outputs)
    found = run(of_moments(intercept=intercept), batch)
    reference = run(of_samples(intercept=intercept), batch)
    assert found.ok
    assert float(found.objective) == pytest.approx(float(reference.objective), rel=1e-4)
    assert float(found.loss) == pytest.approx(float(reference.loss), rel=1e-4)
    chex.assert_trees_all_equal_shapes_and_dtypes(found, reference)


@pytest.mark.parametrize(("penalty", "intercept"), [(1e-7, True), (1e-2, True), (1e-3, False)])
def test_no_descent_in_float64_goes_on_from_where_it_ends(penalty, intercept):
    batch = batch_of(num_outputs=2)
    rows = rows_of_tasks(batch)
    found = run(of_moments(intercept=intercept), batch, penalty)
    factors = [np.asarray(found.params["params"]["kernel"]), np.asarray(found.heads.weight)]
    shapes = [factor.shape for factor in factors]
    start = np.concatenate([factor.ravel() for factor in factors]).astype(np.float64)

    def objective(point):
        kernel, weight = np.split(point, [np.prod(shapes[0])])
        factors = kernel.reshape(shapes[0]), weight.reshape(shapes[1])
        value, *gradient = dense_objective(factors, rows, penalty, intercept)
        return value, np.concatenate([part.ravel() for part in gradient])

    best = scipy.optimize.minimize(objective, start, jac=True, options={"maxiter": 300})
    value, gradient = objective(start)
    assert float(found.objective) == pytest.approx(value, rel=1e-5)
    assert value == pytest.approx(best.fun, rel=1e-5)
    at_random = np.random.default_rng(0).normal(size=start.size)
    assert np.linalg.norm(gradient) < 1e-2 * np.linalg.norm(objective(at_random)[1])


def test_the_first_step_ends_at_the_minimum_along_the_gradient():
    batch = batch_of(num_outputs=2)
    rows, penalty = rows_of_tasks(batch), 1e-2
    rng = np.random.default_rng(1)
    start = [
        rng.normal(size=shape)
        for shape in ((INPUT_DIM, NUM_FEATURES), (NUM_TASKS, NUM_FEATURES, 2))
    ]
    found = descend(
        *(jnp.asarray(factor, jnp.float32) for factor in start),
        task_moments(batch, num_tasks=NUM_TASKS, intercept=True),
        jnp.float32(penalty),
        Descent(num_steps=1),
    )
    value, *gradient = dense_objective(start, rows, penalty, True)

    def along(length):
        moved = [factor - length * slope for factor, slope in zip(start, gradient, strict=True)]
        return dense_objective(moved, rows, penalty, True)[0]

    lengths = np.linspace(0, 1, 201)
    first_rise = np.argmax(np.diff([along(length) for length in lengths]) > 0)
    bounds = lengths[first_rise - 1], lengths[first_rise + 1]
    best = scipy.optimize.minimize_scalar(along, bounds=bounds, method="bounded")
    moved = start[0] - best.x * gradient[0]
    assert along(best.x) < value
    assert found.steps == 1
    np.testing.assert_allclose(found.kernel, moved, atol=1e-3 * np.abs(moved).max())


@pytest.mark.parametrize("intercept", [True, False])
def test_the_result_is_what_encoding_the_rows_gives(intercept):
    batch = batch_of(num_outputs=2)
    found = run(of_moments(intercept=intercept), batch, 1e-3)
    features = encode(amtl.linear_encoder(NUM_FEATURES), found.params, batch.x)
    stats = amtl.head_stats(features, batch, num_tasks=NUM_TASKS)
    chex.assert_trees_all_close(found.stats, stats, rtol=1e-4, atol=1e-2)
    ridge = 1e-3 * stats.count.sum()
    heads = amtl.solve_heads(stats, ridge=ridge, intercept=intercept)
    chex.assert_trees_all_close(found.heads, heads, rtol=1e-3, atol=1e-3)
    weight = jnp.moveaxis(found.heads.weight, 1, 0).reshape(NUM_FEATURES, -1)
    kernel = found.params["params"]["kernel"]  # balanced: BᵀB = Σ_m W_m W_mᵀ
    np.testing.assert_allclose(kernel.T @ kernel, weight @ weight.T, atol=1e-2)


def test_moments_of_three_rows_by_hand():
    x = [[1.0, 0.0], [3.0, 0.0], [2.0, 5.0]]
    batch = amtl.pack(x, [1.0, 5.0, 7.0], [1, 1, 0], [1.0, 3.0, 2.0], num_tasks=3, block_rows=2)
    centred = task_moments(batch, num_tasks=3, intercept=True)
    np.testing.assert_allclose(centred.mean, [[2, 5], [2.5, 0], [0, 0]])
    np.testing.assert_allclose(centred.label_mean, [[7], [4], [0]])
    np.testing.assert_allclose(centred.gram[1], [[3, 0], [0, 0]])  # 1·1.5² + 3·.5²
    np.testing.assert_allclose(centred.moment[1], [[6], [0]])  # 1·1.5·3 + 3·.5·1
    np.testing.assert_allclose(centred.energy, [[0], [12], [0]])
    raw = task_moments(batch, num_tasks=3, intercept=False)
    np.testing.assert_allclose(raw.gram[0], [[8, 20], [20, 50]])
    np.testing.assert_allclose(raw.moment[:, :, 0], [[28, 70], [46, 0], [0, 0]])
    for moments in (centred, raw):
        np.testing.assert_allclose(moments.input_sum, [[4, 10], [10, 0], [0, 0]])
        np.testing.assert_allclose(moments.label_sum, [[14], [16], [0]])
        np.testing.assert_allclose(moments.count, [2, 4, 0])


def test_long_blocks_are_summed_like_short_ones():
    x, y, task = np.ones((300, 2)), np.arange(300.0), np.repeat([0, 1, 2], 100)
    long, short = (
        task_moments(
            amtl.pack(x, y, task, num_tasks=3, block_rows=rows), num_tasks=3, intercept=False
        )
        for rows in (128, 32)
    )
    chex.assert_trees_all_close(long, short, rtol=1e-6)
    np.testing.assert_allclose(long.moment[0, :, 0], [4950, 4950])


def test_inputs_far_from_zero_lose_no_digits():
    """Centred sums of products: 1,000 standard deviations off, float32 keeps the fit."""
    batch = batch_of()
    far = batch._replace(x=batch.x + 1000.0)
    near = batch._replace(x=far.x - 1000.0)  # the same rounding of the inputs
    moments = [task_moments(b, num_tasks=NUM_TASKS, intercept=True) for b in (near, far)]
    largest = float(jnp.max(jnp.abs(moments[0].gram)))
    np.testing.assert_allclose(moments[1].gram, moments[0].gram, atol=1e-4 * largest)


def test_a_task_without_rows_gets_zeros_and_changes_nothing():
    batch = batch_of()
    found = run(of_moments(), batch)
    assert (found.heads.weight[EMPTY] == 0).all()
    assert (found.heads.bias[EMPTY] == 0).all()
    chex.assert_tree_all_finite(found)
    masked = batch._replace(weight=jnp.where((batch.task == 7)[:, None], 0, batch.weight))
    without = jax.tree.map(lambda leaf: leaf[np.asarray(batch.task) != 7], batch)
    first, second = (run(of_moments(), part) for part in (masked, without))
    assert float(first.objective) == pytest.approx(float(second.objective), rel=1e-5)


@pytest.mark.parametrize("num_features", [1, INPUT_DIM + 3])
def test_one_feature_or_more_than_inputs(num_features):
    batch = batch_of()
    found = run(of_moments(num_features), batch, 1e-2)
    reference = run(of_samples(num_features), batch, 1e-2)
    assert float(found.objective) == pytest.approx(float(reference.objective), rel=1e-4)
    chex.assert_shape(found.params["params"]["kernel"], (INPUT_DIM, num_features))


def test_more_freedom_than_rows_ends_near_zero_and_is_finite():
    batch = batch_of(rows=4)
    found = run(of_moments(6, intercept=False), batch)
    assert found.ok
    assert found.objective < 1e-2 * run(of_moments(1, intercept=False), batch).objective


def test_a_vmapped_fit_is_the_single_one():
    batches = [batch_of(seed) for seed in range(3)]
    blocks = {len(batch.task) for batch in batches}
    assert len(blocks) == 1
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)
    fitter = of_moments()

    @jax.jit
    @jax.vmap
    @chex.assert_max_traces(n=1)
    def fit(batch):
        penalty = jnp.float32(1e-7)
        return fitter.fit(fitter.init(jax.random.key(0), batch, penalty), batch, penalty)

    together = fit(stacked)
    for seed, batch in enumerate(batches):
        alone = run(fitter, batch)
        assert float(together.objective[seed]) == pytest.approx(float(alone.objective), rel=1e-5)
        assert abs(int(together.steps[seed]) - int(alone.steps)) <= 10


def test_a_fixed_rank_is_the_fit_of_that_many_features():
    batch = batch_of(num_outputs=2)
    some, fewer = run(of_moments(5, rank=2), batch, 1e-4), run(of_moments(2), batch, 1e-4)
    assert float(some.objective) == pytest.approx(float(fewer.objective), rel=1e-4)
    kernel = some.params["params"]["kernel"]
    chex.assert_shape(kernel, (INPUT_DIM, 5))
    assert (kernel[:, 2:] == 0).all()
    assert (some.heads.weight[:, 2:] == 0).all()
    assert (jnp.linalg.norm(kernel[:, :2], axis=0) > 0.1).all()


def test_nan_is_reported_not_repaired():
    batch = batch_of()
    spoilt = batch._replace(x=batch.x.at[0, 0, 0].set(jnp.nan))
    assert not run(of_moments(), spoilt).ok


def test_errors():
    with pytest.raises(ValueError, match=r"num_steps >= 1.*got 0"):
        of_moments(num_steps=0)
    with pytest.raises(ValueError, match=r"tolerance >= 0, got 200, 10 and -1"):
        of_moments(tolerance=-1)
    with pytest.raises(ValueError, match=r"'aic' or 1 to 3, the encoder's features.*got 4"):
        of_moments(rank=4)
    images = batch_of()._replace(x=jnp.zeros((2, 2, 3, 3)))
    with pytest.raises(ValueError, match=r"flatten images before packing"):
        of_moments().init(jax.random.key(0), images, 1e-3)
