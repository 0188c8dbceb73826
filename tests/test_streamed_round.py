"""A round from streamed sums: the round of the rows themselves, in whatever chunks they come."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import amtl_jax as amtl
from amtl_jax.fitting.joined_moments import join_moments, weigh_moments
from amtl_jax.fitting.moments import error_of_heads, task_moments
from amtl_jax.fitting.objective import mean_squared_error
from amtl_jax.fitting.penalty import rows_for_penalty
from amtl_jax.round_moments import moments_of_sources
from amtl_jax.source_fit import HELD_OUT_KEY
from amtl_jax.streamed_round import stream_round

NUM_SOURCES, NUM_TARGET, INPUTS, BLOCK_ROWS, NUM_BLOCKS = 4, 20, 5, 16, 40
NUM_TASKS = NUM_SOURCES + 1
KEY = jax.random.key(3)


@dataclasses.dataclass
class Campaign:
    """Rows of four sources, far from zero, and a target's sample."""

    x: np.ndarray
    y: np.ndarray
    task: np.ndarray
    weight: np.ndarray
    target: amtl.TaskBatch
    batch: amtl.TaskBatch


@functools.cache
def campaign() -> Campaign:
    rng = np.random.default_rng(0)
    task = rng.choice(NUM_SOURCES, 400, p=[0.6, 0.2, 0.15, 0.05])
    x = (rng.normal(size=(420, INPUTS)) + 5).astype(np.float32)
    theta = rng.normal(size=(INPUTS, 2)) @ rng.normal(size=(2, NUM_TASKS))
    tasks = np.append(task, np.full(NUM_TARGET, NUM_SOURCES))
    # Less noise would drown in the rounding of statistics that are not centred.
    noise = np.array([0.4, 1.0, 0.3, 0.3, 0.2])[tasks]
    y = (x * theta.T[tasks]).sum(axis=1) + noise * rng.normal(size=420)
    y = y.astype(np.float32)[:, None]
    weight = np.where(rng.random(420) < 0.1, 0, 1).astype(np.float32)
    weight[400:] = 1
    options = {"num_tasks": NUM_TASKS, "block_rows": BLOCK_ROWS}
    own = amtl.pack(x[400:], y[400:], tasks[400:], num_blocks=2, **options)
    batch = amtl.pack(x, y, tasks, weight, num_blocks=NUM_BLOCKS, **options)
    return Campaign(x[:400], y[:400], task, weight[:400], own, batch)


def streamed(key, chunk_blocks=3, intercept=True):
    rows = campaign()
    return stream_round(
        key,
        rows.x,
        rows.y,
        rows.task,
        rows.weight,
        rows.target,
        num_sources=NUM_SOURCES,
        num_blocks=NUM_BLOCKS,
        chunk_blocks=chunk_blocks,
        intercept=intercept,
    )


def close(found, expected, tolerance):
    """Within a share of each leaf's largest number."""
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * float(np.abs(b).max()))


def sources_of(batch):
    return batch._replace(weight=batch.weight * (batch.task < NUM_SOURCES)[:, None])


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("chunk_blocks", [1, 3, 1000])
def test_rows_held_out_are_those_of_a_batch(chunk_blocks, intercept):
    sources = sources_of(campaign().batch)
    held = rows_for_penalty(jax.random.fold_in(KEY, HELD_OUT_KEY), sources.weight)
    num_rows = int(jnp.sum(sources.weight > 0))
    assert int(held.sum()) == num_rows // 10 > 20
    found = streamed(KEY, chunk_blocks, intercept)
    moments = functools.partial(task_moments, num_tasks=NUM_TASKS, intercept=intercept)
    train = sources._replace(weight=jnp.where(held, 0, sources.weight))
    test = sources._replace(weight=jnp.where(held, sources.weight, 0))
    close(found.moments, moments(train), 2e-6)
    close(found.held_out, moments(test), 2e-6)
    close(moments_of_sources(found), moments(sources), 2e-6)
    known = streamed(None, chunk_blocks, intercept)
    assert known.held_out is None
    close(known.moments, moments(sources), 2e-6)
    np.testing.assert_array_equal(
        known.num_rows, np.bincount(campaign().task[campaign().weight > 0], minlength=NUM_SOURCES)
    )


@pytest.mark.parametrize("intercept", [True, False])
def test_moments_add_and_scale_like_rows(intercept):
    batch = campaign().batch
    moments = functools.partial(task_moments, num_tasks=NUM_TASKS, intercept=intercept)
    rng = np.random.default_rng(1)
    first = jnp.asarray(rng.random(batch.weight.shape) < 0.5)
    parts = [
        moments(batch._replace(weight=jnp.where(chosen, batch.weight, 0)))
        for chosen in (first, ~first)
    ]
    close(join_moments(*parts), moments(batch), 2e-6)
    close(join_moments(*parts, 0.0), parts[0], 0.0)
    both = batch._replace(weight=jnp.where(first, batch.weight, 0.25 * batch.weight))
    close(join_moments(*parts, 0.25), moments(both), 2e-6)
    factors = jnp.asarray([0.5, 2.0, 1.0, 3.0, 0.1])
    weighed = batch._replace(weight=batch.weight * factors[batch.task][:, None])
    close(weigh_moments(moments(batch), factors), moments(weighed), 2e-6)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("kind", ["linear", "identity"])
def test_the_error_on_other_rows_is_theirs(kind, intercept):
    """Heads of some rows, measured on others, by rows and by moments."""
    batch = campaign().batch
    encoder = amtl.linear_encoder(2) if kind == "linear" else amtl.identity_encoder(INPUTS)
    params = encoder.init(jax.random.key(0), batch.x[0])
    features = amtl.encode(encoder, params, batch.x)
    chosen = (jnp.arange(BLOCK_ROWS) % 2 == 0)[None]
    train, test = (
        batch._replace(weight=jnp.where(part, batch.weight, 0)) for part in (chosen, ~chosen)
    )
    stats = amtl.head_stats(features, train, num_tasks=NUM_TASKS)
    heads = amtl.solve_heads(stats, ridge=1.0, intercept=intercept)
    kernel = params["params"]["kernel"] if kind == "linear" else None
    found = error_of_heads(
        task_moments(test, num_tasks=NUM_TASKS, intercept=intercept), kernel, heads
    )
    expected = mean_squared_error(heads, features, test)
    assert float(found) == pytest.approx(float(expected), rel=1e-4)


def learner(kind, *, intercept=True, **options):
    tasks = {"num_tasks": NUM_TASKS, "intercept": intercept}
    if kind == "identity":
        fitter = amtl.frozen_fitter(amtl.identity_encoder(INPUTS), **tasks)
    else:
        encoder = amtl.linear_encoder(3 if kind == "aic" else 2)
        rank = "aic" if kind == "aic" else None
        fitter = amtl.gram_fitter(encoder, num_steps=500, tolerance=1e-8, rank=rank, **tasks)
    return amtl.active_learner(
        fitter,
        options.pop("strategy", amtl.a_mtrl()),
        num_sources=NUM_SOURCES,
        num_target=NUM_TARGET,
        budget=400,
        penalties=(1e-1, 1e-2, 1e-3),
        **options,
    )


def theta_of(kind, state, info):
    """`[M + 1, D, O]` what the heads make of the inputs: no rotation of the features changes it."""
    kernel = jnp.eye(INPUTS) if kind == "identity" else state.params["params"]["kernel"]
    return np.einsum("dk,mko->mdo", kernel, info.fit.heads.weight)


CASES = {
    "linear": ("linear", {}),
    "identity": ("identity", {}),
    "aic": ("aic", {}),
    "no intercept": ("linear", {"intercept": False}),
    "noise": ("linear", {"weigh_noise": True}),
    "target in the fit": ("linear", {"strategy": amtl.a_mtrl(target_in_fit=True)}),
    "target in all": ("identity", {"join_target": True, "weigh_noise": True}),
    "lambda given": ("linear", {"penalty": 1e-2}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_round_is_that_of_the_rows(case):
    """Two rounds, the first of which chooses λ, on the same rows; descents stop where they may."""
    kind, options = CASES[case]
    intercept = options.get("intercept", True)
    ours = learner(kind, **options)
    batch = campaign().batch
    state = other = ours.init(KEY, batch)
    tell = jax.jit(ours.tell)
    for index in range(2):
        key = jax.random.fold_in(KEY, index)
        state, info = tell(key, state, batch)
        chooses = key if np.isnan(other.penalty) else None
        other, found = tell(key, other, streamed(chooses, intercept=intercept))
        assert bool(found.is_finite)
        assert float(other.penalty) == float(state.penalty)
        np.testing.assert_array_equal(other.spent, state.spent)
        np.testing.assert_allclose(found.penalty_losses, info.penalty_losses, rtol=1e-3)
        close(found.evidence.alignment, info.evidence.alignment, 1e-3)
        close(other.task_noise, state.task_noise, 1e-3)
        assert float(found.target_loss) == pytest.approx(float(info.target_loss), rel=1e-3)
        close(theta_of(kind, other, found), theta_of(kind, state, info), 1e-3)
    assert np.all(np.isfinite(state.proposal.scores))
    close(other.proposal.scores, state.proposal.scores, 5e-3)


def test_a_fit_that_needs_its_rows_is_refused():
    fitter = amtl.lbfgs_fitter(amtl.linear_encoder(2), num_tasks=NUM_TASKS)
    ours = amtl.active_learner(
        fitter, amtl.uniform(), num_sources=NUM_SOURCES, num_target=NUM_TARGET, budget=400
    )
    state = ours.init(KEY, campaign().batch)
    with pytest.raises(ValueError, match="expects a fit of moments, gram_fitter or frozen_fitter"):
        ours.tell(KEY, state, streamed(KEY))
