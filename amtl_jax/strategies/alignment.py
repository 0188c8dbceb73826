"""Alignment: samples from the sources whose heads already predict the target's labels."""

import functools

import jax.numpy as jnp

from amtl_jax.relevance import min_norm
from amtl_jax.strategies.proposal import blank, proportional
from amtl_jax.strategies.shared_relevance import shared_relevance
from amtl_jax.types import Evidence, Proposal, Strategy

POWER = 4.0


def alignment_rule(
    *,
    power: float = POWER,
    target_in_fit: bool = False,
    schedule: tuple[float, ...] | None = None,
) -> Strategy:
    """Buys ∝ max(correlation, 0)^power above the floor, see `alignment`.

    The correlation is that of the target's labels with a source head's predictions on the target
    sample. It asks whether a source's labels are the target's, one source at a time, where the
    rules of relevance ask which combination of heads makes the target's. So it needs no
    realizability: it works where no combination explains the target, and says nothing where the
    target is a mixture of sources none of which is like it. For several targets counts are
    ∝ Σ_t of the scores.

    Args:
      power: how sharply the samples go to the best aligned; 0 is uniform.
      target_in_fit: whether the fit that estimates the heads has the target as one more task.
      schedule: shares of the budget per round; None: the learner's.

    Returns:
      `Strategy`; its relevance is that of least norm, for people: the scores do not follow it.

    Raises:
      ValueError: if the power is negative or not finite.
    """
    if not 0 <= power < float("inf"):
        raise ValueError(f"alignment_rule expects a finite power >= 0, got {power}.")

    solver = functools.partial(min_norm, ridge=0.0)

    def init(num_sources: int):
        return blank(num_sources), ()

    def update(evidence: Evidence, state) -> tuple[Proposal, tuple]:
        aligned = jnp.maximum(evidence.alignment, 0.0) ** power
        scores = aligned if aligned.ndim == 1 else aligned.sum(axis=0)
        return proportional(scores, shared_relevance(solver, evidence)), state

    return Strategy(init, update, schedule, target_in_fit)
