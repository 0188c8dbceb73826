"""How the rounds of a campaign share its budget, and what every task gets in each."""

import math
from collections.abc import Sequence

import numpy as np

from amtl_jax.allocation import allocate

# The floor where no rule is given: a small constant number, within a share of a small round.
_FLOOR, _FLOOR_OF_MANY, _MANY = 10, 20, 160
_MOST_SHARE = 0.3


def split_budget(total: float, shares: Sequence[float]) -> tuple[int, ...]:
    """Splits a total budget into whole round budgets in proportion to `shares`.

    Args:
      total: samples of all rounds, a whole number.
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
    """Samples that every task gets in a round, by one of four rules.

    Without any of the arguments below it is 10 samples, 20 from 160 tasks on, or as many as 0.3
    of the round give where that is less. A small constant floor did best in simulation, and none in
    the last round of a campaign, see `Floor`.

    Args:
      budget: samples of the round.
      num_tasks: M.
      count: a fixed floor.
      share: part of the round's budget, in [0, 1], that is spread evenly.
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
    elif share is not None:
        floor, advice = _spread(share * budget, num_tasks), "a share in [0, 1]"
    else:
        most = _FLOOR if num_tasks < _MANY else _FLOOR_OF_MANY
        return min(most, _spread(_MOST_SHARE * budget, num_tasks))
    if floor < 0 or floor * num_tasks > budget:
        raise ValueError(
            f"round_floor: expected floors that fit into the round, got {num_tasks} tasks × "
            f"{floor} samples for a budget of {budget:g}; this rule needs {advice}."
        )
    return floor


def _spread(budget: float, num_tasks: int) -> int:
    """Whole samples of each task; 0.29 · 100 is 28.999…96 in floating point."""
    return math.floor(budget / num_tasks * (1 + 1e-12))
