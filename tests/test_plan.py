"""Plans: splits by rule, predicted risk against money, labels or sources, and payoff beforehand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import amtl_jax as amtl
from amtl_jax.forecast import draw_risks, known_heads
from amtl_jax.paired_risk import paired_risks, share_worse
from amtl_jax.plan_ahead import adaptivity_pays
from amtl_jax.plan_money import next_money, samples_for
from amtl_jax.plan_split import RULES, plan_allocation
from amtl_jax.plans import plan


@functools.cache
def known(scenario="dup2", input_dim=40, num_tasks=12):
    """Heads of a reference scenario, as a single draw."""
    truth = amtl.synthetic_truth(scenario, num_tasks=num_tasks, input_dim=input_dim)
    return known_heads(
        truth.source_heads.T, truth.target_head, noise_variance=1.0, input_dim=input_dim
    )


@functools.cache
def right_angle():
    """Two sources at a right angle, target .6 of the first and .8 of the second; D − K = 1."""
    return known_heads(np.eye(2), [0.6, 0.8], noise_variance=1.0, input_dim=3)


@pytest.mark.parametrize(
    ("rule", "options", "expected"),
    [
        ("uniform", {}, [700, 700]),
        ("a_mtrl", {}, [504, 896]),  # 1,400 ∝ .36 and .64
        ("l1_a_mtrl", {}, [600, 800]),
        ("c_optimal", {}, [600, 800]),
        ("l1_a_mtrl", {"spent": [1000, 0]}, [1000, 400]),
        ("c_optimal", {"spent": [1000, 0]}, [1000, 400]),
        ("uniform", {"spent": [100, 900]}, [500, 900]),
        ("l1_a_mtrl", {"capacity": [500, 2000]}, [500, 900]),
        ("l1_a_mtrl", {"price": [1, 3]}, [280, 373.33]),  # 1,400 / (.6 + 3 · .8) = 466.67
        ("c_optimal", {"price": [1, 3]}, [423.04, 325.66]),  # ∝ .6 and .8/√3
        ("a_mtrl", {"group": [0, 0]}, [1400, 1400]),  # a sample of both is paid once
    ],
)
def test_splits_that_a_reader_can_check(rule, options, expected):
    found = plan_allocation(right_angle(), budget=1400.0, rule=rule, **options)
    np.testing.assert_allclose(found, expected, rtol=2e-3)


@pytest.mark.parametrize("rule", RULES)
def test_a_split_costs_the_budget_keeps_what_was_bought_and_stays_within_the_capacity(rule):
    rng = np.random.default_rng(0)
    price = rng.uniform(0.3, 3.0, 12)
    spent, capacity = rng.integers(0, 300, 12), np.full(12, 1500)
    for budget in (5_000.0, 12_000.0):
        found = np.asarray(
            plan_allocation(
                known(), budget=budget, spent=spent, price=price, capacity=capacity, rule=rule
            )
        )
        assert abs((price * found).sum() - budget) < 1e-4 * budget
        assert (found >= spent - 1e-3).all()
        assert (found <= capacity + 1e-3).all()


@pytest.mark.parametrize("rule", RULES)
def test_splits_trace_over_budgets(rule):
    def one(budget):
        return plan_allocation(known(), budget=budget, spent=np.full(12, 10), rule=rule)

    budgets = jnp.asarray([50.0, 200.0, 900.0])
    many = jax.jit(jax.vmap(one))(budgets)
    assert np.isnan(many[0]).all()  # less than was spent
    for budget, found in zip(budgets[1:], many[1:], strict=True):
        np.testing.assert_allclose(found, one(float(budget)), rtol=1e-3, atol=1e-2)


@functools.cache
def planned(scenario):
    return plan(known(scenario), budgets=(6_000.0, 60_000.0), num_target=100)


@pytest.mark.parametrize("scenario", ["gauss", "dup2"])
def test_known_heads_rank_the_rules_as_the_theory_does(scenario):
    found = planned(scenario)
    uniform, nu_squared, l1, design = np.asarray(found.representation)
    # What a design knows before any sample, ρ, costs it a little where samples are few.
    assert (design <= np.asarray([1.05, 1.02]) * l1).all()
    assert (l1 <= nu_squared).all()
    assert (nu_squared <= uniform).all()
    assert found.head == pytest.approx(4 / 100)
    np.testing.assert_allclose(found.risk, found.representation + 0.04, rtol=1e-5)
    assert (found.low < found.representation).all()
    assert (found.representation < found.high).all()
    assert set(np.asarray(found.best)) <= {RULES.index("l1_a_mtrl"), RULES.index("c_optimal")}
    truth = amtl.synthetic_truth(scenario, num_tasks=12)
    exact = amtl.saving(truth.source_heads.T, truth.target_head)
    assert found.saving[1] == pytest.approx(float(exact), rel=0.02)
    assert (found.worse[0] == 0).all()


def test_an_interval_holds_what_single_runs_have():
    found, draws = planned("gauss"), known("gauss")
    rng = np.random.default_rng(0)
    for rule in range(4):
        term = float(found.representation[rule, 0])
        runs = term * rng.chisquare(36, 200_000) / 36 + 0.04 * rng.chisquare(4, 200_000) / 4
        low, high = np.quantile(runs, [0.025, 0.975])
        assert found.risk_low[rule, 0] == pytest.approx(low, rel=0.6)  # 16 runs of the one draw
        assert found.risk_high[rule, 0] == pytest.approx(high, rel=0.6)
    repeated = draws._replace(
        heads=jnp.repeat(draws.heads, 400, axis=0),
        target_heads=jnp.repeat(draws.target_heads, 400, axis=0),
    )
    many = plan(repeated, budgets=(6_000.0,), num_target=100)
    assert many.risk_low[3, 0] == pytest.approx(low, rel=0.05)
    assert many.risk_high[3, 0] == pytest.approx(high, rel=0.05)
    low, high = term * np.quantile(rng.chisquare(36, 200_000) / 36, [0.025, 0.975])
    assert many.low[3, 0] == pytest.approx(low, rel=0.05)
    assert many.high[3, 0] == pytest.approx(high, rel=0.05)


def test_uniform_starts_from_scratch_and_the_others_do_not():
    spent = np.zeros(12)
    spent[0] = 5_000
    found = plan(known(), budgets=(6_000.0, 60_000.0), num_target=100, spent=spent)
    np.testing.assert_allclose(found.counts[0, 0], 500.0, rtol=1e-4)
    assert (np.asarray(found.counts)[1:, :, 0] >= 4_999).all()
    assert (found.worse[1:, 0] > 0.5).any()  # what was bought of one source helps little


@pytest.mark.parametrize("place", [0, 1])
def test_samples_for_a_risk_inverts_the_curve(place):
    found = planned("dup2")
    for index in range(4):
        money = samples_for(known("dup2"), float(found.risk[index, place]), num_target=100)
        assert money.shape == (4,)
        assert money[index] == pytest.approx(float(found.budgets[place]), rel=2e-3)


def test_samples_for_a_representation_risk_leaves_the_head_out():
    risk = float(planned("dup2").representation[0, 0])
    assert samples_for(known("dup2"), risk, num_target=None)[0] == pytest.approx(6_000, rel=2e-3)


def test_what_no_money_buys_is_infinite_and_what_is_there_costs_nothing_more():
    assert np.isinf(samples_for(known(), 0.03, num_target=100)).all()  # the head's term is .04
    enough = samples_for(known(), 0.9, num_target=100, spent=np.full(12, 1_000))
    np.testing.assert_allclose(enough[1:], 12_000, rtol=1e-4)
    assert enough[0] < 12_000
    capped = samples_for(known(), 0.0401, num_target=100, capacity=np.full(12, 1_000))
    assert np.isinf(capped).all()


def test_the_next_money_goes_to_labels_where_these_are_cheap():
    ask = functools.partial(
        next_money, known("gauss"), money=2_000.0, num_target=100, spent=np.full(12, 4_000)
    )
    found = ask()
    assert not found.on_labels
    assert found.with_labels == pytest.approx(float(found.now))
    price = float(found.break_even)
    assert 0 < price < np.inf
    cheap, dear = ask(label_price=0.9 * price), ask(label_price=1.1 * price)
    assert cheap.on_labels
    assert not dear.on_labels
    # By hand: n_T grows by money / price, and the head's term falls as 1/n_T.
    head = 4 / (100 + 2_000 / (0.9 * price))
    before = float(found.now) - 0.04
    assert cheap.with_labels == pytest.approx(before + head, rel=1e-4)
    assert found.with_sources < found.now


def test_no_label_is_cheap_enough_where_sources_bring_more_than_the_whole_head_term():
    found = next_money(known(), money=5_000.0, num_target=4_000, spent=np.full(12, 50))
    assert found.break_even == 0


def test_it_stops_where_the_next_money_brings_too_little():
    ask = functools.partial(next_money, known("gauss"), num_target=100)
    early = ask(money=2_000.0, spent=np.full(12, 300))
    late = ask(money=2_000.0, spent=np.full(12, 30_000))
    assert not early.stop
    assert late.stop
    assert early.improvement > 0.05 > late.improvement > 0
    assert ask(money=2_000.0, spent=np.full(12, 30_000), least=1e-5).stop == False  # noqa: E712
    gain = 1 - float(late.with_sources / late.now)
    assert late.improvement == pytest.approx(gain, abs=1e-6)


def test_risks_of_pairs_of_runs_go_together_as_far_as_samples_are_shared():
    draws = known_heads(np.eye(2), [0.6, 0.8], noise_variance=1.0, input_dim=22)
    counts, other = np.asarray([4_000.0, 1_000.0]), np.asarray([1_000.0, 8_000.0])
    own, uniform = paired_risks(
        jax.random.key(0), draws, jnp.asarray(counts), jnp.asarray(other), repeats=20_000
    )
    own, uniform = own[:, 0, 0], uniform[:, 0, 0]
    for risks, number in ((own, counts), (uniform, other)):
        expected = float(draw_risks(draws, jnp.asarray(number))[0, 0])
        assert np.mean(risks) == pytest.approx(expected, rel=0.02)
    # A brute-force run: sums of inputs times noise in each of D − K = 20 directions.
    rng = np.random.default_rng(0)
    shared = np.minimum(counts, other)
    base, first, second = rng.normal(size=(3, 20_000, 20, 2))
    target = np.asarray([0.6, 0.8])

    def risks(number, rest):
        sums = np.sqrt(shared) * base + np.sqrt(number - shared) * rest
        return np.sum((sums / number * target).sum(axis=-1) ** 2, axis=1)

    brute = np.corrcoef(risks(counts, first), risks(other, second))[0, 1]
    assert np.corrcoef(own, uniform)[0, 1] == pytest.approx(brute, abs=0.02)
    lost = np.mean(risks(counts, first) > risks(other, second))
    assert share_worse(own[:, None], uniform[:, None]) == pytest.approx(lost, abs=0.02)


def test_pairs_go_together_through_every_output_of_a_source():
    # The target's outputs are the sources' in the other order: equal ones have nothing in common.
    target = jnp.eye(2)[None, None]
    draws = known_heads(np.eye(2), [1.0, 0.0], noise_variance=1.0, input_dim=22)._replace(
        heads=jnp.stack([jnp.eye(2)[::-1], jnp.eye(2)[::-1]])[None],
        target_heads=target,
        noise=jnp.ones((2, 2)),
    )
    counts, other = jnp.asarray([3_000.0, 3_000.0]), jnp.asarray([3_000.0, 9_000.0])
    own, more = (
        risks[:, 0, 0]
        for risks in paired_risks(jax.random.key(0), draws, counts, other, repeats=20_000)
    )
    rng = np.random.default_rng(0)
    shared, extra = rng.normal(size=(2, 20_000, 20))
    # Sums of 6,000 products are all among 12,000: errors correlate by √½, their squares by ½.
    squares = [np.sum(e**2, axis=1) for e in (shared, (shared + extra) / np.sqrt(2))]
    assert np.corrcoef(own, more)[0, 1] == pytest.approx(np.corrcoef(*squares)[0, 1], abs=0.03)


def test_the_same_split_is_never_worse_than_itself():
    counts = jnp.full(12, 100.0)
    assert share_worse(*paired_risks(jax.random.key(0), known(), counts, counts)) == 0


@functools.cache
def payoff():
    budgets = (250.0, 1_000.0, 4_000.0, 16_000.0, 64_000.0)
    return adaptivity_pays(20, 3, 60, budgets=budgets, num_target=200, num_truths=48)


def test_adaptivity_pays_from_some_budget_on():
    found = payoff()
    assert found.pays.tolist() == sorted(found.pays.tolist())
    assert not found.pays[0]
    assert found.pays[-1]
    assert found.smallest in found.budgets
    assert (np.diff(found.ratio) < 0.03).all()
    assert (np.diff(found.worse) < 0.02).all()
    assert (found.low < found.ratio).all()
    assert (found.ratio < found.high).all()
    assert found.pays[list(found.budgets).index(found.smallest)]


def test_noise_counts_beside_the_size_of_the_heads():
    ask = functools.partial(
        adaptivity_pays, 20, 3, 20, budgets=(16_000.0,), num_target=200, num_truths=48
    )
    same = ask(noise_variance=4.0, head_size=2.0)
    np.testing.assert_allclose(same.ratio, ask().ratio, rtol=0.02)
    assert ask(noise_variance=25.0).ratio[0] > same.ratio[0]


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (
            lambda: plan_allocation(right_angle(), budget=10.0, spent=[20, 0]),
            ["between 20", "got 10"],
        ),
        (
            lambda: plan_allocation(right_angle(), budget=10.0, capacity=[4, 4]),
            ["8, what all samples cost", "got 10"],
        ),
        (
            lambda: plan_allocation(right_angle(), budget=10.0, rule="best"),
            ["uniform, a_mtrl, l1_a_mtrl, c_optimal", "'best'"],
        ),
        (
            lambda: plan_allocation(right_angle(), budget=10.0, price=[1, 0]),
            ["price to be positive", "got 0"],
        ),
        (
            lambda: plan_allocation(right_angle(), budget=10.0, spent=[1, 2, 3]),
            ["spent [M] = [2]", "[3]"],
        ),
        (lambda: plan(right_angle(), budgets=[], num_target=5), ["budgets [B]", "[0]"]),
        (lambda: plan(right_angle(), budgets=[5.0], num_target=0), ["num_target", ">= 1", "0"]),
        (lambda: samples_for(right_angle(), -1.0, num_target=5), ["risk", "positive", "-1.0"]),
        (
            lambda: next_money(right_angle(), money=0.0, num_target=5, spent=[1, 1]),
            ["money", "positive", "0.0"],
        ),
        (
            lambda: adaptivity_pays(5, 3, 3, budgets=[10.0], num_target=5),
            ["input_dim above num_features"],
        ),
        (
            lambda: adaptivity_pays(5, 3, 6, budgets=[20.0, 10.0], num_target=5),
            ["increasing", "[20.0, 10.0]"],
        ),
        (
            lambda: adaptivity_pays(5, 3, 6, budgets=[10.0], num_target=5, noise_variance=0.0),
            ["noise_variance", "0.0"],
        ),
        (
            lambda: adaptivity_pays(5, 3, 6, budgets=[10.0], num_target=5, schedule=(1.0,)),
            ["at least two positive shares"],
        ),
        (
            lambda: adaptivity_pays(5, 3, 6, budgets=[10.0], num_target=5, price=[1.0]),
            ["5 positive prices"],
        ),
    ],
)
def test_wrong_numbers_are_named(call, parts):
    with pytest.raises(ValueError, match=r"expects") as caught:
        call()
    for part in parts:
        assert part in str(caught.value)
