"""Rounds whose rows go to the device in chunks: `data.chunk_blocks`."""

from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from amtl_jax.data.drawn import DrawnRows
from amtl_jax.data.sources import ArraySource, Rows
from amtl_jax.encoding import encode_live
from amtl_jax.experiment import build
from amtl_jax.experiment.config import Config, chunk_blocks_of
from amtl_jax.experiment.problem import Problem
from amtl_jax.heads import head_stats
from amtl_jax.packing import pack
from amtl_jax.round_moments import RoundMoments
from amtl_jax.streamed_round import stream_round
from amtl_jax.streaming import PackedChunks, stream_stats
from amtl_jax.types import Array, Encoder, HeadStats, Params, TaskBatch


def stream_campaign(
    config: Config,
    problem: Problem,
    target: Rows,
    data_key: Array,
    bought: np.ndarray,
    key: Array | None = None,
) -> RoundMoments:
    """Draws what was bought so far, and sums it chunk by chunk, for `Learner.tell`.

    Args:
      config: has `data.chunk_blocks`.
      problem: the tasks.
      target: its sample.
      data_key: of the draws.
      bought: `[M]` samples.
      key: of the round, where λ is to be chosen; None: it is known.
    """
    rows = _drawn(problem, data_key, bought)
    return stream_round(
        key,
        rows.x,
        rows.y,
        rows.task,
        rows.weight,
        _packed_target(config, problem, target),
        num_sources=len(problem.source.names),
        num_blocks=build.campaign_shape(config, problem.source).num_blocks,
        chunk_blocks=_chunk_blocks(config),
        intercept=config.fit.intercept,
    )


def stream_head_stats(
    config: Config,
    problem: Problem,
    target: Rows,
    data_key: Array,
    bought: np.ndarray,
    *,
    encoder: Encoder,
    params: Params,
) -> HeadStats:
    """Statistics of the heads of all M + 1 tasks on what was bought so far; see `stream_stats`."""
    num_tasks = len(problem.source.names) + 1
    chunks = chunks_of(config, problem, data_key, bought)
    own = _packed_target(config, problem, target)
    sources = stream_stats(encoder, params, chunks, num_tasks=num_tasks)
    features = encode_live(encoder, params, own.x, own.weight)
    return jax.tree.map(jnp.add, sources, head_stats(features, own, num_tasks=num_tasks))


def chunks_of(
    config: Config, problem: Problem, data_key: Array, bought: np.ndarray
) -> PackedChunks:
    """What was bought so far, packed in chunks."""
    rows = _drawn(problem, data_key, bought)
    return PackedChunks(
        rows.x,
        rows.y,
        rows.task,
        rows.weight,
        num_tasks=len(problem.source.names) + 1,
        chunk_blocks=_chunk_blocks(config),
        block_rows=build.campaign_shape(config, problem.source).block_rows,
    )


def _drawn(problem: Problem, data_key: Array, bought: np.ndarray) -> DrawnRows:
    source = cast(ArraySource, problem.source)  # of every kind of data that has chunks
    return source.draw_on_demand(data_key, bought)


def _chunk_blocks(config: Config) -> int:
    return cast(int, chunk_blocks_of(config.data))


def _packed_target(config: Config, problem: Problem, target: Rows) -> TaskBatch:
    """The target's sample alone, in blocks of as many rows as those of the sources."""
    block_rows = build.campaign_shape(config, problem.source).block_rows
    return pack(
        target.x,
        target.y,
        target.task,
        num_tasks=len(problem.source.names) + 1,
        block_rows=block_rows,
        num_blocks=-(-len(target.x) // block_rows),
        weight=build.weights_of(target),
    )
