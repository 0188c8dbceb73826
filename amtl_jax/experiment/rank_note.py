"""Whether the number of features that a config gives is enough, as far as a round's rows tell."""

import math
from collections.abc import Callable

import jax
import numpy as np

from amtl_jax.experiment import build
from amtl_jax.experiment.buying import buy
from amtl_jax.experiment.checkpoint import Checkpoint
from amtl_jax.experiment.rounds import Setting
from amtl_jax.fitting.moments import TaskMoments
from amtl_jax.rank_choice import has_moments, rank_doubt
from amtl_jax.round_moments import RoundMoments
from amtl_jax.scale.mesh import in_force, place_whole
from amtl_jax.types import Array, TaskBatch


def rank_checker(setting: Setting) -> Callable[[Array, Checkpoint], Checkpoint]:
    """Builds what adds a warning to the record of a round whose representation looks too small.

    Returns:
      `(root, one) -> one`, the seed's key and the round as computed. `record["rank_warning"]` is
      a sentence, or None where the rank looks enough; it is not there where nobody looks.
    """
    told: set[str] = set()  # seeds mostly agree: once is enough

    def with_warning(root: Array, one: Checkpoint) -> Checkpoint:
        if not _is_checked(setting):
            return one
        config, problem, counts = setting.config, setting.problem, np.asarray(one.state.spent)
        target = problem.draw_target(jax.random.fold_in(root, build.TARGET_KEY))
        key = jax.random.fold_in(root, build.DATA_KEY)
        samples = buy(config, problem, setting.mesh, key, counts, target).samples
        if isinstance(samples, RoundMoments):
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
    noise, mesh = one.state.task_noise if setting.config.fit.weigh_noise else None, setting.mesh
    with in_force(mesh):
        text = rank_doubt(
            samples,
            setting.encoder.num_features,
            num_sources=len(setting.problem.source.names),
            intercept=setting.config.fit.intercept,
            task_noise=noise if mesh is None else place_whole(noise, mesh),
        )
    if text is not None and not told:
        setting.observer.noted(text)
        told.add(text)
    return one._replace(record=one.record | {"rank_warning": text})


def _is_checked(setting: Setting) -> bool:
    encoder, source = setting.config.encoder, setting.problem.source
    is_given = encoder.kind == "linear" and isinstance(encoder.num_features, int)
    return is_given and has_moments(len(source.names) + 1, math.prod(source.input_shape))
