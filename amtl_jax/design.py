"""How many samples to buy of each source: c-optimal design under what is known of the heads.

To first order the representation's share of the target's risk is `(D−K) tr QA⁻¹` with
`A = Σ_m n_m w_m w_mᵀ/s2_m` and Q the second moment of the target's head: buying n_m samples of
source m adds information along its head, and only information along the target's head counts.
The heads are not known, so the design minimises the mean over posterior draws of them, which
cannot bet everything on one guess. A small `rho` stands for what is known before any sample; it
bounds the risk of directions that no source has been bought for.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from amtl_jax.types import Array

NUM_STEPS = 40
_HALVINGS = 60
_PRECISION = jax.lax.Precision.HIGHEST

Criterion = Literal["sum", "max"]


class Design(NamedTuple):
    """Wanted totals of every source, with their certificate.

    Attributes:
      counts: `[M]` real-valued samples in all, those already bought included.
      objective: `[num_steps + 1]` criterion before the first step and after each.
      risks: `[T]` mean over the draws of `tr Q_t A⁻¹` at the end.
      weights: `[T]` weight of each target in the last step, summing to 1.
      gap: `[]` how far the objective is above the optimum at most, relative to it.
      ok: `[]` bool: the input is finite, and the budget lies between the costs of `low` and
        `high`. Where it is False all else is NaN.
    """

    counts: Array
    objective: Array
    risks: Array
    weights: Array
    gap: Array
    ok: Array


class Limits(NamedTuple):
    """What a design must keep to.

    Attributes:
      budget: `[]` money, or samples where prices are 1, that all counts together cost.
      low: `[M]` least samples of each source.
      high: `[M]` most samples, may be inf.
      price: `[M]` price of one sample.
      group: `[M]` int32 in `[0, M)`; sources of one number have one count, paid once. Their
        limits and prices must agree.
    """

    budget: Array
    low: Array
    high: Array
    price: Array
    group: Array


def c_optimal_design(
    heads: ArrayLike,
    target: ArrayLike,
    *,
    noise: ArrayLike,
    rho: ArrayLike,
    limits: Limits,
    criterion: Criterion = "sum",
    num_steps: int = NUM_STEPS,
) -> Design:
    """Minimises the targets' expected risk over the counts of the sources.

    Each step minimises `Σ_m a_m/n_m`, which touches the objective where it stands and lies above
    it everywhere else, so the objective never rises (alternating minimisation): with
    `g = wᵀA⁻¹C`, `CCᵀ = Q`, it is `a_m = n_m² mean_s Σ_o ‖g_smo‖²/s2_mo`, and the minimiser is
    `n_m = t √(a_m/c_m)` between the limits, t such that the budget is met. Only products and
    Cholesky factors of K×K matrices; for one draw, no lower limits and rho → 0 it gives Elfving's
    design, the L1 rule.

    Args:
      heads: `[S, M, K, O]` draws of the source heads.
      target: `[T, K, K]` second moment of each target's head, summed over outputs.
      noise: `[M, O]` positive noise variances s2.
      rho: `[]` information per direction before any sample, positive.
      limits: budget, lower and upper limits, prices, groups.
      criterion: `sum` of the targets' risks, or the largest of them (`max`): targets are weighed,
        and the weight of a target grows with its share of the risk. Static.
      num_steps: static.

    Returns:
      `Design`. For `max` the objective may rise while weights settle.

    Raises:
      ValueError: for wrong shapes or an unknown criterion.

    References:
      Elfving. Optimum Allocation in Linear Regression Theory. Ann. Math. Stat. 1952.
      Chaloner, Verdinelli. Bayesian Experimental Design: A Review. Statist. Sci. 1995.
    """
    heads, target, noise = (jnp.asarray(value, float) for value in (heads, target, noise))
    _check(heads, target, noise, limits, criterion)
    flat = _flat(heads, noise)
    num_targets = len(target)
    start = spend(jnp.ones_like(limits.price), limits)
    even = jnp.full(num_targets, 1 / num_targets, heads.dtype)

    def step(carry, _):
        counts, weights = carry
        gains, risks = _gains(flat, target, rho, counts, weights)
        if criterion == "max":
            weights = weights * risks
            weights = weights / jnp.sum(weights)
            gains, _ = _gains(flat, target, rho, counts, weights)
        pull = counts * jnp.sqrt(_of_groups(gains, limits.group) / limits.price)
        return (spend(pull, limits), weights), _join(risks, criterion)

    (counts, weights), objective = jax.lax.scan(step, (start, even), length=num_steps)
    gains, risks = _gains(flat, target, rho, counts, weights)
    value = _join(risks, criterion)
    weighed = jnp.sum(weights * risks) * (num_targets if criterion == "sum" else 1)
    gains *= num_targets if criterion == "sum" else 1
    missed = _most_gain(counts, _of_groups(gains, limits.group), limits) + value - weighed
    ok = is_feasible(limits) & jnp.isfinite(value) & jnp.isfinite(counts).all()
    design = Design(
        counts=counts,
        objective=jnp.append(objective, value),
        risks=risks,
        weights=weights,
        gap=missed / jnp.maximum(value - missed, jnp.finfo(value.dtype).tiny),
        ok=ok,
    )
    return jax.tree.map(lambda leaf: jnp.where(ok, leaf, jnp.nan), design)._replace(ok=ok)


def information_inverse(heads: Array, counts: Array, *, noise: Array, rho: ArrayLike) -> Array:
    """Inverses `[S, K, K]` of `A_s = Σ_m n_m w wᵀ/s2_m + rho I` for draws of heads.

    Args:
      heads: `[S, M, K, O]` draws of the source heads.
      counts: `[M]` samples of each source.
      noise: `[M, O]` noise variances.
      rho: `[]` information before any sample.
    """
    return _inverse(_flat(heads, noise), rho, counts)


def _flat(heads: Array, noise: Array) -> Array:
    """`[S, K, M·O]` heads over their noise's deviation: what a sample of each tells."""
    draws, _, num_features, _ = heads.shape
    scaled = heads / jnp.sqrt(noise)[None, :, None, :]
    return jnp.moveaxis(scaled, 2, 1).reshape(draws, num_features, -1)


def _inverse(flat: Array, rho: ArrayLike, counts: Array) -> Array:
    """Inverses `[S, K, K]` of A_s = Σ n w wᵀ/s2 + rho I."""
    _, num_features, num_heads = flat.shape
    scaled = flat * jnp.repeat(jnp.sqrt(counts), num_heads // len(counts))[None, None]
    gram = jnp.einsum("skm,slm->skl", scaled, scaled, precision=_PRECISION)
    identity = jnp.eye(num_features)[None]
    lower = jnp.linalg.cholesky(gram + rho * identity)
    return jax.scipy.linalg.cho_solve((lower, True), jnp.broadcast_to(identity, gram.shape))


def _gains(
    flat: Array, target: Array, rho: ArrayLike, counts: Array, weights: Array
) -> tuple[Array, Array]:
    """`[M]` how fast one more sample of each source lowers the weighed risk, and risks `[T]`."""
    inverse = _inverse(flat, rho, counts)
    risks = jnp.einsum("kl,tkl->t", jnp.mean(inverse, axis=0), target, precision=_PRECISION)
    weighed = jnp.einsum("t,tkl->kl", weights, target, precision=_PRECISION)
    root = _root(weighed + 0 * risks[0])  # behind the inverse: see `knowledge._after`
    factor = jnp.einsum("kc,skl->scl", root, inverse, precision=_PRECISION)
    pulled = jnp.einsum("scl,slm->scm", factor, flat, precision=_PRECISION)
    gains = jnp.mean(jnp.sum(pulled**2, axis=1), axis=0)
    return jnp.sum(gains.reshape(len(counts), -1), axis=1), risks


def _root(moment: Array) -> Array:
    """C `[K, K]` with CCᵀ = Q: by eigenvalues, as directions may be missing."""
    size, axes = jnp.linalg.eigh(moment)
    return axes * jnp.sqrt(jnp.maximum(size, 0.0))[None]


def _join(risks: Array, criterion: Criterion) -> Array:
    return jnp.sum(risks) if criterion == "sum" else jnp.max(risks)


def _of_groups(gains: Array, group: Array) -> Array:
    """`[M]` gain of one more sample of each source's group: its members are bought together."""
    return jax.ops.segment_sum(gains, group, len(gains))[group]


def price_shares(price: Array, group: Array) -> Array:
    """`[M]` price of each source, that of a group split over its members."""
    members = jax.ops.segment_sum(jnp.ones_like(price), group, len(price))
    return price / members[group]


def spend(pull: Array, limits: Limits) -> Array:
    """Counts `min(max(t · pull, low), high)` `[M]` that cost the budget, for pulls of any scale.

    The level t is bisected in its logarithm; then the sources between their limits share what the
    others leave, which meets the budget to rounding.
    """
    price = price_shares(limits.price, limits.group)
    peak = jnp.max(pull)
    # Where no sample gains anything, all are bought alike.
    pull = jnp.where(peak > 0, pull / jnp.where(peak > 0, peak, 1.0), 1.0)
    most = jnp.maximum(jnp.max(limits.budget / price), jnp.max(limits.low))

    def counts_at(level):
        return jnp.clip(level * pull, limits.low, limits.high)

    def halve(_, ends):
        low, high = ends
        middle = 0.5 * (low + high)
        is_less = jnp.sum(price * counts_at(jnp.exp(middle))) < limits.budget
        return jnp.where(is_less, middle, low), jnp.where(is_less, high, middle)

    top = jnp.log(jnp.maximum(most, 1.0))
    widest = -jnp.log(jnp.finfo(pull.dtype).tiny) / 2
    low, high = jax.lax.fori_loop(0, _HALVINGS, halve, (top - widest, top + widest))
    counts = counts_at(jnp.exp(0.5 * (low + high)))
    is_free = (counts > limits.low) & (counts < limits.high)
    rest = limits.budget - jnp.sum(jnp.where(is_free, 0.0, price * counts))
    free = jnp.sum(jnp.where(is_free, price * pull, 0.0))
    even = rest * pull / jnp.where(free > 0, free, 1.0)
    return jnp.where(is_free, jnp.clip(even, limits.low, limits.high), counts)


def _most_gain(counts: Array, gains: Array, limits: Limits) -> Array:
    """What the linearised risk could still fall by: all free money where a sample gains most."""
    price = price_shares(limits.price, limits.group)
    rate = gains / limits.price  # of a whole group's sample, for its whole price
    order = jnp.argsort(-rate)
    room = jnp.minimum(price * (limits.high - limits.low), limits.budget)[order]
    money = jnp.maximum(limits.budget - jnp.sum(price * limits.low), 0.0)
    before = jnp.concatenate([jnp.zeros(1, room.dtype), jnp.cumsum(room)[:-1]])
    spent = jnp.clip(money - before, 0.0, room)
    return jnp.sum(rate[order] * spent) - jnp.sum(rate * price * (counts - limits.low))


def is_feasible(limits: Limits) -> Array:
    """`[]` bool: the budget lies between the costs of the lower and of the upper limits."""
    price = price_shares(limits.price, limits.group)
    slack = 1 + 1e-4
    least, most = jnp.sum(price * limits.low), jnp.sum(price * limits.high)
    return (least <= limits.budget * slack) & (limits.budget <= most * slack)


def _check(heads: Array, target: Array, noise: Array, limits: Limits, criterion: str) -> None:
    if criterion not in ("sum", "max"):
        raise ValueError(f"c_optimal_design expects criterion 'sum' or 'max', got {criterion!r}.")
    if heads.ndim != 4:
        raise ValueError(
            f"c_optimal_design expects heads as draws [S, M, K, O], got shape {list(heads.shape)}."
        )
    _, num_tasks, num_features, num_outputs = heads.shape
    if target.ndim != 3 or target.shape[1:] != (num_features, num_features):
        raise ValueError(
            f"c_optimal_design expects target as second moments [T, K, K] with K = {num_features}, "
            f"got shape {list(target.shape)}."
        )
    if noise.shape != (num_tasks, num_outputs):
        raise ValueError(
            f"c_optimal_design expects noise [M, O] = [{num_tasks}, {num_outputs}], got shape "
            f"{list(noise.shape)}."
        )
    for name in ("low", "high", "price", "group"):
        shape = jnp.shape(getattr(limits, name))
        if shape != (num_tasks,):
            raise ValueError(
                f"c_optimal_design expects limits.{name} [M] = [{num_tasks}], got {list(shape)}."
            )
