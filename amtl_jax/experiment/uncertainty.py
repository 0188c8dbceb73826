"""How well an arm knows the relevance of its sources, after its last round."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from amtl_jax.experiment.checkpoint import Checkpoint
from amtl_jax.experiment.config import Config
from amtl_jax.experiment.records import number
from amtl_jax.experiment.rounds import Setting
from amtl_jax.heads import solve_heads
from amtl_jax.knowledge import draw_knowledge
from amtl_jax.label_noise import noise_variance
from amtl_jax.noise_weights import factors_of
from amtl_jax.posterior import (
    HeadPosterior,
    RelevanceInterval,
    head_posterior,
    relevance_draws,
    relevance_interval,
)
from amtl_jax.relevance import basis_pursuit, min_norm
from amtl_jax.strategies.c_optimal import design_relevance, knowledge_of
from amtl_jax.strategies.shared_relevance import shared_relevance
from amtl_jax.types import Array, Evidence, Heads, LearnerState, Relevance

NUM_DRAWS = 100
_KEY = 4  # folded into a seed's key; `build` has the others
# What each arm reports as relevance; the design's is its own.
SOLVERS: dict[str, Callable[[Array, Array], Relevance] | None] = {
    "uniform": min_norm,
    "a_mtrl": min_norm,
    "l1_a_mtrl": basis_pursuit,
    "c_optimal": None,
    "alignment": min_norm,
}


def interval_maker(setting: Setting) -> Callable[[Array, Checkpoint, Evidence], Checkpoint]:
    """Builds what adds intervals of the relevance to the record of an arm's last round.

    The posterior is that of the heads that the relevance was found from, given the representation
    that they are on. See `draws_of`, and `amtl_jax.posterior` for what it leaves out.

    Returns:
      `(root, one, evidence) -> one`, the seed's key, the round as computed and what its strategy
      looked at. `record["relevance"]` gets `middle`, `low` and `high` (M numbers each, null where
      unknown), `top` (the source that is strongest over the draws), `tied_with_top` (names of the
      sources that cannot be told apart from it), `level` and `draws`.
    """
    config, names = setting.config, setting.problem.source.names

    def with_intervals(root: Array, one: Checkpoint, evidence: Evidence) -> Checkpoint:
        draws = draws_of(
            jax.random.fold_in(root, _KEY),
            evidence,
            one.state.proposal.scores,
            _factors(config, one.state, evidence),
            solver=SOLVERS[one.record["strategy"]],
            intercept=config.fit.intercept,
            num_draws=NUM_DRAWS,
        )
        known = jax.tree.map(np.asarray, relevance_interval(draws, level=config.level))
        relevance = one.record["relevance"] | _plain(known, names)
        relevance |= {"level": config.level, "draws": NUM_DRAWS}
        return one._replace(record=one.record | {"relevance": relevance})

    return with_intervals


def _factors(config: Config, state: LearnerState, evidence: Evidence) -> Array | None:
    """`[M]` what the weights of each source's rows were multiplied by in the fit; None: 1."""
    if not config.fit.weigh_noise:
        return None
    own = evidence.target_stats.count * config.target_in_fit
    return factors_of(jnp.append(evidence.source_stats.count, own), state.task_noise)[:-1]


def _plain(known: RelevanceInterval, names: Sequence[str]) -> dict[str, Any]:
    """An interval as the record has it."""
    ends = {
        end: [number(value) for value in getattr(known, end)] for end in ("middle", "low", "high")
    }
    tied = [name for i, name in enumerate(names) if known.tied[i] and i != known.top]
    top = names[int(known.top)] if known.top >= 0 else None
    return ends | {"top": top, "tied_with_top": tied}


@functools.partial(jax.jit, static_argnames=("solver", "intercept", "num_draws"))
def draws_of(
    key: Array,
    evidence: Evidence,
    counts: Array,
    factors: Array | None = None,
    *,
    solver: Callable[[Array, Array], Relevance] | None,
    intercept: bool,
    num_draws: int,
) -> Array:
    """Relevance of posterior draws of the heads, as the arm with this solver would find it.

    With a solver the prior of the heads is what their ridge stands for, so that the posterior's
    mean is the heads as fitted. Without one it is the relevance of a c-optimal design at the
    counts that it wants, and the draws are those of its own knowledge.

    Args:
      key: PRNG key.
      evidence: of one target.
      counts: `[M]` the design's.
      factors: `[M]` that the fit weighed the sources' rows by; None: 1.
      solver: of the relevance, or None.
      intercept: whether heads have one.
      num_draws: S.

    Returns:
      nu `[S, M]`.
    """
    if solver is None:
        draws = draw_knowledge(key, knowledge_of(evidence), num_draws=num_draws)
        relate = functools.partial(
            design_relevance, counts=counts, noise=draws.noise, rho=draws.rho
        )
        return jax.vmap(relate)(draws.heads, draws.target_heads)[0][:, 0]
    sources, own = _posteriors(evidence, factors, intercept=intercept)
    relate = functools.partial(_relate, solver, evidence)
    return relevance_draws(key, sources, own, relate, num_draws=num_draws)


def _posteriors(
    evidence: Evidence, factors: Array | None, *, intercept: bool
) -> tuple[HeadPosterior, HeadPosterior]:
    """Posteriors of the sources' heads and of the target's, whose means are the heads as fitted."""
    sources = evidence.source_stats
    ridge = evidence.ridge / (jnp.ones_like(sources.count) if factors is None else factors)
    heads = solve_heads(sources, ridge=ridge, intercept=intercept)
    noise, pooled = noise_variance(
        sources,
        heads,
        ridge=ridge[:, None],
        input_dim=evidence.input_dim,
        held_out_loss=evidence.held_out_loss,
        fit_weight=factors,
        intercept=intercept,
    )
    # Misfit of the representation shows in the target's residuals and widens its posterior.
    own_noise = jnp.maximum(evidence.target_head.residual_variance, pooled)[None]
    own_stats = jax.tree.map(lambda leaf: leaf[None], evidence.target_stats)

    def posterior(stats, noise, ridge):
        prior = noise / jnp.maximum(ridge, jnp.finfo(noise.dtype).tiny)
        return head_posterior(stats, noise=noise, prior_variance=prior, intercept=intercept)

    own = posterior(own_stats, own_noise, evidence.target_ridge)
    own = own._replace(mean=evidence.target_head.weight[None])
    return posterior(sources, noise, ridge[:, None]), own


def _relate(
    solver: Callable[[Array, Array], Relevance],
    evidence: Evidence,
    source_heads: Array,
    target_head: Array,
) -> Relevance:
    """The arms' own way from heads to relevance; it looks at three fields of the evidence."""
    drawn = evidence._replace(
        source_heads=Heads(source_heads, None, None), target_head=Heads(target_head, None, None)
    )
    return shared_relevance(solver, drawn)
