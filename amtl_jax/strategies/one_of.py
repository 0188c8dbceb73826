"""Several rules behind one compiled learner: which one acts is data, not code."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from amtl_jax.types import Array, Evidence, LearnerState, Params, Proposal, Strategy


class Choice(NamedTuple):
    """State of `one_of`.

    Attributes:
      index: `[]` int32 the rule that acts.
      states: the state of each rule; all of them see the evidence of every round.
      proposals: what each rule would buy next.
    """

    index: Array
    states: tuple[Params, ...]
    proposals: tuple[Proposal, ...]


def one_of(strategies: tuple[Strategy, ...]) -> Strategy:
    """Joins rules that share a schedule into one, so that a study compiles one `tell` for all arms.

    Every rule proposes after every round and one of them acts, so arms whose first round is the
    same can share it: run it once, then `choose` each rule in turn. A fresh state has the first
    rule acting.

    Raises:
      ValueError: if there is no strategy, or they differ in `schedule` or `target_in_fit`.
    """
    kinds = {(strategy.schedule, strategy.target_in_fit) for strategy in strategies}
    if len(kinds) != 1:
        raise ValueError(
            "one_of expects strategies with the same schedule and target_in_fit, got "
            f"{sorted(kinds, key=repr)}. Build one learner for each kind."
        )

    def init(num_sources: int):
        proposals, states = zip(*(s.init(num_sources) for s in strategies), strict=True)
        return proposals[0], Choice(jnp.int32(0), states, proposals)

    def update(evidence: Evidence, choice: Choice) -> tuple[Proposal, Choice]:
        pairs = zip(strategies, choice.states, strict=True)
        proposals, states = zip(*(s.update(evidence, state) for s, state in pairs), strict=True)
        acting = jax.tree.map(lambda *leaves: jnp.stack(leaves)[choice.index], *proposals)
        return acting, Choice(choice.index, states, proposals)

    schedule, target_in_fit = kinds.pop()
    return Strategy(init, update, schedule, target_in_fit)


def choose(state: LearnerState, index: int) -> LearnerState:
    """Returns a learner state of `one_of` with rule `index` acting from the next round on.

    Raises:
      ValueError: if there is no such rule.
    """
    choice = state.strategy_state
    if not 0 <= index < len(choice.states):
        raise ValueError(f"choose expects an index in [0, {len(choice.states)}), got {index}.")
    return state._replace(
        proposal=choice.proposals[index],
        strategy_state=choice._replace(index=jnp.int32(index)),
    )
