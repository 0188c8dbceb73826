r"""Rules that were tried beside `alignment_rule` on MNIST-C; docs/mnist_c.md says how they did.

    amtl study mnist_c_linear --data.root mnist_c \
        --study.arms uniform alignment benchmarks.alignment_rules:top_15 …

Each is a function without arguments, for `--study.arms`, run where `benchmarks` is.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from amtl_jax.relevance import min_norm
from amtl_jax.strategies.alignment import alignment_rule
from amtl_jax.strategies.proposal import blank, proportional
from amtl_jax.strategies.shared_relevance import shared_relevance
from amtl_jax.types import Array, Evidence, Proposal, Strategy

_POWER = 4
_TOP = 15
_RIDGE = 0.1
_SWEEPS = 60
_TINY = 1e-12


def power_2() -> Strategy:
    """Buys ∝ the square of the alignment."""
    return alignment_rule(power=2.0)


def power_8() -> Strategy:
    """Buys ∝ the eighth power of the alignment."""
    return alignment_rule(power=8.0)


def top_15() -> Strategy:
    """Buys evenly from the 15 best aligned sources."""
    return _rule(_is_top)


def smoothed() -> Strategy:
    """Buys ∝ the fourth power of the alignment, averaged over sources that predict alike."""
    return _rule(_smoothed)


def stacked() -> Strategy:
    """Buys ∝ the coefficients of non-negative ridge of the labels on all sources' predictions."""
    return _rule(_stacked)


def predictions(evidence: Evidence) -> tuple[Array, Array]:
    """Correlations of the source heads' predictions on the target sample, for one output.

    Args:
      evidence: of one target.

    Returns:
      `[M, M]` with each other and `[M]` with the labels; zeros for heads that are constant.
    """
    stats = evidence.target_stats
    count = jnp.maximum(stats.count, 1.0)
    mean, label_mean = stats.feature_sum / count, stats.label_sum[0] / count
    covariance = stats.gram / count - jnp.outer(mean, mean)
    moment = stats.moment[:, 0] / count - mean * label_mean
    variance = jnp.maximum(stats.energy[0] / count - label_mean**2, _TINY)
    heads = evidence.source_heads.weight[..., 0]
    products = heads @ covariance @ heads.T
    spread = jnp.sqrt(jnp.maximum(jnp.diagonal(products), _TINY))
    return products / jnp.outer(spread, spread), heads @ moment / (spread * jnp.sqrt(variance))


def _rule(scores: Callable[[Evidence], Array]) -> Strategy:
    """Buys ∝ scores above the floor; the relevance is that of least norm, for people."""
    solver = functools.partial(min_norm, ridge=0.0)

    def init(num_sources: int) -> tuple[Proposal, tuple]:
        return blank(num_sources), ()

    def update(evidence: Evidence, state: tuple) -> tuple[Proposal, tuple]:
        return proportional(scores(evidence), shared_relevance(solver, evidence)), state

    return Strategy(init, update)


def _is_top(evidence: Evidence) -> Array:
    aligned = jnp.maximum(evidence.alignment, 0.0)
    least = jnp.sort(aligned)[-min(_TOP, len(aligned))]
    return jnp.where((aligned >= least) & (aligned > 0), 1.0, 0.0)


def _smoothed(evidence: Evidence) -> Array:
    likeness, aligned = predictions(evidence)
    kernel = jnp.maximum(likeness, 0.0) ** _POWER
    mean = kernel @ aligned / jnp.maximum(kernel.sum(axis=1), _TINY)
    return jnp.maximum(mean, 0.0) ** _POWER


def _stacked(evidence: Evidence) -> Array:
    likeness, aligned = predictions(evidence)
    matrix = likeness + _RIDGE * jnp.eye(len(aligned))

    def set_one(index: Array, weights: Array) -> Array:
        others = matrix[index] @ weights - matrix[index, index] * weights[index]
        best = (aligned[index] - others) / matrix[index, index]
        return weights.at[index].set(jnp.maximum(best, 0.0))

    def sweep(_: Array, weights: Array) -> Array:
        return jax.lax.fori_loop(0, len(weights), set_one, weights)

    return jax.lax.fori_loop(0, _SWEEPS, sweep, jnp.zeros_like(aligned))
