"""Basis pursuit by the dual simplex method: exact, finite, and not held up by sparse answers.

The dual of min ‖x‖₁ subject to A x = b is max bᵀy subject to |aⱼᵀy| ≤ 1. A step takes one active
constraint that the primal disagrees with, and moves y away from it, along the others, until the
next constraint is met. Which heads compose a target exactly, or nearly, makes the primal degenerate
(many coefficients are zero), and a primal method then turns in circles within its rounding. The
dual is not degenerate unless sources repeat each other, so that each step climbs.

A step changes the inverse of the basis and the coefficients by an update of rank one. Rounding adds
up in them, and the inverse carries it into every point: so the dual point is corrected at every
step, and after a stretch of steps the inverse is corrected by one step of Newton's and both points
are made anew. The method ends only at a vertex that is optimal by what was just made anew.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from amtl_jax._l1 import matmul
from amtl_jax.tiles import map_in_tiles, tile_size
from amtl_jax.types import Array

_STRETCH = 32  # steps until everything is made anew


class _State(NamedTuple):
    """A basis of K columns, of A or unit columns of the start.

    Attributes:
      inverse: `[K, K]` of the basis.
      index: `[K]` int32 which column of A stands where, M for a unit column of the start.
      signs: `[K]` of the active constraints, aᵀy = ±1; 0 for unit columns, which have none.
      outside: `[M]` whether a column is outside the basis.
      x: `[K]` coefficients of the basis.
      y: `[K]` dual point.
      products: `[M]` of the columns of A with y.
      steps: `[]` int32.
      ends: `[]` bool, there is no step to take.
      done: `[]` bool, nor was there one after everything was made anew.
    """

    inverse: Array
    index: Array
    signs: Array
    outside: Array
    x: Array
    y: Array
    products: Array
    steps: Array
    ends: Array
    done: Array


@jax.custom_batching.custom_vmap
def solve_basis_pursuit(columns: Array, vector: Array) -> tuple[Array, Array]:
    """Minimises ‖x‖₁ subject to columns x = vector by the dual simplex method.

    It starts at y = 0 with unit columns in the basis, which have no constraint and leave first.
    What leaves is the coefficient whose sign is most wrong, by the length of its edge (dual
    steepest edge; here exact, since the inverse is at hand). It ends where what is wrong is worth
    no more than rounding.

    Args:
      columns: `[K, M]` with rows that are orthonormal, or zero.
      vector: `[K]` of norm 1 or 0, zero where `columns` has zero rows.

    Returns:
      `x` `[M]` with at most K non-zeros, and a dual point `y` `[K]`.

    References:
      Forrest, Goldfarb. Steepest-edge simplex algorithms for linear programming. 1992.
    """
    return _solve(columns, vector)


@solve_basis_pursuit.def_vmap
def _solve_many(
    _axis_size: int, in_batched: Sequence[bool], columns: Array, vector: Array
) -> tuple[tuple[Array, Array], tuple[bool, bool]]:
    """On a CPU a few targets at a time, whose bases fit its cache."""
    given = {"columns": columns, "vector": vector}
    batched = dict(zip(given, in_batched, strict=True))
    own = {name: leaf for name, leaf in given.items() if batched[name]}
    shared = {name: leaf for name, leaf in given.items() if not batched[name]}
    num_rows, num_columns = columns.shape[-2:]
    numbers = 4 * num_rows**2 + (4 + num_rows * batched["columns"]) * num_columns  # of a step
    solved = map_in_tiles(lambda own: _solve(**shared, **own), (own,), tile=tile_size(numbers))
    return solved, (True, True)


def _solve(columns: Array, vector: Array) -> tuple[Array, Array]:
    num_rows, num_columns = columns.shape
    eps = jnp.finfo(columns.dtype).eps
    max_steps = 10 * (num_rows + num_columns) + 50
    by_column = columns.T

    def step(state: _State) -> _State:
        inverse, signs, x = state.inverse, state.signs, state.x
        is_unit = signs == 0
        active = state.products.at[state.index].get(mode="fill", fill_value=0)
        y = state.y + matmul(jnp.where(is_unit, 0, signs - active), inverse)
        products = matmul(y, columns)

        # Any dual point has a norm of at most √M: so much is a unit of what is not composed worth.
        wrong = jnp.where(is_unit, jnp.abs(x), jnp.maximum(-signs * x, 0))
        # Signs of what should be zero are rounding: steps that follow them do not end.
        wrong = jnp.where(wrong > 2 * eps, wrong, 0)
        worth = jnp.where(is_unit, num_columns**0.5, 2.0)
        accepted = jnp.sum(worth * wrong) <= 2 * eps * jnp.sum(jnp.abs(x))

        lengths = jnp.sum(jnp.square(inverse), axis=1)
        leaving = jnp.argmax(jnp.square(wrong) / lengths)
        row = inverse[leaving]
        way = jnp.where(is_unit[leaving], jnp.sign(x[leaving]), -signs[leaving])
        climbs = way * matmul(row, columns)
        slopes = jnp.where(state.outside, climbs, 0)
        steep = jnp.abs(slopes)
        room = jnp.maximum(1 - jnp.sign(slopes) * products, 0)
        usable = steep > 8 * eps * jnp.sqrt(lengths[leaving])
        steep = jnp.where(usable, steep, 1)
        t = jnp.where(usable, room / steep, jnp.inf)
        # Of the constraints that are met first, all but for rounding, the steepest is the safest.
        first = jnp.min(jnp.where(usable, (room + 8 * eps) / steep, jnp.inf))
        entering = jnp.argmax(jnp.where(t <= first, steep, 0))
        # Two units on, the constraint that is left is met from its other side.
        turns = ~is_unit[leaving] & (first >= 2)
        t = jnp.where(turns, 2, t[entering])
        ends = accepted | ~jnp.isfinite(t)

        direction = jnp.where(turns, 0, matmul(inverse, by_column[entering]))
        pivot = jnp.where(turns, 1, direction[leaving])
        new_row = row / pivot
        new_x = x[leaving] / pivot
        left = state.index[leaving]
        kept = jnp.where(turns, left, entering.astype(jnp.int32))
        sign = jnp.where(turns, -signs[leaving], jnp.sign(slopes[entering]))
        # Selections, since a CPU scatters slowly.
        here, column = jnp.arange(num_rows) == leaving, jnp.arange(num_columns)
        changed = inverse - jnp.outer(direction, new_row)
        new = state._replace(
            inverse=jnp.where(here[:, None], new_row[None], changed),
            index=jnp.where(here, kept, state.index),
            signs=jnp.where(here, sign, signs),
            outside=(state.outside | (column == left)) & (column != kept),
            x=jnp.where(here, new_x, x - new_x * direction),
            y=y + t * way * row,
            products=products + t * climbs,
            steps=state.steps + 1,
        )
        old = state._replace(ends=jnp.asarray(True))
        return jax.tree.map(lambda a, b: jnp.where(ends, a, b), old, new)

    def stretch(state: _State) -> _State:
        began = state.steps
        last = jnp.minimum(began + _STRETCH, max_steps)
        state = _made_anew(state, columns, vector)
        state = jax.lax.while_loop(lambda s: ~s.ends & (s.steps < last), step, state)
        return state._replace(done=state.ends & (state.steps == began))

    state = _State(
        inverse=jnp.eye(num_rows, dtype=columns.dtype),
        index=jnp.full(num_rows, num_columns, jnp.int32),
        signs=jnp.zeros_like(vector),
        outside=jnp.ones(num_columns, bool),
        x=vector,
        y=jnp.zeros_like(vector),
        products=jnp.zeros_like(columns[0]),
        steps=jnp.int32(0),
        ends=jnp.asarray(False),
        done=jnp.asarray(False),
    )
    state = jax.lax.while_loop(lambda s: ~s.done & (s.steps < max_steps), stretch, state)
    # Of a degenerate vertex rounding leaves coefficients that should be zero.
    x = jnp.where(jnp.abs(state.x) > 4 * eps, state.x, 0)
    return jnp.zeros_like(columns[0]).at[state.index].set(x, mode="drop"), state.y


def _made_anew(state: _State, columns: Array, vector: Array) -> _State:
    """Corrects the inverse by the basis itself, and both points by what is left."""
    is_unit = state.signs == 0
    identity = jnp.eye(len(vector), dtype=columns.dtype)
    basis = columns.at[:, state.index].get(mode="fill", fill_value=0)
    basis = jnp.where(is_unit[None], identity, basis)
    inverse = state.inverse
    inverse = inverse + matmul(inverse, identity - matmul(basis, inverse))
    x = matmul(inverse, vector)
    x = x + matmul(inverse, vector - matmul(basis, x))
    y = state.y + matmul(jnp.where(is_unit, 0, state.signs - matmul(state.y, basis)), inverse)
    return state._replace(
        inverse=inverse, x=x, y=y, products=matmul(y, columns), ends=jnp.asarray(False)
    )
