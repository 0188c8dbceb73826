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
import numpy as np

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


class _PursuitState(NamedTuple):
    """`perturbation` of the right-hand side is left out while a basis is `probed`."""

    pinv: Array
    signs: Array
    x: Array
    dual: Array
    perturbation: Array
    probed: Array
    steps: Array
    done: Array


def solve_basis_pursuit(columns: Array, vector: Array) -> tuple[Array, Array]:
    """Minimises ‖x‖₁ subject to columns x = vector by the simplex method.

    It starts from artificial unit columns, whose price makes the penalty exact: with orthonormal
    rows any dual y with ‖columnsᵀy‖_∞ ≤ 1 has ‖y‖₂ ≤ √M. The line search passes the coefficients
    that reach zero (they change sign) for as long as the objective falls, which saves most
    pivots. Degenerate vertices are common (the target is one of the sources): a perturbation of
    `vector` keeps the method from cycling there. Its optimal basis is then probed without it, and
    where that leaves a gap the method goes on with a smaller perturbation.

    Args:
      columns: `[K, M]` with rows that are orthonormal, or zero.
      vector: `[K]` of norm 1 or 0, zero where `columns` has zero rows.

    Returns:
      `x` `[M]` with at most K non-zeros, and a dual point `y` `[K]`.
    """
    num_rows, num_columns = columns.shape
    dtype = columns.dtype
    eps = jnp.finfo(dtype).eps
    extended = jnp.concatenate([columns, jnp.eye(num_rows, dtype=dtype)], axis=1)
    costs = np.ones(num_columns + num_rows)
    costs[num_columns:] = 2 * num_columns**0.5
    costs = jnp.asarray(costs, dtype)
    noise = np.random.default_rng(0).uniform(0.5, 1, num_rows) * num_rows**-0.5
    noise = jnp.asarray(noise, dtype)
    max_steps = 20 * (num_rows + num_columns) + 50

    def step(state: _PursuitState) -> _PursuitState:
        pinv, signs = state.pinv, state.signs
        perturbation = jnp.where(state.probed, 0, state.perturbation)
        x, _ = _project(extended, pinv, vector + perturbation * noise)
        # Coefficients on the wrong side of zero change their sign, unless it is rounding.
        wrong = signs * x < 0
        loss = jnp.sum(jnp.where(wrong, costs * jnp.abs(x), 0))
        negligible = loss <= 16 * eps * jnp.sum(costs * jnp.abs(x))
        signs = jnp.where(wrong & ~negligible, -signs, signs)
        accepted = state.probed & negligible

        y = _dual(extended, pinv, costs * signs, jnp.zeros_like(vector))
        correlation = matmul(y, extended)
        price = jnp.where(signs == 0, jnp.abs(correlation) / costs, 0)
        entering = jnp.argmax(price)
        direction = jnp.sign(correlation[entering])
        coordinates, _ = _project(extended, pinv, extended[:, entering])
        speed = signs * direction * coordinates  # at which |x| falls
        usable = speed > 1e3 * eps * jnp.max(jnp.abs(coordinates))
        t = jnp.where(usable, jnp.maximum(signs * x, 0) / speed, jnp.inf)
        kinks = jnp.where(usable, 2 * costs * speed, 0)
        passed = t[:, None] >= t[None, :]
        slope = costs[entering] * (1 - price[entering]) + matmul(passed.astype(dtype), kinks)
        t_leave = jnp.where(slope >= 0, t, jnp.inf)
        leaving = jnp.argmin(t_leave)

        # With as many active columns as rows nothing is left of a column outside the active
        # ones, and the exchange is one division.
        row = pinv[leaving] / coordinates[leaving]
        exchanged = (pinv - jnp.outer(coordinates, row)).at[leaving].set(0).at[entering].set(row)
        flipped = jnp.where(t < t_leave[leaving], -signs, signs)
        flipped = flipped.at[leaving].set(0).at[entering].set(direction)

        optimal = accepted | (price[entering] <= 1 + 16 * eps)
        stuck = ~optimal & ~jnp.isfinite(t_leave[leaving])
        smaller = jnp.where(state.perturbation < 1e2 * eps, 0, state.perturbation / 64)
        return _PursuitState(
            pinv=jnp.where(optimal | stuck, pinv, exchanged),
            signs=jnp.where(optimal | stuck, signs, flipped),
            x=jnp.where(wrong & negligible, 0, x),
            dual=y,
            perturbation=jnp.where(state.probed, smaller, state.perturbation),
            probed=optimal,
            steps=state.steps + 1,
            done=accepted | stuck,
        )

    state = _PursuitState(
        pinv=jnp.concatenate([jnp.zeros_like(columns.T), jnp.eye(num_rows, dtype=dtype)]),
        signs=jnp.zeros_like(costs).at[num_columns:].set(jnp.where(vector < 0, -1, 1)),
        x=jnp.zeros_like(costs),
        dual=jnp.zeros_like(vector),
        perturbation=jnp.asarray(1e-3, dtype),
        probed=jnp.asarray(False),
        steps=jnp.asarray(0),
        done=jnp.asarray(False),
    )
    state = jax.lax.while_loop(lambda s: ~s.done & (s.steps < max_steps), step, state)
    # Of a degenerate vertex rounding leaves coefficients that should be zero.
    x = jnp.where(jnp.abs(state.x) > 4 * eps, state.x, 0)[:num_columns]
    return x, state.dual
