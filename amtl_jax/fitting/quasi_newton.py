"""The pieces of L-BFGS: its direction, its memory, and the exact minimum along a line."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from amtl_jax.types import Array

_PRECISION = jax.lax.Precision.HIGHEST
_LINE_SEARCH_STEPS = 30


class History(NamedTuple):
    """The last steps of a descent, in a ring: the next pair replaces the oldest.

    Attributes:
      steps: `[memory, P]` s_i; rows of zeros where there is none yet.
      changes: `[memory, P]` y_i of the gradient.
      cross: `[memory, memory]` s_i·y_j; right where s_i is no newer than y_j, and else not used.
      own: `[memory, memory]` y_i·y_j.
      oldest: `[]` int32 the place of the oldest pair.
    """

    steps: Array
    changes: Array
    cross: Array
    own: Array
    oldest: Array


def empty_history(memory: int, point: Array) -> History:
    """A history of no pair for points `[P]`."""
    pairs = jnp.zeros((memory, point.size), point.dtype)
    products = jnp.zeros((memory, memory), point.dtype)
    return History(pairs, pairs, products, products, jnp.int32(0))


def quasi_newton_direction(gradient: Array, history: History) -> Array:
    """The direction −Hg of L-BFGS, `[P]` to `[P]`.

    The two-loop recursion never leaves the span of the gradient and the pairs, so that it can be
    run on their products: four of a matrix with a vector, where the recursion reads two vectors
    after the other for every pair, four times.

    References:
      Nocedal, Wright. Numerical Optimization, algorithm 7.4. Byrd, Nocedal, Schnabel.
      Representations of quasi-Newton matrices. 1994.
    """
    memory = len(history.own)
    order = (history.oldest + jnp.arange(memory)) % memory  # oldest first
    cross, own = history.cross[order][:, order], history.own[order][:, order]
    by_step = _times(history.steps, gradient)[order]
    by_change = _times(history.changes, gradient)[order]
    curvature = jnp.diagonal(cross)
    used = curvature > 0
    inverse = jnp.where(used, 1.0 / jnp.where(used, curvature, 1.0), 0.0)
    nothing = jnp.zeros_like(inverse)

    def backward(index, alpha):  # what newer pairs left of the gradient, along s_i
        at = memory - 1 - index
        return alpha.at[at].set(inverse[at] * (by_step[at] - jnp.sum(cross[at] * alpha)))

    alpha = jax.lax.fori_loop(0, memory, backward, nothing)
    newest = own[-1, -1]
    scale = jnp.where(newest > 0, curvature[-1] / jnp.where(newest > 0, newest, 1.0), 1.0)
    left = scale * (by_change - _times(own, alpha))

    def forward(at, beta):  # what older pairs made of it, along y_i
        return beta.at[at].set(alpha[at] - inverse[at] * (left[at] + jnp.sum(cross[:, at] * beta)))

    beta = jax.lax.fori_loop(0, memory, forward, nothing)
    of_change = _times(history.changes.T, nothing.at[order].set(alpha))
    of_step = _times(history.steps.T, nothing.at[order].set(beta))
    return -(scale * (gradient - of_change) + of_step)


def remember(history: History, step: Array, change: Array) -> History:
    """Puts a pair in place of the oldest if its curvature is positive beyond rounding."""
    at = history.oldest
    curvature = jnp.vdot(step, change, precision=_PRECISION)
    size = jnp.linalg.norm(step) * jnp.linalg.norm(change)
    is_good = curvature > jnp.finfo(step.dtype).eps * size
    steps = history.steps.at[at].set(jnp.where(is_good, step, history.steps[at]))
    changes = history.changes.at[at].set(jnp.where(is_good, change, history.changes[at]))
    cross = history.cross.at[:, at].set(_times(steps, change)).at[at, at].set(curvature)
    products = _times(changes, change)
    own = history.own.at[at].set(products).at[:, at].set(products)
    return History(
        steps,
        changes,
        jnp.where(is_good, cross, history.cross),
        jnp.where(is_good, own, history.own),
        jnp.where(is_good, (at + 1) % len(own), at),
    )


def _times(matrix: Array, vector: Array) -> Array:
    return jnp.matmul(matrix, vector, precision=_PRECISION)


def first_minimiser(coefficients: tuple[Array, Array, Array, Array]) -> Array:
    """Smallest positive root of the derivative of c1 t + c2 t² + c3 t³ + c4 t⁴, where c1 < 0."""
    c1, c2, c3, c4 = coefficients

    def slope(t):
        return c1 + t * (2.0 * c2 + t * (3.0 * c3 + t * 4.0 * c4))

    def grow(_, high):
        return jnp.where(slope(high) < 0, 2.0 * high, high)

    def narrow(_, bracket):  # Newton where it stays inside the bracket, else bisection
        low, high, t = bracket
        is_low = slope(t) < 0
        low, high = jnp.where(is_low, t, low), jnp.where(is_low, high, t)
        bend = 2.0 * c2 + t * (6.0 * c3 + t * 12.0 * c4)
        newton = t - slope(t) / jnp.where(bend > 0, bend, 1.0)
        inside = (bend > 0) & (newton > low) & (newton < high)
        return low, high, jnp.where(inside, newton, 0.5 * (low + high))

    high = jax.lax.fori_loop(0, _LINE_SEARCH_STEPS, grow, jnp.ones_like(c1))
    bracket = (jnp.zeros_like(c1), high, jnp.minimum(high, 1.0))
    return jax.lax.fori_loop(0, _LINE_SEARCH_STEPS, narrow, bracket)[2]
