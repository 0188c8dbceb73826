"""Posterior c-optimal design: buy what lowers the target's expected risk most."""

import jax
import jax.numpy as jnp

from amtl_jax.design import NUM_STEPS, Criterion, Limits, c_optimal_design
from amtl_jax.knowledge import Knowledge, draw_knowledge, head_knowledge
from amtl_jax.strategies.proposal import blank
from amtl_jax.types import Array, Evidence, Proposal, Relevance, Strategy

NUM_DRAWS = 24
_PRECISION = jax.lax.Precision.HIGHEST


def c_optimal(
    *,
    num_draws: int = NUM_DRAWS,
    num_steps: int = NUM_STEPS,
    criterion: Criterion = "sum",
    target_in_fit: bool = True,
    schedule: tuple[float, ...] | None = None,
) -> Strategy:
    """The rule that goes beyond the papers': totals of least expected first-order risk.

    The heads' posterior given this round's fit is drawn `num_draws` times, and the totals
    minimise the mean risk over the draws, the floor of the next round being their lower limit. A
    source whose head is poorly known is bought for what it may turn out to be worth, so none is
    starved by one bad guess. See `head_knowledge` and `c_optimal_design`.

    Args:
      num_draws: S, posterior draws of the source heads.
      num_steps: of the design.
      criterion: for several targets: the `sum` of their risks or the largest (`max`).
      target_in_fit: whether the fit that estimates the heads has the target as one more task.
      schedule: shares of the budget per round; None: the learner's.

    Returns:
      `Strategy` with cumulative proposals. The relevance is that of the wanted totals,
      `nu = diag(n/s2) Wᵀ(W diag(n/s2) Wᵀ + ρI)⁻¹w_T` at the posterior means; its `gap` is the
      design's.

    Raises:
      ValueError: unless there are at least one draw and one step.
    """
    if num_draws < 1 or num_steps < 1:
        raise ValueError(
            f"c_optimal expects num_draws >= 1 and num_steps >= 1, got {num_draws} and {num_steps}."
        )

    def init(num_sources: int):
        return blank(num_sources), ()

    def update(evidence: Evidence, state) -> tuple[Proposal, tuple]:
        knowledge = knowledge_of(evidence)
        draws = draw_knowledge(evidence.key, knowledge, num_draws=num_draws)
        design = c_optimal_design(
            draws.heads,
            draws.target,
            noise=draws.noise,
            rho=draws.rho,
            limits=limits_of(evidence),
            criterion=criterion,
            num_steps=num_steps,
        )
        alive = knowledge.alive[None, :, None]
        nu, residual = design_relevance(
            knowledge.sources.mean * alive,
            knowledge.targets.mean * alive,
            counts=design.counts,
            noise=knowledge.noise,
            rho=draws.rho,
        )
        certificate = (jnp.broadcast_to(one, len(nu)) for one in (design.gap, design.ok))
        relevance = Relevance(nu, residual, *certificate)
        if evidence.target_head.weight.ndim == 2:
            relevance = jax.tree.map(lambda leaf: leaf[0], relevance)
        return Proposal(design.counts, jnp.asarray(True), relevance), state

    return Strategy(init, update, schedule, target_in_fit)


def knowledge_of(evidence: Evidence) -> Knowledge:
    """What the evidence of a round says of all heads; see `head_knowledge`."""
    own = evidence.target_stats
    if evidence.target_head.weight.ndim == 2:  # one target, without an axis of its own
        own = jax.tree.map(lambda leaf: leaf[None], own)
    return head_knowledge(
        evidence.source_stats,
        own,
        ridge=evidence.ridge,
        input_dim=evidence.input_dim,
        held_out_loss=evidence.held_out_loss,
        intercept=evidence.intercept,
    )


def limits_of(evidence: Evidence) -> Limits:
    """What the next round must keep to, in totals: what is spent, and its floor, remain."""
    dtype, group = evidence.price.dtype, evidence.group
    num_sources = len(group)
    capacity = evidence.capacity.astype(dtype)
    # A label that is missing for one source of a group was paid with the others.
    spent = jax.ops.segment_max(evidence.spent.astype(dtype), group, num_sources)[group]
    members = jax.ops.segment_sum(jnp.ones(num_sources, dtype), group, num_sources)[group]
    budget = jnp.sum(evidence.price * spent / members) + evidence.budget
    return Limits(
        budget=budget,
        low=jnp.maximum(jnp.minimum(spent + evidence.floor, capacity), spent),
        high=jnp.maximum(capacity, spent),
        price=evidence.price,
        group=group,
    )


def design_relevance(
    weight: Array, target: Array, *, counts: Array, noise: Array, rho: Array
) -> tuple[Array, Array]:
    """Relevance of a design: how the samples that it buys compose the target's head.

    `nu = diag(n/s2) Wᵀ(W diag(n/s2) Wᵀ + ρI)⁻¹w_T`: of all nu with `W nu ≈ w_T` the one that counts
    for least noise, `Σ s2 nu²/n`, at n samples.

    Args:
      weight: `[M, K, O]` source heads, in features of identity covariance.
      target: `[T, K, O]` target heads.
      counts: `[M]` n.
      noise: `[M, O]` s2.
      rho: `[]` information per direction before any sample, positive.

    Returns:
      nu `[T, M]`, and `‖W nu − w_T‖/‖w_T‖`, `[T]`.
    """
    pull = weight * (counts[:, None] / noise)[:, None]
    gram = jnp.einsum("mko,mlo->kl", pull, weight, precision=_PRECISION)
    lower = jnp.linalg.cholesky(gram + rho * jnp.eye(len(gram)))

    def one(target):  # [K, O]
        solved = jax.scipy.linalg.cho_solve((lower, True), target)
        parts = jnp.einsum("mko,kp->mop", pull, solved, precision=_PRECISION)
        made = jnp.einsum("mko,mop->kp", weight, parts, precision=_PRECISION)
        size = jnp.linalg.norm(target)
        residual = jnp.linalg.norm(made - target) / jnp.where(size > 0, size, 1.0)
        # Each output of a source helps each of the target's: their size, or one signed number.
        joined = parts[:, 0, 0] if target.shape[1] == 1 else jnp.linalg.norm(parts, axis=(1, 2))
        return joined, residual

    return jax.vmap(one)(target)
