"""What the units of a context share: the uniform rounds and the ceiling, each kept in a file."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from amtl_jax.data.image_tasks import ImageTasks
from amtl_jax.experiment import checkpoint
from amtl_jax.experiment.checkpoint import Checkpoint, CheckpointError
from amtl_jax.experiment.config import Config
from amtl_jax.experiment.study.all_data import all_data_fit
from amtl_jax.experiment.study.arms import ALL_DATA
from amtl_jax.experiment.study.field import Field
from amtl_jax.experiment.study.grid import Context, Grid, Unit
from amtl_jax.experiment.study.pools import Places, Pools, places_of
from amtl_jax.experiment.study.programs import Parts, Programs
from amtl_jax.experiment.study.targets import Ceiling
from amtl_jax.experiment.study.uniform_rounds import Shared, fit_shared, shared_template
from amtl_jax.types import FitResult

_CONTEXTS = "contexts"


class Stage(NamedTuple):
    """What all contexts of a study share; every program in it is compiled once."""

    config: Config
    workdir: Path
    fingerprint: str
    grid: Grid
    tasks: ImageTasks
    shape: tuple[int, ...]
    parts: Parts
    pools: Pools
    programs: dict[tuple[int, int], Programs]
    all_data: Callable[..., FitResult] | None


class Prepared(NamedTuple):
    """A context whose units can be computed.

    Attributes:
      fields: by number of target samples.
      shared: the uniform rounds.
      everything: the ceiling, where that arm is wanted.
    """

    fields: dict[int, Field]
    shared: Shared
    everything: Ceiling | None


def prepare(stage: Stage, units: Sequence[Unit]) -> Prepared:
    """Computes what units of one context share, or reads it where it is kept.

    Raises:
      RunError: if a fit gives numbers that are not finite.
    """
    context = units[0].context
    joint = stage.config.price == "shared"
    places = places_of(stage.tasks, context.corruption, stage.shape, joint=joint)
    fields = {
        samples: Field(
            stage.parts,
            stage.programs[context.budget, samples],
            stage.pools,
            places,
            context,
            samples,
        )
        for samples in dict.fromkeys(unit.target_samples for unit in units)
    }
    shared = _shared(stage, next(iter(fields.values())))
    everything = None
    if stage.all_data is not None:
        everything = _ceiling(stage, stage.all_data, places, context)
    return Prepared(fields, shared, everything)


def forget(stage: Stage, context: Context) -> None:
    """Removes the file of a context whose units are all there."""
    _path(stage, context.name).unlink(missing_ok=True)


def forget_all(stage: Stage) -> None:
    """Removes the files of all contexts."""
    shutil.rmtree(stage.workdir / _CONTEXTS, ignore_errors=True)


def _path(stage: Stage, name: str) -> Path:
    return stage.workdir / _CONTEXTS / f"{name}.ckpt"


def _shared(stage: Stage, field: Field) -> Shared:
    """The uniform rounds of a context, from its file where there is one."""
    path = _path(stage, field.context.name)
    identity = {"config": stage.fingerprint, **field.context._asdict()}
    nothing = np.zeros(0, np.float32)
    if path.exists():
        try:
            template = Checkpoint(shared_template(field), nothing, {})
            return checkpoint.load(path, template, identity=identity).state
        except CheckpointError:
            pass  # it is computed again, as if the study had been killed before it was written
    shared = fit_shared(field)
    checkpoint.save(path, Checkpoint(shared, nothing, {}), identity=identity)
    return shared


def _ceiling(
    stage: Stage, program: Callable[..., FitResult], places: Places, context: Context
) -> Ceiling:
    """The fit to all source rows, which depends on the corruption alone."""
    path = _path(stage, f"{context.corruption}-{ALL_DATA}")
    identity = {"config": stage.fingerprint, "corruption": context.corruption, "arm": ALL_DATA}
    encoder, row = stage.parts.encoder, jax.ShapeDtypeStruct((1, *stage.shape), np.float32)
    template = Checkpoint(
        jax.eval_shape(encoder.init, jax.random.key(0), row), np.zeros(0, np.float32), {}
    )
    if path.exists():
        try:
            one = checkpoint.load(path, template, identity=identity)
            return Ceiling(one.state, one.record["samples"], one.record["seconds"])
        except CheckpointError:
            pass  # computed again
    seed = stage.grid.seeds[0]
    params, samples, seconds = all_data_fit(program, stage.parts, stage.pools, places, seed)
    record = {"samples": samples, "seconds": seconds}
    checkpoint.save(path, template._replace(state=params, record=record), identity=identity)
    return Ceiling(params, samples, seconds)
