"""Variable projection in minibatches of blocks, with running head statistics.

A minibatch has a few rows of a few tasks, too little to solve their heads from. So the fit keeps
the last features that it computed of every row, and the sum of their head statistics: when a block
comes up, its contribution to its task's statistics is replaced by one of fresh features. The heads
of the minibatch are solved from these, fresh for its own rows and at most one pass old for the
rest; the staleness vanishes as the encoder settles. Only the heads that a minibatch meets are
solved, so a step costs the same for ten tasks and for ten thousand.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from amtl_jax.encoding import encode, encode_live
from amtl_jax.fitting.objective import finish, squared_norm
from amtl_jax.heads import head_stats, predict_heads, solve_heads
from amtl_jax.types import Array, Encoder, FitResult, Fitter, HeadStats, Params, TaskBatch

_GOLDEN = 0.6180339887
# Heads of few rows over-fit at the fit's own ridge, whatever the representation is worth: the
# held-out error that stops a fit is the least over these multiples of it.
_RIDGES = (1.0, 10.0, 100.0)


class _Descent(NamedTuple):
    """What changes from step to step."""

    params: Params
    optimizer_state: Params
    features: Array  # [B, R, K] of every row, as last computed
    stats: HeadStats  # their statistics over the rows that are trained on
    gradient: Params  # sum over the pass
    held_out: tuple[Array, Array]  # squared error [ridges] and weight [] over the pass


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
    decay out of the optimiser. Each pass visits the blocks that hold rows, in a random order; the
    fit ends after `num_steps` steps, or when the held-out error has not improved for `patience`
    passes, and returns the parameters of the best pass. Which rows are held out depends on their
    place in their task alone, so a fit that starts from the round before never tests itself on
    rows it was trained on, as long as new rows are packed behind the old ones.

    Args:
      encoder: any encoder.
      optimizer: any optax optimiser with any schedule over `num_steps` steps; its state starts
        anew in every fit.
      num_tasks: M, static; tasks without weight get zero heads.
      num_steps: most optimiser steps.
      batch_rows: rows of a minibatch, in whole blocks of the batch (at least one).
      intercept: whether heads have an unpenalised intercept.
      stop_share: share of each task's rows that is held out to stop early; 0 trains on all rows
        for all steps. The heads of the result are solved on all rows either way.
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

    def init(key: Array, batch: TaskBatch, penalty: Array) -> Params:
        del penalty
        return encoder.init(key, batch.x[0])

    def fit(params: Params, batch: TaskBatch, penalty: Array) -> FitResult:
        num_blocks, block_rows = batch.weight.shape
        per_step = min(max(batch_rows // block_rows, 1), num_blocks)
        is_held_out = _held_out_rows(batch, stop_share)
        train = batch._replace(weight=jnp.where(is_held_out, 0, batch.weight))
        held_out_weight = jnp.where(is_held_out, batch.weight, 0)
        is_live = jnp.any(batch.weight > 0, axis=1)
        num_live = jnp.sum(is_live)
        total = jnp.maximum(jnp.sum(train.weight), 1e-30)

        def head_stats_of(features):
            return head_stats(features, train, num_tasks=num_tasks)

        def step(position, order, descent: _Descent) -> _Descent:
            place = position * per_step + jnp.arange(per_step)
            real = place < num_live
            block = jnp.where(real, order.at[place].get(mode="clip"), num_blocks)
            some = jax.tree.map(lambda leaf: leaf.at[block].get(mode="clip"), train)
            task = some.task
            some = some._replace(
                weight=jnp.where(real[:, None], some.weight, 0), task=jnp.arange(per_step)
            )
            held_out = jnp.where(real[:, None], held_out_weight.at[block].get(mode="clip"), 0)
            stale = head_stats(
                descent.features.at[block].get(mode="clip"), some, num_tasks=per_step
            )

            def objective(params):
                features = encode(encoder, params, some.x)
                fixed = jax.lax.stop_gradient(features)
                change = jax.tree.map(
                    jnp.subtract, head_stats(fixed, some, num_tasks=per_step), stale
                )
                stats = jax.tree.map(
                    lambda leaf, part: leaf.at[task].add(part), descent.stats, change
                )
                own = jax.tree.map(lambda leaf: leaf[task], stats)
                heads = solve_heads(own, ridge=penalty * total, intercept=intercept)
                error = jnp.sum((some.y - predict_heads(heads, features, some)) ** 2, axis=-1)
                share = jnp.sum(real) / num_live  # of the blocks that hold rows
                loss = jnp.sum(some.weight * error) / (total * share)
                return loss + penalty * squared_norm(params), (fixed, stats, own)

            def held_out_error(features, own, ridge):
                heads = solve_heads(own, ridge=ridge * penalty * total, intercept=intercept)
                error = jnp.sum((some.y - predict_heads(heads, features, some)) ** 2, axis=-1)
                return jnp.sum(held_out * error)

            gradient, (features, stats, own) = jax.grad(objective, has_aux=True)(descent.params)
            errors = [held_out_error(features, own, ridge) for ridge in _RIDGES]
            found = jnp.stack(errors), jnp.sum(held_out)
            updates, state = optimizer.update(gradient, descent.optimizer_state, descent.params)
            return _Descent(
                params=optax.apply_updates(descent.params, updates),
                optimizer_state=state,
                features=descent.features.at[block].set(features, mode="drop"),
                stats=stats,
                gradient=jax.tree.map(jnp.add, descent.gradient, gradient),
                held_out=jax.tree.map(jnp.add, descent.held_out, found),
            )

        def one_pass(passes: _Passes) -> _Passes:
            key = jax.random.fold_in(jax.random.key(seed), passes.index)
            drawn = jax.random.uniform(key, (num_blocks,))
            order = jnp.argsort(jnp.where(is_live, drawn, 2.0))
            count = jnp.minimum(-(-num_live // per_step), num_steps - passes.steps)
            fresh = passes.descent._replace(
                # Sums of differences drift: once a pass they are formed anew.
                stats=head_stats_of(passes.descent.features),
                gradient=jax.tree.map(jnp.zeros_like, params),
                held_out=nothing,
            )
            descent = jax.lax.fori_loop(
                0, count, lambda position, descent: step(position, order, descent), fresh
            )
            error, weight = descent.held_out
            # Without held-out rows the last parameters are the best known.
            loss = jnp.where(weight > 0, error.min() / jnp.where(weight > 0, weight, 1), -jnp.inf)
            better = (loss < passes.best_loss) | (weight == 0)
            norm = optax.tree.norm(descent.gradient) / jnp.maximum(count, 1)
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

        def goes_on(passes: _Passes):
            return (passes.steps < num_steps) & (passes.misses < patience) & (num_live > 0)

        zero = jnp.zeros((), batch.weight.dtype)
        nothing = jnp.zeros(len(_RIDGES), zero.dtype), zero
        features = encode_live(encoder, params, batch.x, batch.weight)
        start = _Descent(
            params=params,
            optimizer_state=optimizer.init(params),
            features=features,
            stats=head_stats_of(features),
            gradient=jax.tree.map(jnp.zeros_like, params),
            held_out=nothing,
        )
        passes = jax.lax.while_loop(
            goes_on,
            one_pass,
            _Passes(
                start, jnp.int32(0), jnp.int32(0), params, jnp.inf + zero, jnp.int32(0), zero, zero
            ),
        )
        first = jnp.where(passes.first_norm > 0, passes.first_norm, 1.0)
        return finish(
            encoder,
            passes.best_params,
            batch,
            penalty,
            num_tasks=num_tasks,
            intercept=intercept,
            gradient_norm=passes.last_norm / first,
            steps=passes.index,
        )

    return Fitter(init, fit, encoder, num_tasks, intercept, warm_path=False)


def _held_out_rows(batch: TaskBatch, share: float) -> Array:
    """Marks a share of each task's rows by their place in the task, `[B, R]` bool; never the first.

    Places are spread evenly, and staggered from task to task so that small tasks do not all keep
    or lose the same place.
    """
    num_blocks, block_rows = batch.weight.shape
    first = jnp.searchsorted(batch.task, batch.task)
    place = (jnp.arange(num_blocks) - first)[:, None] * block_rows + jnp.arange(block_rows)[None]
    phase = jnp.mod(batch.task * _GOLDEN, 1.0)[:, None] * (1 - share)
    return jnp.floor((place + 1) * share + phase) > jnp.floor(place * share + phase)
