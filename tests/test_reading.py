"""Reads of the samples: the sums of float64 NumPy, by chunks or at once, from floats or bytes."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optax import adam

import amtl_jax as amtl
from amtl_jax.cpu_threads import may_run_two
from amtl_jax.encoding import as_float, encode, encode_live
from amtl_jax.fitting import reading
from amtl_jax.types import TaskBatch

pytestmark = pytest.mark.usefixtures("full_compiles")

NUM_TASKS, BLOCKS, ROWS, INPUTS = 3, 7, 4, 5


def image_batch():
    """Blocks of bytes, padding rows and a task without a block among them."""
    rng = np.random.default_rng(0)
    weight = rng.uniform(0.5, 2.0, (BLOCKS, ROWS)).astype(np.float32)
    weight[2, 1:] = weight[-1] = 0
    return TaskBatch(
        jnp.asarray(rng.integers(0, 256, (BLOCKS, ROWS, INPUTS)), jnp.uint8),
        jnp.asarray(rng.normal(size=(BLOCKS, ROWS, 1)), jnp.float32),
        jnp.asarray(weight),
        jnp.asarray([0, 0, 0, 2, 2, 2, 2], jnp.int32),
    )


def as_floats(batch):
    return batch._replace(x=as_float(batch.x))


@pytest.mark.parametrize("cached", [1, 3 * ROWS * INPUTS, 10**6])  # chunks of 1 and 3 blocks, all
@pytest.mark.parametrize("columns", [1, 2, 6])  # six are read together
@pytest.mark.parametrize("prepare", [lambda batch: batch, as_floats], ids=["bytes", "floats"])
def test_rows_and_sums_are_those_of_a_plain_loop(monkeypatch, cached, columns, prepare):
    monkeypatch.setattr(reading, "_CACHED", cached)
    batch = image_batch()
    rng = np.random.default_rng(1)
    theta = rng.normal(size=(columns, NUM_TASKS, INPUTS)).astype(np.float32)
    offset = rng.normal(size=(columns, BLOCKS, ROWS)).astype(np.float32)

    def read(batch, theta, offset):
        rows, sums = reading.predict_and_correlate(batch, theta, offset, NUM_TASKS)
        return rows, sums, reading.correlate(batch, rows, NUM_TASKS)

    rows, sums, again = jax.jit(read)(prepare(batch), theta, offset)

    expected_rows = np.zeros((columns, BLOCKS, ROWS))
    expected = np.zeros((columns, NUM_TASKS, INPUTS))
    for block, task in enumerate(np.asarray(batch.task)):
        for row in range(ROWS):
            x = np.asarray(batch.x[block, row], np.float64) / 255
            expected_rows[:, block, row] = theta[:, task] @ x + offset[:, block, row]
            weight = np.float64(batch.weight[block, row])
            expected[:, task] += weight * np.outer(expected_rows[:, block, row], x)
    np.testing.assert_allclose(rows, expected_rows, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(sums, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(again, expected, rtol=1e-5, atol=1e-5)


def test_a_batch_of_reads_is_the_reads_one_by_one(monkeypatch):
    monkeypatch.setattr(reading, "_CACHED", 2 * ROWS * INPUTS)
    batch = image_batch()
    theta = jax.random.normal(jax.random.key(1), (3, 2, NUM_TASKS, INPUTS))
    offset = jnp.zeros((2, BLOCKS, ROWS))

    def read(theta):
        return reading.predict_and_correlate(batch, theta, offset, NUM_TASKS)

    together = jax.vmap(read)(theta)
    for index, own in enumerate(theta):
        alone = read(own)
        np.testing.assert_allclose(together[0][index], alone[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(together[1][index], alone[1], rtol=1e-5, atol=1e-5)


def fitters():
    linear = amtl.linear_encoder(2)
    yield "lbfgs", amtl.lbfgs_fitter(linear, num_tasks=NUM_TASKS)
    yield "gram", amtl.gram_fitter(linear, num_tasks=NUM_TASKS)
    yield "joint", amtl.joint_descent_fitter(linear, adam(0.1), num_tasks=NUM_TASKS, num_steps=5)
    mlp = amtl.mlp_encoder(2, widths=(3,))
    options = {"num_tasks": NUM_TASKS, "num_steps": 5}
    yield "projection", amtl.variable_projection_fitter(mlp, adam(0.1), **options)
    yield "minibatch", amtl.minibatch_fitter(mlp, adam(0.1), batch_rows=8, **options)
    yield "frozen", amtl.frozen_fitter(amtl.identity_encoder(INPUTS), num_tasks=NUM_TASKS)


@pytest.mark.parametrize("fitter", [pytest.param(one, id=name) for name, one in fitters()])
def test_every_fit_of_bytes_is_that_of_floats(fitter):
    @jax.jit
    def fit(batch):
        start = fitter.init(jax.random.key(0), batch, jnp.float32(1e-2))
        return fitter.fit(start, batch, jnp.float32(1e-2))

    of_bytes, of_floats = fit(image_batch()), fit(as_floats(image_batch()))
    assert bool(of_bytes.ok)
    np.testing.assert_allclose(of_bytes.objective, of_floats.objective, rtol=1e-4)
    np.testing.assert_allclose(of_bytes.heads.bias, of_floats.heads.bias, rtol=1e-3, atol=1e-4)


def test_bytes_are_encoded_as_floats_a_chunk_at_a_time(monkeypatch):
    monkeypatch.setattr("amtl_jax.encoding._BYTE_ROWS", 2 * ROWS)
    batch, encoder = image_batch(), amtl.linear_encoder(2)
    params = encoder.init(jax.random.key(0), as_float(batch.x[0]))
    whole = encode(encoder, params, as_floats(batch).x)
    np.testing.assert_allclose(encode(encoder, params, batch.x), whole, rtol=1e-6)
    live = encode_live(encoder, params, batch.x, batch.weight)
    np.testing.assert_allclose(live[:-1], whole[:-1], rtol=1e-6)
    assert live.dtype == jnp.float32


@pytest.mark.parametrize(("told", "cpus", "expected"), [("8", 2, True), (None, 2, False)])
@pytest.mark.parametrize("unreadable", [None, "many"])
def test_two_at_a_time_needs_threads_for_both(monkeypatch, told, cpus, expected, unreadable):
    monkeypatch.setattr("amtl_jax.cpu_threads.num_cpus", lambda: cpus)
    value = told or unreadable
    if value is None:
        monkeypatch.delenv("NPROC", raising=False)
    else:
        monkeypatch.setitem(os.environ, "NPROC", value)
    assert may_run_two() is expected
    monkeypatch.setattr("amtl_jax.cpu_threads.num_cpus", lambda: 16)
    assert may_run_two() is True
