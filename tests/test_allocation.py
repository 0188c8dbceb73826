"""Allocation: golden tables, properties, brute-force oracles, traces, and the error texts."""

import chex
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from amtl_jax.allocation import allocate

pytestmark = pytest.mark.usefixtures("full_compiles")

SIZE = 7  # one size for the properties: every new shape is a compile
INF = np.inf


def seeds():
    return st.integers(0, 2**32 - 1).map(np.random.default_rng)


@jax.jit
def traced(arguments):
    return allocate(**arguments)


def problem(rng, *, priced):
    """A feasible random problem with zero scores, full tasks and prices of one decimal."""
    scores = rng.lognormal(0, 2, SIZE) * (rng.random(SIZE) < 0.7)
    floor, capacity = rng.integers(0, 5, SIZE), rng.integers(0, 60, SIZE)
    price = np.round(rng.uniform(0.1, 3, SIZE), 1) if priced else np.ones(SIZE)
    least, most = (price * np.minimum(floor, capacity)).sum(), (price * capacity).sum()
    budget = least + rng.random() * (most - least)
    budget = min(round(budget, 1), most) if priced else int(budget)
    arguments = {"budget": max(budget, least), "floor": floor, "capacity": capacity}
    return scores, arguments | ({"price": price} if priced else {})


def water_fill(scores, budget, floor, capacity):
    """Oracle: real-valued fill by bisection on the level, first of scores, then of the zeros."""
    low = np.minimum(floor, capacity).astype(float)
    for weight in (scores / max(scores.max(), 1e-300), (scores == 0).astype(float)):
        a, b = 0.0, 1e12
        for _ in range(200):
            middle = (a + b) / 2
            total = np.minimum(low + middle * weight, capacity).sum()
            a, b = (middle, b) if total < budget else (a, middle)
        low = np.minimum(low + a * weight, capacity)
    return low


def largest_remainder(exact, budget):
    """Oracle: round down, then one by one to the largest remainder."""
    counts = np.floor(exact + 1e-7).astype(int)
    remainder = exact - counts
    for _ in range(budget - counts.sum()):
        winner = int(np.argmax(np.round(remainder, 6)))
        counts[winner] += 1
        remainder[winner] = -1
    return counts


@pytest.mark.parametrize(
    ("scores", "arguments", "counts"),
    [
        # in proportion; largest remainder (.4 .6 → the second); a tie goes to the lower index
        ([1, 2, 3, 4], {"budget": 10}, [1, 2, 3, 4]),
        ([14, 16], {"budget": 3}, [1, 2]),
        ([1, 3], {"budget": 2}, [1, 1]),
        ([1, 1, 1], {"budget": 7}, [3, 2, 2]),
        # all-zero scores: uniform; a zero score beside others: only the floor
        ([0, 0, 0, 0], {"budget": 8}, [2, 2, 2, 2]),
        ([3, 0, 1], {"budget": 10, "floor": 2}, [5, 2, 3]),
        ([3, 0, 1], {"budget": 6, "floor": 2}, [2, 2, 2]),
        # floors stop at the capacity; floors of their own
        ([1, 1, 1], {"budget": 9, "floor": 3, "capacity": [1, 9, 9]}, [1, 4, 4]),
        ([1, 1, 1], {"budget": 9, "floor": [6, 0, 0]}, [7, 1, 1]),
        # what a full task cannot take goes on in proportion, in the end evenly to zero scores
        ([6, 2, 1], {"budget": 18, "capacity": [9, INF, INF]}, [9, 6, 3]),
        ([6, 2, 0, 0], {"budget": 21, "capacity": [9, 6, 9, 9]}, [9, 6, 3, 3]),
        ([8, 4, 2, 1], {"budget": 15, "capacity": [3, 3, 3, INF]}, [3, 3, 3, 6]),
        # any scale, subnormal too
        ([1e-30, 1e30, 2e-30], {"budget": 13, "capacity": [9, 10, 9]}, [1, 10, 2]),
        ([5e-324, 1e-323], {"budget": 3}, [1, 2]),
        # money: counts in proportion, 10·2 + 20·1 = 40
        ([1, 2], {"budget": 40, "price": [2, 1]}, [10, 20]),
        # 3 left after rounding down: the dear task has the larger remainder but cannot be paid
        ([1, 1], {"budget": 11, "price": [7, 1]}, [1, 4]),
        ([0, 0], {"budget": 0.5, "price": 0.1}, [3, 2]),
        ([1, 0], {"budget": 9, "price": [4, 1]}, [2, 1]),
    ],
)
def test_golden(scores, arguments, counts):
    got = allocate(scores, **arguments)
    assert got.dtype == jnp.int32
    assert got.tolist() == counts


@given(seeds())
def test_counts_match_the_oracles(rng):
    scores, arguments = problem(rng, priced=False)
    exact = water_fill(scores, **arguments)
    counts = np.asarray(allocate(scores, **arguments))
    assert counts.sum() == arguments["budget"]
    np.testing.assert_array_equal(counts, largest_remainder(exact, arguments["budget"]))


def test_many_full_tasks_are_filled_exactly():
    rng = np.random.default_rng(0)
    scores, capacity = rng.lognormal(0, 4, 400), rng.integers(0, 50, 400)
    arguments = {"budget": int(0.97 * capacity.sum()), "floor": 1, "capacity": capacity}
    counts = np.asarray(allocate(scores, **arguments))
    assert (counts == capacity).sum() > 300
    assert counts.sum() == arguments["budget"]
    assert np.abs(counts - water_fill(scores, **arguments)).max() < 1


@given(seeds(), st.booleans())
def test_limits_permutation_and_scale(rng, priced):
    scores, arguments = problem(rng, priced=priced)
    counts = np.asarray(allocate(scores, **arguments))
    assert np.all(counts >= np.minimum(arguments["floor"], arguments["capacity"]))
    assert np.all(counts <= arguments["capacity"])
    scaled = allocate(scores * 2.0 ** rng.integers(-900, 900), **arguments)
    np.testing.assert_array_equal(scaled, counts)

    arguments["capacity"] = INF  # zero-score tasks get the floor only, so nothing ties
    if not scores.any():
        return
    counts = np.asarray(allocate(scores, **arguments))
    order = rng.permutation(SIZE)
    moved = {k: v[order] if np.ndim(v) else v for k, v in arguments.items()}
    again = np.asarray(allocate(scores[order], **moved))
    if not priced:  # money sums round differently in another order
        np.testing.assert_array_equal(again, counts[order])


@given(seeds())
@settings(max_examples=100)
def test_money_is_never_overspent_and_nothing_more_fits(rng):
    scores, arguments = problem(rng, priced=True)
    price, budget = arguments["price"], arguments["budget"]
    counts = np.asarray(allocate(scores, **arguments))
    assert (price * counts).sum() <= budget
    is_open = counts < arguments["capacity"]
    one_more = (counts + np.eye(SIZE, dtype=int))[is_open]
    assert all((price * row).sum() > budget for row in one_more)
    if is_open.any():
        assert budget - (price * counts).sum() < price[is_open].min() + 1e-9


def test_left_over_money_goes_on_in_bulk():
    # 999,999 of money left beside a task that costs a million: not one sample at a time.
    counts = allocate([1, 0, 1], budget=1_999_999, price=[1e6, 1e-3, 1e-3], floor=0)
    assert counts.tolist() == [1, 0, 999_999_000]


def test_traced_equals_concrete_and_vmaps():
    rng = np.random.default_rng(1)
    scores = rng.integers(1, 100, (6, SIZE)).astype(np.float32)
    capacity = rng.integers(20, 60, SIZE)
    price = 2.0 ** rng.integers(-1, 2, SIZE)  # sums that float32 holds exactly
    budget, floor = np.arange(30, 90, 10), np.array([0, 1, 2, 3, 3, 4])

    for extra in ({}, {"price": price}):

        def split(scores, budget, floor, extra=extra):
            return allocate(scores, budget=budget, floor=floor, capacity=capacity, **extra)

        expected = [split(*row) for row in zip(scores, budget, floor)]
        chex.clear_trace_counter()
        once = jax.jit(chex.assert_max_traces(split, n=1))
        np.testing.assert_array_equal([once(*r) for r in zip(scores, budget, floor)], expected)
        np.testing.assert_array_equal(jax.vmap(split)(scores, budget, floor), expected)


def test_concrete_arguments_stay_exact_inside_a_trace():
    budget = 2**31 - 1
    scores = np.random.default_rng(2).lognormal(0, 1, SIZE)
    outside = allocate(scores, budget=budget)

    @jax.jit
    def inside(x):
        return x + allocate(scores, budget=budget)

    np.testing.assert_array_equal(inside(jnp.zeros(SIZE, jnp.int32)), outside)
    np.testing.assert_array_equal(
        jax.vmap(inside)(jnp.zeros((2, SIZE), jnp.int32)), [outside, outside]
    )
    assert np.abs(np.asarray(outside) - scores / scores.sum() * budget).max() < 1


@given(seeds())
def test_large_budgets_sum_exactly_in_float32(rng):
    scores = rng.lognormal(0, 3, SIZE).astype(np.float32)
    budget = int(rng.integers(2**24, 2**31))
    counts = np.asarray(traced({"scores": scores, "budget": budget}), np.int64)
    assert counts.sum() == budget
    exact = scores / scores.sum(dtype=np.float64) * budget
    assert np.abs(counts - exact).max() <= 1 + SIZE * 2.0**-23 * budget


@given(seeds())
def test_money_in_float32_holds_up_to_its_rounding(rng):
    scores, arguments = problem(rng, priced=True)
    arguments["budget"] = np.float32(arguments["budget"]) * np.float32(1 - 1e-5) + 1e-3
    price = arguments["price"]
    counts = np.asarray(traced({"scores": scores} | arguments))
    least = (price * np.minimum(arguments["floor"], arguments["capacity"])).sum()
    if not least < arguments["budget"] < (price * arguments["capacity"]).sum():
        return
    rounding = SIZE * 2.0**-23 * arguments["budget"]
    left = arguments["budget"] - (price * counts).sum()
    assert left >= -rounding
    is_open = counts < arguments["capacity"]
    assert not is_open.any() or left < price[is_open].min() + rounding


@pytest.mark.parametrize(
    "bad",
    [
        {"scores": [1.0, -1.0]},
        {"scores": [1.0, np.nan]},
        {"scores": [1.0, INF]},
        {"budget": 1.0},
        {"budget": 11.0},
        {"budget": 4.5},
        {"budget": np.nan},
        {"floor": -1.0},
        {"floor": 0.5},
        {"capacity": [-1.0, 20.0]},
        {"price": [0.0, 1.0]},
        {"price": [1.0, INF]},
        {"price": [2.0, 2.0], "budget": 3.0},
        {"price": [2.0, 2.0], "budget": 21.0},
    ],
)
def test_bad_values_raise_and_are_reported_under_a_trace(bad):
    good = {"scores": [1.0, 2.0], "budget": 6.0, "floor": 1.0, "capacity": [5.0, 5.0]}
    arguments = {k: np.asarray(v, np.float32) for k, v in (good | bad).items()}
    with pytest.raises(ValueError, match="expected"):
        allocate(**arguments)
    assert traced(arguments).tolist() == [-1, -1]
    assert traced({k: np.asarray(v, np.float32) for k, v in good.items()}).tolist() == [2, 4]


def test_overflowing_sums_are_seen_under_a_trace():
    split = jax.jit(lambda floor, budget: allocate(jnp.ones(3), budget=budget, floor=floor))
    assert split(2**30, 2**31 - 1).tolist() == [-1, -1, -1]  # Σ floor = 3·2³⁰ wraps around
    assert split(2**31 // 3, 2**31 - 1).tolist() == [715827883, 715827882, 715827882]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"budget": 3, "floor": 2}, "at least 4 samples, the floors of 2 tasks, got 3; raise"),
        ({"budget": 9, "capacity": 4}, "at most 8 samples, .* got 9; lower"),
        ({"budget": 3, "floor": 2, "price": 1.5}, "at least 6 money"),
        ({"budget": 2.5}, "budget to be finite, non-negative and whole, got 2.5"),
        ({"budget": 5, "price": [1, -2]}, "price to be finite, positive, got -2 for task 1"),
        ({"budget": 5, "floor": [1, 1, 1]}, r"floor to be a scalar or shape \[2\], got \[3\]"),
        ({"budget": [5, 5]}, r"budget to be a scalar, got \[2\]"),
    ],
)
def test_error_text(arguments, message):
    with pytest.raises(ValueError, match=message):
        allocate([1.0, 1.0], **arguments)


def test_concrete_arguments_are_checked_beside_traced_ones():
    with pytest.raises(ValueError, match="at most 8 samples"):
        jax.jit(lambda scores: allocate(scores, budget=9, capacity=4))(jnp.ones(2))
    with pytest.raises(ValueError, match=r"scores of shape \[M\]"):
        allocate(np.ones((2, 2)), budget=4)
