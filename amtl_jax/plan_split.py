"""How each rule would split a budget over the sources, given what is known of the heads."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from amtl_jax.design import (
    NUM_STEPS,
    Limits,
    c_optimal_design,
    is_feasible,
    price_shares,
    spend,
)
from amtl_jax.knowledge import HeadDraws
from amtl_jax.relevance import basis_pursuit, min_norm
from amtl_jax.types import Array, Numbers

Rule = Literal["uniform", "a_mtrl", "l1_a_mtrl", "c_optimal"]
RULES: tuple[Rule, ...] = ("uniform", "a_mtrl", "l1_a_mtrl", "c_optimal")
DESIGN_DRAWS = 48  # behind a design; more draws change its risk by less than half a percent
_LEAST = 1e-9  # score of sources that no rule wants, of the largest: for money nobody else takes
_SLACK = 1e-4


class Terms(NamedTuple):
    """What samples cost and how many there are; the same for all budgets of a plan.

    Attributes:
      spent: `[M]` samples bought so far, zeros from scratch.
      price: `[M]` price of one sample.
      capacity: `[M]` samples that a source can give in all, may be inf.
      group: `[M]` int32 in `[0, M)`; sources of one number have one count, paid once.
    """

    spent: Array
    price: Array
    capacity: Array
    group: Array

    def cost(self, counts: Array) -> Array:
        """`[]` money that counts `[M]` cost, that of a group once."""
        return jnp.sum(price_shares(self.price, self.group) * counts)


def plan_allocation(
    draws: HeadDraws,
    *,
    budget: ArrayLike,
    spent: Numbers | None = None,
    price: Numbers | None = None,
    capacity: Numbers | None = None,
    group: Numbers | None = None,
    rule: Rule = "c_optimal",
) -> Array:
    """Splits a budget over the sources as a rule would, given what is known now.

    `uniform` wants equal totals; `a_mtrl` totals ∝ nu² and `l1_a_mtrl` ∝ |nu|, nu of minimum norm
    and of basis pursuit at the mean of the draws (summed over targets); `c_optimal` those of least
    mean first-order risk over the first 48 draws. What was bought stays bought: a source that has
    more than a rule wants keeps it, and the others share the rest.

    Args:
      draws: of all heads: `draw_knowledge`, or `known_heads` where they are known.
      budget: `[]` money in all, what was spent included; samples where prices are 1.
      spent: `[M]` samples bought so far; None: none.
      price: `[M]` price of one sample; None: 1 each.
      capacity: `[M]` samples that each source can give in all; None: no limit.
      group: `[M]` integers in `[0, M)`; sources of one number are bought together, a sample of
        all paid once. None: each by itself.
      rule: static.

    Returns:
      `[M]` real-valued totals, at least `spent`, that cost the budget. NaN under a trace where it
      does not lie between what was spent and what all samples cost.

    Raises:
      ValueError: for wrong shapes, an unknown rule, or such a budget where it is concrete.

    References:
      Chen, Du, Jamieson. Active Multi-Task Representation Learning. ICML 2022.
      Wang, Chen, Jamieson, Du. Improved Active Multi-Task Representation Learning via Lasso.
      ICML 2023.
    """
    terms = terms_of("plan_allocation", draws, spent, price, capacity, group)
    check_budgets("plan_allocation", budget, terms)
    if rule not in RULES:
        raise ValueError(f"plan_allocation expects a rule of {', '.join(RULES)}, got {rule!r:.40}.")
    index = RULES.index(rule)
    scores = None if rule == "c_optimal" else rule_scores(draws)[index]
    return totals(draws, scores, jnp.asarray(budget, float), terms)


def terms_of(
    name: str,
    draws: HeadDraws,
    spent: Numbers | None,
    price: Numbers | None,
    capacity: Numbers | None,
    group: Numbers | None,
) -> Terms:
    """Terms as arrays `[M]`, with their defaults.

    Raises:
      ValueError: for other shapes, or numbers out of range where concrete.
    """
    num_tasks = draws.heads.shape[1]
    given = {"spent": spent, "price": price, "capacity": capacity, "group": group}
    for label, value in given.items():
        if value is not None and np.shape(value) != (num_tasks,):
            raise ValueError(
                f"{name} expects {label} [M] = [{num_tasks}], one number a source, got shape "
                f"{list(np.shape(value))}."
            )
        if value is None or isinstance(value, Tracer):
            continue
        array = np.asarray(value)
        if not (array > 0 if label == "price" else array >= 0).all():
            wanted = "positive" if label == "price" else "non-negative"
            raise ValueError(f"{name} expects {label} to be {wanted}, got {array.min():g}.")
    zeros = jnp.zeros(num_tasks)
    spent = zeros if spent is None else jnp.asarray(spent, float)
    limit = zeros + jnp.inf if capacity is None else jnp.asarray(capacity, float)
    return Terms(
        spent=spent,
        price=zeros + 1.0 if price is None else jnp.asarray(price, float),
        capacity=jnp.maximum(limit, spent),
        group=jnp.arange(num_tasks) if group is None else jnp.asarray(group, jnp.int32),
    )


def check_budgets(name: str, budgets: Numbers, terms: Terms) -> None:
    """Raises where concrete budgets are not between what was spent and what all samples cost."""
    if any(isinstance(value, Tracer) for value in (budgets, *terms)):
        return
    least, most = float(terms.cost(terms.spent)), float(terms.cost(terms.capacity))
    for budget in np.atleast_1d(np.asarray(budgets, float)):
        if not (budget > 0 and least <= budget * (1 + _SLACK) and budget <= most * (1 + _SLACK)):
            raise ValueError(
                f"{name} expects a budget, what was spent included, above 0 and between {least:g}, "
                f"what was spent, and {most:g}, what all samples cost; got {budget:g}."
            )


@jax.jit  # by itself: its solvers take long to compile, and are traced, or they would raise
def rule_scores(draws: HeadDraws) -> Array:
    """Scores `[3, M]` of the rules that buy in proportion to them, in the order of `RULES`."""
    heads = jnp.mean(draws.heads, axis=0)
    targets = jnp.mean(draws.target_heads, axis=0)
    ones = jnp.ones(draws.heads.shape[1])

    def scores(solver, power):
        # One after the other: solvers iterate, and a batch would wait for its slowest member.
        nu = jax.lax.map(lambda target: solver(heads, target).nu, targets)
        return jnp.sum(jnp.abs(nu) ** power, axis=0)

    return jnp.stack([ones, scores(min_norm, 2), scores(basis_pursuit, 1)])


def totals(draws: HeadDraws, scores: Array | None, budget: Array, terms: Terms) -> Array:
    """Totals `[M]` of a rule with these scores, or of the design."""
    limits = Limits(budget, terms.spent, terms.capacity, terms.price, terms.group)
    if scores is not None:
        return _fill(scores, limits)
    return c_optimal_design(
        draws.heads[:DESIGN_DRAWS],
        draws.target,
        noise=draws.noise,
        rho=draws.rho,
        limits=limits,
        num_steps=NUM_STEPS,
    ).counts


def _fill(scores: Array, limits: Limits) -> Array:
    """Counts in proportion to scores, within the limits; NaN where none cost the budget."""
    # A sample of a group serves all its members: for scores ∝ |nu| this root is c-optimal.
    scores = jnp.sqrt(jax.ops.segment_sum(scores**2, limits.group, len(scores)))[limits.group]
    peak = jnp.max(scores)
    least = jnp.where(peak > 0, _LEAST * peak, 1.0)
    counts = spend(jnp.maximum(scores, least), limits)
    return jnp.where(is_feasible(limits) & jnp.isfinite(peak), counts, jnp.nan)
