"""The rows of a stochastic fit: which are trained on, which are held out, which a step visits."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from amtl_jax.types import Array, TaskBatch

_GOLDEN = 0.6180339887


class FitRows(NamedTuple):
    """The samples of a fit, or of a minibatch of it.

    Attributes:
      train: weight 0 where a row is held out.
      held_out: `[B, R]` weight of the rows that are.
      is_live: `[B]` whether the block holds a row.
    """

    train: TaskBatch
    held_out: Array
    is_live: Array


def split_rows(batch: TaskBatch, share: float) -> FitRows:
    """Sets a share of the rows aside."""
    is_held_out = held_out_rows(batch, share)
    return FitRows(
        train=batch._replace(weight=jnp.where(is_held_out, 0, batch.weight)),
        held_out=jnp.where(is_held_out, batch.weight, 0),
        is_live=jnp.any(batch.weight > 0, axis=1),
    )


def held_out_rows(batch: TaskBatch, share: float) -> Array:
    """Marks a share of each task's rows by their place in the task, `[B, R]` bool; never the first.

    Places are spread evenly, and staggered from task to task so that small tasks do not all keep
    or lose the same place.
    """
    num_blocks, block_rows = batch.weight.shape
    first = jnp.searchsorted(batch.task, batch.task)
    place = (jnp.arange(num_blocks) - first)[:, None] * block_rows + jnp.arange(block_rows)[None]
    phase = jnp.mod(batch.task * _GOLDEN, 1.0)[:, None] * (1 - share)
    return jnp.floor((place + 1) * share + phase) > jnp.floor(place * share + phase)


def take_blocks(rows: FitRows, block: Array) -> FitRows:
    """Gathers blocks `[S]`; those that do not exist have no weight."""
    exists = block < len(rows.is_live)
    some: FitRows = jax.tree.map(lambda leaf: leaf.at[block].get(mode="clip"), rows)
    return some._replace(
        train=some.train._replace(weight=jnp.where(exists[:, None], some.train.weight, 0)),
        held_out=jnp.where(exists[:, None], some.held_out, 0),
        is_live=exists,
    )
