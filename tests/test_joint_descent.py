"""Joint descent: against plain NumPy in float64, and what must change nothing."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import amtl_jax as amtl
from amtl_jax.encoders.scaled import linear_scale
from amtl_jax.fitting.objective import penalised_loss, total_weight

pytestmark = pytest.mark.usefixtures("full_compiles")

NUM_TASKS, INPUT_DIM, NUM_FEATURES, NUM_OUTPUTS = 5, 6, 3, 2
COUNTS = (20, 7, 0, 13, 1)


@functools.cache
def rows_of():
    rng = np.random.default_rng(0)
    task = np.repeat(np.arange(NUM_TASKS), COUNTS)
    x = rng.normal(size=(len(task), INPUT_DIM))
    theta = rng.normal(size=(NUM_TASKS, INPUT_DIM, NUM_OUTPUTS))
    y = np.einsum("nd,ndo->no", x, theta[task]) + 0.5 + 0.1 * rng.normal(size=(len(task), 2))
    return x, y, task, rng.uniform(0.5, 2.0, len(task))


def batch_of(dtype=np.float32, order=None, **options):
    x, y, task, weight = rows_of()
    task = task if order is None else np.asarray(order)[task]
    options = {"block_rows": 4} | options
    batch = amtl.pack(x, y, task, num_tasks=NUM_TASKS, weight=weight, **options)
    return amtl.TaskBatch(*(jnp.asarray(np.asarray(leaf), dtype) for leaf in batch[:3]), batch.task)


def linear(scale=None):
    encoder = amtl.linear_encoder(NUM_FEATURES)
    return encoder if scale is None else amtl.scaled_encoder(encoder, scale)


def opaque(encoder, chunk_rows=10):
    """The same encoder, not to be recognised as linear, in chunks that do not divide the blocks."""
    return encoder._replace(apply=lambda *args: encoder.apply(*args), chunk_rows=chunk_rows)


def descent(encoder, optimizer=None, **options):
    options = {"num_tasks": NUM_TASKS, "num_steps": 12} | options
    return amtl.joint_descent_fitter(encoder, optimizer or optax.adadelta(1.0), **options)


def run(fitter, batch, penalty=1e-2, params=None):
    if params is None:
        params = fitter.init(jax.random.key(0), batch, jnp.float32(penalty))
    return jax.jit(fitter.fit)(params, batch, jnp.asarray(penalty, batch.x.dtype))


def numpy_adadelta(kernel, penalty, *, scale, intercept, num_steps, rate):
    """The recipe from its definition: rows one by one, PyTorch's Adadelta; float64."""
    x, y, task, omega = rows_of()
    point = [
        kernel.copy(),
        np.zeros((NUM_TASKS, NUM_FEATURES, NUM_OUTPUTS)),
        np.zeros((NUM_TASKS, NUM_OUTPUTS)),
    ]
    squares, moves = ([np.zeros_like(leaf) for leaf in point] for _ in range(2))
    for _ in range(num_steps):
        kernel, weight, bias = point
        strength = 2 * penalty * omega.sum()
        slopes = [strength * kernel, strength * weight, np.zeros_like(bias)]
        for row, label, own, one in zip(scale * x, y, task, omega, strict=True):
            error = row @ kernel @ weight[own] + bias[own] - label
            slopes[0] += 2 * one * np.outer(row, weight[own] @ error)
            slopes[1][own] += 2 * one * np.outer(row @ kernel, error)
            slopes[2][own] += 2 * one * error * intercept
        for leaf, slope, square, move in zip(point, slopes, squares, moves, strict=True):
            square[...] = 0.9 * square + 0.1 * slope**2
            step = np.sqrt(move + 1e-6) / np.sqrt(square + 1e-6) * slope
            move[...] = 0.9 * move + 0.1 * step**2
            leaf -= rate * step
    return point


@pytest.mark.parametrize("way", ["theta", "chunks"])
@pytest.mark.parametrize(("scale", "intercept"), [(1.0, True), (3.0, False)])
def test_a_plain_numpy_loop_goes_the_same_way(way, scale, intercept):
    with jax.enable_x64(True):
        batch = batch_of(np.float64)
        encoder = linear(scale) if way == "theta" else opaque(linear(scale))
        kernel = np.random.default_rng(1).normal(size=(INPUT_DIM, NUM_FEATURES))
        found = run(
            descent(encoder, intercept=intercept),
            batch,
            1e-2,
            {"params": {"kernel": jnp.asarray(kernel)}},
        )
        wanted = numpy_adadelta(
            kernel, 1e-2, scale=scale, intercept=intercept, num_steps=12, rate=1.0
        )
        ours = (found.params["params"]["kernel"], found.heads.weight, found.heads.bias)
        for one, other in zip(ours, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
    assert (found.heads.weight[2] == 0).all()  # a task without rows
    assert found.heads.bias.any() == intercept
    assert found.steps == 12


def test_a_network_goes_the_way_of_its_gradient():
    """Steps of plain gradient descent on the sum, against the gradient of all rows at once."""
    with jax.enable_x64(True):
        batch = batch_of(np.float64)
        encoder = amtl.mlp_encoder(NUM_FEATURES, widths=(7,))._replace(chunk_rows=10)
        params = encoder.init(jax.random.key(0), batch.x[0])
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params)
        penalty, rate = 1e-2, 1e-3
        found = run(descent(encoder, optax.sgd(rate), num_steps=4), batch, penalty, params)
        none = jnp.zeros((NUM_TASKS, NUM_OUTPUTS))
        shape = (NUM_TASKS, NUM_FEATURES, NUM_OUTPUTS)

        @jax.jit
        def total(point):
            heads = amtl.Heads(*point[1:], none)
            features = amtl.encode(encoder, point[0], batch.x)
            objective, _ = penalised_loss(heads, point[0], features, batch, penalty)
            return total_weight(batch) * objective

        point, norms = (params, jnp.zeros(shape), none), []
        for _ in range(4):
            slope = jax.grad(total)(point)
            norms.append(optax.tree.norm(slope))
            point = jax.tree.map(lambda leaf, one: leaf - rate * one, point, slope)
        ours = (found.params, found.heads.weight, found.heads.bias)
        chex.assert_trees_all_close(ours, point, rtol=1e-9, atol=1e-12)
        assert float(found.gradient_norm) == pytest.approx(float(norms[-1] / norms[0]))
        assert float(found.objective) == pytest.approx(float(total(point) / total_weight(batch)))


def test_the_result_describes_where_the_descent_ended():
    batch, encoder = batch_of(), linear()
    found = run(descent(encoder, optax.adam(0.05), num_steps=30), batch)
    assert found.ok
    features = amtl.encode(encoder, found.params, batch.x)
    error = np.asarray(batch.y - amtl.predict_heads(found.heads, features, batch), np.float64)
    squares = np.asarray(batch.weight, np.float64)[..., None] * error**2
    assert float(found.loss) == pytest.approx(squares.sum() / float(batch.weight.sum()), rel=1e-5)
    rss = np.zeros((NUM_TASKS, NUM_OUTPUTS))
    np.add.at(rss, np.asarray(batch.task), squares.sum(axis=1))
    _, _, task, weight = rows_of()
    freedom = np.bincount(task, weight, NUM_TASKS) - NUM_FEATURES - 1
    np.testing.assert_allclose(
        found.heads.residual_variance, rss / np.maximum(freedom, 1)[:, None], rtol=1e-4
    )
    stats = amtl.head_stats(features, batch, num_tasks=NUM_TASKS)
    chex.assert_trees_all_close(found.stats, stats, rtol=1e-6)
    solved = amtl.solve_heads(stats, ridge=1e-2 * stats.count.sum())
    assert not np.allclose(found.heads.weight, solved.weight, atol=1e-2)  # they are no ridge heads


def test_enough_steps_reach_the_optimum_of_the_other_fits():
    """With as many features as inputs there is one optimum, up to a rotation."""
    batch, encoder = batch_of(), amtl.linear_encoder(INPUT_DIM)
    rate = optax.cosine_decay_schedule(0.1, 1500)
    found = run(descent(encoder, optax.adam(rate), num_steps=1500), batch)
    best = run(amtl.lbfgs_fitter(encoder, num_tasks=NUM_TASKS, tolerance=1e-7), batch)
    assert float(found.objective) == pytest.approx(float(best.objective), rel=1e-3)


@pytest.mark.parametrize("way", ["theta", "chunks"])
def test_rows_without_weight_change_nothing(way):
    encoder = linear(2.0) if way == "theta" else opaque(linear(2.0))
    fitter, batch = descent(encoder), batch_of()
    roomy = batch_of(num_blocks=len(batch.task) + 5)
    is_empty = roomy.weight == 0
    assert is_empty.any()
    roomy = roomy._replace(
        x=jnp.where(is_empty[..., None], 7.0, roomy.x),
        y=jnp.where(is_empty[..., None], -5.0, roomy.y),
    )
    for one, other in zip(run(fitter, roomy)[:2], run(fitter, batch)[:2], strict=True):
        chex.assert_trees_all_close(one, other, rtol=1e-4, atol=1e-5)


def test_other_names_of_the_tasks_change_nothing():
    order = np.array([3, 0, 4, 1, 2])
    fitter = descent(linear())
    params = fitter.init(jax.random.key(0), batch_of(), jnp.float32(0))
    plain, named = (
        run(fitter, batch, 0.0, params) for batch in (batch_of(), batch_of(order=order))
    )
    chex.assert_trees_all_close(named.params, plain.params, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(named.heads.weight[order], plain.heads.weight, rtol=1e-4, atol=1e-5)


def test_it_is_traced_once_and_again_from_where_it_is_told():
    fitter, batch = descent(linear(), optax.adam(0.01)), batch_of()
    fit = jax.jit(chex.assert_max_traces(fitter.fit, n=1))
    first = fit(fitter.init(jax.random.key(0), batch, jnp.float32(0)), batch, jnp.float32(0))
    second = fit(first.params, batch, jnp.float32(1e-3))
    assert not np.allclose(first.params["params"]["kernel"], second.params["params"]["kernel"])


def test_a_scaled_encoder_scales_wherever_it_predicts():
    x = jax.random.normal(jax.random.key(0), (9, INPUT_DIM))
    plain, scaled = linear(), linear(255.0)
    params = scaled.init(jax.random.key(1), x)
    chex.assert_trees_all_close(params, plain.init(jax.random.key(1), x))
    features = plain.apply(params, 255.0 * x)
    np.testing.assert_allclose(scaled.apply(params, x), features, rtol=1e-5)
    np.testing.assert_allclose(amtl.encode_rows(scaled, params, x), features, rtol=1e-5)
    assert scaled[2:] == plain[2:]
    assert linear_scale(amtl.scaled_encoder(scaled, 2.0)) == 510.0
    assert linear_scale(amtl.scaled_encoder(amtl.mlp_encoder(2), 2.0)) is None
    with pytest.raises(TypeError, match="scaled_encoder expects float inputs, got uint8"):
        scaled.apply(params, jnp.zeros((1, INPUT_DIM), jnp.uint8))


def test_no_penalty_is_a_penalty_too():
    batch, fitter = batch_of(), descent(linear())
    params = fitter.init(jax.random.key(0), batch, jnp.float32(0))
    none = jnp.float32(jnp.nan)
    chosen = jax.jit(
        lambda batch: amtl.fit_with_penalty(
            fitter, jax.random.key(1), params, batch, penalty=jnp.float32(0), held_out_loss=none
        )
    )(batch)
    assert float(chosen.penalty) == 0.0
    assert float(chosen.fit.objective) == float(chosen.fit.loss)
    chex.assert_trees_all_close(
        chosen.fit.params, run(fitter, batch, 0.0, params).params, rtol=1e-4
    )


def test_errors():
    with pytest.raises(ValueError, match="joint_descent_fitter expects num_steps >= 1, got 0"):
        descent(linear(), num_steps=0)
    for scale in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="scaled_encoder expects a positive, finite scale"):
            linear(scale)
    for fitter in (amtl.lbfgs_fitter, amtl.gram_fitter):
        with pytest.raises(ValueError, match="reads inputs as they are, got an encoder that mult"):
            fitter(linear(2.0), num_tasks=NUM_TASKS)
