"""The learner: budgets met, one trace for all, replayed bit for bit, bad plans refused."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import amtl_jax as amtl
from amtl_jax.round_plan import SCHEDULE

NUM_SOURCES, NUM_TARGET, BUDGET = 8, 20, 400
OPTIONS = {"num_sources": NUM_SOURCES, "num_target": NUM_TARGET, "budget": BUDGET}
KEY = jax.random.key(0)


@functools.cache
def source(seed=0, scenario="dup"):
    return amtl.SyntheticSource(
        amtl.synthetic_truth(
            scenario, seed=seed, num_tasks=NUM_SOURCES, input_dim=6, num_features=2, noise=0.3
        )
    )


@functools.cache
def fitter():
    return amtl.lbfgs_fitter(
        amtl.linear_encoder(2), num_tasks=NUM_SOURCES + 1, intercept=False, num_steps=30
    )


def learner_of(strategy, **options):
    return amtl.active_learner(fitter(), strategy, **OPTIONS | options)


def batch_of(spent, data=None, key=KEY, num_rows=BUDGET + NUM_TARGET):
    data = data or source()
    rows, target = data.draw(key, np.asarray(spent)), data.draw_target(key, NUM_TARGET)
    x, y, task = (np.concatenate(parts) for parts in zip(rows[:3], target[:3], strict=True))
    num_blocks = amtl.max_blocks(num_rows, NUM_SOURCES + 1, 16)
    return amtl.pack(x, y, task, num_tasks=NUM_SOURCES + 1, block_rows=16, num_blocks=num_blocks)


@functools.cache
def every_rule():
    """One learner for all rules, its jitted functions, and how often `tell` was traced."""
    rules = (amtl.uniform(), amtl.a_mtrl(), amtl.l1_a_mtrl())
    learner = learner_of(amtl.one_of(rules))
    return learner, jax.jit(learner.ask), jax.jit(chex.assert_max_traces(n=1)(learner.tell))


def campaign(index, data=None, key=KEY, rounds=4):
    learner, ask, tell = every_rule()
    state = amtl.choose(learner.init(key, batch_of(np.zeros(NUM_SOURCES, int))), index)
    history = []
    for number in range(rounds):
        own = jax.random.fold_in(key, number)
        counts = np.asarray(ask(own, state))
        state, info = tell(own, state, batch_of(np.asarray(state.spent) + counts, data, key))
        history.append((counts, state, info))
    return history


def test_rounds_spend_the_budget_and_keep_the_floor():
    learner, ask, _ = every_rule()
    assert sum(learner.budgets) == BUDGET
    for index in range(3):
        history = campaign(index)
        for (counts, _, info), budget, floor in zip(
            history, learner.budgets, learner.floors, strict=True
        ):
            assert counts.sum() == budget
            assert counts.min() >= floor
            np.testing.assert_array_equal(info.counts, counts)
            assert info.is_finite
            assert info.relevance.ok
        state = history[-1][1]
        assert state.spent.sum() == BUDGET
        assert ask(KEY, state).sum() == 0  # nothing is left to buy


def test_first_round_is_the_same_for_every_rule_and_later_ones_differ():
    first = [campaign(index)[0] for index in range(3)]
    for counts, _, info in first[1:]:
        np.testing.assert_array_equal(counts, first[0][0])
        np.testing.assert_array_equal(info.fit.objective, first[0][2].fit.objective)
    second = [campaign(index)[1][0] for index in range(3)]
    assert len({tuple(counts) for counts in second}) == 3
    # only the last source knows the target's direction: the rules find it
    assert second[1].argmax() == second[2].argmax() == NUM_SOURCES - 1


@pytest.mark.parametrize("warm", [True, False])
def test_a_round_starts_where_the_one_before_ended_or_afresh(warm):
    few = amtl.lbfgs_fitter(
        amtl.linear_encoder(2), num_tasks=NUM_SOURCES + 1, intercept=False, num_steps=1
    )
    learner = amtl.active_learner(few, amtl.uniform(), **OPTIONS, penalty=1e-3, warm_start=warm)
    batch = batch_of(np.full(NUM_SOURCES, BUDGET // NUM_SOURCES))
    first = learner.init(KEY, batch)
    fit = jax.jit(lambda state: learner.fit_sources(KEY, state, batch).fit.objective)
    elsewhere = jax.tree.map(lambda leaf: jnp.flip(leaf) + 0.5, first.params)
    later = first._replace(round=jnp.int32(1))
    again, moved = fit(later), fit(later._replace(params=elsewhere))
    assert (float(again) == float(moved)) != warm
    if not warm:
        assert float(moved) == float(fit(first))


def test_the_rules_learn_more_than_uniform_where_one_source_knows():
    truth = amtl.synthetic_truth(
        "dup", seed=0, num_tasks=NUM_SOURCES, input_dim=6, num_features=2, noise=0.3
    )
    theta = jnp.asarray(truth.encoder @ truth.target_head, jnp.float32)

    def risk(index, seed):
        state = campaign(index, key=jax.random.key(seed))[-1][1]
        return float(amtl.representation_risk(state.params["params"]["kernel"], theta))

    risks = np.array([[risk(index, seed) for index in range(3)] for seed in range(5)])
    uniform, a_mtrl, l1 = risks.mean(axis=0)
    assert a_mtrl < 0.6 * uniform
    assert l1 < 0.6 * uniform


def test_tell_compiles_once_for_every_target_seed_and_allocation():
    # assert_max_traces in every_rule() raises on a second trace
    for index, seed, scenario in ((0, 0, "dup"), (1, 1, "gauss"), (2, 2, "spread")):
        campaign(index, source(seed, scenario), jax.random.key(seed), rounds=2)


def test_a_round_replays_bit_for_bit():
    first, second = campaign(2, rounds=2), campaign(2, rounds=2)
    chex.assert_trees_all_equal(first[-1][1], second[-1][1])


def test_state_holds_no_rows_and_no_keys():
    state = campaign(0, rounds=1)[0][1]
    for leaf in jax.tree.leaves(state):
        assert not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        assert leaf.size <= 6 * 2 + NUM_SOURCES * 2  # nothing that grows with the samples


def test_penalty_is_chosen_once_and_kept():
    history = campaign(1)
    assert np.isfinite(history[0][2].penalty_losses).any()
    for _, state, info in history[1:]:
        assert np.isnan(info.penalty_losses).all()
        assert state.penalty == history[0][1].penalty
    given = learner_of(amtl.uniform(), penalty=1e-3)
    batch = batch_of(np.full(NUM_SOURCES, 15))
    _, info = jax.jit(given.tell)(KEY, given.init(KEY, batch), batch)
    assert info.penalty == jnp.float32(1e-3)


def test_known_relevance_buys_by_it_from_the_first_round():
    nu = np.zeros(NUM_SOURCES)
    nu[3] = -2.0
    learner = learner_of(amtl.known_relevance(nu), schedule=(1.0,), floor=amtl.Floor(count=0))
    state = learner.init(KEY, batch_of(np.zeros(NUM_SOURCES, int)))
    assert learner.ask(KEY, state).tolist() == [0, 0, 0, 400, 0, 0, 0, 0]


def test_strategies_of_wanted_totals_get_what_is_missing():
    def init(num_sources):
        wanted = jnp.asarray([100.0, 80, 60, 40, 20, 20, 40, 40])
        proposal, state = amtl.uniform().init(num_sources)
        return proposal._replace(scores=wanted, cumulative=jnp.asarray(True)), state

    strategy = amtl.uniform()._replace(init=init)
    learner = learner_of(strategy, schedule=(0.5, 0.5), floor=amtl.Floor(count=0))
    state = learner.init(KEY, batch_of(np.zeros(NUM_SOURCES, int)))
    half = learner.ask(KEY, state)
    assert half.tolist() == [50, 40, 30, 20, 10, 10, 20, 20]
    later = learner.ask(KEY, state._replace(spent=jnp.asarray([100, 80, 0, 0, 0, 0, 0, 20])))
    assert later[:2].tolist() == [0, 0]
    assert later.sum() == 200


def test_target_joins_the_relevance_fit_on_request_only():
    batch = batch_of(np.full(NUM_SOURCES, 15))
    seen = {}

    def watching(name, in_fit):
        plain = amtl.uniform()

        def update(evidence, state):
            seen[name] = evidence
            return plain.update(evidence, state)

        return plain._replace(update=update, target_in_fit=in_fit)

    for name, in_fit in (("out", False), ("in", True)):
        learner = learner_of(watching(name, in_fit), penalty=1e-3)
        state, _ = learner.tell(KEY, learner.init(KEY, batch), batch)
        seen[name, "params"] = state.params
    assert seen["out"].intercept.dtype == bool
    assert not seen["out"].intercept  # as the fitter says
    difference = seen["in"].source_heads.weight - seen["out"].source_heads.weight
    assert jnp.abs(difference).max() > 1e-5
    chex.assert_trees_all_close(seen["in", "params"], seen["out", "params"])  # the final fit


def test_target_joins_what_is_returned_on_request():
    batch = batch_of(np.full(NUM_SOURCES, 15))
    found, evidence = {}, {}

    def watching(name, in_fit):
        def update(seen, state):
            evidence[name] = seen
            return amtl.uniform().update(seen, state)

        return amtl.uniform(target_in_fit=in_fit)._replace(update=update)

    for name, join, in_fit in (("out", False, True), ("in", True, True), ("kept", True, False)):
        learner = learner_of(watching(name, in_fit), join_target=join, penalties=(1e-2, 1e-3))
        found[name] = learner.tell(KEY, learner.init(KEY, batch), batch)
    (out, _), (state, info), (kept, _) = (found[name] for name in ("out", "in", "kept"))
    assert state.penalty == out.penalty  # chosen on rows of the sources alone
    assert state.held_out_loss == out.held_out_loss
    joint = fitter().fit(out.params, batch, out.penalty)
    chex.assert_trees_all_close((state.params, info.fit.objective), (joint.params, joint.objective))
    assert info.fit.objective != found["out"][1].fit.objective
    target = amtl.fit_target(
        fitter().encoder,
        joint.params,
        batch,
        task=NUM_SOURCES,
        num_target=NUM_TARGET,
        intercept=False,
    )
    chex.assert_trees_all_close(state.target_head, target.ridge.head)
    chex.assert_trees_all_close(state.target_head, evidence["in"].target_head)
    # What is returned is one thing, what the rule looks at another.
    chex.assert_trees_all_close(kept.params, state.params)
    chex.assert_trees_all_close(evidence["kept"].target_head, out.target_head)


def test_alignment_is_the_correlation_with_predictions():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(50, 3)) + 1, rng.normal(size=(50, 1))
    labels[:, 0] += features[:, 0]
    weight = rng.normal(size=(4, 3, 1))
    weight[3] = 0
    batch = amtl.pack(features, labels, np.zeros(50, int), num_tasks=1)
    stats = jax.tree.map(lambda leaf: leaf[0], amtl.head_stats(batch.x, batch, num_tasks=1))
    heads = amtl.Heads(jnp.asarray(weight, jnp.float32), jnp.zeros((4, 1)), jnp.zeros((4, 1)))
    expected = [np.corrcoef(features @ w[:, 0], labels[:, 0])[0, 1] for w in weight[:3]]
    np.testing.assert_allclose(amtl.alignment(heads, stats), [*expected, 0.0], atol=1e-5)


@pytest.mark.parametrize("label", [0.0, 1.0, -0.37, 0.1, 1e3])
def test_nothing_is_aligned_with_labels_that_are_all_alike(label):
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(20, 3)), np.full((20, 1), label)
    batch = amtl.pack(features, labels, np.zeros(20, int), num_tasks=1)
    stats = jax.tree.map(lambda leaf: leaf[0], amtl.head_stats(batch.x, batch, num_tasks=1))
    weight = jnp.asarray(rng.normal(size=(4, 3, 1)), jnp.float32)
    heads = amtl.Heads(weight, jnp.zeros((4, 1)), jnp.zeros((4, 1)))
    np.testing.assert_array_equal(amtl.alignment(heads, stats), 0)


def test_more_target_rows_than_announced_are_reported_not_dropped():
    batch = batch_of(np.full(NUM_SOURCES, 15))
    learner = learner_of(amtl.uniform(), num_target=4, penalty=1e-3)
    _, info = learner.tell(KEY, learner.init(KEY, batch), batch)
    assert np.isnan(info.target_loss)
    assert not info.is_finite


def test_prices_and_capacity_reach_the_counts():
    price = np.array([1.0, 2, 4, 1, 1, 1, 1, 1])
    learner = learner_of(
        amtl.uniform(), budget=120.0, price=price, capacity=np.full(NUM_SOURCES, 30)
    )
    counts = learner.ask(KEY, learner.init(KEY, batch_of(np.zeros(NUM_SOURCES, int))))
    spending = float(price @ np.asarray(counts))
    assert 36.0 - price.min() < spending <= 36.0
    assert max(learner.floors) * price.sum() <= 36.0


def test_money_a_round_could_not_spend_goes_to_the_next():
    learner = learner_of(
        amtl.uniform(),
        budget=100.0,
        price=np.full(NUM_SOURCES, 10.0),
        schedule=(0.25,) * 4,
        floor=amtl.Floor(count=0),
    )
    state = learner.init(KEY, batch_of(np.zeros(NUM_SOURCES, int)))
    bought = []
    for _ in range(4):
        counts = learner.ask(KEY, state)
        bought.append(int(counts.sum()))
        spent = state.spent + counts
        state = state._replace(round=state.round + 1, spent=spent, paid=10.0 * spent.sum())
    assert bought == [2, 3, 2, 3]


def test_an_exhausted_source_gets_nothing():
    learner = learner_of(amtl.uniform(), capacity=[0, np.inf, *[2**40] * 6])
    counts = learner.ask(KEY, learner.init(KEY, batch_of(np.zeros(NUM_SOURCES, int))))
    assert counts[0] == 0
    assert counts.sum() == 120


def fresh(learner):
    return learner.init(KEY, batch_of(np.zeros(NUM_SOURCES, int)))


GROUPS = [7, 3, 7, 5, 3, 3, 9, 7]  # 0 2 7, 1 4 5, 3, 6


def test_a_group_is_bought_and_paid_as_one():
    learner = learner_of(amtl.uniform(), group=GROUPS)
    assert learner.floors == (9, 4, 6, 0)  # 30 % of 120, 59, 88, 133 over four groups
    state = fresh(learner)
    assert learner.ask(KEY, state).tolist() == [30] * 8  # 120 samples of four groups
    counts = np.full(NUM_SOURCES, 30)
    state, info = jax.jit(learner.tell)(KEY, state, batch_of(counts))
    assert (int(state.paid), state.paid.dtype) == (120, jnp.int32)
    np.testing.assert_array_equal(info.counts, counts)
    assert learner.ask(KEY, state).tolist() == [15, 15, 15, 15, 15, 15, 14, 15]


def test_a_joint_price_is_paid_once():
    price = np.array([2.0, 1, 2, 4, 1, 1, 3, 2])
    options = {"budget": 100.0, "price": price, "schedule": (0.4, 0.6), "group": GROUPS}
    learner = learner_of(amtl.uniform(), floor=amtl.Floor(count=0), **options)
    first = np.asarray(learner.ask(KEY, fresh(learner)))
    for members in ([0, 2, 7], [1, 4, 5]):
        assert len(set(first[members])) == 1
    assert 40 - 1 < price[[0, 1, 3, 6]] @ first[[0, 1, 3, 6]] <= 40
    # A label that is missing was paid with the others of its input.
    told = first.copy()
    told[0] -= 3
    state, _ = jax.jit(learner.tell)(KEY, fresh(learner), batch_of(told))
    assert state.paid == price[[0, 1, 3, 6]] @ first[[0, 1, 3, 6]]
    np.testing.assert_array_equal(state.spent, told)


def test_a_split_over_groups_is_c_optimal():
    """Σ_m nu_m² / n_group(m) is least, against every split of 40 samples over three groups."""
    nu, group = np.array([3.0, 0, 1, 2, 2, 1, 0.5, 0]), [0, 0, 0, 1, 1, 2, 2, 2]
    rule = amtl.known_relevance(nu)
    options = {"budget": 40, "schedule": (1.0,), "floor": amtl.Floor(count=0), "group": group}
    counts = np.asarray(learner_of(rule, **options).ask(KEY, fresh(learner_of(rule, **options))))
    cost = np.bincount(group, weights=nu**2)

    def risk(split):
        return (cost / np.asarray(split)).sum()

    splits = [(a, b, 40 - a - b) for a in range(1, 39) for b in range(1, 40 - a)]
    found = counts[[0, 3, 5]]
    assert found.sum() == 40
    assert risk(found) <= min(map(risk, splits)) * 1.001


def test_groups_of_one_change_no_number():
    plain, grouped = learner_of(amtl.l1_a_mtrl()), learner_of(amtl.l1_a_mtrl(), group=range(8))
    state = fresh(plain)._replace(proposal=campaign(2)[0][1].proposal)
    np.testing.assert_array_equal(plain.ask(KEY, state), grouped.ask(KEY, state))


@pytest.mark.parametrize("bad", [np.nan, -1.0])
def test_a_bad_score_in_a_group_is_reported(bad):
    learner = learner_of(amtl.uniform(), group=GROUPS)
    state = fresh(learner)
    scores = state.proposal.scores.at[4].set(bad).at[1].set(2.0)
    state = state._replace(proposal=state.proposal._replace(scores=scores))
    assert learner.ask(KEY, state).tolist() == [-1] * 8


def test_what_was_paid_counts_not_what_was_asked():
    learner, ask, _ = every_rule()
    counts, state, _ = campaign(0, rounds=1)[0]
    bought = counts - np.arange(8)  # 28 of 120 did not come, and 7 of the others have no label
    later, info = jax.jit(learner.tell)(
        KEY, fresh(learner), batch_of(bought - np.eye(8, dtype=int)[0] * 7), bought, bought.sum()
    )
    np.testing.assert_array_equal(info.counts, bought)
    np.testing.assert_array_equal(later.spent, bought)
    assert later.paid == 120 - 28
    assert ask(KEY, later).sum() == 59 + 28  # the next round makes up for it
    surplus = state._replace(paid=jnp.int32(120 + 57))
    found = ask(KEY, surplus)
    assert found.sum() == 2  # 59 − 57 samples do not carry a floor of one each
    assert ask(KEY, state._replace(paid=jnp.int32(200))).tolist() == [0] * 8
    # What was free leaves a budget for the end that only the capacity bounds.
    end = state._replace(round=jnp.int32(3), paid=jnp.int32(0), spent=jnp.full(8, 40))
    small = learner_of(amtl.uniform(), capacity=np.full(8, 50))
    assert small.ask(KEY, fresh(small)._replace(round=end.round, spent=end.spent)).sum() == 80


@pytest.mark.parametrize("left", [0.0, 0.9, 7.0, 18.0, 60.0])
def test_the_floor_is_what_the_money_carries(left):
    """The largest floor, against trying all of them."""
    price = np.array([1.0, 2, 4, 1, 1, 1, 1, 1])
    learner = learner_of(
        amtl.known_relevance(np.eye(8)[0]),
        budget=200.0,
        price=price,
        schedule=(0.5, 0.5),
        floor=amtl.Floor(count=6),
    )
    state = fresh(learner)._replace(round=jnp.int32(1), paid=jnp.float32(200 - left))
    counts = np.asarray(learner.ask(KEY, state))
    best = max(floor for floor in range(7) if floor * price.sum() <= left)
    assert counts[1:].min() >= best
    assert left - 1 < price @ counts <= left
    assert counts[2] == best  # dear, and not wanted beyond the floor


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": [0, 1]}, r"group as 8 integers, one per source, got shape \(2,\)"),
        ({"group": np.zeros(8)}, "group as 8 integers"),
        (
            {"group": GROUPS, "capacity": [99, 90, 99, 99, 90, 80, 99, 99]},
            "need one capacity: sources 1, 4, 5 have 90, 90, 80",
        ),
        (
            {"group": GROUPS, "price": [1.0, 1, 1, 1, 1, 1, 1, 2.5]},
            "need one price: sources 0, 2, 7 have 1, 1, 2.5",
        ),
        ({"group": [0] * 8, "capacity": [399] * 8}, "400 samples is beyond .* capacity of 399"),
        ({"num_sources": 0}, "num_sources=0"),
        ({"num_target": 0}, "num_target=0"),
        ({"penalty": -1.0}, "penalty >= 0 or None, got -1.0"),
        ({"penalties": (1e-4, 1e-2)}, "strongest first"),
        ({"penalties": (1e-2, -1.0)}, "positive penalties"),
        ({"num_sources": 7}, "num_tasks = num_sources . 1 = 8, .* got 9"),
        ({"capacity": np.full(8, 20.5)}, "8 whole numbers >= 0"),
        (
            {"price": np.ones(8), "floor": amtl.Floor(count=15), "schedule": (0.3, 0.7)},
            "A floor of 15 samples costs 120",
        ),
        ({"capacity": np.ones(3, int)}, r"capacity as 8 whole numbers.*\(3,\)"),
        ({"capacity": np.full(8, 10)}, "400 samples is beyond the sources' capacity of 80"),
        ({"price": -np.ones(8)}, "price as 8 positive numbers"),
        ({"floor": amtl.Floor(root=True), "budget": 200}, r"8 tasks × 5 samples.*M² = 64"),
        ({"floor": amtl.Floor(count=30)}, "30 samples for a budget of 120"),
        ({"schedule": (1.0, 0.0)}, "positive share a round"),
    ],
)
def test_plans_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        learner_of(amtl.uniform(), **options)


def test_floors_by_rule():
    assert SCHEDULE == (0.300, 0.147, 0.221, 0.332)
    # 30 % of 120, 59, 88, 133 over 8 sources; none in the end
    assert learner_of(amtl.uniform()).floors == (4, 2, 3, 0)
    assert learner_of(amtl.uniform(), budget=4000).floors == (10, 10, 10, 0)
    assert learner_of(amtl.uniform(), floor=amtl.Floor(share=0.2)).floors == (3, 1, 2, 3)
    assert learner_of(amtl.uniform(), floor=amtl.Floor(count=2)).floors == (2, 2, 2, 2)
    root = learner_of(amtl.uniform(), budget=4000, floor=amtl.Floor(root=True))
    assert root.floors == (34, 24, 29, 36)
