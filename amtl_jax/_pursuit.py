"""Basis pursuit by the dual simplex method: exact, finite, and not held up by sparse answers.

The dual of min ‖x‖₁ subject to A x = b is max bᵀy subject to |aⱼᵀy| ≤ 1. A step takes one active
constraint that the primal disagrees with, and moves y away from it, along the others, until the
next constraint is met. Which heads compose a target exactly, or nearly, makes the primal degenerate
(many coefficients are zero), and a primal method then turns in circles within its rounding. The
dual is not degenerate unless sources repeat each other, so that each step climbs.

The inverse of the basis follows by a rank-one update a step. What rounding leaves in it after many
stays out of the answer, because every vector taken from it is corrected by its residual.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from amtl_jax._l1 import matmul
from amtl_jax.tiles import map_in_tiles, tile_size
from amtl_jax.types import Array

_BASES = 6  # arrays of a basis' size that a step has at hand


class _State(NamedTuple):
    """A basis of K columns, of A or unit columns of the start.

    Attributes:
      basis: `[K, K]` its columns.
      inverse: `[K, K]`.
      index: `[K]` int32 which column of A stands where, M for a unit column of the start.
      signs: `[K]` of the active constraints, aᵀy = ±1; 0 for unit columns, which have none.
      outside: `[M]` whether a column is outside the basis.
      x: `[K]` coefficients of the basis.
      y: `[K]` dual point.
      steps: `[]` int32.
      done: `[]` bool.
    """

    basis: Array
    inverse: Array
    index: Array
    signs: Array
    outside: Array
    x: Array
    y: Array
    steps: Array
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
    numbers = num_rows * (_BASES * num_rows + num_columns * batched["columns"])
    solved = map_in_tiles(lambda own: _solve(**shared, **own), (own,), tile=tile_size(numbers))
    return solved, (True, True)


def _solve(columns: Array, vector: Array) -> tuple[Array, Array]:
    num_rows, num_columns = columns.shape
    eps = jnp.finfo(columns.dtype).eps
    max_steps = 10 * (num_rows + num_columns) + 50

    def step(state: _State) -> _State:
        basis, inverse, signs = state.basis, state.inverse, state.signs
        is_unit = signs == 0
        x = _corrected(inverse, basis, vector)
        y = state.y + matmul(jnp.where(is_unit, 0, signs - matmul(state.y, basis)), inverse)

        # Any dual point has a norm of at most √M: so much is a unit of what is not composed worth.
        wrong = jnp.where(is_unit, jnp.abs(x), jnp.maximum(-signs * x, 0))
        worth = jnp.where(is_unit, num_columns**0.5, 2.0)
        accepted = jnp.sum(worth * wrong) <= 2 * eps * jnp.sum(jnp.abs(x))

        lengths = jnp.sum(jnp.square(inverse), axis=1)
        leaving = jnp.argmax(jnp.square(wrong) / lengths)
        row = inverse[leaving]
        way = jnp.where(is_unit[leaving], jnp.sign(x[leaving]), -signs[leaving])
        slopes = jnp.where(state.outside, way * matmul(row, columns), 0)
        steep = jnp.abs(slopes)
        room = jnp.maximum(1 - jnp.sign(slopes) * matmul(y, columns), 0)
        usable = steep > 8 * eps * jnp.sqrt(lengths[leaving])
        steep = jnp.where(usable, steep, 1)
        t = jnp.where(usable, room / steep, jnp.inf)
        # Of the constraints that are met first, all but for rounding, the steepest is the safest.
        first = jnp.min(jnp.where(usable, (room + 8 * eps) / steep, jnp.inf))
        entering = jnp.argmax(jnp.where(t <= first, steep, 0))
        # Two units on, the constraint that is left is met from its other side.
        turns = ~is_unit[leaving] & (first >= 2)
        t = jnp.where(turns, 2, t[entering])
        stop = accepted | ~jnp.isfinite(t)

        column = columns[:, entering]
        direction = jnp.where(turns, 0, _corrected(inverse, basis, column))
        pivot = jnp.where(turns, 1, direction[leaving])
        new_row = row / pivot
        kept = jnp.where(turns, state.index[leaving], entering.astype(jnp.int32))
        sign = jnp.where(turns, -signs[leaving], jnp.sign(slopes[entering]))
        outside = state.outside.at[state.index[leaving]].set(True, mode="drop")
        return _State(
            basis=basis.at[:, leaving].set(jnp.where(turns, basis[:, leaving], column)),
            inverse=(inverse - jnp.outer(direction, new_row)).at[leaving].set(new_row),
            index=jnp.where(stop, state.index, state.index.at[leaving].set(kept)),
            signs=jnp.where(stop, signs, signs.at[leaving].set(sign)),
            outside=outside.at[kept].set(False),
            x=x,
            y=jnp.where(stop, y, y + t * way * row),
            steps=state.steps + 1,
            done=stop,
        )

    identity = jnp.eye(num_rows, dtype=columns.dtype)
    state = _State(
        basis=identity,
        inverse=identity,
        index=jnp.full(num_rows, num_columns, jnp.int32),
        signs=jnp.zeros_like(vector),
        outside=jnp.ones(num_columns, bool),
        x=vector,
        y=jnp.zeros_like(vector),
        steps=jnp.int32(0),
        done=jnp.asarray(False),
    )
    state = jax.lax.while_loop(lambda s: ~s.done & (s.steps < max_steps), step, state)
    # Of a degenerate vertex rounding leaves coefficients that should be zero.
    x = jnp.where(jnp.abs(state.x) > 4 * eps, state.x, 0)
    return jnp.zeros_like(columns[0]).at[state.index].set(x, mode="drop"), state.y


def _corrected(inverse: Array, basis: Array, vector: Array) -> Array:
    """Solves `basis x = vector` by an inverse that is nearly one."""
    x = matmul(inverse, vector)
    return x + matmul(inverse, vector - matmul(basis, x))
