"""From scores to integer sample counts."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from amtl_jax.types import Array, Numbers

_MOST = 2**31 - 1  # counts are int32
_MOST_FLOAT32 = 2.0**31 - 128  # the largest float32 that converts to int32


def allocate(
    scores: Numbers,
    *,
    budget: ArrayLike,
    floor: Numbers = 0,
    capacity: Numbers | None = None,
    price: Numbers | None = None,
) -> Array:
    """Splits `budget` over tasks in proportion to `scores`.

    Every task first gets `floor` samples (or its capacity, if smaller); the rest is split in
    proportion to the scores and rounded by largest remainder, ties to the lower index, so the
    counts sum to `budget` exactly. What a full task cannot take goes to the others, again in
    proportion, and evenly to zero-score tasks once only they have room. All-zero scores give
    the uniform split.

    With `price` the budget is money. Spending never exceeds it, and in the end no further
    sample of a task below capacity fits: money left by rounding down is spent by largest
    remainder as far as it reaches, and what remains is split again among the tasks that it can
    still pay for.

    Arguments may be Python numbers, NumPy or JAX arrays, or tracers. When all are concrete the
    split is computed in float64, and spending is judged as NumPy's `(price * counts).sum()`.
    Under a trace it is computed in the default float type: unpriced counts still sum to the
    budget exactly, spending is exact up to that type's rounding, subnormal scores count as 0, and
    remainders within 2⁻¹⁰ of each other tie, so a count can differ by one from the concrete one.

    Args:
      scores: `[M]` non-negative and finite, any scale.
      budget: `[]` samples to split (a whole number), or money where there are prices.
      floor: `[]` or `[M]` samples that every task gets.
      capacity: `[]` or `[M]` samples that a task can give; inf or None: no limit.
      price: `[]` or `[M]` positive price of one sample; None: the budget counts samples.

    Returns:
      `[M]` int32 counts. Under a trace, where bad values cannot raise, they are reported by
      counts of -1 for all tasks, never repaired.

    Raises:
      ValueError: for wrong shapes, and for concrete values out of range: a budget below the
        cost of the floors or above that of the capacities, one that is not whole without
        prices; negative or non-finite scores, floors, capacities or prices.

    References:
      Chen, Du, Jamieson. Active Multi-Task Representation Learning. ICML 2022.
      Balinski, Young. Fair Representation. Yale University Press, 1982 (largest remainder).
    """
    arguments: dict[str, Any] = {"scores": scores, "budget": budget, "floor": floor}
    arguments["capacity"] = _MOST if capacity is None else capacity
    if price is not None:
        arguments["price"] = price
    num_tasks = _check_shapes(arguments)
    # float64 holds every float32 and int32, so a concrete value is the caller's own.
    values = {
        name: np.asarray(value, np.float64)
        for name, value in arguments.items()
        if not isinstance(value, Tracer)
    }
    _check_values(values, num_tasks, priced=price is not None)

    if len(values) < len(arguments):
        return _split(**_normalise({**arguments, **values}, num_tasks))
    # Also inside somebody else's trace: a constant, computed now and in float64.
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        arrays = _normalise(values, num_tasks)
        counts = _jitted_split(**arrays)
        return counts if price is None else jnp.asarray(_settle(np.array(counts), **arrays))


def _check_shapes(arguments: Mapping[str, Any]) -> int:
    """Returns M, or says which argument's shape does not go with the scores'."""
    shapes = {name: np.shape(value) for name, value in arguments.items()}
    scores = shapes.pop("scores")
    if len(scores) != 1 or scores[0] == 0:
        raise ValueError(
            f"allocate: expected scores of shape [M] with M ≥ 1, got {list(scores)}; "
            "use jax.vmap for several splits at once."
        )
    for name, shape in shapes.items():
        if shape != () and (name == "budget" or shape != scores):
            expected = "a scalar" if name == "budget" else f"a scalar or shape {list(scores)}"
            raise ValueError(f"allocate: expected {name} to be {expected}, got {list(shape)}.")
    return scores[0]


def _check_values(values: Mapping[str, np.ndarray], num_tasks: int, *, priced: bool) -> None:
    """Raises for the concrete `values` (float64, without those that are traced)."""
    whole = ("floor", "capacity") if priced else ("floor", "capacity", "budget")
    for name, value in values.items():
        bad = ~(value > 0) if name == "price" else ~(value >= 0)
        if name != "capacity":
            bad |= np.isinf(value)
        wanted = "positive" if name == "price" else "non-negative"
        if name in whole:
            bad |= value != np.floor(value)
            wanted += " and whole"
        if np.any(bad):
            where = f" for task {int(np.argmax(bad))}" if value.ndim else ""
            raise ValueError(
                f"allocate: expected {name} to be finite, {wanted}, "
                f"got {value[bad].flat[0]:g}{where}; correct it before splitting the budget."
            )
    price = values.get("price") if priced else np.float64(1)
    if price is None or not {"budget", "capacity"} <= values.keys():
        return
    unit = "money" if priced else "samples"
    budget, capacity = float(values["budget"]), np.minimum(values["capacity"], _MOST)
    most = np.broadcast_to(price * capacity, num_tasks).sum()
    if budget > most * _slack(num_tasks, np.float64, priced):
        raise ValueError(
            f"allocate: expected a budget of at most {most:.12g} {unit}, all that the capacities "
            f"can take, got {budget:.12g}; lower the budget or raise the capacities."
        )
    if "floor" in values:
        least = np.broadcast_to(price * np.minimum(values["floor"], capacity), num_tasks).sum()
        if budget < least:
            raise ValueError(
                f"allocate: expected a budget of at least {least:.12g} {unit}, the floors of "
                f"{num_tasks} tasks, got {budget:.12g}; raise the budget or lower the floor."
            )


def _slack(num_tasks: int, dtype, priced: bool) -> float:
    """Money is a rounded sum: buying out every capacity must not fail by the last bit."""
    return 1 + 2 * num_tasks * float(jnp.finfo(dtype).eps) if priced else 1.0


def _normalise(arguments: Mapping[str, Any], num_tasks: int) -> dict[str, Any]:
    """Arrays for `_split`: counts in int32, money and scores in the default float type."""
    dtype = jnp.result_type(float)

    def count(value):
        if isinstance(value, np.ndarray):
            return jnp.asarray(np.minimum(value, _MOST).astype(np.int32))
        if jnp.issubdtype(value.dtype, jnp.floating):  # -1 is what `_split` reports as bad
            value = jnp.where(value == jnp.floor(value), value, -1)
            value = jnp.clip(value, -1, _MOST_FLOAT32)
        return value.astype(jnp.int32)

    scores, budget, price = arguments["scores"], arguments["budget"], arguments.get("price")
    if isinstance(scores, np.ndarray):  # subnormal numbers are zeros to XLA, not to NumPy
        scores = np.ldexp(scores, -np.frexp(scores.max())[1])
    return {
        "scores": jnp.asarray(scores, dtype),
        "budget": count(budget) if price is None else jnp.asarray(budget, dtype),
        "floor": jnp.broadcast_to(count(arguments["floor"]), num_tasks),
        "capacity": jnp.broadcast_to(count(arguments["capacity"]), num_tasks),
        "price": None if price is None else jnp.broadcast_to(jnp.asarray(price, dtype), num_tasks),
    }


def _split(scores, budget, floor, capacity, price) -> Array:
    """Fills up from the floors until nothing fits: usually one pass, at most about one a task.

    A pass pours the money left over the tasks that can take it, rounds down, and gives the
    remainders away in order as far as the money reaches. The first task that it did not reach
    cannot be paid for any more, so the next pass has fewer tasks. Later passes have something
    to do where prices differ, where only zero scores are left, and where float32 missed a sum.
    """
    num_tasks, dtype = scores.shape[0], scores.dtype
    low = jnp.minimum(floor, capacity)
    unit = jnp.ones_like(scores) if price is None else price

    def left(counts):  # samples are subtracted as integers: exact beyond 2²⁴, also in float32
        if price is None:
            return (budget - jnp.sum(counts, dtype=jnp.int32)).astype(dtype)
        return budget - jnp.sum(price * counts)

    def spend(state):
        counts, room = state
        money = left(counts)
        shares = _pour(money, scores, unit, jnp.where(unit <= money, room, 0))
        take = jnp.minimum(jnp.floor(jnp.minimum(shares, _MOST_FLOAT32)).astype(jnp.int32), room)
        # Remainders on a grid, so that the rounding error of a share cannot break a tie.
        grid = 2.0 ** (jnp.finfo(dtype).nmant // 2 - 1)
        remainder = jnp.round((shares - take) * grid)
        wants = (shares > 0) & (take < room)
        order = jnp.argsort(jnp.where(wants, -remainder, jnp.inf))
        cost = jnp.cumsum(jnp.where(wants, unit, jnp.inf)[order])
        reached = (cost <= left(counts + take)).astype(jnp.int32)
        take += jnp.zeros_like(take).at[order].set(reached)
        counts, room = counts + take, room - take
        # Shares may sum to more than the money by their rounding error: the largest holding
        # gives it back, and is closed so that it cannot ask for it again.
        over = jnp.maximum(-left(counts), 0)
        largest = jnp.argmax(unit * (counts - low))
        back = jnp.minimum(jnp.ceil(over / unit[largest]).astype(jnp.int32), counts - low)[largest]
        room = room.at[largest].set(jnp.where(back > 0, 0, room[largest]))
        return counts.at[largest].add(-back), room

    def unfinished(state):
        counts, room = state
        money = left(counts)
        return ok & (jnp.any((room > 0) & (unit <= money)) | (money < 0))

    ok = jnp.all(jnp.isfinite(scores) & (scores >= 0)) & jnp.all(low >= 0) & (budget >= 0)
    if price is None:
        # A running sum of non-negative int32 that passes 2³¹ shows as a negative number.
        least = jnp.cumsum(low, dtype=jnp.int32)
        most = jnp.cumsum(capacity, dtype=jnp.int32)
        ok &= jnp.all(least >= 0) & (least[-1] <= budget)
        ok &= jnp.any(most < 0) | (most[-1] >= budget)
    else:
        most = jnp.sum(price * capacity) * _slack(num_tasks, dtype, priced=True)
        ok &= jnp.all(jnp.isfinite(price) & (price > 0)) & (left(low) >= 0) & (budget <= most)
    counts, _ = jax.lax.while_loop(unfinished, spend, (low, capacity - low))
    return jnp.where(ok, counts, -1)


_jitted_split = jax.jit(_split)


def _pour(money, scores, unit, room) -> Array:
    """Water-filling: shares `[M]` = min(level · score, room) with Σ unit · shares = money.

    The level is found exactly from the sorted levels at which tasks become full. Only tasks
    with room take part; if their scores are all zero, they share evenly.
    """
    scores = jnp.where(room > 0, scores, 0)
    # Scaling by a power of two is exact: whole scores give ties that are ties.
    peak = jnp.max(scores)
    scaled = jnp.ldexp(scores, -jnp.frexp(peak)[1])
    weight = jnp.where(peak > 0, scaled, (room > 0).astype(scores.dtype))
    rate, fill = unit * weight, jnp.where(weight > 0, unit * room, 0)
    level_full = jnp.where(weight > 0, room / jnp.where(weight > 0, weight, 1), jnp.inf)

    order = jnp.argsort(level_full)
    filled = jnp.concatenate([jnp.zeros(1, fill.dtype), jnp.cumsum(fill[order])[:-1]])
    rising = jnp.cumsum(rate[order][::-1])[::-1]  # backwards: no cancellation in the small rates
    needed = filled + level_full[order] * jnp.maximum(rising, jnp.finfo(rate.dtype).tiny)
    full = level_full <= jnp.max(jnp.where(needed <= money, level_full[order], 0))
    rest = jnp.maximum(money - jnp.sum(jnp.where(full, fill, 0)), 0)
    total = jnp.sum(jnp.where(full, 0, rate))
    return jnp.where(full, room, jnp.minimum(rest * weight / jnp.where(total > 0, total, 1), room))


def _settle(counts, *, scores, budget, floor, capacity, price) -> np.ndarray:
    """Makes the last bit of a float64 sum agree with NumPy, whose order is not XLA's.

    Changes something only where the spending meets the budget up to rounding, as round budgets
    and decimal prices do.
    """
    price, budget, room = np.asarray(price), float(budget), np.asarray(capacity) - counts
    if (price * counts).sum() > budget:
        cheapest = np.argmin(np.where(counts > np.asarray(floor), price, np.inf))
        counts[cheapest] -= 1
        room[cheapest] = 0
    rounding = budget * (_slack(len(counts), np.float64, priced=True) - 1)
    while True:
        money = budget - (price * counts).sum()
        fits = (room > 0) & (price <= money + rounding)
        if not fits.any():
            return counts
        best = np.argmax(np.where(fits, scores, -1))
        more = min(room[best], max(1, int(money // price[best])))
        counts[best] += more
        room[best] -= more
        if (price * counts).sum() > budget:  # the last one does not fit after all
            counts[best] -= 1
            room[best] = 0
