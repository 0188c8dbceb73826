"""The rules that were tried beside alignment buy from the sources that are like the target."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import amtl_jax as amtl
from benchmarks import alignment_rules

RULES = ("power_2", "power_8", "top_15", "smoothed", "stacked")
NUM_SOURCES = 24


@pytest.fixture(scope="module")
def batch():
    """Sources 0 … 5 have the target's truth, the others another one or nothing to predict."""
    rng = np.random.default_rng(0)
    own, other = rng.normal(size=(2, 8))
    task = np.repeat(np.arange(NUM_SOURCES + 1), 40)
    x = rng.normal(size=(len(task), 8))
    is_own = (task < 6) | (task == NUM_SOURCES)
    y = np.where(is_own, x @ own, x @ other) + 0.3 * rng.normal(size=len(task))
    y[task == NUM_SOURCES - 1] = 1.0
    return amtl.pack(x, y, task, num_tasks=NUM_SOURCES + 1)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_buys_from_the_sources_that_are_like_the_target(batch, name):
    fitter = amtl.lbfgs_fitter(amtl.linear_encoder(num_features=3), num_tasks=NUM_SOURCES + 1)
    learner = amtl.active_learner(
        fitter,
        getattr(alignment_rules, name)(),
        num_sources=NUM_SOURCES,
        num_target=40,
        budget=4_000,
        schedule=(0.25, 0.75),
        penalty=1e-3,
        floor=amtl.Floor(count=0),
    )
    key = jax.random.key(0)
    state, info = jax.jit(learner.tell)(key, learner.init(key, batch), batch)
    scores = np.asarray(state.proposal.scores)
    assert np.isfinite(scores).all()
    assert (scores >= 0).all()
    assert scores[:6].sum() > 0.6 * scores.sum()
    assert bool(info.is_finite)


def test_correlations_of_predictions_are_those_of_the_rows():
    rng = np.random.default_rng(1)
    features, y = rng.normal(size=(50, 3)), rng.normal(size=50)
    weight = rng.normal(size=(4, 3, 1))
    weight[3] = 0.0
    stats = amtl.head_stats(
        jnp.asarray(features[None], jnp.float32),
        amtl.TaskBatch(
            jnp.zeros((1, 50, 1)),
            jnp.asarray(y[None, :, None], jnp.float32),
            jnp.ones((1, 50)),
            jnp.zeros(1, jnp.int32),
        ),
        num_tasks=1,
    )

    class Known:
        target_stats = jax.tree.map(lambda leaf: leaf[0], stats)
        source_heads = amtl.Heads(jnp.asarray(weight, jnp.float32), jnp.zeros((4, 1)), None)

    likeness, aligned = alignment_rules.predictions(Known)
    outputs = features @ weight[:3, :, 0].T
    whole = np.corrcoef(np.column_stack([outputs, y]).T)
    np.testing.assert_allclose(likeness[:3, :3], whole[:3, :3], atol=1e-4)
    np.testing.assert_allclose(aligned[:3], whole[3, :3], atol=1e-4)
    np.testing.assert_allclose(aligned[3], 0.0, atol=1e-6)
