"""One round of active multi-task representation learning: the fit, and the next proposal."""

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from amtl_jax.diagnosis import diagnose
from amtl_jax.head_prior import fit_head_prior
from amtl_jax.label_alignment import alignment
from amtl_jax.round_fit import RoundFit, over_targets
from amtl_jax.round_moments import RoundMoments
from amtl_jax.round_parts import Parts
from amtl_jax.types import (
    Array,
    Diagnosis,
    Evidence,
    Heads,
    LearnerState,
    Numbers,
    Params,
    Proposal,
    Relevance,
    RoundInfo,
    TaskBatch,
)

_STRATEGY_KEY = 1  # folded into the round's key; `source_fit` has the others


def fresh_state(parts: Parts, key: Array, batch: TaskBatch) -> LearnerState:
    """Returns the state before the first round; see `Learner.init`."""
    proposal, strategy_state = parts.strategy.init(parts.num_sources)
    proposal, strategy_state = _of_every_target(parts, (proposal, strategy_state))
    abstract = jax.eval_shape(parts.fitter.init, key, batch, jnp.zeros(()))
    num_features, num_outputs = parts.fitter.encoder.num_features, batch.y.shape[-1]
    targets = () if parts.num_targets is None else (parts.num_targets,)
    state = LearnerState(
        round=jnp.int32(0),
        spent=jnp.zeros(parts.num_sources, jnp.int32),
        paid=parts.purse.paid,
        proposal=proposal,
        strategy_state=strategy_state,
        params=jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), abstract),
        penalty=jnp.full((), jnp.nan if parts.penalty is None else parts.penalty),
        held_out_loss=jnp.full((), jnp.nan),
        target_head=Heads(
            jnp.zeros((*targets, num_features, num_outputs)),
            jnp.zeros((*targets, num_outputs)),
            jnp.zeros((*targets, num_outputs)),
        ),
        task_noise=jnp.ones(parts.fitter.num_tasks),
    )
    return _with_strong_types(state)


def bought_rows(parts: Parts, batch: TaskBatch | RoundMoments) -> Array:
    """`[M]` int32 rows of positive weight of each source: a batch that lacks some shows it."""
    if isinstance(batch, RoundMoments):
        return batch.num_rows
    rows = jnp.sum(batch.weight > 0, axis=1, dtype=jnp.int32)
    return jax.ops.segment_sum(rows, batch.task, parts.fitter.num_tasks)[: parts.num_sources]


def conclude_round(
    parts: Parts,
    key: Array,
    state: LearnerState,
    fits: RoundFit,
    bought: Numbers,
    paid: ArrayLike | None,
) -> tuple[LearnerState, RoundInfo]:
    """Lets the strategy propose on what the fits of a round found; see `Learner.conclude`."""
    bought = jnp.asarray(bought, jnp.int32)
    paid = parts.purse.cost(bought) if paid is None else jnp.asarray(paid, parts.purse.paid.dtype)
    evidence = _evidence(
        parts,
        fits,
        following=state.round + 1,
        bought=bought,
        paid=paid,
        key=jax.random.fold_in(key, _STRATEGY_KEY),
    )
    found = parts.strategy.update(evidence, state.strategy_state)
    proposal, strategy_state = _of_every_target(parts, found)
    new_state = LearnerState(
        round=state.round + 1,
        spent=bought,
        paid=paid,
        proposal=proposal,
        strategy_state=strategy_state,
        params=fits.kept.params,
        penalty=fits.penalty,
        held_out_loss=fits.held_out_loss,
        target_head=fits.kept_target.ridge.head,
        task_noise=fits.task_noise,
    )
    info = _round_info(parts, bought - state.spent, fits, evidence, proposal)
    return _with_strong_types(new_state), info


def _evidence(
    parts: Parts,
    fits: RoundFit,
    *,
    following: Array,
    bought: Array,
    paid: Array,
    key: Array,
) -> Evidence:
    """Gathers what a strategy may look at; budget and floor are those of the round `following`."""
    seen, target = fits.seen, fits.seen_target
    source_heads = jax.tree.map(lambda leaf: leaf[: parts.num_sources], seen.heads)
    budget, floor = parts.purse.terms(following, bought, paid)
    return Evidence(
        source_heads=source_heads,
        target_head=target.ridge.head,
        source_stats=jax.tree.map(lambda leaf: leaf[: parts.num_sources], seen.stats),
        target_stats=target.stats,
        alignment=over_targets(parts, functools.partial(alignment, source_heads), target.stats),
        noise=source_heads.residual_variance.mean(axis=-1),
        target_loss=target.ridge.loss,
        target_ridge=target.ridge.ridge,
        ridge=fits.penalty * jnp.sum(seen.stats.count),
        held_out_loss=fits.held_out_loss,
        input_dim=fits.input_dim,
        intercept=jnp.asarray(parts.fitter.intercept),
        spent=bought,
        price=parts.purse.price,
        capacity=parts.purse.capacity,
        group=parts.purse.group,
        floor=floor,
        budget=budget,
        key=key,
    )


def _of_every_target(parts: Parts, tree: Params) -> Params:
    """Gives every relevance a leading [T]: a rule that knows no target has one for all of them."""

    def widened(node: Params) -> Params:
        if not isinstance(node, Relevance) or node.nu.ndim == 2:
            return node
        return jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (parts.num_targets, *leaf.shape)), node
        )

    if parts.num_targets is None:
        return tree
    return jax.tree.map(widened, tree, is_leaf=lambda node: isinstance(node, Relevance))


def _with_strong_types(state: LearnerState) -> LearnerState:
    """Drops weak types: a state that went through `tell` must not trace it anew."""
    return jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype), state)


def _round_info(
    parts: Parts, counts: Array, fits: RoundFit, evidence: Evidence, proposal: Proposal
) -> RoundInfo:
    """Gathers what a person wants to know."""
    target = fits.kept_target.ridge
    values = (target.loss, target.head.weight, evidence.alignment, proposal.scores)
    finite = jnp.stack([jnp.isfinite(value).all() for value in values]).all()
    stats = jax.tree.map(lambda leaf: leaf[: parts.num_sources], fits.kept.stats)

    def diagnosis(target_weight: Array) -> Diagnosis:
        return diagnose(evidence.source_heads.weight, target_weight, evidence.source_stats)

    return RoundInfo(
        counts=counts,
        fit=fits.kept._replace(params=None, stats=None),
        relevance=proposal.relevance,
        alignment=evidence.alignment,
        target_ridge=target.ridge,
        target_loss=target.loss,
        penalty=fits.penalty,
        penalty_losses=fits.penalty_losses,
        head_prior=fit_head_prior(stats, intercept=parts.fitter.intercept),
        diagnosis=over_targets(parts, diagnosis, evidence.target_head.weight),
        evidence=evidence._replace(key=None),
        is_finite=fits.kept.ok & finite,
    )
