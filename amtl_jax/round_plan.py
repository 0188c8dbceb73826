"""The plan of a campaign: budgets and floors of its rounds, checked before anything is bought."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from amtl_jax.planning import round_floor, split_budget
from amtl_jax.types import Numbers

# First a broad look, then at least three rounds that learn from it: growth 1.5 after the first.
SCHEDULE = (0.300, 0.147, 0.221, 0.332)

_MOST = np.iinfo(np.int32).max  # counts are int32
_MONEY_MARGIN = 1e-6


class Floor(NamedTuple):
    """What every source gets in every round, whatever the scores; at most one field is set.

    Where none is set: 10 samples, 20 from 160 sources on, or as many as 0.3 of the round's budget
    give where that is less; none in the last of several rounds, as nothing is learnt from it that
    a later round could use.

    Attributes:
      count: samples per source.
      share: share of the round's budget, spread evenly.
      root: the papers' √(round budget) samples per source.
    """

    count: int | None = None
    share: float | None = None
    root: bool = False


def source_capacity(capacity: Numbers | None, num_sources: int) -> np.ndarray:
    """Validates `[M]` whole capacities >= 0; None and inf are as many as int32 can count."""
    array = np.full(num_sources, np.inf) if capacity is None else np.asarray(capacity, float)
    is_count = (array >= 0) & (np.isinf(array) | (array == np.floor(array)))
    if array.shape != (num_sources,) or not is_count.all():
        raise ValueError(
            f"active_learner expects capacity as {num_sources} whole numbers >= 0, one per source, "
            f"got shape {array.shape}: {capacity!r}."
        )
    return np.minimum(array, _MOST).astype(np.int64)


def source_price(price: Numbers, num_sources: int) -> np.ndarray:
    """Validates `[M]` positive prices."""
    array = np.asarray(price, float)
    if array.shape != (num_sources,) or not (np.isfinite(array).all() and (array > 0).all()):
        raise ValueError(
            f"active_learner expects price as {num_sources} positive numbers, one per source, "
            f"got shape {array.shape}: {price!r}."
        )
    return array


def source_groups(
    group: Numbers | None, num_sources: int, *, capacity: np.ndarray, price: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers the groups of sources that are bought together, in order of first appearance.

    Returns:
      `[M]` group of each source, in `[0, G)`, and `[G]` the first source of each group.

    Raises:
      ValueError: for wrong shapes, or names the sources of a group that differ in capacity or
        price.
    """
    array = np.arange(num_sources) if group is None else np.asarray(group)
    if array.shape != (num_sources,) or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"active_learner expects group as {num_sources} integers, one per source, got shape "
            f"{array.shape}: {group!r}."
        )
    _, first, members = np.unique(array, return_index=True, return_inverse=True)
    order = np.argsort(first)
    first, members = first[order], np.argsort(order)[members]
    for name, values in (("capacity", capacity), ("price", price)):
        if values is None or (values == values[first][members]).all():
            continue
        index = members[np.argmax(values != values[first][members])]
        sources = np.flatnonzero(members == index)
        raise ValueError(
            f"Sources of one group are bought together and need one {name}: sources "
            f"{', '.join(map(str, sources))} have {', '.join(f'{v:g}' for v in values[sources])}."
        )
    return members, first


def plan_rounds(
    budget: float,
    shares: Sequence[float],
    floor: Floor,
    num_sources: int,
    capacity: np.ndarray,
    prices: np.ndarray | None,
) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Budgets and floors of all rounds as Python numbers; raises where they cannot be met.

    Where sources are bought in groups, `num_sources`, `capacity` and `prices` are the groups'.
    """
    floor_options = {"count": floor.count, "share": floor.share, "root": floor.root}
    if prices is None:
        budgets = split_budget(budget, shares)
        if budget > capacity.sum():
            raise ValueError(
                f"The budget of {budget} samples is beyond the sources' capacity of "
                f"{capacity.sum()}. Lower the budget or add sources."
            )
        floors = tuple(round_floor(amount, num_sources, **floor_options) for amount in budgets)
        return budgets, _exploring(floors, floor)
    total = sum(shares)
    budgets = tuple(budget * share / total for share in shares)
    worth = float((capacity * prices).sum())
    if budget > worth:
        raise ValueError(f"The budget of {budget} is beyond the price of all samples, {worth}.")
    # One sample of every source costs Σ c_m: count in such rounds of the table.
    floors = tuple(
        round_floor(amount * num_sources / prices.sum(), num_sources, **floor_options)
        for amount in budgets
    )
    floors = _exploring(floors, floor)
    for amount, floor_now in zip(budgets, floors, strict=True):
        cost = floor_now * float(prices.sum())
        if cost > amount * (1 - _MONEY_MARGIN):  # counts are bought in float32
            raise ValueError(
                f"A floor of {floor_now} samples costs {cost:g}, all of a round's {amount:g} or "
                "more. Lower the floor or raise the budget."
            )
    return budgets, floors


def _exploring(floors: tuple[int, ...], floor: Floor) -> tuple[int, ...]:
    """Floors of the rounds, where no rule is given without that of the last of several."""
    is_given = floor.count is not None or floor.share is not None or floor.root
    return floors if is_given or len(floors) == 1 else (*floors[:-1], 0)
