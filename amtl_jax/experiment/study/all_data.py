"""The ceiling of a study: a representation fitted to every source row there is."""

import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from amtl_jax.experiment import build
from amtl_jax.experiment.representation import build_fitter
from amtl_jax.experiment.rounds import RunError
from amtl_jax.experiment.study.pools import Places, Pools
from amtl_jax.experiment.study.programs import Parts
from amtl_jax.fitting.penalty import fit_with_penalty
from amtl_jax.packing import default_block_rows, max_blocks, pack_index
from amtl_jax.types import Array, FitResult, TaskBatch


def all_data_program(parts: Parts, places: Places) -> Callable[..., FitResult]:
    """The fit to all source images, each with its labels for all classes.

    The tasks of a corruption share its images, so a corruption is one task of as many outputs as
    there are classes: the same heads, and every image is read once for all of them. λ is chosen on
    held-out images.

    Args:
      parts: of the study.
      places: of any corruption; the others have as many corruptions and the same classes.

    Returns:
      `(pools, packed [B, R], block_task [B], key) -> FitResult`; `packed` are rows of the pools, -1
      for none.
    """
    num_tasks, classes = len(np.unique(places.first)), np.unique(places.label)
    num_inputs = math.prod(places.source.input_shape)
    fitter = build_fitter(parts.config, parts.encoder, num_tasks, num_inputs)

    @jax.jit
    def fit(pools: Pools, packed: Array, block_task: Array, key: Array) -> FitResult:
        row = jnp.maximum(packed, 0)
        weight = (packed >= 0).astype(jnp.float32)
        is_class = pools.label[row][..., None] == jnp.asarray(classes)[None, None]
        y = weight[..., None] * is_class.astype(jnp.float32)
        batch = TaskBatch(pools.x[row], y, weight, block_task)
        unknown = jnp.full((), jnp.nan)
        # The loss of an image is that of all its labels together: λ of a label, times their number.
        given = parts.config.fit.penalty
        penalty = unknown if given is None else jnp.float32(given * len(classes))
        start = fitter.init(jax.random.fold_in(key, 1), batch, penalty)
        chosen = fit_with_penalty(
            fitter,
            jax.random.fold_in(key, 0),
            start,
            batch,
            penalty=penalty,
            held_out_loss=unknown,
            penalties=tuple(len(classes) * one for one in parts.config.fit.penalties),
        )
        # From where all arms start, not behind the path that chose λ; see `fit_shared`.
        return chosen.fit if given is not None else fitter.fit(start, batch, chosen.penalty)

    return fit


def all_data_fit(
    program: Callable[..., FitResult], parts: Parts, pools: Pools, places: Places, seed: int
) -> tuple[Any, int, float]:
    """Fits the representation to all source images there are; see `all_data_program`.

    Returns:
      Parameters of the encoder, the labels that were used, and seconds.

    Raises:
      RunError: if the fit is not finite.
    """
    started = time.monotonic()
    first, classes = np.unique(places.first), np.unique(places.label)
    sizes = [int(places.source.capacity[places.first == one][0]) for one in first]
    task = np.repeat(np.arange(len(first)), sizes)
    rows = np.concatenate([one + np.arange(size) for one, size in zip(first, sizes, strict=True)])
    block_rows = parts.config.block_rows or default_block_rows(len(rows), len(first))
    num_blocks = max_blocks(len(rows), len(first), block_rows)
    row_of, block_task = pack_index(
        task, num_tasks=len(first), block_rows=block_rows, num_blocks=num_blocks
    )
    packed = jnp.asarray(np.where(row_of >= 0, rows[np.maximum(row_of, 0)], -1).astype(np.int32))
    key = jax.random.fold_in(jax.random.key(seed), build.LEARNER_KEY)
    found = jax.block_until_ready(program(pools, packed, jnp.asarray(block_task), key))
    if not bool(found.ok):
        raise RunError("all_data: the fit gave numbers that are not finite.")
    return found.params, len(rows) * len(classes), time.monotonic() - started
