"""How well an arm knows the relevance of its sources, after its last round."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from amtl_jax.data.sources import Rows
from amtl_jax.encoding import encode_live
from amtl_jax.experiment import build
from amtl_jax.experiment.checkpoint import Checkpoint
from amtl_jax.experiment.records import number
from amtl_jax.experiment.rounds import Setting
from amtl_jax.heads import head_stats, solve_heads
from amtl_jax.label_noise import noise_variance
from amtl_jax.posterior import (
    HeadPosterior,
    RelevanceInterval,
    head_posterior,
    relevance_draws,
    relevance_interval,
)
from amtl_jax.relevance import basis_pursuit, min_norm
from amtl_jax.strategies.shared_relevance import shared_relevance
from amtl_jax.types import Array, Evidence, Heads, HeadStats, Params, Relevance, TaskBatch

NUM_DRAWS = 100
_KEY = 4  # folded into a seed's key; `build` has the others
# What each arm reports as relevance.
SOLVERS: dict[str, Callable[[Array, Array], Relevance]] = {
    "uniform": min_norm,
    "a_mtrl": min_norm,
    "l1_a_mtrl": basis_pursuit,
    "c_optimal": basis_pursuit,
    "alignment": min_norm,
}


def interval_maker(setting: Setting) -> Callable[[Array, Rows, Checkpoint], Checkpoint]:
    """Builds what adds intervals of the relevance to the record of an arm's last round.

    The posterior is that of the heads given the representation, under the prior that their ridge
    stands for, so that its mean is the heads as fitted. See `amtl_jax.posterior` for what it
    leaves out.

    Returns:
      `(root, target, one) -> one`, the seed's key, its target sample and the round as computed.
      `record["relevance"]` gets `middle`, `low` and `high` (M numbers each, null where unknown),
      `top` (the source that is strongest over the draws), `tied_with_top` (names of the sources
      that cannot be told apart from it), `level` and `draws`.
    """
    config, source = setting.config, setting.problem.source
    names, num_tasks = source.names, len(source.names) + 1

    @jax.jit
    def task_stats(params: Params, batch: TaskBatch) -> HeadStats:
        features = encode_live(setting.encoder, params, batch.x, batch.weight)
        return head_stats(features, batch, num_tasks=num_tasks)

    def with_intervals(root: Array, target: Rows, one: Checkpoint) -> Checkpoint:
        state = one.state
        rows = source.draw(jax.random.fold_in(root, build.DATA_KEY), np.asarray(state.spent))
        stats = task_stats(state.params, build.pack_campaign(config, rows, target, source))
        sources, own = _posteriors(
            stats,
            state.target_head.weight,
            state.penalty,
            one.record["target_ridge"],
            state.held_out_loss,
            float(np.prod(source.input_shape)),
            intercept=config.fit.intercept,
        )
        draws = _draws(
            jax.random.fold_in(root, _KEY),
            sources,
            own,
            stats,
            solver=SOLVERS[one.record["strategy"]],
            num_draws=NUM_DRAWS,
        )
        known = jax.tree.map(np.asarray, relevance_interval(draws, level=config.level))
        relevance = one.record["relevance"] | _plain(known, names)
        relevance |= {"level": config.level, "draws": NUM_DRAWS}
        return one._replace(record=one.record | {"relevance": relevance})

    return with_intervals


def _plain(known: RelevanceInterval, names: Sequence[str]) -> dict[str, Any]:
    """An interval as the record has it."""
    ends = {
        end: [number(value) for value in getattr(known, end)] for end in ("middle", "low", "high")
    }
    tied = [name for i, name in enumerate(names) if known.tied[i] and i != known.top]
    top = names[int(known.top)] if known.top >= 0 else None
    return ends | {"top": top, "tied_with_top": tied}


@functools.partial(jax.jit, static_argnames="intercept")
def _posteriors(
    stats: HeadStats,
    target_weight: Array,
    penalty: Array,
    target_ridge: Array,
    held_out_loss: Array,
    input_dim: Array,
    *,
    intercept: bool,
) -> tuple[HeadPosterior, HeadPosterior]:
    """Posteriors of the sources' heads and of the target's, whose mean is the head of its rows."""
    sources = jax.tree.map(lambda leaf: leaf[:-1], stats)
    ridge = penalty * jnp.sum(sources.count)
    ridges = jnp.full(len(stats.count), ridge).at[-1].set(target_ridge)
    heads = solve_heads(stats, ridge=ridges, intercept=intercept)
    noise, pooled = noise_variance(
        sources,
        jax.tree.map(lambda leaf: leaf[:-1], heads),
        ridge=ridge,
        input_dim=input_dim,
        held_out_loss=held_out_loss,
        intercept=intercept,
    )
    # Misfit of the representation shows in the target's residuals and widens its posterior.
    own_noise = jnp.maximum(heads.residual_variance[-1:], pooled[None])
    noise = jnp.concatenate([noise, own_noise])
    prior = noise / jnp.maximum(ridges, jnp.finfo(noise.dtype).tiny)[:, None]
    found = head_posterior(stats, noise=noise, prior_variance=prior, intercept=intercept)
    first, last = (
        jax.tree.map(lambda leaf, part=part: leaf[part], found)
        for part in (slice(None, -1), slice(-1, None))
    )
    return first, last._replace(mean=target_weight[None])


@functools.partial(jax.jit, static_argnames=("solver", "num_draws"))
def _draws(
    key: Array,
    sources: HeadPosterior,
    target: HeadPosterior,
    stats: HeadStats,
    *,
    solver: Callable[[Array, Array], Relevance],
    num_draws: int,
) -> Array:
    """Relevance `[S, M]` of posterior draws, as the arm with this solver would find it."""
    own_stats = jax.tree.map(lambda leaf: leaf[:-1], stats)
    relate = functools.partial(_relate, solver, own_stats)
    return relevance_draws(key, sources, target, relate, num_draws=num_draws)


def _relate(
    solver: Callable[[Array, Array], Relevance],
    stats: HeadStats,
    source_heads: Array,
    target_head: Array,
) -> Relevance:
    """The arms' own way from heads to relevance; it looks at three fields of the evidence."""
    nothing = Evidence(*[None] * len(Evidence._fields))
    evidence = nothing._replace(
        source_heads=Heads(source_heads, None, None),
        target_head=Heads(target_head, None, None),
        source_stats=stats,
    )
    return shared_relevance(solver, evidence)
