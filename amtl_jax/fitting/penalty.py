"""The objective's λ, chosen on held-out source rows along a warm-started path of fits."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from amtl_jax.encoding import encode_live
from amtl_jax.fitting.joined_moments import join_moments
from amtl_jax.fitting.moments import TaskMoments
from amtl_jax.fitting.objective import mean_squared_error
from amtl_jax.types import Array, FitResult, Fitter, MomentFit, Params, TaskBatch

# Half decades of 1e-5 … 1e-1, strongest first: each fit starts from a stronger one's optimum.
PENALTIES = tuple(10.0 ** (power / 2) for power in range(-2, -11, -1))
HELD_OUT_SHARE = 0.1
_PATIENCE = 2
_DEAD = 1e-4  # of the start's squared parameters: a λ so strong that nothing is left


class PenaltyFit(NamedTuple):
    """A fit on all rows, and the path that chose its λ.

    Attributes:
      fit: the fit on all rows.
      penalty: `[]` λ used.
      held_out_loss: `[]` squared error of its path fit on the held-out rows.
      losses: `[G]` the same over the grid; NaN where the path had turned before.
    """

    fit: FitResult
    penalty: Array
    held_out_loss: Array
    losses: Array


def rows_for_penalty(key: Array, weight: Array) -> Array:
    """Marks the rows that λ is chosen on: a tenth of those that count, at least one, `[B, R]` bool.

    Args:
      key: chooses them.
      weight: `[B, R]` of packed rows.
    """
    drawn = jax.random.uniform(key, weight.shape, weight.dtype)
    drawn = jnp.where(weight > 0, drawn, 2.0)
    wanted = jnp.maximum(jnp.sum(weight > 0) * HELD_OUT_SHARE, 1.0).astype(jnp.int32)
    return drawn <= jnp.minimum(jnp.sort(drawn.ravel())[wanted - 1], 1.0)


def fit_with_penalty(
    fitter: Fitter,
    key: Array,
    params: Params,
    batch: TaskBatch,
    *,
    penalty: Array,
    held_out_loss: Array,
    penalties: tuple[float, ...] = PENALTIES,
) -> PenaltyFit:
    """Fits on all rows at a given λ, or first chooses λ where `penalty` is NaN.

    The path goes from the strongest λ down, with a tenth of the rows held out. Each fit starts from
    the one before; all start at `params` where the fitter's `warm_path` is False, and so does one
    behind a λ that left nothing to start from. The path stops when the held-out error has not
    improved twice in a row. The fit on all rows then starts from the chosen one. All fits are one
    loop around one compiled body.

    Args:
      fitter: how to fit.
      key: chooses the held-out rows.
      params: where the first fit starts.
      batch: the rows of the fit.
      penalty: `[]` λ, NaN to choose it.
      held_out_loss: `[]` passed through where λ is given.
      penalties: the grid, strongest first; static.

    Raises:
      ValueError: if the grid is empty, not positive or not strongest first.
    """
    check_penalties("fit_with_penalty", penalties)
    held_out = rows_for_penalty(key, batch.weight)
    test = batch._replace(weight=jnp.where(held_out, batch.weight, 0))

    def fit(params, chosen, is_final):
        train = batch._replace(weight=jnp.where(held_out & ~is_final, 0, batch.weight))
        return fitter.fit(params, train, chosen)

    def held_out_loss_of(result):
        features = encode_live(fitter.encoder, result.params, test.x, test.weight)
        return mean_squared_error(result.heads, features, test)

    return _along_path(
        fit,
        held_out_loss_of,
        params,
        warm_path=fitter.warm_path,
        penalty=penalty,
        held_out_loss=held_out_loss,
        grid=jnp.asarray(penalties, batch.weight.dtype),
    )


def fit_moments_with_penalty(
    fitter: MomentFit,
    params: Params,
    moments: TaskMoments,
    held_out: TaskMoments | None,
    *,
    penalty: Array,
    held_out_loss: Array,
    penalties: tuple[float, ...] = PENALTIES,
) -> PenaltyFit:
    """`fit_with_penalty` from moments alone.

    Args:
      fitter: how to fit.
      params: where the first fit starts.
      moments: of the rows of the fit, less those held out.
      held_out: of the rows that λ is chosen on, see `rows_for_penalty`; None where it is given, and
        `moments` are those of all rows.
      penalty: `[]` λ, NaN to choose it.
      held_out_loss: `[]` passed through where λ is given.
      penalties: the grid, strongest first; static.

    Raises:
      ValueError: if the grid is empty, not positive or not strongest first.
    """
    check_penalties("fit_moments_with_penalty", penalties)
    grid = jnp.asarray(penalties, moments.count.dtype)
    if held_out is None:
        fit = fitter.fit(params, moments, penalty)
        return PenaltyFit(fit, penalty, held_out_loss, jnp.full_like(grid, jnp.nan))
    return _along_path(
        lambda params, chosen, is_final: fitter.fit(
            params, join_moments(moments, held_out, is_final), chosen
        ),
        lambda result: fitter.error(result, held_out),
        params,
        warm_path=True,
        penalty=penalty,
        held_out_loss=held_out_loss,
        grid=grid,
    )


def _along_path(
    fit: Callable[[Params, Array, Array], FitResult],
    held_out_loss_of: Callable[[FitResult], Array],
    params: Params,
    *,
    warm_path: bool,
    penalty: Array,
    held_out_loss: Array,
    grid: Array,
) -> PenaltyFit:
    """The loop of `fit_with_penalty`; `fit(params, λ, is_final)` has all rows in the final fit."""
    dtype = grid.dtype
    final = len(grid)
    unknown = jnp.full((), jnp.nan, dtype)

    def fit_at(params, index, best):
        is_final = index == final
        chosen = jnp.where(is_final, best, grid[jnp.minimum(index, final - 1)])
        return fit(params, chosen, is_final)

    def body(carry):
        index, following, best_params, best, best_loss, losses, misses, _ = carry
        is_final = index == final
        start = _either(is_final, best_params, following)
        result = fit_at(start, index, best)
        # The last fit has seen all rows: nothing is held out of it.
        loss = jax.lax.cond(is_final, lambda _: unknown, held_out_loss_of, result)
        better = (loss < best_loss) & ~is_final
        # Nothing can start from nothing, and it is no reason to stop: weaker λ are to come.
        is_dead = _size(result.params) < _DEAD * size
        best_params = _either(better, result.params, best_params)
        losses = losses.at[index].set(loss, mode="drop")
        misses = jnp.where(better | is_dead, 0, misses + 1)
        next_index = jnp.where(misses >= _PATIENCE, final, index + 1)
        return (
            jnp.where(is_final, final + 1, next_index),
            _either(is_dead, params, result.params) if warm_path else params,
            best_params,
            jnp.where(better, grid[jnp.minimum(index, final - 1)], best),
            jnp.where(better, loss, best_loss),
            losses,
            misses,
            result,
        )

    size = _size(params)
    is_given = ~jnp.isnan(penalty)
    empty = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
        jax.eval_shape(fit_at, params, jnp.int32(0), penalty),
    )
    carry = (
        jnp.where(is_given, final, 0),
        params,
        params,
        # Where no held-out error is finite the strongest λ stays; the fit reports ok=False.
        jnp.where(is_given, penalty, grid[0]),
        jnp.where(is_given, -jnp.inf, jnp.inf).astype(dtype),
        jnp.full(final, jnp.nan, dtype),
        jnp.int32(0),
        empty,
    )
    carry = jax.lax.while_loop(lambda carry: carry[0] <= final, body, carry)
    _, _, _, best, best_loss, losses, _, result = carry
    return PenaltyFit(result, best, jnp.where(is_given, held_out_loss, best_loss), losses)


def _either(condition: Array, one: Params, other: Params) -> Params:
    """One tree where the condition holds, else the other."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)


def _size(params: Params) -> Array:
    """Squared norm of all parameters."""
    return sum((jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(params)), jnp.zeros(()))


def check_penalties(function: str, penalties: Sequence[float]) -> None:
    """Raises `ValueError` unless the grid is positive, finite and strongest first."""
    values = [float(value) for value in penalties]
    positive = all(0 < value < float("inf") for value in values)
    if not values or not positive or values != sorted(values, reverse=True):
        raise ValueError(f"{function} expects positive penalties, strongest first, got {values}.")
