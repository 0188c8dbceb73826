"""The plan of a campaign: budgets and floors of its rounds, checked before anything is bought."""

from typing import NamedTuple

import numpy as np

from amtl_jax.planning import round_floor, split_budget

# First a broad look, then at least three rounds that learn from it: growth 1.5 after the first.
SCHEDULE = (0.300, 0.147, 0.221, 0.332)


class Floor(NamedTuple):
    """What every source gets in every round, whatever the scores; at most one field is set.

    Attributes:
      count: samples per source.
      share: share of the round's budget, spread evenly; 0.2 where nothing is set.
      root: the papers' √(round budget) samples per source.
    """

    count: int | None = None
    share: float | None = None
    root: bool = False


def per_source(values, name, num_sources, default):
    """Validates a positive number per source; None gives the default for all."""
    array = np.full(num_sources, default) if values is None else np.asarray(values)
    if array.shape != (num_sources,) or not (np.isfinite(array).all() and (array > 0).all()):
        raise ValueError(
            f"active_learner expects {name} as {num_sources} positive numbers, one per source, "
            f"got shape {array.shape}: {array!r}."
        )
    return array


def plan_rounds(budget, shares, floor: Floor, num_sources, capacity, prices):
    """Budgets and floors of all rounds as Python numbers; raises where they cannot be met."""
    floor_options = {"count": floor.count, "share": floor.share, "root": floor.root}
    if prices is None:
        budgets = split_budget(budget, shares)
        if budget > capacity.sum():
            raise ValueError(
                f"The budget of {budget} samples is beyond the sources' capacity of "
                f"{capacity.sum()}. Lower the budget or add sources."
            )
        floors = tuple(round_floor(amount, num_sources, **floor_options) for amount in budgets)
        return budgets, floors
    total = sum(shares)
    budgets = tuple(budget * share / total for share in shares)
    worth = float((capacity * prices).sum())
    if budget > worth:
        raise ValueError(f"The budget of {budget} is beyond the price of all samples, {worth}.")
    # One sample of every source costs Σ c_m: count in such rounds of the table.
    floors = tuple(
        round_floor(int(amount * num_sources / prices.sum()), num_sources, **floor_options)
        for amount in budgets
    )
    return budgets, floors
