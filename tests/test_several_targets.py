"""One campaign for several targets, and campaigns of several seeds in one call."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import amtl_jax as amtl

pytestmark = pytest.mark.usefixtures("full_compiles")  # numbers are compared to their last digits

M, D, K, NUM_TARGET, BUDGET = 6, 6, 3, 24, 400
KEY = jax.random.key(0)
# Sources 0 to 3 know the first direction; only source 4 knows the second, only source 5 the third.
HEADS = np.eye(K)[[0, 0, 0, 0, 1, 2]]
TARGETS = np.eye(K)[[1, 2]]


def rows(counts, heads, first_task, seed):
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(np.random.default_rng(99).normal(size=(D, K)))
    task = np.repeat(np.arange(len(heads)), counts)
    x = rng.normal(size=(len(task), D))
    y = np.einsum("nd,dk,nk->n", x, basis, heads[task]) + 0.3 * rng.normal(size=len(task))
    return x, y[:, None], task + first_task


def batch_of(counts, targets=TARGETS, seed=0):
    """The sources' rows and, whatever targets there are, the same rows of each."""
    parts = [rows(counts, HEADS, 0, seed)]
    for index, head in enumerate(targets):
        own = int(np.argmax(head))
        parts.append(rows([NUM_TARGET], head[None], M + index, 100 * own + seed))
    x, y, task = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    num_tasks = M + len(targets)
    num_blocks = amtl.max_blocks(BUDGET + NUM_TARGET * len(targets), num_tasks, 8)
    return amtl.pack(x, y, task, num_tasks=num_tasks, block_rows=8, num_blocks=num_blocks)


@functools.cache
def fitter(num_targets, num_steps=60):
    encoder = amtl.linear_encoder(K)
    num_tasks = M + num_targets
    return amtl.lbfgs_fitter(encoder, num_tasks=num_tasks, intercept=False, num_steps=num_steps)


def learner_of(strategy, num_targets, **options):
    options = {"schedule": (0.4, 0.6), "penalty": 1e-4, "floor": amtl.Floor(count=2)} | options
    return amtl.active_learner(
        options.pop("fitter", fitter(num_targets or 1)),
        strategy,
        num_sources=M,
        num_target=NUM_TARGET,
        budget=BUDGET,
        num_targets=num_targets,
        **options,
    )


@functools.cache
def rules(num_targets):
    """A learner of all rules, its `tell`, and a list that grows by one with every trace of it."""
    joined = amtl.one_of((amtl.uniform(), amtl.a_mtrl(), amtl.l1_a_mtrl()))
    learner = learner_of(joined, num_targets)
    traces = []

    def tell(key, state, batch):
        traces.append(num_targets)
        return learner.tell(key, state, batch)

    return learner, jax.jit(tell), traces


def campaign(index, num_targets, targets, seed=0):
    learner, tell, _ = rules(num_targets)
    key = jax.random.key(seed)
    batch = batch_of(np.zeros(M, int), targets, seed)
    state, history = amtl.choose(learner.init(key, batch), index), []
    for number in range(2):
        own = jax.random.fold_in(key, number)
        counts = np.asarray(learner.ask(own, state))
        batch = batch_of(np.asarray(state.spent) + counts, targets, seed)
        state, info = tell(own, state, batch)
        history.append((counts, state, info, batch))
    return history


@pytest.mark.parametrize("index", [0, 1, 2])
def test_one_of_several_is_one(index):
    """T = 1 buys the counts of a learner without the axis, and finds the same head."""
    for seed in range(3):
        alone = campaign(index, None, TARGETS[:1], seed)
        listed = campaign(index, 1, TARGETS[:1], seed)
        for (counts, state, info, _), (again, own, report, _) in zip(alone, listed, strict=True):
            np.testing.assert_array_equal(counts, again)
            chex.assert_trees_all_close(own.target_head, _led(state.target_head), rtol=1e-4)
            for name in ("alignment", "target_loss", "target_ridge", "diagnosis"):
                one, other = getattr(info, name), getattr(report, name)
                chex.assert_trees_all_close(other, _led(one), rtol=1e-4, atol=1e-5)
            chex.assert_trees_all_close(report.relevance.nu, info.relevance.nu[None], atol=1e-4)
            assert report.is_finite


def _led(tree):
    return jax.tree.map(lambda leaf: leaf[None], tree)


def test_targets_that_need_another_source_each_both_get_it():
    for index in (1, 2):
        both, first, second = (
            campaign(index, num_targets, targets)[1][0]
            for num_targets, targets in (
                (2, TARGETS),
                (None, TARGETS[:1]),
                (None, TARGETS[1:]),
            )
        )
        assert both.sum() == first.sum() == second.sum() == 240
        assert first[4] > 150 > 40 > first[5]
        assert second[5] > 150 > 40 > second[4]
        assert both[4] > 80
        assert both[5] > 80


def test_one_trace_serves_every_rule_and_round():
    for index in range(3):
        campaign(index, 2, TARGETS)
    assert rules(2)[2] == [2]


def test_every_target_has_the_head_of_a_learner_of_its_own():
    counts, state, info, _ = campaign(2, 2, TARGETS)[1]
    assert counts.shape == (M,)
    chex.assert_shape(state.target_head.weight, (2, K, 1))
    chex.assert_shape([info.alignment, info.relevance.nu, state.proposal.relevance.nu], (2, M))
    chex.assert_shape([info.target_loss, info.target_ridge, info.diagnosis.unexplained], (2,))
    for index in range(2):
        alone = batch_of(np.asarray(state.spent), TARGETS[index : index + 1])
        found = amtl.fit_target(
            fitter(1).encoder,
            state.params,
            alone,
            task=M,
            num_target=NUM_TARGET,
            intercept=False,
        )
        own = jax.tree.map(lambda leaf, index=index: leaf[index], state.target_head)
        chex.assert_trees_all_close(own, found.ridge.head, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(info.target_loss[index], found.ridge.loss, rtol=1e-3)
    # Target 0 is like source 4's head, target 1 like source 5's.
    assert info.alignment.argmax(axis=1).tolist() == [4, 5]
    assert np.abs(info.relevance.nu).argmax(axis=1).tolist() == [4, 5]


def test_a_rule_that_knows_no_target_joins_the_others():
    known = amtl.known_relevance(np.eye(M)[3])
    learner = learner_of(amtl.one_of((known, amtl.l1_a_mtrl())), 2)
    batch = batch_of(np.full(M, 20))
    state = learner.init(KEY, batch)
    later, _ = jax.eval_shape(learner.tell, KEY, state, batch)
    chex.assert_trees_all_equal_shapes_and_dtypes(later, state)
    np.testing.assert_array_equal(state.proposal.relevance.nu, np.eye(M)[[3, 3]])


@pytest.mark.parametrize("option", ["target_in_fit", "join_target", "weigh_noise"])
def test_all_targets_join_a_fit(option):
    strategy = amtl.uniform(target_in_fit=option == "target_in_fit")
    options = {option: True} if option != "target_in_fit" else {}
    learner = learner_of(strategy, 2, fitter=fitter(2, num_steps=5), **options)
    batch = batch_of(np.full(M, 20))
    state = learner.init(KEY, batch)
    found, info = jax.jit(learner.tell)(KEY, state, batch)
    chex.assert_trees_all_equal_shapes_and_dtypes(found, state)
    chex.assert_shape(found.task_noise, (M + 2,))
    assert info.is_finite
    joined = np.abs(info.fit.heads.weight[M:]).max(axis=(1, 2)) > 0.1
    assert joined.tolist() == [option == "join_target"] * 2
    assert (found.task_noise != 1).all() == (option == "weigh_noise")


def test_more_rows_of_a_target_than_announced_are_reported():
    learner = learner_of(amtl.uniform(), 2, fitter=fitter(2, num_steps=5))
    batch = batch_of(np.full(M, 20))
    task = batch.task.at[-1].set(M + 1)  # pads of the batch's end become rows of target 1
    weight = batch.weight.at[-1].set(1)
    task = jnp.where((batch.task == M + 1) | (task == M + 1), M + 1, batch.task)
    batch = batch._replace(weight=weight, task=task)
    _, info = jax.jit(learner.tell)(KEY, learner.init(KEY, batch), batch)
    assert np.isnan(info.target_loss).tolist() == [False, True]
    assert not info.is_finite


def test_learners_of_no_target_or_another_fitter_are_refused():
    with pytest.raises(ValueError, match="num_targets >= 1 or None, got 0"):
        learner_of(amtl.uniform(), 0, fitter=fitter(1))
    with pytest.raises(ValueError, match=r"num_sources . 2 = 8, every target .* got 7"):
        learner_of(amtl.uniform(), 2, fitter=fitter(1))


@pytest.mark.parametrize("num_targets", [None, 2])
def test_seeds_can_be_mapped_over(num_targets):
    """`ask` and `tell` of stacked states are those of one seed after the other."""
    targets = TARGETS[:1] if num_targets is None else TARGETS
    strategy = amtl.l1_a_mtrl(target_in_fit=True)
    options = {"join_target": True, "weigh_noise": num_targets is None, "penalty": None}
    few_steps = fitter(num_targets or 1, num_steps=4)
    learner = learner_of(strategy, num_targets, fitter=few_steps, penalties=(1e-2, 1e-3), **options)
    batches = [batch_of(np.full(M, 26) + np.arange(M), targets, seed) for seed in range(3)]
    keys = jax.random.split(KEY, 3)
    tell, ask = jax.jit(jax.vmap(learner.tell)), jax.vmap(learner.ask)
    states = [learner.init(key, batch) for key, batch in zip(keys, batches, strict=True)]
    stack = functools.partial(jax.tree.map, lambda *leaves: jnp.stack(leaves))
    state = stack(*states)
    state, info = tell(keys, state, stack(*batches))
    counts = ask(keys, state)
    one_tell = jax.jit(learner.tell)
    for index in range(3):
        alone, report = one_tell(keys[index], states[index], batches[index])
        np.testing.assert_array_equal(learner.ask(keys[index], alone), counts[index])
        own = jax.tree.map(lambda leaf, index=index: leaf[index], (state, info))
        chex.assert_trees_all_close(own, (alone, report), rtol=2e-3, atol=2e-3)
