"""Heads against float64 least squares: accuracy over condition numbers, and every odd task."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import amtl_jax as amtl

pytestmark = pytest.mark.usefixtures("full_compiles")

NUM_TASKS, NUM_ROWS, NUM_FEATURES = 3, 300, 20


def conditioned_rows(kappa, labels, seed=0):
    """float32 features of condition number about kappa, and labels; all tasks stacked."""
    rng = np.random.default_rng(seed)
    xs, ys = [], []
    for _ in range(NUM_TASKS):
        left, _ = np.linalg.qr(
            np.concatenate([np.ones((NUM_ROWS, 1)), rng.normal(size=(NUM_ROWS, NUM_FEATURES))], 1)
        )
        left = left[:, 1:]  # orthogonal to the constant: centring leaves it alone
        right, _ = np.linalg.qr(rng.normal(size=(NUM_FEATURES, NUM_FEATURES)))
        x = np.sqrt(NUM_ROWS) * left * np.geomspace(1, 1 / kappa, NUM_FEATURES) @ right.T
        x = x.astype(np.float32)
        if labels == "uniform over left singular vectors":
            y = left @ rng.choice([-1.0, 1.0], NUM_FEATURES)
        else:
            y = x @ rng.normal(size=NUM_FEATURES) + 0.5 * rng.normal(size=NUM_ROWS) + 3.0
        xs.append(x)
        ys.append(y.astype(np.float32))
    task = np.repeat(np.arange(NUM_TASKS), NUM_ROWS)
    return np.concatenate(xs), np.concatenate(ys), task


def oracle(x, y, ridge, weight=None, intercept=True):
    """Float64 weighted ridge with an unpenalised intercept, by QR of the augmented rows."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    weight = np.ones(len(x)) if weight is None else weight.astype(np.float64)
    total = max(weight.sum(), 1e-300)
    mean, label_mean = weight @ x / total * intercept, weight @ y / total * intercept
    root = np.sqrt(weight)[:, None]
    rows = np.concatenate([root * (x - mean), np.sqrt(ridge) * np.eye(x.shape[1])])
    labels = np.concatenate([root[:, 0] * (y - label_mean), np.zeros(x.shape[1])])
    solution = np.linalg.lstsq(rows, labels, rcond=None)[0]
    return solution, label_mean - mean @ solution


def scaled_condition(x):
    centred = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    sigma = np.linalg.svd(centred / np.linalg.norm(centred, axis=0), compute_uv=False)
    return sigma[0] / sigma[-1]


def worst_error(heads, x, y, task, ridge):
    """Largest prediction error over tasks, relative to ‖y‖."""
    errors = []
    for index in range(NUM_TASKS):
        rows, labels = x[task == index], y[task == index]
        weight, bias = oracle(rows, labels, ridge)
        difference = weight - np.asarray(heads.weight[index, :, 0], np.float64)
        shift = bias - float(heads.bias[index, 0])
        errors.append(np.linalg.norm(rows @ difference + shift) / np.linalg.norm(labels))
    return max(errors)


@pytest.mark.parametrize("labels", ["ordinary", "uniform over left singular vectors"])
@pytest.mark.parametrize("ridge", [0.0, 1e-3])
@pytest.mark.parametrize("kappa", [30.0, 100.0, 1e3, 1e4, 1e7])
def test_accuracy_over_condition_numbers(kappa, ridge, labels):
    x, y, task = conditioned_rows(kappa, labels)
    batch = amtl.pack(x, y, task, num_tasks=NUM_TASKS)
    features = batch.x
    heads = amtl.solve_heads(amtl.head_stats(features, batch, num_tasks=NUM_TASKS), ridge=ridge)
    refined = amtl.refine_heads(heads, features, batch, ridge=ridge)
    chex.assert_tree_all_finite((heads, refined))
    found = min(scaled_condition(x[task == index]) for index in range(NUM_TASKS))
    assert worst_error(heads, x, y, task, ridge) <= 2e-4 * (found / 100) ** 2
    if kappa <= 1e4:
        bound = 1e-4 if kappa <= 1e3 else 1e-3
        assert worst_error(refined, x, y, task, ridge) <= bound


def random_batch(seed=0, counts=(40, 7, 25), num_outputs=2, num_features=5, weight=None):
    rng = np.random.default_rng(seed)
    task = np.repeat(np.arange(len(counts)), counts)
    x = rng.normal(size=(len(task), num_features)) + 1.0
    y = rng.normal(size=(len(task), num_outputs)) + x[:, :1]
    return x, y, task, amtl.pack(x, y, task, num_tasks=len(counts), block_rows=8, weight=weight)


@pytest.mark.parametrize("intercept", [True, False])
def test_weighted_heads_match_the_oracle(intercept):
    weight = np.random.default_rng(1).uniform(0.1, 3, size=72)
    x, y, task, batch = random_batch(weight=weight)
    stats = amtl.head_stats(batch.x, batch, num_tasks=3)
    heads = amtl.solve_heads(stats, ridge=jnp.array([0.0, 0.5, 2.0]), intercept=intercept)
    refined = amtl.refine_heads(
        heads, batch.x, batch, ridge=jnp.array([0.0, 0.5, 2.0]), intercept=intercept
    )
    for index, ridge in enumerate([0.0, 0.5, 2.0]):
        own = task == index
        for output in range(2):
            expected, bias = oracle(x[own], y[own, output], ridge, weight[own], intercept)
            for found in (heads, refined):
                np.testing.assert_allclose(found.weight[index, :, output], expected, atol=2e-5)
                np.testing.assert_allclose(found.bias[index, output], bias, atol=5e-5)


def test_residual_variance_counts_degrees_of_freedom():
    x, y, task, batch = random_batch(counts=(200, 50, 100))
    stats = amtl.head_stats(batch.x, batch, num_tasks=3)
    heads = amtl.solve_heads(stats, ridge=3.0)
    refined = amtl.refine_heads(heads, batch.x, batch, ridge=3.0)
    for index in range(3):
        rows, labels = x[task == index], y[task == index, 0]
        weight, bias = oracle(rows, labels, 3.0)
        centred = rows - rows.mean(axis=0)
        hat = centred @ np.linalg.solve(centred.T @ centred + 3.0 * np.eye(5), centred.T)
        freedom = len(rows) - 1 - np.trace(hat)
        expected = np.sum((labels - rows @ weight - bias) ** 2) / freedom
        np.testing.assert_allclose(heads.residual_variance[index, 0], expected, rtol=1e-4)
        np.testing.assert_allclose(refined.residual_variance[index, 0], expected, rtol=1e-4)


def test_stats_add_over_batches():
    _, _, _, first = random_batch(0)
    _, _, _, second = random_batch(1)
    both = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), first, second)
    together = amtl.head_stats(both.x, both, num_tasks=3)
    parts = [amtl.head_stats(part.x, part, num_tasks=3) for part in (first, second)]
    chex.assert_trees_all_close(amtl.add_stats(*parts), together, rtol=1e-5, atol=1e-5)


def test_long_blocks_sum_like_short_ones():
    rng = np.random.default_rng(0)
    x, y, task = rng.normal(size=(500, 4)), rng.normal(size=500), np.repeat([0, 1], [200, 300])
    stats = []
    for rows in (16, 64, 192, 256):
        batch = amtl.pack(x, y, task, num_tasks=2, block_rows=rows)
        stats.append(amtl.head_stats(batch.x, batch, num_tasks=2))
    for other in stats[1:]:
        chex.assert_trees_all_close(stats[0], other, rtol=1e-5, atol=1e-4)


def test_zero_weight_rows_change_nothing():
    x, y, task, batch = random_batch()
    noise = np.full_like(x[:4], 1e6)
    padded = amtl.pack(
        np.concatenate([x, noise]),
        np.concatenate([y, np.full_like(y[:4], np.nan)]),
        np.concatenate([task, [0, 1, 2, 2]]),
        num_tasks=3,
        block_rows=8,
        weight=np.concatenate([np.ones(len(x)), np.zeros(4)]),
    )
    for solve in (plain_heads, refined_heads):
        chex.assert_trees_all_close(solve(batch), solve(padded), rtol=2e-5, atol=2e-5)


def plain_heads(batch, ridge=0.1, num_tasks=3):
    return amtl.solve_heads(amtl.head_stats(batch.x, batch, num_tasks=num_tasks), ridge=ridge)


def refined_heads(batch, ridge=0.1, num_tasks=3):
    heads = plain_heads(batch, ridge, num_tasks)
    return amtl.refine_heads(heads, batch.x, batch, ridge=ridge)


@pytest.mark.parametrize("solve", [plain_heads, refined_heads])
def test_permuting_tasks_permutes_heads(solve):
    x, y, task, batch = random_batch()
    renamed = np.array([2, 0, 1])
    other = amtl.pack(x, y, renamed[task], num_tasks=3, block_rows=8)
    permuted = jax.tree.map(lambda leaf: leaf[renamed], solve(other))
    chex.assert_trees_all_close(solve(batch), permuted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("solve", [plain_heads, refined_heads])
@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_few_rows_one_row_no_row(solve, ridge):
    # 3 rows for 5 features, one row, none, and enough
    x, y, task, batch = random_batch(counts=(3, 1, 0, 30), num_outputs=1)
    heads = solve(batch, ridge, 4)
    chex.assert_tree_all_finite(heads)
    weight, bias = np.asarray(heads.weight[..., 0]), np.asarray(heads.bias[:, 0])
    fitted = x[task == 0] @ weight[0] + bias[0]
    if ridge == 0.0:
        np.testing.assert_allclose(fitted, y[task == 0, 0], atol=1e-3)  # it interpolates
    else:
        expected, _ = oracle(x[:3], y[:3, 0], ridge)
        np.testing.assert_allclose(weight[0], expected, atol=1e-4)
    np.testing.assert_allclose(weight[1], 0, atol=1e-6)
    np.testing.assert_allclose(bias[1], y[3, 0], rtol=1e-6)
    assert (weight[2] == 0).all()
    assert bias[2] == 0


@pytest.mark.parametrize("solve", [plain_heads, refined_heads])
def test_constant_and_duplicate_features(solve):
    rng = np.random.default_rng(0)
    base = rng.normal(size=(60, 2))
    x = np.concatenate([base, base[:, :1], np.full((60, 1), 1e4)], axis=1)
    y = base @ [1.0, -2.0] + 5.0
    heads = solve(amtl.pack(x, y, np.zeros(60, int), num_tasks=1), 0.0, 1)
    chex.assert_tree_all_finite(heads)
    assert heads.weight[0, 3, 0] == 0  # constant to float precision
    np.testing.assert_allclose(heads.weight[0, 0, 0] + heads.weight[0, 2, 0], 1.0, atol=1e-3)
    np.testing.assert_allclose(
        x @ np.asarray(heads.weight[0, :, 0]) + heads.bias[0, 0], y, atol=1e-2
    )


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_scale_of_features_and_labels(scale):
    x, y, task, batch = random_batch(counts=(50, 20, 25))
    scaled = amtl.pack(x * scale, y, task, num_tasks=3, block_rows=8)
    labels = amtl.pack(x, y * scale, task, num_tasks=3, block_rows=8)
    heads = plain_heads(batch, 0.0)
    np.testing.assert_allclose(plain_heads(scaled, 0.0).weight * scale, heads.weight, rtol=1e-3)
    np.testing.assert_allclose(plain_heads(labels, 0.0).weight / scale, heads.weight, rtol=1e-3)


def test_predictions_are_those_of_the_blocks_task():
    x, _, task, batch = random_batch()
    heads = plain_heads(batch)
    predictions = np.asarray(amtl.predict_heads(heads, batch.x, batch))
    flat = predictions[np.asarray(batch.weight) > 0]
    expected = (
        np.einsum("nk,nko->no", x, np.asarray(heads.weight)[task]) + np.asarray(heads.bias)[task]
    )
    np.testing.assert_allclose(flat, expected, rtol=1e-5, atol=1e-5)


def test_shapes_and_one_trace_for_every_allocation():
    traced = jax.jit(chex.assert_max_traces(n=1)(lambda batch: plain_heads(batch, 0.1, 3)))
    for counts in ((40, 7, 25), (1, 70, 1), (0, 0, 72)):
        _, _, _, batch = random_batch(counts=counts)
        heads = traced(batch)
        chex.assert_shape(heads.weight, (3, 5, 2))
        chex.assert_shape([heads.bias, heads.residual_variance], (3, 2))


def test_nan_statistics_end_and_show():
    _, _, _, batch = random_batch()
    stats = amtl.head_stats(batch.x, batch, num_tasks=3)
    heads = amtl.solve_heads(stats._replace(gram=stats.gram.at[1, 0, 0].set(jnp.nan)), ridge=0.1)
    assert np.isnan(heads.weight[1]).any()
    assert np.isfinite(heads.weight[0]).all()


def test_integer_features_do_not_truncate_labels():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 9, size=(40, 3))
    y = x @ [0.3, 0.2, -0.1] + 0.4
    batch = amtl.pack(x, y, np.zeros(40, int), num_tasks=1)
    for features in (batch.x, batch.x.astype(int)):
        heads = amtl.solve_heads(amtl.head_stats(features, batch, num_tasks=1), ridge=0.0)
        refined = amtl.refine_heads(heads, features, batch, ridge=0.0)
        for found in (heads, refined):
            np.testing.assert_allclose(found.weight[0, :, 0], [0.3, 0.2, -0.1], atol=1e-4)


def test_bad_ridges_and_blocks_out_of_order_are_refused():
    _, _, _, batch = random_batch()
    stats = amtl.head_stats(batch.x, batch, num_tasks=3)
    heads = amtl.solve_heads(stats, ridge=0.1)
    with pytest.raises(ValueError, match="solve_heads expects a finite ridge >= 0, got -3"):
        amtl.solve_heads(stats, ridge=-3.0)
    with pytest.raises(ValueError, match=r"scalar or of shape \[3\], got shape \[2\]"):
        amtl.refine_heads(heads, batch.x, batch, ridge=jnp.ones(2))
    backwards = jax.tree.map(lambda leaf: leaf[::-1], batch)
    with pytest.raises(ValueError, match="blocks sorted by task"):
        amtl.refine_heads(heads, backwards.x, backwards, ridge=0.1)
    traced = jax.jit(lambda batch: amtl.refine_heads(heads, batch.x, batch, ridge=0.1))
    assert np.isnan(traced(backwards).weight).all()


def test_heads_are_differentiable():
    _, _, _, batch = random_batch(counts=(10, 3, 12))

    def loss(features, solve):
        heads = solve(batch._replace(x=features))
        return jnp.sum(heads.weight**2) + jnp.sum(heads.bias**2)

    for solve in (plain_heads, refined_heads):
        gradient = jax.grad(loss)(batch.x, solve)
        assert np.isfinite(gradient).all()
        step = 1e-2 * jax.random.normal(jax.random.key(0), batch.x.shape)
        step *= (batch.weight > 0)[..., None]
        change = loss(batch.x + step, solve) - loss(batch.x - step, solve)
        np.testing.assert_allclose(change, 2 * jnp.vdot(gradient, step), rtol=0.05)


def test_wrong_features_are_named():
    _, _, _, batch = random_batch()
    with pytest.raises(ValueError, match=r"got shape \(3, 4\)"):
        amtl.head_stats(jnp.zeros((3, 4)), batch, num_tasks=3)
