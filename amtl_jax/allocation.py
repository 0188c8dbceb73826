"""From scores to integer sample counts, and what a split of the budget will be worth."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from amtl_jax.relevance import basis_pursuit, min_norm
from amtl_jax.types import Array

_MOST = 2**31 - 1  # counts are int32
_MOST_FLOAT32 = 2.0**31 - 128  # the largest float32 that converts to int32


class Risk(NamedTuple):
    """First-order excess risk of the target predictor, in squared label units.

    Attributes:
      representation: `[]` what the source samples leave to be learnt about the representation.
      head: `[]` what the target sample leaves to be learnt about the target's head.
    """

    representation: Array
    head: Array


def allocate(scores, *, budget, floor=0, capacity=None, price=None) -> Array:
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
    budget exactly, spending is exact up to that type's rounding, subnormal scores count as 0.

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
    arguments = {"scores": scores, "budget": budget, "floor": floor}
    arguments["capacity"] = _MOST if capacity is None else capacity
    if price is not None:
        arguments["price"] = price
    num_tasks = _check_shapes(arguments)
    # float64 holds every float32 and int32, so a concrete value is the caller's own.
    values = {
        name: np.asarray(value, np.float64)
        for name, value in arguments.items()
        if not isinstance(value, jax.core.Tracer)
    }
    _check_values(values, num_tasks, priced=price is not None)

    if len(values) < len(arguments):
        return _split(**_normalise({**arguments, **values}, num_tasks))
    # Also inside somebody else's trace: a constant, computed now and in float64.
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        arrays = _normalise(values, num_tasks)
        counts = _jitted_split(**arrays)
        return counts if price is None else jnp.asarray(_settle(np.array(counts), **arrays))


def _check_shapes(arguments) -> int:
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


def _check_values(values, num_tasks: int, *, priced: bool) -> None:
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


def _normalise(arguments, num_tasks: int) -> dict[str, Array | None]:
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


def first_order_risk(
    source_heads, target_head, counts, *, noise_variance, input_dim: int, num_target: int
) -> Risk:
    """Predicts the target's excess risk after buying `counts` samples.

    `σ²(D − K) · min_{nu: W nu = w_T} Σ nu_m² / n_m + σ²K / n_T`, for isotropic inputs, equal
    noise and exact joint least squares. It needs about 10 D samples from every source that
    matters. The minimum is `w_Tᵀ(W diag(n) Wᵀ)⁻¹w_T` where that inverse exists, and goes on to
    hold where only a few sources were bought that span the target.

    Args:
      source_heads: `[M, K]` true or fitted heads on orthonormal features.
      target_head: `[K]`.
      counts: `[M]` samples of each source, non-negative.
      noise_variance: `[]` σ², squared label units.
      input_dim: D.
      num_target: n_T, size of the target's sample.

    Returns:
      The two terms; the first is inf where the sources bought do not span the target's head.

    Raises:
      ValueError: for arrays of other shapes, D < K or n_T < 1.

    References:
      Chen, Du, Jamieson. Active Multi-Task Representation Learning. ICML 2022 (the setting).
      Elfving. Optimum Allocation in Linear Regression Theory. Ann. Math. Stat. 1952.
    """
    num_tasks, num_features = _check_heads("first_order_risk", source_heads, target_head)
    if np.shape(counts) != (num_tasks,):
        raise ValueError(
            f"first_order_risk: expected counts of shape [{num_tasks}], one a source, "
            f"got {list(np.shape(counts))}."
        )
    if input_dim < num_features or num_target < 1:
        raise ValueError(
            f"first_order_risk: expected input_dim ≥ K = {num_features} and num_target ≥ 1, "
            f"got input_dim={input_dim}, num_target={num_target}."
        )
    target = jnp.asarray(target_head, float)
    root = jnp.sqrt(jnp.asarray(counts, float))
    # Singular values of √n W, not eigenvalues of its Gram matrix: no squared condition number.
    _, scale, rows = jnp.linalg.svd(root[:, None] * source_heads, full_matrices=False)
    tolerance = max(num_tasks, num_features) * jnp.finfo(scale.dtype).eps
    kept = scale > tolerance * scale[0]
    component = jnp.where(kept, jnp.matmul(rows, target, precision="highest"), 0)
    outside = target - jnp.matmul(component, rows, precision="highest")
    spanned = jnp.linalg.norm(outside) <= 10 * tolerance * jnp.linalg.norm(target)
    variance = jnp.sum((component / jnp.where(kept, scale, 1)) ** 2)
    return Risk(
        representation=noise_variance
        * (input_dim - num_features)
        * jnp.where(spanned, variance, jnp.inf),
        head=jnp.asarray(noise_variance * num_features / num_target, float),
    )


def saving(source_heads, target_head) -> Array:
    """How many times fewer samples the best split needs than the uniform one, for equal risk.

    `M ‖nu2‖₂² / ‖nu1‖₁²` with nu2 the minimum-norm and nu1 the basis-pursuit relevance: the
    ratio of the two first-order risks, between 1 and M.

    Args:
      source_heads: `[M, K]` heads of the sources.
      target_head: `[K]`.

    Returns:
      `[]` the ratio; NaN where either relevance missed its tolerance.

    Raises:
      ValueError: for arrays of other shapes.

    References:
      Wang, Chen, Jamieson, Du. Improved Active Multi-Task Representation Learning via Lasso.
      ICML 2023.
    """
    num_tasks, _ = _check_heads("saving", source_heads, target_head)
    heads, target = jnp.asarray(source_heads)[:, :, None], jnp.asarray(target_head)[:, None]
    uniform, best = min_norm(heads, target), basis_pursuit(heads, target)
    ratio = num_tasks * jnp.sum(uniform.nu**2) / jnp.sum(jnp.abs(best.nu)) ** 2
    return jnp.where(uniform.ok & best.ok, ratio, jnp.nan)


def _check_heads(name: str, source_heads, target_head) -> tuple[int, int]:
    shape, target_shape = np.shape(source_heads), np.shape(target_head)
    if len(shape) != 2 or target_shape != shape[1:]:
        raise ValueError(
            f"{name}: expected source heads [M, K] and a target head [K], got {list(shape)} and "
            f"{list(target_shape)}; of heads [M, K, O] pass one output at a time."
        )
    return shape


def split_budget(total: int, shares: Sequence[float]) -> tuple[int, ...]:
    """Splits a total budget into whole round budgets in proportion to `shares`.

    Args:
      total: samples of all rounds.
      shares: one positive number a round, any scale.

    Returns:
      Samples of each round, summing to `total` exactly (largest remainder).

    Raises:
      ValueError: for no shares, shares that are not positive, or a round without a sample.
    """
    if len(shares) == 0 or not all(0 < share < math.inf for share in shares):
        raise ValueError(f"split_budget: expected one positive share a round, got {list(shares)}.")
    budgets = tuple(int(count) for count in allocate(np.asarray(shares, float), budget=total))
    if min(budgets) == 0:
        raise ValueError(
            f"split_budget: expected at least one sample in each of {len(budgets)} rounds, "
            f"got {budgets} from a total of {total}; raise the total or use fewer rounds."
        )
    return budgets


def round_floor(
    budget: float,
    num_tasks: int,
    *,
    count: int | None = None,
    share: float | None = None,
    root: bool = False,
) -> int:
    """Samples that every task gets in a round, by one of three rules.

    Args:
      budget: samples of the round.
      num_tasks: M.
      count: a fixed floor.
      share: part of the round's budget, in [0, 1], that is spread evenly. 0.2 without a rule.
      root: √budget, the floor of the papers.

    Returns:
      The floor; `num_tasks` floors fit into the budget.

    Raises:
      ValueError: for more than one rule, values out of range, or floors that do not fit.

    References:
      Chen, Du, Jamieson. Active Multi-Task Representation Learning. ICML 2022 (`β/ε`).
    """
    if (count is not None) + (share is not None) + bool(root) > 1:
        raise ValueError(
            "round_floor: expected at most one of count, share and root, "
            f"got count={count}, share={share}, root={root}."
        )
    if num_tasks < 1 or not 0 <= budget < math.inf:
        raise ValueError(
            "round_floor: expected num_tasks ≥ 1 and a finite budget ≥ 0, "
            f"got num_tasks={num_tasks}, budget={budget}."
        )
    if root:
        floor, advice = math.isqrt(int(budget)), f"a round budget of at least M² = {num_tasks**2}"
    elif count is not None:
        floor, advice = count, f"count ≤ {int(budget // num_tasks)}, or a larger round"
    else:
        share = 0.2 if share is None else share
        # 0.29 · 100 is 28.999…96 in floating point.
        floor, advice = math.floor(share * budget / num_tasks * (1 + 1e-12)), "a share in [0, 1]"
    if floor < 0 or floor * num_tasks > budget:
        raise ValueError(
            f"round_floor: expected floors that fit into the round, got {num_tasks} tasks × "
            f"{floor} samples for a budget of {budget:g}; this rule needs {advice}."
        )
    return floor
