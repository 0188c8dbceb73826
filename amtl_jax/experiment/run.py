"""The driver: a thin loop over seeds, arms and rounds that writes everything down."""

import json
import time
from pathlib import Path

import jax

from amtl_jax.experiment import build
from amtl_jax.experiment.checkpoint import Checkpoint
from amtl_jax.experiment.config import Config
from amtl_jax.experiment.journal import Journal, Slot
from amtl_jax.experiment.observer import LogObserver, Observer, Plan
from amtl_jax.experiment.records import TARGET_ONLY
from amtl_jax.experiment.rounds import (
    Setting,
    bought_round,
    num_rounds,
    prepare,
    target_only_round,
    teller,
    templates,
)
from amtl_jax.experiment.summary import summarise
from amtl_jax.experiment.validation import check
from amtl_jax.experiment.workdir import claim, fingerprint, refuse_other
from amtl_jax.files import write_atomically


def run(config: Config, workdir: str | Path, *, observer: Observer | None = None) -> dict:
    """Runs an experiment, or resumes it, and returns its summary.

    Writes `config.json`, `metrics.jsonl` (a line per round and arm), a checkpoint per round and
    `summary.json` into the workdir. What its checkpoints hold is not computed again, and a
    resumed run ends with the numbers of one that was never stopped.

    Args:
      config: what to run.
      workdir: folder of this run, made if missing.
      observer: hears how it goes; unless told, the logger `amtl_jax` does.

    Raises:
      ConfigError: if the config does not fit together, or the workdir belongs to another;
        nothing is written then.
      RunError: if a round gives numbers that are not finite; earlier rounds are kept.
      OSError: if the workdir cannot be read or written.
      ImportError: if the data needs a package that is not installed.
    """
    started = time.monotonic()
    check(config)
    workdir, observer = Path(workdir), observer or LogObserver()
    refuse_other(workdir, config)
    observer.preparing("Preparing the tasks")
    setting = prepare(config, observer)
    claim(workdir, config)
    slots = _slots(setting)
    journal = Journal(workdir, fingerprint(config), slots)
    restored = journal.restore(templates(setting))
    # A run that was killed may have left a line too few, or half of one.
    journal.write_metrics(one.record for one in restored.values())
    observer.planned(_plan(setting, slots))
    ends: dict[str, list[Checkpoint]] = {arm: [] for arm in config.arms}
    records: list[dict] = []
    for seed in config.seeds:
        for arm, rounds in _run_seed(setting, journal, restored, seed):
            ends[arm].append(rounds[-1])
            records += [one.record for one in rounds]
    journal.write_metrics(records)
    summary = summarise(config, setting.problem, ends)
    summary["seconds"] = round(time.monotonic() - started, 2)
    body = json.dumps(summary, indent=2, allow_nan=False)
    write_atomically(workdir / "summary.json", body.encode() + b"\n")
    observer.ended(summary)
    return summary


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


def _run_seed(setting: Setting, journal: Journal, restored: dict[Slot, Checkpoint], seed: int):
    """Runs or resumes all arms of one seed; yields each arm with its rounds' checkpoints."""
    root = jax.random.key(seed)
    target = setting.problem.draw_target(jax.random.fold_in(root, build.TARGET_KEY))
    tell = teller(setting, root, target)
    for arm in setting.config.arms:
        rounds: list[Checkpoint] = []
        for index in range(num_rounds(setting, arm)):
            slot = Slot(seed, arm, index)
            one = restored.pop(slot, None)
            is_restored = one is not None
            if one is None:
                setting.observer.began(slot)
                if arm == TARGET_ONLY:
                    one = target_only_round(setting, seed, target)
                else:
                    one = bought_round(setting, slot, tell, rounds[-1].state if rounds else None)
                journal.keep(slot, one)
            rounds.append(one)
            setting.observer.finished(slot, one.record, restored=is_restored)
        yield arm, rounds
