"""Sums over chunks of samples: those of all samples at once, and of float64."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import amtl_jax as amtl
from amtl_jax.data import npz
from amtl_jax.data.npz import open_npz
from amtl_jax.fitting.moments import task_moments
from amtl_jax.streaming import _add

NUM_TASKS, INPUT_DIM, BLOCK_ROWS = 6, 12, 64
EMPTY = 2


@pytest.fixture(scope="module")
def rows():
    """Weighted rows of all tasks but one, whose inputs are far from zero."""
    rng = np.random.default_rng(0)
    task = rng.choice([0, 1, 3, 4, 5], 2000, p=[0.6, 0.1, 0.1, 0.1, 0.1])
    x = (rng.normal(size=(2000, INPUT_DIM)) + 50).astype(np.float32)
    y = (x - 50) @ rng.normal(size=(INPUT_DIM, 2)) + 3 + rng.normal(size=(2000, 2))
    return x, y, task, rng.uniform(0, 2, 2000).astype(np.float32)


@pytest.fixture(scope="module")
def batch(rows):
    return amtl.pack(*rows, num_tasks=NUM_TASKS, block_rows=BLOCK_ROWS)


def chunks_of(rows, chunk_blocks, **options):
    options = {"num_tasks": NUM_TASKS, "block_rows": BLOCK_ROWS} | options
    return amtl.PackedChunks(*rows, chunk_blocks=chunk_blocks, **options)


def close(found, expected, tolerance):
    """Within a share of each leaf's largest number."""
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * float(np.abs(b).max()))


@pytest.mark.parametrize("chunk_blocks", [1, 5, 1000])
def test_chunks_are_the_blocks_of_pack(rows, batch, chunk_blocks):
    chunks = chunks_of(rows, chunk_blocks)
    found = list(chunks)
    assert len(found) == len(chunks)
    assert len({tuple(leaf.shape for leaf in chunk) for chunk in found}) == 1
    joined = [np.concatenate(leaves) for leaves in zip(*found, strict=True)]
    assert len(joined[0]) - chunks.chunk_blocks < np.sum(np.any(batch.weight > 0, axis=1))
    most = min(len(joined[0]), len(batch.task))
    for leaf, whole in zip(joined, batch, strict=True):
        np.testing.assert_array_equal(leaf[:most], whole[:most])
    assert not joined[2][most:].any()
    for again, chunk in zip(chunks, found, strict=True):
        chex.assert_trees_all_equal(again, chunk)


@pytest.mark.parametrize("chunk_blocks", [1, 5, 1000])
@pytest.mark.parametrize("kind", ["identity", "linear", "mlp"])
def test_statistics_are_those_of_all_samples(rows, batch, kind, chunk_blocks):
    encoder = {
        "identity": amtl.identity_encoder(INPUT_DIM),
        "linear": amtl.linear_encoder(3),
        "mlp": amtl.mlp_encoder(4, widths=(8,)),
    }[kind]
    params = encoder.init(jax.random.key(0), batch.x[0])
    features = amtl.encode(encoder, params, batch.x)
    expected = amtl.head_stats(features, batch, num_tasks=NUM_TASKS)
    found = amtl.stream_stats(encoder, params, chunks_of(rows, chunk_blocks), num_tasks=NUM_TASKS)
    close(found, expected, 1e-6)
    assert not any(np.any(leaf[EMPTY]) for leaf in found)


def exact_moments(rows, intercept):
    """Gram matrices, moments and energies in float64."""
    x, y, task, weight = (np.asarray(part, np.float64) for part in rows)
    found = []
    for index in range(NUM_TASKS):
        own = task == index
        own_x, own_y, omega = x[own], y[own], weight[own]
        if intercept and own.any():
            own_x = own_x - np.average(own_x, axis=0, weights=omega)
            own_y = own_y - np.average(own_y, axis=0, weights=omega)
        weighted = omega[:, None] * own_y
        gram = (omega[:, None] * own_x).T @ own_x
        found.append((gram, own_x.T @ weighted, (weighted * own_y).sum(axis=0)))
    return [np.stack(part) for part in zip(*found, strict=True)]


@pytest.mark.parametrize("chunk_blocks", [1, 5, 1000])
@pytest.mark.parametrize("intercept", [True, False])
def test_moments_are_those_of_float64(rows, batch, intercept, chunk_blocks):
    chunks = chunks_of(rows, chunk_blocks)
    found = amtl.stream_moments(chunks, num_tasks=NUM_TASKS, intercept=intercept)
    expected = task_moments(batch, num_tasks=NUM_TASKS, intercept=intercept)
    close(found, expected, 1e-6)
    # Means of 50 are right to 3e-6: of raw products, 2,500 times as large, little would be left.
    close(found[:3], exact_moments(rows, intercept), 2e-6)
    assert not any(np.any(leaf[EMPTY]) for leaf in found if np.ndim(leaf))


@pytest.mark.parametrize("rank", [None, 2, "aic"])
def test_a_fit_of_streamed_moments_is_that_of_the_samples(rows, batch, rank):
    options = {"num_steps": 1000, "tolerance": 1e-9, "rank": rank}
    fitter = amtl.gram_fitter(amtl.linear_encoder(3), num_tasks=NUM_TASKS, **options)
    penalty = jnp.float32(1e-2)
    expected = fitter.fit(fitter.init(jax.random.key(0), batch, penalty), batch, penalty)
    moments = amtl.stream_moments(chunks_of(rows, 4), num_tasks=NUM_TASKS)
    found = amtl.fit_moments(moments, 1e-2, num_features=3, **options)
    assert float(found.objective) == pytest.approx(float(expected.objective), rel=1e-4)
    kernels = [one.params["params"]["kernel"] for one in (found, expected)]
    products = [kernel @ one.heads.weight for kernel, one in zip(kernels, (found, expected))]
    np.testing.assert_allclose(
        *products, atol=1e-2
    )  # of numbers up to 2.5, where two descents stop
    assert bool(found.ok)


def test_a_chunk_is_gone_before_the_next_but_one_is_made(rows):
    chunks = chunks_of(rows, 3, block_rows=32)
    alive = []

    def watched():
        for chunk in chunks:
            yield chunk
            alive.append(sum(leaf.shape == chunk.x.shape for leaf in jax.live_arrays()))

    assert len(chunks) > 8
    encoder = amtl.identity_encoder(INPUT_DIM)
    amtl.stream_stats(encoder, encoder.init(jax.random.key(0), rows[0][:1]), watched(), num_tasks=6)
    assert alive == [1] * len(chunks)  # the one that is worked on, while the next one is made


def test_any_number_of_chunks_is_one_program(rows):
    encoder = amtl.mlp_encoder(2, widths=(3,))
    params = encoder.init(jax.random.key(0), rows[0][:1])
    before = _add._cache_size()
    for part in (slice(0, 500), slice(0, 2000)):
        some = [one[part] for one in rows]
        chunks = chunks_of(some, 3)
        assert len(chunks) > 1
        amtl.stream_stats(encoder, params, chunks, num_tasks=NUM_TASKS)
    assert _add._cache_size() == before + 1


def test_samples_may_stay_on_disk(rows, batch, tmp_path, monkeypatch):
    x, y, task, weight = rows
    np.savez(tmp_path / "a.npz", x=x)
    monkeypatch.setattr(npz, "KEPT_ON_DISK", 0)
    stored = open_npz(tmp_path / "a.npz")["x"]
    np.save(tmp_path / "a.npy", x)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    whole = amtl.stream_moments(chunks_of(rows, 4), num_tasks=NUM_TASKS)
    for on_disk in (stored, mapped):
        chunks = chunks_of((on_disk, y, task, weight), 4)
        chex.assert_trees_all_equal(amtl.stream_moments(chunks, num_tasks=NUM_TASKS), whole)


def test_bad_samples_are_refused(rows):
    x, y, task, weight = rows
    bad = x.copy()
    bad[1234, 3] = np.nan
    with pytest.raises(ValueError, match=rf"NaN or Inf in x .*row 1234, task {task[1234]}"):
        list(chunks_of((bad, y, task, weight), 4))
    with pytest.raises(ValueError, match=r"chunk_blocks >= 1 .* got 0"):
        chunks_of(rows, 0)
    with pytest.raises(ValueError, match="of the same N"):
        chunks_of((x[:10], y, task, weight), 4)
    with pytest.raises(ValueError, match=r"twice, got an iterator"):
        amtl.stream_moments(iter(chunks_of(rows, 4)), num_tasks=NUM_TASKS)
    with pytest.raises(ValueError, match=r"inputs that are vectors.*flatten images"):
        amtl.stream_moments(
            chunks_of((x.reshape(-1, 4, 3), y, task, weight), 4), num_tasks=NUM_TASKS
        )
    with pytest.raises(ValueError, match="at least one chunk"):
        amtl.stream_moments([], num_tasks=NUM_TASKS)
    moments = amtl.stream_moments(chunks_of(rows, 4), num_tasks=NUM_TASKS)
    with pytest.raises(ValueError, match="rank None, 'aic' or 1 to 3"):
        amtl.fit_moments(moments, 1e-3, num_features=3, rank=4)
    with pytest.raises(ValueError, match="fit_moments expects num_steps >= 1"):
        amtl.fit_moments(moments, 1e-3, num_features=3, num_steps=0)


def test_no_sample_at_all(rows):
    nothing = [part[:0] for part in rows]
    moments = amtl.stream_moments(chunks_of(nothing, 4), num_tasks=NUM_TASKS)
    assert not any(np.any(leaf) for leaf in moments)
