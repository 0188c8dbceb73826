"""Cholesky factors of many small systems: raised where float32 cannot factor them, and inverted."""

import jax
import jax.numpy as jnp

from amtl_jax._l1 import matmul
from amtl_jax.types import Array

_LEAF = 16  # a triangle of that size is inverted by substitution, a larger one by its halves
_MOST_LEAVES = 8


@jax.custom_jvp
def raised_cholesky(system: Array) -> tuple[Array, Array]:
    """Factors a matrix of unit diagonal, raised by the least 4ε·8ʲ that makes a factor exist.

    The search is no part of the derivative.

    Args:
      system: `[K, K]` symmetric, positive semidefinite up to rounding; its lower half is read.

    Returns:
      L `[K, K]`, lower, and what was added to the diagonal, `[]`. NaN for a system that has one.
    """

    def raised(lift):  # Lᵀ: LAPACK wants the columns of L behind one another, a loop rows
        return _cholesky(system, lift).mT, lift

    def failed(found):  # a NaN system would never end
        factor, lift = found
        return ~jnp.isfinite(jnp.diagonal(factor)).all() & (lift < 1.0)

    first = jnp.asarray(4.0 * jnp.finfo(system.dtype).eps, system.dtype)
    upper, lift = jax.lax.while_loop(failed, lambda found: raised(8.0 * found[1]), raised(first))
    return upper.mT, lift


@raised_cholesky.defjvp
def _raised_cholesky_jvp(
    primals: tuple[Array], tangents: tuple[Array]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    _, lift = raised_cholesky(*primals)
    factor, change = jax.jvp(lambda system: _cholesky(system, lift), primals, tangents)
    return (factor, lift), (change, jnp.zeros_like(lift))


def _cholesky(system: Array, lift: Array) -> Array:
    raised = system + lift * jnp.eye(len(system), dtype=system.dtype)
    return jax.lax.linalg.cholesky(raised, symmetrize_input=False)


def lower_inverse(factor: Array) -> Array:
    """Inverts a lower triangle.

    By halves, `[[P, 0], [Q, R]]⁻¹ = [[P⁻¹, 0], [−R⁻¹QP⁻¹, R⁻¹]]`: nearly all of it is matmuls, and
    substitution for K right-hand sides takes three times as long.

    Args:
      factor: `[K, K]` lower L.

    Returns:
      `[K, K]` L⁻¹, lower.
    """
    return _inverse(factor, max(_LEAF, -(-len(factor) // _MOST_LEAVES)))


def _inverse(factor: Array, leaf: int) -> Array:
    size = len(factor)
    if size <= leaf:
        identity = jnp.eye(size, dtype=factor.dtype)
        return jax.scipy.linalg.solve_triangular(factor, identity, lower=True)
    half = (size + 1) // 2
    first, last = _inverse(factor[:half, :half], leaf), _inverse(factor[half:, half:], leaf)
    below = -matmul(last, matmul(factor[half:, :half], first))
    return jnp.block([[first, jnp.zeros_like(factor[:half, half:])], [below, last]])
