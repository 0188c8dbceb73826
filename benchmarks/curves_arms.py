"""The arms of the simulation: what each one buys, and in which rounds."""

import importlib
from collections.abc import Callable
from typing import NamedTuple

from amtl_jax.round_plan import SCHEDULE, Floor
from amtl_jax.strategies.a_mtrl import a_mtrl
from amtl_jax.strategies.l1_a_mtrl import l1_a_mtrl
from amtl_jax.strategies.uniform import uniform
from amtl_jax.types import Strategy

PAPER_SCHEDULE = (1 / 7, 2 / 7, 4 / 7)


class Arm(NamedTuple):
    """How an arm buys; hashable, as compiled campaigns are found by it.

    Attributes:
      strategy: makes the rule; None: one purchase of the whole budget.
      known: of one purchase: ∝ |nu| of the true heads, else uniform.
      schedule: shares of the budget per round, unless the strategy has its own.
      floor: what every source gets in every round.
      keeps_rank: whether it is fitted with the truth's K whatever rank the others have.
    """

    strategy: Callable[[], Strategy] | None = None
    known: bool = False
    schedule: tuple[float, ...] = SCHEDULE
    floor: Floor = Floor()
    keeps_rank: bool = False


def _c_optimal() -> Strategy:
    return importlib.import_module("amtl_jax.strategies.c_optimal").c_optimal()


def _l1_with_target() -> Strategy:
    return l1_a_mtrl(target_in_fit=True)


def _a_mtrl_with_target() -> Strategy:
    return a_mtrl(target_in_fit=True)


ARMS = {
    "uniform": Arm(keeps_rank=True),
    "known": Arm(known=True, keeps_rank=True),
    "c_optimal": Arm(_c_optimal),
    "l1_a_mtrl": Arm(_l1_with_target),
    "a_mtrl": Arm(_a_mtrl_with_target),
    "control": Arm(l1_a_mtrl, schedule=PAPER_SCHEDULE),
    "uniform_rank": Arm(),  # differs from `uniform` where a rank is given
    "known_rank": Arm(known=True),  # from `known` as well
    "uniform_rounds": Arm(uniform),  # by the learner: weights by noise are estimated, not known
    "a_mtrl_paper": Arm(a_mtrl, schedule=PAPER_SCHEDULE),
}
