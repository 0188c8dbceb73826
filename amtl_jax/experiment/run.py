"""The driver: a thin loop over seeds, arms and rounds that writes everything down."""

import dataclasses
import json
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from amtl_jax.answer import CANDIDATES
from amtl_jax.experiment import build
from amtl_jax.experiment.checkpoint import Checkpoint
from amtl_jax.experiment.config import Config
from amtl_jax.experiment.examples import choose_examples, image_shape, write_examples
from amtl_jax.experiment.interrupts import stop_if_asked
from amtl_jax.experiment.journal import Journal, Slot
from amtl_jax.experiment.model import save_model
from amtl_jax.experiment.observer import LogObserver, Observer, Plan
from amtl_jax.experiment.on_mesh import keep_programs
from amtl_jax.experiment.rank_note import rank_checker
from amtl_jax.experiment.records import NOT_BUYING, POOLED, TARGET_ONLY
from amtl_jax.experiment.representation import module_text
from amtl_jax.experiment.result import RunResult, ranking, read_result
from amtl_jax.experiment.rounds import (
    RunError,
    Setting,
    baseline_round,
    bought_round,
    is_good_enough,
    num_rounds,
    prepare,
    teller,
    templates,
)
from amtl_jax.experiment.summary import summarise
from amtl_jax.experiment.uncertainty import interval_maker
from amtl_jax.experiment.validation import check
from amtl_jax.experiment.workdir import claim, fingerprint, refuse_other
from amtl_jax.files import write_atomically
from amtl_jax.scale.processes import all_equal, is_first, together
from amtl_jax.types import Array, Evidence


def run(
    config: Config,
    workdir: str | Path,
    *,
    observer: Observer | None = None,
    encoder: object = None,
) -> RunResult:
    """Runs an experiment, or resumes it, and returns its numbers as tables and figures.

    Writes `config.json`, `metrics.jsonl` (a line per round and arm), a checkpoint per round,
    `summary.json` and, where matplotlib is installed, `figures/*.png` into the workdir. What its
    checkpoints hold is not computed again, and a resumed run ends with the numbers of one that
    was never stopped.

    Args:
      config: what to run.
      workdir: folder of this run, made if missing.
      observer: hears how it goes; unless told, the logger `amtl_jax` does.
      encoder: a linen module, where `config.encoder.kind` is `module`.

    Returns:
      The result; `read_result(workdir)` gives it again later.

    Raises:
      ConfigError: if the config does not fit together, or the workdir belongs to another;
        nothing is written then.
      RunError: if rows of a round are not as expected, or it gives numbers that are not finite;
        earlier rounds are kept.
      ElsewhereError: if another of several processes cannot go on.
      OSError: if the workdir cannot be read or written.
      ImportError: if the data needs a package that is not installed.
    """
    started = time.monotonic()
    # A workdir belongs to one module, known by how it prints.
    if encoder is not None and config.encoder.kind == "module":
        named = dataclasses.replace(config.encoder, module=module_text(encoder))
        config = dataclasses.replace(config, encoder=named)
    check(config)
    workdir, observer = Path(workdir), observer or LogObserver()
    with together("preparing the run"):
        refuse_other(workdir, config)
        keep_programs(config.scale.compilation_cache)
        observer.preparing("Preparing the tasks")
        setting = prepare(config, observer, encoder)
        # What does not fit into memory mostly fails here, and must not leave a claimed workdir.
        wanted = templates(setting)
        slots = _slots(setting)
        journal = Journal(workdir, fingerprint(config), slots, is_first())
        restored = journal.restore(wanted)
    _refuse_to_differ(workdir, slots, restored)
    with together("writing to the workdir"):
        if journal.is_writer:
            claim(workdir, config)
        # A run that was killed may have left a line too few, or half of one.
        journal.write_metrics(one.record for one in restored.values())
    observer.planned(_plan(setting, slots))
    arms: dict[str, list[list[Checkpoint]]] = {arm: [] for arm in config.arms}
    records: list[dict[str, Any]] = []
    kept: dict[str, Checkpoint] = {}  # the first seed's last rounds, one of which is the model
    intervals, checked = interval_maker(setting), rank_checker(setting)
    for seed in config.seeds:
        for arm, rounds in _run_seed(setting, journal, restored, seed, intervals, checked):
            if seed == config.seeds[0]:
                kept[arm] = rounds[-1]
            arms[arm].append([one._replace(state=()) for one in rounds])  # states may be large
            records += [one.record for one in rounds]
    summary = summarise(config, setting.problem, arms)
    summary["seconds"] = round(time.monotonic() - started, 2)
    with together("writing to the workdir"):
        journal.write_metrics(records)
        if journal.is_writer:
            body = json.dumps(summary, indent=2, allow_nan=False)
            write_atomically(workdir / "summary.json", body.encode() + b"\n")
            _write_model(setting, workdir, summary, kept)
            _write_examples(setting, workdir, summary["chosen_arm"], records)
    result = read_result(workdir)
    if journal.is_writer:
        _write_figures(result, observer)
    observer.ended(summary)
    return result


def _refuse_to_differ(workdir: Path, slots: Sequence[Slot], restored: Collection[Slot]) -> None:
    """Raises `RunError` where several processes would go on from different rounds."""
    if not all_equal(np.asarray([slot in restored for slot in slots])):
        raise RunError(
            f"The processes find different rounds in workdir {workdir}: give one that all of them "
            "share."
        )


def _write_model(
    setting: Setting, workdir: Path, summary: dict[str, Any], kept: dict[str, Checkpoint]
) -> None:
    """Writes the answer of the first seed as a model; without buying arms, target-only ridge."""
    arm = summary["chosen_arm"] or (TARGET_ONLY if TARGET_ONLY in kept else POOLED)
    one = kept[arm]
    has_features = arm not in NOT_BUYING
    facts = {
        "arm": arm,
        "seed": setting.config.seeds[0],
        "samples_total": one.record["samples_total"],
        "shares": dict(zip(CANDIDATES, map(float, one.answer.shares), strict=True)),
        "test": one.record["answer"]["target"] if has_features else one.record["target"],
        "num_features": one.record.get("num_features"),
        "diagnosis": one.record.get("diagnosis"),
    }
    save_model(
        workdir,
        setting.config,
        setting.problem,
        setting.encoder if has_features else None,
        one.state.params if has_features else (),
        one.answer,
        facts=facts,
    )


def _write_examples(
    setting: Setting, workdir: Path, arm: str | None, records: Sequence[dict[str, Any]]
) -> None:
    """Keeps example images of the first seed, where inputs are images."""
    config, problem = setting.config, setting.problem
    shape = image_shape(config, problem)
    if arm is None or shape is None:
        return
    root = jax.random.key(config.seeds[0])
    # Seeds may have stopped after different rounds.
    ends = list({one["seed"]: one for one in records if one["strategy"] == arm}.values())
    target = problem.draw_target(jax.random.fold_in(root, build.TARGET_KEY))
    key = jax.random.fold_in(root, build.DATA_KEY)
    write_examples(workdir, choose_examples(problem, target, ranking(ends), shape, key))


def _write_figures(result: RunResult, observer: Observer) -> None:
    """Draws all figures, or says what is missing for them."""
    try:
        result.write_figures()
    except ImportError as error:
        observer.noted(f"{error}")


def _plan(setting: Setting, slots: tuple[Slot, ...]) -> Plan:
    """What observers hear before the first round."""
    config, problem = setting.config, setting.problem
    return Plan(
        name=config.name,
        target=problem.target_name,
        source_names=problem.source.names,
        budget=config.budget,
        num_target=config.num_target,
        slots=slots,
        num_rounds={arm: num_rounds(setting, arm) for arm in config.arms},
        device=jax.devices()[0].device_kind,
    )


def _slots(setting: Setting) -> tuple[Slot, ...]:
    """All rounds of the run, in order."""
    return tuple(
        Slot(seed, arm, index)
        for seed in setting.config.seeds
        for arm in setting.config.arms
        for index in range(num_rounds(setting, arm))
    )


def _run_seed(
    setting: Setting,
    journal: Journal,
    restored: dict[Slot, Checkpoint],
    seed: int,
    intervals: Callable[[Array, Checkpoint, Evidence], Checkpoint],
    checked: Callable[[Array, Checkpoint], Checkpoint],
) -> Iterator[tuple[str, list[Checkpoint]]]:
    """Runs or resumes all arms of one seed; yields each arm with its rounds' checkpoints."""
    root = jax.random.key(seed)
    target = setting.problem.draw_target(jax.random.fold_in(root, build.TARGET_KEY))
    tell = teller(setting, root, target)
    for arm in setting.config.arms:
        rounds: list[Checkpoint] = []
        last = num_rounds(setting, arm) - 1
        for index in range(last + 1):
            stop_if_asked()
            slot = Slot(seed, arm, index)
            one = restored.pop(slot, None)
            is_restored = one is not None
            if one is None:
                setting.observer.began(slot)
                if arm in NOT_BUYING:
                    one = baseline_round(setting, slot, root, target)
                else:
                    before = rounds[-1].state if rounds else None
                    one, evidence = bought_round(setting, slot, tell, before, target)
                    is_last = index == last or is_good_enough(setting.config, one.record)
                    one = intervals(root, one, evidence) if is_last else one
                    # Once a seed: other arms have samples of the same tasks.
                    is_looked_at = is_last and arm in setting.rules[:1]
                    one = checked(root, one) if is_looked_at else one
                with together("writing to the workdir"):
                    journal.keep(slot, one)
            rounds.append(one)
            setting.observer.finished(slot, one.record, restored=is_restored)
            if is_good_enough(setting.config, one.record) and index < last:
                _tell_stopped(setting, slot, one.record, last)
                break
        yield arm, rounds


def _tell_stopped(setting: Setting, slot: Slot, record: dict[str, Any], last: int) -> None:
    """Says that an arm needs no more samples."""
    setting.observer.noted(
        f"{slot.arm}, seed {slot.seed}: a held-out error of {record['held_out_error']:.4g} is "
        f"within the wished {setting.config.until:g} after {record['samples_total']:,} samples; "
        "no more are bought."
    )
    for index in range(slot.index + 1, last + 1):
        setting.observer.skipped(slot._replace(index=index))
