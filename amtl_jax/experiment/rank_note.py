"""Whether the number of features that a config gives is enough, as far as a round's rows tell."""

import math
from collections.abc import Callable

import jax
import numpy as np

from amtl_jax.experiment import build
from amtl_jax.experiment.checkpoint import Checkpoint
from amtl_jax.experiment.config import chunk_blocks_of
from amtl_jax.experiment.rounds import Setting
from amtl_jax.experiment.streamed import stream_campaign
from amtl_jax.fitting.moments import TaskMoments
from amtl_jax.rank_choice import has_moments, rank_doubt
from amtl_jax.types import Array, TaskBatch


def rank_checker(setting: Setting) -> Callable[[Array, Checkpoint], Checkpoint]:
    """Builds what adds a warning to the record of a round whose representation looks too small.

    Returns:
      `(root, one) -> one`, the seed's key and the round as computed. `record["rank_warning"]` is
      a sentence, or None where the rank looks enough; it is not there where nobody looks.
    """
    told: set[str] = set()  # seeds mostly agree: once is enough

    def with_warning(root: Array, one: Checkpoint) -> Checkpoint:
        source = setting.problem.source
        if not _is_checked(setting):
            return one
        counts, data_key = np.asarray(one.state.spent), jax.random.fold_in(root, build.DATA_KEY)
        target = setting.problem.draw_target(jax.random.fold_in(root, build.TARGET_KEY))
        if chunk_blocks_of(setting.config.data) is None:
            rows = source.draw(data_key, counts)
            samples = build.pack_campaign(setting.config, rows, target, source)
        else:
            samples = stream_campaign(setting.config, setting.problem, target, data_key, counts)
            samples = samples.moments
        return with_rank_warning(setting, one, samples, told)

    return with_warning


def with_rank_warning(
    setting: Setting, one: Checkpoint, samples: TaskBatch | TaskMoments, told: set[str]
) -> Checkpoint:
    """Adds `rank_warning` to the record of a round on these samples, and tells the observer.

    It looks at linear representations whose number of features the config gives, where inputs
    are few enough for it. The observer hears the first warning alone; `told` remembers it.
    """
    if not _is_checked(setting):
        return one
    text = rank_doubt(
        samples,
        setting.encoder.num_features,
        num_sources=len(setting.problem.source.names),
        intercept=setting.config.fit.intercept,
        task_noise=one.state.task_noise if setting.config.fit.weigh_noise else None,
    )
    if text is not None and not told:
        setting.observer.noted(text)
        told.add(text)
    return one._replace(record=one.record | {"rank_warning": text})


def _is_checked(setting: Setting) -> bool:
    encoder, source = setting.config.encoder, setting.problem.source
    is_given = encoder.kind == "linear" and isinstance(encoder.num_features, int)
    return is_given and has_moments(len(source.names) + 1, math.prod(source.input_shape))
