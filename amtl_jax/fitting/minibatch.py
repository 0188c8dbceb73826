"""Variable projection in minibatches of blocks, with running head statistics.

A minibatch has a few rows of a few tasks, too little to solve their heads from. So the fit keeps
the last features that it computed of every row, and the sum of their head statistics: when a block
comes up, its contribution to its task's statistics is replaced by one of fresh features. The heads
of the minibatch are solved from these, fresh for its own rows and at most one pass old for the
rest; the staleness vanishes as the encoder settles. Only the heads that a minibatch meets are
solved, so a step costs the same for ten tasks and for ten thousand.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from amtl_jax.encoding import as_float, encode, encode_live
from amtl_jax.fitting.objective import finish, squared_norm
from amtl_jax.fitting.rows import FitRows, split_rows, take_blocks
from amtl_jax.heads import head_stats, predict_heads, solve_heads
from amtl_jax.types import Array, Encoder, FitResult, Fitter, Heads, HeadStats, Params, TaskBatch

# Heads of few rows over-fit at the fit's own ridge, whatever the representation is worth. So the
# held-out error that stops a fit is the least over more ridges, added to its own; they are relative
# to the mean diagonal of a task's centred Gram matrix, hence blind to the scale of the features.
_RIDGES = (0.0, 0.01, 0.1, 1.0)


class _Descent(NamedTuple):
    """What changes from step to step."""

    params: Params
    optimizer_state: Params
    features: Array  # [B, R, K] of every row, as last computed
    stats: HeadStats  # their statistics over the rows that are trained on
    gradient: Params  # sum over the pass


class _Passes(NamedTuple):
    """What changes from pass to pass."""

    descent: _Descent
    index: Array
    steps: Array
    best_params: Params
    best_loss: Array
    misses: Array
    first_norm: Array
    last_norm: Array


def minibatch_fitter(
    encoder: Encoder,
    optimizer: optax.GradientTransformation,
    *,
    num_tasks: int,
    num_steps: int,
    batch_rows: int = 1024,
    intercept: bool = True,
    stop_share: float = 0.1,
    patience: int = 3,
    seed: int = 0,
) -> Fitter:
    """Returns a stochastic fit of any encoder, heads always solved from running statistics.

    The objective is that of every fit, penalty on the encoder's weights included: leave weight
    decay out of the optimiser. Each pass visits the blocks that hold rows, in a random order, and
    ends with the features of all rows at the parameters it reached: from them come the running
    statistics of the next pass and the held-out error. The fit ends after `num_steps` steps, or
    when that error has not improved for `patience` passes, and returns the parameters of least
    error, the start's included. Which rows are held out depends on their task and their place in
    it alone, so a fit that starts from the round before never tests itself on rows it was trained
    on, as long as new rows are packed behind the old ones.

    Args:
      encoder: any encoder.
      optimizer: any optax optimiser with any schedule over `num_steps` steps, but for those with
        a line search, which need all rows; its state starts anew in every fit.
      num_tasks: M, static; tasks without weight get zero heads.
      num_steps: most optimiser steps.
      batch_rows: rows of a minibatch, in whole blocks of the batch (at least one).
      intercept: whether heads have an unpenalised intercept.
      stop_share: share of each task's rows that is held out to stop early; 0 trains on all rows
        for all steps and returns the last parameters, as does a share that no task has a row for.
        The heads of the result are solved on all rows either way.
      patience: passes.
      seed: of the order in which blocks are visited.

    Returns:
      `Fitter`; the `steps` of its result are passes over the rows, and `gradient_norm` compares
      the mean gradients of the last and the first pass.

    Raises:
      ValueError: if a number is out of range.
    """
    if num_steps < 1 or batch_rows < 1 or patience < 1 or not 0 <= stop_share <= 0.5:
        raise ValueError(
            "minibatch_fitter expects num_steps, batch_rows and patience >= 1 and 0 <= stop_share "
            f"<= 0.5, got {num_steps}, {batch_rows}, {patience} and {stop_share}."
        )

    optimizer = optax.with_extra_args_support(optimizer)

    def init(key: Array, batch: TaskBatch, penalty: Array) -> Params:
        del penalty
        return encoder.init(key, as_float(batch.x[0]))

    def fit(params: Params, batch: TaskBatch, penalty: Array) -> FitResult:
        rows = split_rows(batch, stop_share)
        num_live = jnp.sum(rows.is_live, dtype=jnp.int32)
        total = jnp.maximum(jnp.sum(rows.train.weight), 1e-30)

        def solve(stats: HeadStats, extra: Array | float = 0.0) -> Heads:
            return solve_heads(stats, ridge=penalty * total + extra, intercept=intercept)

        def step(descent: _Descent, block: Array) -> _Descent:
            """Visits the blocks `[S]`; an index of B stands for none."""
            some = take_blocks(rows, block)
            own = some.train._replace(task=jnp.arange(len(block)))  # each block its own head
            stale = descent.features.at[block].get(mode="clip")
            share = jnp.sum(some.is_live) / num_live  # of the blocks that hold rows

            def objective(params: Params):
                features = encode(encoder, params, own.x)
                fixed = jax.lax.stop_gradient(features)
                stats = _replace(descent.stats, some.train, stale, fixed)
                heads = solve(jax.tree.map(lambda leaf: leaf[some.train.task], stats))
                loss = jnp.sum(own.weight * _errors(heads, features, own)) / (total * share)
                return loss + penalty * squared_norm(params), (fixed, stats)

            (value, (features, stats)), gradient = jax.value_and_grad(objective, has_aux=True)(
                descent.params
            )
            updates, state = optimizer.update(
                gradient, descent.optimizer_state, descent.params, value=value, grad=gradient
            )
            return _Descent(
                params=optax.apply_updates(descent.params, updates),
                optimizer_state=state,
                features=descent.features.at[block].set(features, mode="drop"),
                stats=stats,
                gradient=jax.tree.map(jnp.add, descent.gradient, gradient),
            )

        def refresh(descent: _Descent) -> tuple[_Descent, Array]:
            """Encodes all rows anew; returns also the error on those that are held out."""
            features = encode_live(encoder, descent.params, batch.x, batch.weight)
            stats = head_stats(features, rows.train, num_tasks=num_tasks)
            none = jax.tree.map(jnp.zeros_like, descent.params)
            descent = descent._replace(features=features, stats=stats, gradient=none)
            if stop_share == 0:
                return descent, jnp.zeros((), batch.weight.dtype)

            def held_out_error(relative: Array) -> Array:
                heads = solve(stats, relative * _mean_diagonal(stats))
                return jnp.sum(rows.held_out * _errors(heads, features, batch))

            return descent, jax.vmap(held_out_error)(jnp.asarray(_RIDGES, features.dtype)).min()

        nothing = jnp.zeros((*batch.weight.shape, encoder.num_features), batch.weight.dtype)
        stats = head_stats(nothing, rows.train, num_tasks=num_tasks)
        start = _Descent(params, optimizer.init(params), nothing, stats, params)
        per_step = min(max(batch_rows // batch.weight.shape[1], 1), len(batch.task))
        done = _run(start, step, refresh, rows, per_step, num_steps, patience, seed)
        return finish(
            encoder,
            done.best_params,
            batch,
            penalty,
            num_tasks=num_tasks,
            intercept=intercept,
            gradient_norm=done.last_norm / jnp.where(done.first_norm > 0, done.first_norm, 1.0),
            steps=done.index,
        )

    return Fitter(init, fit, encoder, num_tasks, intercept, warm_path=False)


def _run(
    start: _Descent,
    step: Callable[[_Descent, Array], _Descent],
    refresh: Callable[[_Descent], tuple[_Descent, Array]],
    rows: FitRows,
    per_step: int,
    num_steps: int,
    patience: int,
    seed: int,
) -> _Passes:
    """Passes over the live blocks until the steps are used up or the held-out error turned."""
    num_blocks = len(rows.is_live)
    num_live = jnp.sum(rows.is_live, dtype=jnp.int32)
    # Without held-out rows the last parameters are the best known.
    is_blind = jnp.sum(rows.held_out) == 0
    root, zero = jax.random.key(seed), jnp.zeros((), rows.held_out.dtype)

    def one_pass(passes: _Passes) -> _Passes:
        drawn = jax.random.uniform(jax.random.fold_in(root, passes.index), (num_blocks,))
        order = jnp.argsort(jnp.where(rows.is_live, drawn, 2.0))  # the live ones first
        count = jnp.minimum(-(-num_live // per_step), num_steps - passes.steps)

        def next_step(index: Array, descent: _Descent) -> _Descent:
            place = index * per_step + jnp.arange(per_step)
            block = order.at[place].get(mode="clip")
            return step(descent, jnp.where(place < num_live, block, num_blocks))

        moved = jax.lax.fori_loop(0, count, next_step, passes.descent)
        norm = (optax.tree.norm(moved.gradient) / jnp.maximum(count, 1)).astype(zero.dtype)
        descent, loss = refresh(moved)
        better = (loss < passes.best_loss) | is_blind
        return _Passes(
            descent=descent,
            index=passes.index + 1,
            steps=passes.steps + count,
            best_params=jax.tree.map(
                lambda new, old: jnp.where(better, new, old), descent.params, passes.best_params
            ),
            best_loss=jnp.where(better, loss, passes.best_loss),
            misses=jnp.where(better, 0, passes.misses + 1),
            first_norm=jnp.where(passes.index == 0, norm, passes.first_norm),
            last_norm=norm,
        )

    def goes_on(passes: _Passes) -> Array:
        return (passes.steps < num_steps) & (passes.misses < patience) & (num_live > 0)

    descent, loss = refresh(start)
    none = jnp.int32(0)
    first = _Passes(descent, none, none, descent.params, loss, none, zero, zero)
    return jax.lax.while_loop(goes_on, one_pass, first)


def _mean_diagonal(stats: HeadStats) -> Array:
    """Mean diagonal of each task's centred Gram matrix, `[M]`."""
    count = jnp.where(stats.count > 0, stats.count, 1.0)[:, None]
    diagonal = jnp.diagonal(stats.gram, axis1=1, axis2=2) - stats.feature_sum**2 / count
    return jnp.mean(jnp.maximum(diagonal, 0.0), axis=1)


def _replace(stats: HeadStats, some: TaskBatch, stale: Array, fresh: Array) -> HeadStats:
    """Puts fresh features of some blocks in the place of stale ones, in all tasks' statistics."""
    own = some._replace(task=jnp.arange(len(some.task)))
    old, new = (head_stats(features, own, num_tasks=len(some.task)) for features in (stale, fresh))
    return jax.tree.map(lambda total, new, old: total.at[some.task].add(new - old), stats, new, old)


def _errors(heads: Heads, features: Array, batch: TaskBatch) -> Array:
    """Squared error of every row, `[B, R]`, summed over outputs."""
    return jnp.sum((batch.y - predict_heads(heads, features, batch)) ** 2, axis=-1)
