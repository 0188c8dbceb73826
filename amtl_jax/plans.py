"""A plan: predicted risk against budget for every rule.

Heads come as posterior draws, so that a plan knows how little is known. Allocations follow from
what is known now: rounds that are still to come will know more, and do a little better.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from amtl_jax.forecast import draw_risks
from amtl_jax.knowledge import HeadDraws
from amtl_jax.paired_risk import paired_risks, share_worse
from amtl_jax.plan_search import (
    all_totals,
    check_number,
    find_money,
    from_scratch,
    head_risk,
    mean_risk,
    search_ends,
)
from amtl_jax.plan_split import RULES, Terms, check_budgets, rule_scores, terms_of, totals
from amtl_jax.types import Array, Numbers

_REPEATS = 16  # runs of every draw, behind an interval
_CLOSE = 0.01  # of a risk: rules that are so close are equal, and `c_optimal` is the safest


class Plan(NamedTuple):
    """Predictions for B budgets; rules in the order of `RULES`. Sums over targets, where several.

    Attributes:
      budgets: `[B]` money in all, what was spent included.
      counts: `[4, B, M]` totals of each rule. Those of `uniform` are from scratch, what it would
        have bought with all of the money; the others keep what was bought.
      representation: `[4, B]` predicted risk that the source samples leave.
      low: `[4, B]` lower end of the interval of one run's.
      high: `[4, B]` upper end.
      risk_low: `[4, B]` lower end of the interval of one run's excess risk, both terms.
      risk_high: `[4, B]` upper end.
      head: `[]` what the target's own sample leaves on top, whatever is bought of the sources.
      worse: `[4, B]` share of runs in which the rule is predicted to do worse than uniform.
      best: `[B]` int32 the rule of least predicted risk, `c_optimal` where it is within 1 %.
      saving: `[B]` how many times more money uniform needs in all for the best rule's risk; inf
        where no money is enough.
    """

    budgets: Array
    counts: Array
    representation: Array
    low: Array
    high: Array
    risk_low: Array
    risk_high: Array
    head: Array
    worse: Array
    best: Array
    saving: Array

    @property
    def risk(self) -> Array:
        """`[4, B]` predicted excess risk, both terms."""
        return self.representation + self.head


def plan(
    draws: HeadDraws,
    *,
    budgets: Numbers,
    num_target: ArrayLike,
    spent: Numbers | None = None,
    price: Numbers | None = None,
    capacity: Numbers | None = None,
    group: Numbers | None = None,
    level: float = 0.95,
    key: Array | None = None,
) -> Plan:
    """Predicts the target's excess risk for several budgets and every rule.

    Args:
      draws: of all heads: `draw_knowledge`, or `known_heads` where they are known.
      budgets: `[B]` money in all, what was spent included; samples where prices are 1.
      num_target: n_T.
      spent: `[M]` samples bought so far; None: none.
      price: `[M]` price of one sample; None: 1 each.
      capacity: `[M]` samples that each source can give in all; None: no limit.
      group: `[M]` integers; sources of one number are bought together.
      level: of the intervals; static.
      key: of the random numbers behind them; None: of a fixed seed.

    Returns:
      `Plan`, in squared label units of the fit. What K features cannot express of the target is
      not in it, unless it showed as noise of the target.

    Raises:
      ValueError: for wrong shapes, or numbers out of range where they are concrete.
    """
    terms = terms_of("plan", draws, spent, price, capacity, group)
    if np.ndim(budgets) != 1 or not np.size(budgets):
        raise ValueError(
            f"plan expects budgets [B], at least one, got shape {list(np.shape(budgets))}."
        )
    check_budgets("plan", budgets, terms)
    check_number("plan", "num_target", num_target, least=1.0)
    budgets = jnp.asarray(budgets, float)
    key = jax.random.key(0) if key is None else key
    num_target = jnp.asarray(num_target, float)
    return _plan(key, draws, rule_scores(draws), budgets, num_target, terms, level)


@jax.jit(static_argnames="level")
def _plan(
    key: Array,
    draws: HeadDraws,
    scores: Array,
    budgets: Array,
    num_target: Array,
    terms: Terms,
    level: float,
) -> Plan:
    pair_key, risk_key = jax.random.split(key)
    amounts = jnp.broadcast_to(budgets[:, None], (len(budgets), len(RULES)))
    counts = jax.lax.map(lambda each: all_totals(draws, scores, each, terms), amounts)  # [B, 4, M]

    head = head_risk(draws, num_target)
    chances = _chances(risk_key, draws)
    ends = jnp.asarray([(1 - level) / 2, (1 + level) / 2])

    def predict(pair):
        own, other = pair
        each = jnp.sum(draw_risks(draws, own), axis=1)  # [S]
        runs = each[None] * chances[0]
        both = jnp.stack([runs, runs + head * chances[1]]).reshape(2, -1)
        (low, risk_low), (high, risk_high) = jnp.quantile(both, ends, axis=1)
        worse = share_worse(*paired_risks(pair_key, draws, own + 0 * each[0], other))
        return jnp.mean(each), low, high, risk_low, risk_high, worse

    reference = jnp.broadcast_to(counts[:, :1], counts.shape)
    flat = [value.reshape(-1, counts.shape[-1]) for value in (counts, reference)]
    found = jax.lax.map(predict, tuple(flat))
    names = ("representation", "low", "high", "risk_low", "risk_high", "worse")
    values = {name: value.reshape(counts.shape[:2]).T for name, value in zip(names, found)}
    representation = values["representation"]

    def uniform_risk(log_money):
        own = from_scratch(terms)
        each = jax.vmap(lambda amount: totals(draws, scores[0], jnp.exp(amount), own))(log_money)
        return jax.lax.map(lambda counts: mean_risk(draws, counts), each)

    handicap = jnp.full(len(RULES), 1 + _CLOSE).at[RULES.index("c_optimal")].set(1.0)
    best = jnp.argmin(representation * handicap[:, None], axis=0).astype(jnp.int32)
    least = jnp.take_along_axis(representation, best[None], axis=0)[0]
    needed = find_money(uniform_risk, least, search_ends(from_scratch(terms)))
    return Plan(
        budgets=budgets,
        counts=jnp.moveaxis(counts, 1, 0),
        head=head,
        best=best,
        saving=needed / budgets,
        **values,
    )


def _chances(key: Array, draws: HeadDraws) -> tuple[Array, Array]:
    """Luck of single runs `[_REPEATS, S]`: mean squares of the errors in D − K and K directions."""
    keys = jax.random.split(key)
    shape = (_REPEATS, draws.heads.shape[0])
    free, own = jnp.maximum(draws.free, 1.0), draws.num_features
    first = jax.random.chisquare(keys[0], free, shape) / free
    return first, jax.random.chisquare(keys[1], own, shape) / own
