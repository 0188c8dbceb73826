"""Active-set solvers for ℓ1 problems of a few hundred columns: exact, finite, nothing factored.

Both loops carry signs, `[M]` in {-1, 0, 1} with 0 outside the active set S, and one matrix, the
pseudo-inverse of the columns in S, stored as `[M, K]` with zero rows outside S. A column enters
or leaves by a rank-one update (Greville 1960; Goldfarb and Idnani 1983 build their method for
quadratic programs on the same pair), so a step is a handful of matrix-vector products: it batches
under `vmap` and needs no factorisation. What rounding leaves in the pseudo-inverse after many
updates stays out of the answer, because every vector taken from it is corrected by its residual.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from amtl_jax.types import Array


def matmul(a: Array, b: Array) -> Array:
    """The product at the full precision of its dtype; accelerators default to less."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _project(columns: Array, pinv: Array, vector: Array) -> tuple[Array, Array]:
    """Least squares of `vector` on the active columns: coefficients `[M]`, residual `[K]`."""
    x = matmul(pinv, vector)
    residual = vector - matmul(columns, x)
    correction = matmul(pinv, residual)
    return x + correction, residual - matmul(columns, correction)


def _dual(columns: Array, pinv: Array, slopes: Array, outside: Array) -> Array:
    """The `y` `[K]` nearest to `outside` whose product with every active column is its slope."""
    y = outside + matmul(slopes, pinv)
    missed = jnp.where(slopes == 0, 0, slopes - matmul(y, columns))
    return y + matmul(missed, pinv)


def _enter(pinv: Array, index: Array, coordinates: Array, normal: Array) -> Array:
    """Adds column `index`, given `_project` of it; `normal` must not vanish."""
    row = normal / jnp.sum(normal**2)
    return (pinv - jnp.outer(coordinates, row)).at[index].set(row)


def _leave(pinv: Array, index: Array) -> Array:
    """Removes column `index`, leaving a zero row."""
    row = pinv[index]
    weights = matmul(pinv, row) / jnp.sum(row**2)
    return (pinv - jnp.outer(weights, row)).at[index].set(0)


class _LassoState(NamedTuple):
    """`entering` is the column on its way in, with coefficient `x[entering]`; -1 for none."""

    pinv: Array
    signs: Array
    x: Array
    dual: Array
    entering: Array
    direction: Array
    steps: Array
    done: Array


def solve_lasso(columns: Array, vector: Array, penalty: Array) -> tuple[Array, Array]:
    """Minimises ½‖columns x − vector‖² + penalty ‖x‖₁ by a primal active-set method.

    The column that violates |aᵀy| ≤ penalty most moves in, all active coefficients following on
    their minimiser, until it stops violating (it joins) or a coefficient reaches zero (that one
    leaves and the move goes on). No step increases the objective, and columns that are dependent
    on the active ones need no care: they can only move until another leaves.

    Args:
      columns: `[K, M]`.
      vector: `[K]`.
      penalty: `[]`, non-negative.

    Returns:
      `x` `[M]` and the residual `y` `[K]`, exact in the directions that `x` fits, where the
      difference `vector − columns x` would be rounding error.
    """
    num_rows, num_columns = columns.shape
    eps = jnp.finfo(columns.dtype).eps
    square_norms = jnp.sum(columns**2, axis=0)
    max_steps = 10 * (num_rows + num_columns) + 50

    def step(state: _LassoState) -> _LassoState:
        pinv, signs = state.pinv, state.signs
        moving = state.entering >= 0
        x_moving = jnp.where(moving, state.x[state.entering], 0)
        target = vector - columns[:, state.entering] * x_moving
        _, outside = _project(columns, pinv, target)
        y = _dual(columns, pinv, penalty * signs, outside)
        x, _ = _project(columns, pinv, target - y)

        correlation = matmul(y, columns)
        violation = jnp.where(signs == 0, jnp.abs(correlation), 0)
        optimal = ~moving & (jnp.max(violation) <= penalty * (1 + 8 * eps))
        entering = jnp.where(moving, state.entering, jnp.argmax(violation))
        direction = jnp.where(moving, state.direction, jnp.sign(correlation[entering]))

        coordinates, normal = _project(columns, pinv, columns[:, entering])
        curvature = jnp.sum(normal**2)
        excess = jnp.maximum(direction * correlation[entering] - penalty, 0)
        independent = curvature > 64 * eps**2 * num_rows * square_norms[entering]
        t_join = jnp.where(independent, excess / curvature, jnp.inf)
        speed = signs * direction * coordinates  # at which |x| falls
        t_zero = jnp.where(speed > 0, jnp.maximum(signs * x, 0) / speed, jnp.inf)
        leaving = jnp.argmin(t_zero)
        joins = t_join <= t_zero[leaving]
        t = jnp.minimum(t_join, t_zero[leaving])
        stuck = ~jnp.isfinite(t)

        moved = (x - t * direction * coordinates).at[entering].set(x_moving + t * direction)
        entered = _enter(pinv, entering, coordinates, normal)
        left = _leave(pinv, leaving)
        stop = optimal | stuck
        new = _LassoState(
            pinv=jnp.where(joins, entered, left),
            signs=jnp.where(joins, signs.at[entering].set(direction), signs.at[leaving].set(0)),
            x=jnp.where(joins, moved, moved.at[leaving].set(0)),
            dual=y,
            entering=jnp.where(joins, -1, entering),
            direction=direction,
            steps=state.steps + 1,
            done=stop,
        )
        old = state._replace(x=x.at[entering].add(x_moving), dual=y, steps=new.steps, done=stop)
        return jax.tree.map(lambda a, b: jnp.where(stop, a, b), old, new)

    zero = jnp.zeros_like(columns, shape=(num_columns,))
    state = _LassoState(
        pinv=jnp.zeros_like(columns.T),
        signs=zero,
        x=zero,
        dual=vector,
        entering=jnp.asarray(-1),
        direction=jnp.ones_like(penalty),
        steps=jnp.asarray(0),
        done=jnp.asarray(False),
    )
    state = jax.lax.while_loop(lambda s: ~s.done & (s.steps < max_steps), step, state)
    return state.x, state.dual
