"""The driver of a study: context by context, unit by unit, each kept as soon as it is done."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from amtl_jax.data.image_tasks import task_names
from amtl_jax.experiment.checkpoint import CheckpointError
from amtl_jax.experiment.config import Config, ConfigError
from amtl_jax.experiment.image_problem import input_shape, read_image_tasks
from amtl_jax.experiment.interrupts import stop_if_asked
from amtl_jax.experiment.on_mesh import keep_programs
from amtl_jax.experiment.representation import module_text
from amtl_jax.experiment.study.all_data import all_data_program
from amtl_jax.experiment.study.arms import ALL_DATA, CLAIRVOYANT
from amtl_jax.experiment.study.contexts import Stage, forget, forget_all, prepare
from amtl_jax.experiment.study.grid import Context, Shard, Unit, grid_of
from amtl_jax.experiment.study.observer import StudyObserver
from amtl_jax.experiment.study.outputs import (
    StudyResult,
    WhileItRuns,
    study_result,
    write_outputs,
)
from amtl_jax.experiment.study.pools import device_pools, places_of
from amtl_jax.experiment.study.processes import Crew, at_work, awaited, crew_size
from amtl_jax.experiment.study.programs import make_programs, study_parts
from amtl_jax.experiment.study.targets import results_of
from amtl_jax.experiment.study.units import UnitResult, load_unit, restore, save_unit, unit_path
from amtl_jax.experiment.study_checks import refuse_run_values
from amtl_jax.experiment.study_text import closing
from amtl_jax.experiment.validation import check
from amtl_jax.experiment.workdir import claim, fingerprint, refuse_other
from amtl_jax.scale.mesh import place_whole

# Computes units of a context, in their order.
_Compute = Callable[[Sequence[Unit]], Iterator[tuple[Unit, UnitResult]]]


def study(
    config: Config,
    workdir: str | Path,
    *,
    shard: str | None = None,
    observer: StudyObserver | None = None,
    encoder: object = None,
    crew: Crew | None = None,
) -> StudyResult:
    """Runs a study, or resumes it: every target × arm × budget × target samples × seed.

    Writes `config.json`, a verified file a unit in `units/`, and from all that are there
    `results.csv`, `summary.json` and `arrays.npz`, about every minute and at the end. A study that
    was killed loses the units that it was computing: one or two of a process on a CPU, elsewhere a
    batch.

    Args:
      config: what to run; `config.study` says on what.
      workdir: folder of the study, made if missing.
      shard: `K/N`, this part of the study alone; None: all of it. Shards may have one workdir, or
        one each, which a report then merges.
      observer: hears how it goes.
      encoder: a linen module, where `config.encoder.kind` is `module`.
      crew: who may compute it in processes of their own; None: this process does.

    Returns:
      The results of all units in the workdir.

    Raises:
      ConfigError: if the config does not fit together, or the workdir belongs to another; nothing
        is written then.
      RunError: if a fit gives numbers that are not finite, or a process of the crew failed; earlier
        units are kept.
      OSError: if the workdir cannot be read or written.
      ImportError: if the data needs a package that is not installed.
    """
    observer = observer or StudyObserver()
    size = crew_size(crew, config)
    stage, own = _opened(config, Path(workdir), shard, encoder)
    command = crew.command if crew is not None and size > 1 else None
    results = _all_units(stage, own, observer, command, size, WhileItRuns(stage))
    found = study_result(stage, results)
    if found.summary["units"]["done"] == found.summary["units"]["of"]:
        forget_all(stage)
    write_outputs(found)
    observer.ended(closing(found.summary))
    return found


def compute_shard(
    config: Config, workdir: str | Path, shard: str | None, *, encoder: object = None
) -> None:
    """Computes the units of a shard in silence, and no more: what a process of a crew does.

    Args and errors are those of `study`.
    """
    stage, own = _opened(config, Path(workdir), shard, encoder)
    _all_units(stage, own, StudyObserver())


def _opened(
    config: Config, workdir: Path, shard: str | None, encoder: object
) -> tuple[Stage, Shard]:
    """Checks what is asked for, loads it, and makes the workdir its own."""
    if encoder is not None and config.encoder.kind == "module":
        named = dataclasses.replace(config.encoder, module=module_text(encoder))
        config = dataclasses.replace(config, encoder=named)
    refuse_run_values(config)
    check(config)
    own = Shard.parse(shard)
    refuse_other(workdir, config, "study")
    stage = _stage(config, workdir, encoder)
    own.refuse_empty(stage.grid.units())
    claim(workdir, config)
    return stage, own


def _all_units(
    stage: Stage,
    shard: Shard,
    observer: StudyObserver,
    command: Sequence[str] | None = None,
    size: int = 1,
    written: WhileItRuns | None = None,
) -> dict[Unit, UnitResult]:
    """The results of the units that are there and of the shard's, context by context."""
    every = stage.grid.units()
    wanted = shard.of(every)
    results = restore(stage.workdir, stage.fingerprint, every)
    missing = [unit for unit in wanted if unit not in results]
    done = len(wanted) - len(missing)
    observer.planned(_plan_line(stage, shard, len(wanted)), done, len(wanted))
    by_context: dict[Context, list[Unit]] = {}
    for unit in wanted:
        by_context.setdefault(unit.context, []).append(unit)
    parts = shard.split(min(size, len(by_context)))
    parts = [part for part in parts if not set(missing).isdisjoint(part.of(every))]
    here = command is None or len(parts) < 2
    with _here(stage) if here else _in_processes(stage, command, parts, missing) as computed:
        for context, units in by_context.items():
            todo = [unit for unit in units if unit not in results]
            for unit in units:
                if unit in results:
                    observer.kept(results[unit].rows)
            if todo:
                observer.working(
                    f"{context.corruption}, budget {context.budget:,}, seed {context.seed}"
                )
            for unit, result in computed(todo):
                stop_if_asked()  # its file is written
                results[unit] = result
                done += 1
                observer.kept(result.rows)
                if not here:  # processes are ahead of what is told
                    done = sum(unit_path(stage.workdir, one).exists() for one in wanted)
                observer.finished(done, len(wanted))
                if written is not None:
                    written(results)
            forget(stage, context)
    return results


def _stage(config: Config, workdir: Path, module: Any) -> Stage:
    """Loads the images and builds what all contexts share."""
    keep_programs(config.scale.compilation_cache)
    try:
        tasks = read_image_tasks(config.data)
        shape = input_shape(config)
        names = task_names(tasks)
        grid = grid_of(config, names)
        num_sources = len(names) - tasks.num_classes
        parts = study_parts(config, grid.arms, num_sources, shape, module)
        smallest = min(len(part) for part in tasks.target_images)
        if max(grid.target_samples) > smallest:
            raise ConfigError(
                f"study.target_samples must be at most {smallest}, the rows that target samples "
                f"come from, got {max(grid.target_samples)}."
            )
        if max(grid.target_samples) == smallest and CLAIRVOYANT in grid.arms:
            raise ConfigError(
                f"study.arms: clairvoyant needs target rows outside the sample, got all {smallest} "
                "in it. Lower study.target_samples or leave the arm out."
            )
        places = places_of(tasks, tasks.names[0], shape, joint=config.price == "shared")
        programs = {
            (budget, samples): make_programs(parts, places, budget, samples)
            for budget in grid.budgets
            for samples in grid.target_samples
        }
        all_data = all_data_program(parts, places) if ALL_DATA in grid.arms else None
    except (ValueError, TypeError) as error:
        raise ConfigError(str(error)) from error
    pools = device_pools(tasks, shape)
    if parts.mesh is not None:
        pools = place_whole(pools, parts.mesh)
    own = fingerprint(config)
    return Stage(config, workdir, own, grid, tasks, shape, parts, pools, programs, all_data)


def _plan_line(stage: Stage, shard: Shard, number: int) -> str:
    """Tells in one line what a study is about to do."""
    grid = stage.grid
    part = f"shard {shard.index} of {shard.count}: " if shard.count > 1 else ""
    budgets = ", ".join(f"{budget:,}" for budget in grid.budgets)
    samples = ", ".join(f"{number:,}" for number in grid.target_samples)
    return (
        f"{stage.config.name}: {part}{number:,} units of {len(grid.targets)} targets, "
        f"{len(grid.seeds)} seed{'s' * (len(grid.seeds) > 1)}, a budget of {budgets} an arm and "
        f"{samples} target samples; arms {', '.join(grid.arms)}, on {jax.devices()[0].device_kind}"
    )


@contextlib.contextmanager
def _in_processes(
    stage: Stage, command: Sequence[str], shards: Sequence[Shard], missing: Sequence[Unit]
) -> Iterator[_Compute]:
    """Lets processes compute shards, and gives what they write."""
    for unit in missing:
        try:
            load_unit(stage.workdir, stage.fingerprint, unit)
        except FileNotFoundError:
            pass
        except CheckpointError:  # which `restore` told: it must not pass for what is to come
            unit_path(stage.workdir, unit).unlink(missing_ok=True)
    with at_work(command, shards) as workers:
        yield lambda units: awaited(stage.workdir, stage.fingerprint, units, workers)


@contextlib.contextmanager
def _here(stage: Stage) -> Iterator[_Compute]:
    """Computes in this process."""
    compiled: set[tuple[int, int]] = set()
    yield lambda units: _run_context(stage, units, compiled)


def _run_context(
    stage: Stage, units: Sequence[Unit], compiled: set[tuple[int, int]]
) -> Iterator[tuple[Unit, UnitResult]]:
    """Computes the units of a context that are missing; adds to the programs that are compiled."""
    if not units:
        return
    prepared = prepare(stage, units)
    for samples, field in prepared.fields.items():
        own = [unit for unit in units if unit.target_samples == samples]
        keep = functools.partial(save_unit, stage.workdir, stage.fingerprint)
        key = (field.context.budget, samples)
        yield from results_of(
            field,
            stage.grid.arms,
            own,
            prepared.shared,
            prepared.everything,
            keep,
            compiled=key in compiled,
        )
        compiled.add(key)
