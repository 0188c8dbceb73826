"""Learners by their settings: campaigns that differ in seed or λ alone share a compiled round."""

import collections
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from amtl_jax.learner import active_learner
from amtl_jax.round_plan import Floor
from amtl_jax.types import Fitter, Learner, Strategy

_KEPT = 8


class Settings(NamedTuple):
    """Whatever a compiled round depends on, all of it hashable; see `active_learner`.

    λ and the seed are not among it: they travel in the learner's state and in keys.
    """

    fitter: Fitter
    strategy: Strategy
    num_target: int
    budget: float
    schedule: tuple[float, ...]
    floor: Floor
    capacity: tuple[int, ...]
    price: tuple[float, ...] | None
    group: tuple[int, ...] | None
    join_target: bool = False
    weigh_noise: bool = False

    def num_rows(self) -> int:
        """Rows that a batch needs room for, whatever the allocation."""
        most = self.budget / min(self.price or (1.0,))
        if self.group:  # a row comes back for every task of its group
            most *= max(collections.Counter(self.group).values())
        return int(min(most, sum(self.capacity))) + self.num_target


# The seeds of a study and the folds of a search over λ share one compiled round.
@functools.lru_cache(maxsize=_KEPT)
def compiled_learner(settings: Settings) -> tuple[Learner, Callable[..., Any]]:
    """Returns a learner, and its `tell` as a jitted function.

    Raises:
      ValueError: where the numbers do not fit together.
    """
    learner = active_learner(
        settings.fitter,
        settings.strategy,
        num_sources=len(settings.capacity),
        num_target=settings.num_target,
        budget=settings.budget,
        schedule=settings.schedule,
        floor=settings.floor,
        capacity=settings.capacity,
        price=settings.price,
        group=settings.group,
        join_target=settings.join_target,
        weigh_noise=settings.weigh_noise,
    )
    return learner, jax.jit(learner.tell)
