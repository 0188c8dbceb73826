"""Basis pursuit of many targets: ours, and the solvers that people use in a loop over targets."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import amtl_jax as amtl
from benchmarks.timing import Way, compiled

HIGHS = "HiGHS (scipy linprog)"  # exact, in float64: the others are held to it


class HeadSets(NamedTuple):
    """Source and target heads.

    Attributes:
      source: `[M, K]` float32.
      target: `[T, K]` float32.
    """

    source: np.ndarray
    target: np.ndarray


def make_heads(
    num_sources: int, num_targets: int, num_features: int, *, condition: float, seed: int = 0
) -> HeadSets:
    """Draws source heads of a condition number, and targets that mix a tenth of them."""
    rng = np.random.default_rng(seed)
    source = rng.normal(size=(num_sources, num_features))
    left, _, right = np.linalg.svd(source, full_matrices=False)
    values = np.geomspace(1, 1 / condition, len(right))
    source = (left * values) @ right * np.sqrt(num_sources)
    mix = rng.normal(size=(num_targets, num_sources))
    order = np.argsort(rng.uniform(size=mix.shape), axis=1)
    mix[np.arange(num_targets)[:, None], order[:, max(2, num_sources // 10) :]] = 0
    return HeadSets(source.astype(np.float32), (mix @ source).astype(np.float32))


def ours(
    heads: HeadSets,
    solver: Callable[[jax.Array, jax.Array], amtl.Relevance] = amtl.basis_pursuit,
) -> Way:
    """All targets in one call."""

    def solve_all(source: jax.Array, target: jax.Array) -> amtl.Relevance:
        return jax.vmap(lambda one: solver(source, one))(target)

    return compiled(
        solve_all, jnp.asarray(heads.source)[..., None], jnp.asarray(heads.target)[..., None]
    )


def peers(heads: HeadSets) -> dict[str, Way]:
    """Loops over targets, `[T, M]` coefficients."""
    from scipy.optimize import linprog
    from sklearn.linear_model import lars_path

    columns = heads.source.T.astype(float)
    signed, ones = np.concatenate([columns, -columns], axis=1), np.ones(2 * columns.shape[1])

    def highs(target):
        found = linprog(ones, A_eq=signed, b_eq=target, method="highs")
        return found.x[: columns.shape[1]] - found.x[columns.shape[1] :]

    def lars(target):
        return lars_path(columns, target, method="lasso")[2][:, -1]

    def over(one: Callable[[np.ndarray], np.ndarray]) -> Way:
        return Way(lambda: np.stack([one(target) for target in heads.target.astype(float)]))

    return {HIGHS: over(highs), "sklearn lars_path": over(lars)}


def true_gaps(heads: HeadSets, nu: np.ndarray, optimum: np.ndarray) -> np.ndarray:
    """How far coefficients are from the optimum, in float64 and with their misfit made good.

    Args:
      heads: of the problem.
      nu: `[T, M]`.
      optimum: `[T]` least ℓ1 norms, from `HiGHS`.

    Returns:
      `[T]` relative: the ℓ1 norm of `nu` and of the smallest coefficients that compose what it
      misses of the target, over the optimum, less 1.
    """
    columns = heads.source.T.astype(float)
    missed = heads.target.astype(float) - nu @ columns.T
    mended = nu + missed @ np.linalg.pinv(columns).T
    return np.sum(np.abs(mended), axis=1) / optimum - 1
