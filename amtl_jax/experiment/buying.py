"""The samples of a round: one batch, on a mesh every device's own, or sums of rows in chunks.

Which rows go into which block follows from the counts alone, so every process knows it without a
row at hand. It draws the rows of the blocks that its own devices hold, and no others.

A device of a mesh holds a fixed share of the blocks, and rows fill them from the first one on. With
room for all rounds the last devices wait until the last round. Of several lengths a batch has the
least that holds its rows.
"""

from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from amtl_jax.data.sources import Rows, TaskSource
from amtl_jax.experiment import build
from amtl_jax.experiment.config import Config, chunk_blocks_of
from amtl_jax.experiment.problem import Problem
from amtl_jax.experiment.streamed import stream_campaign
from amtl_jax.packing import pack_index
from amtl_jax.round_moments import RoundMoments
from amtl_jax.scale.mesh import place_whole, row_sharding, whole_blocks
from amtl_jax.scale.processes import together
from amtl_jax.types import Array, TaskBatch


class Bought(NamedTuple):
    """What was bought so far.

    Attributes:
      samples: packed, with the target's behind, or their sums where they come in chunks.
      shows_counts: whether the samples alone show how many were bought: not those with weights of
        their own, as a label that is missing was paid with the others of its row.
    """

    samples: TaskBatch | RoundMoments
    shows_counts: bool


def buy(
    config: Config,
    problem: Problem,
    mesh: Mesh | None,
    key: Array,
    counts: np.ndarray,
    target: Rows,
    chooses: Array | None = None,
) -> Bought:
    """Draws samples and packs or sums them with the target's.

    Args:
      config: of the run.
      problem: the tasks.
      mesh: that the batch goes on; None: the default device.
      key: the campaign's data key.
      counts: `[M]` samples of each source, all that were bought.
      target: the target's sample.
      chooses: key of the round, where λ is to be chosen and rows come in chunks.

    Raises:
      ValueError: if rows that this process draws are not as expected.
      ElsewhereError: if those of another process are not.
    """
    if chunk_blocks_of(config.data) is not None:
        sums = stream_campaign(config, problem, target, key, counts, chooses)
        return Bought(sums, shows_counts=False)
    source = problem.source
    if mesh is None:
        rows = source.draw(key, counts)
        batch = build.pack_campaign(config, rows, target, source)
        return Bought(batch, shows_counts=rows.weight is None)
    shape, sizes = build.campaign_shape(config, source), np.append(counts, len(target.x))
    shape = shape._replace(num_blocks=_num_blocks(shape, sizes, mesh, config.scale.lengths))
    row_of, task = pack_index(np.repeat(np.arange(len(sizes)), sizes), **shape._asdict())
    sharding = row_sharding(mesh)
    places = sharding.addressable_devices_indices_map((shape.num_blocks,))
    shards, has_weights = [], False
    with together("drawing samples"):
        for device, place in places.items():
            assert place is not None  # it is of this process
            (blocks,) = place
            rows, own_target = _rows_of(source, key, sizes, target, row_of[blocks])
            has_weights = rows.weight is not None
            with jax.default_device(device):
                own = shape._replace(num_blocks=len(row_of[blocks]))
                shards.append(build.pack_rows(rows, own_target, own))

    def joined(*leaves: Array) -> Array:
        whole = (shape.num_blocks, *leaves[0].shape[1:])
        return jax.make_array_from_single_device_arrays(whole, sharding, list(leaves))

    x, y, weight = (joined(*leaves) for leaves in zip(*(one[:3] for one in shards), strict=True))
    batch = TaskBatch(x, y, weight, place_whole(task, mesh))
    return Bought(batch, shows_counts=not has_weights)


def _num_blocks(shape: build.Shape, sizes: np.ndarray, mesh: Mesh, lengths: int) -> int:
    """Blocks of a batch that has so many rows of each task, of so many lengths that there are."""
    step = -(-shape.num_blocks // lengths)
    needed = int((-(-sizes // shape.block_rows)).sum())
    return whole_blocks(min(-(-needed // step) * step, shape.num_blocks), mesh)


def _rows_of(
    source: TaskSource, key: Array, sizes: np.ndarray, target: Rows, row_of: np.ndarray
) -> tuple[Rows, Rows]:
    """Draws the rows `[C, R]` of neighbouring blocks; a task's begin where a block does."""
    own = row_of[row_of >= 0]
    begin, end = (int(own[0]), int(own[-1]) + 1) if len(own) else (0, 0)
    first = np.cumsum(sizes) - sizes
    start, stop = (np.clip(at - first, 0, sizes) for at in (begin, end))
    rows = source.draw(key, (stop - start)[:-1], start=start[:-1])
    last = slice(int(start[-1]), int(stop[-1]))
    return rows, Rows(*(None if leaf is None else leaf[last] for leaf in target))
