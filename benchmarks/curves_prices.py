"""A learner whose prices are data, so that seeds with prices of their own share one program."""

import jax.numpy as jnp
import numpy as np

from amtl_jax.allocation import allocate
from amtl_jax.fitting.penalty import PENALTIES
from amtl_jax.learner import learner_of
from amtl_jax.purse import Purse, make_purse
from amtl_jax.round_parts import Parts
from amtl_jax.round_plan import Floor
from amtl_jax.types import Array, Fitter, Learner, Proposal, Strategy

_FLOOR, _FLOOR_OF_MANY, _MANY = 10, 20, 160
_FLOOR_SHARE = 0.3


def priced_learner(
    fitter: Fitter,
    strategy: Strategy,
    price: Array,
    *,
    num_target: int,
    budget: float,
    schedule: tuple[float, ...],
    penalty: float,
    join_target: bool,
) -> Learner:
    """`active_learner` with the default floor and weights by noise, for prices that are traced.

    Prices are not checked.

    Args:
      fitter: of M + 1 tasks.
      strategy: the rule that proposes.
      price: `[M]` of one sample.
      num_target: n_T.
      budget: money.
      schedule: shares of the budget per round, unless the strategy has its own.
      penalty: λ.
      join_target: whether the target's sample joins the final fit.
    """
    purse = _purse(price, budget, strategy.schedule or schedule)
    parts = Parts(
        fitter=fitter,
        strategy=strategy,
        purse=purse,
        num_sources=len(price),
        num_target=num_target,
        num_targets=None,
        penalty=penalty,
        penalties=PENALTIES,
        join_target=join_target,
        weigh_noise=True,
        warm_start=True,
    )
    return learner_of(parts)


def _purse(price: Array, budget: float, shares: tuple[float, ...]) -> Purse:
    """Money as `make_purse` plans it, without capacities and groups."""
    num_sources = len(price)
    budgets = tuple(budget * share / sum(shares) for share in shares)
    plan = jnp.cumsum(jnp.asarray(budgets))
    most = _FLOOR if num_sources < _MANY else _FLOOR_OF_MANY
    share = _FLOOR_SHARE * jnp.asarray([*budgets, 0.0]) / jnp.sum(price)
    floors = jnp.minimum(most, jnp.floor(share)).astype(jnp.int32).at[len(budgets) - 1].set(0)

    def terms(index: Array, bought: Array, paid: Array) -> tuple[Array, Array]:
        del bought
        last = len(budgets) - 1
        left = jnp.maximum(plan[jnp.minimum(index, last)] - paid, 0)
        floor = floors[jnp.minimum(index, len(budgets))]
        carried = jnp.floor(left / jnp.sum(price)).astype(jnp.int32)
        return jnp.where(index <= last, left, 0), jnp.minimum(floor, carried)

    def counts(proposal: Proposal, index: Array, bought: Array, paid: Array) -> Array:
        budget_now, floor_now = terms(index, bought, paid)
        missing = jnp.maximum(proposal.scores - bought - floor_now, 0.0)
        return allocate(
            jnp.where(proposal.cumulative, missing, proposal.scores),
            budget=budget_now,
            floor=floor_now,
            price=price,
        )

    # Planned for prices of 1: money of the right dtype, no capacities and no groups.
    plain = make_purse(
        budget,
        shares,
        Floor(),
        num_sources=num_sources,
        capacity=None,
        price=np.ones(num_sources),
        group=None,
    )
    return plain._replace(
        price=price, terms=terms, counts=counts, cost=lambda bought: jnp.sum(price * bought)
    )
