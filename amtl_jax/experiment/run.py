"""The driver: a thin loop that draws counts and samples, tells the learner, and writes it down."""

import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

import amtl_jax
from amtl_jax.data.sources import Rows
from amtl_jax.experiment import build, checkpoint, report
from amtl_jax.experiment.checkpoint import Checkpoint, CheckpointError
from amtl_jax.experiment.config import Config, check
from amtl_jax.experiment.evaluate import differences, evaluate, risks
from amtl_jax.experiment.files import write_atomically
from amtl_jax.experiment.workdir import claim
from amtl_jax.strategies.one_of import choose
from amtl_jax.target import loo_ridge
from amtl_jax.types import Learner, LearnerState

TARGET_ONLY = "target_only"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


class RunError(RuntimeError):
    """A run that cannot go on; the message says where, why, and what to do."""


class _Setting(NamedTuple):
    """What every round of a run shares."""

    config: Config
    workdir: Path
    problem: build.Problem
    learner: Learner | None
    rules: tuple[str, ...]
    ask: Callable
    tell: Callable
    predict: Callable
    echo: Callable[[str], None]


def run(config: Config, workdir: str | Path, *, echo: Callable[[str], None] = print) -> dict:
    """Runs an experiment, or resumes it, and returns its summary.

    Writes `config.json`, `metrics.jsonl` (a line per round and arm), a checkpoint per round and
    `summary.json` into the workdir. What its checkpoints hold is not computed again, and a
    resumed run ends with the numbers of one that was never stopped.

    Args:
      config: what to run.
      workdir: folder of this run, made if missing.
      echo: gets each line of progress.

    Raises:
      ConfigError: if the config does not fit together, or the workdir belongs to another.
      RunError: if a round gives numbers that are not finite.
    """
    started = time.monotonic()
    check(config)
    workdir = Path(workdir)
    claim(workdir, config)
    problem = build.build_problem(config)
    setting = _prepare(config, workdir, problem, echo)
    echo(
        f"{config.name}: target {problem.target_name}, {len(problem.source.names)} sources, "
        f"{config.budget:,} samples an arm in {len(config.schedule)} rounds, "
        f"{config.num_target} target samples, on {jax.devices()[0].device_kind}"
    )
    results: dict[str, list[Checkpoint]] = {arm: [] for arm in config.arms}
    records: list[dict] = []
    for seed in config.seeds:
        for arm, rounds in _run_seed(setting, seed):
            results[arm].append(rounds[-1])
            records += [one.record for one in rounds]
    _write_metrics(workdir, records)
    summary = _summarise(setting, results)
    summary["seconds"] = round(time.monotonic() - started, 2)
    body = json.dumps(summary, indent=2, allow_nan=False)
    write_atomically(workdir / "summary.json", body.encode())
    echo("\n" + report.final_table(summary))
    echo(
        f"Paired {100 * config.level:.0f}% bootstrap intervals over {len(problem.test.x):,} test "
        f"rows{' and seeds' if len(config.seeds) > 1 else ', for these draws of samples'}."
    )
    echo(report.payoff_sentence(summary))
    return summary


def _prepare(config: Config, workdir: Path, problem: build.Problem, echo) -> _Setting:
    encoder = build.build_fitter(config, 1).encoder

    def predict(params, head, x):
        features = encoder.apply(params, x)
        return features @ head.weight + head.bias[None]

    learner, rules = (None, ())
    if any(arm in build.RULES for arm in config.arms):
        learner, rules = build.build_learner(config, problem)
    jitted = (jax.jit(learner.ask), jax.jit(learner.tell)) if learner else (None, None)
    return _Setting(config, workdir, problem, learner, rules, *jitted, jax.jit(predict), echo)


def _run_seed(setting: _Setting, seed: int):
    """Runs all arms of one seed; yields each arm with its rounds' checkpoints."""
    config = setting.config
    root = jax.random.key(seed)
    target = setting.problem.draw_target(jax.random.fold_in(root, build._TARGET_KEY))
    first_round: dict[bytes, tuple[LearnerState, object]] = {}
    for arm in config.arms:
        if arm == TARGET_ONLY:
            yield arm, [_target_only(setting, seed, target)]
        else:
            yield arm, _run_arm(setting, seed, arm, target, first_round)


def _path(setting: _Setting, seed: int, arm: str, index: int) -> Path:
    return setting.workdir / "checkpoints" / f"seed_{seed}" / arm / f"round_{index}.ckpt"


def _load(path: Path, template) -> Checkpoint | None:
    """Loads a checkpoint if there is a good one; a damaged one is named and made anew."""
    if not path.exists():
        return None
    try:
        return checkpoint.load(path, template)
    except CheckpointError as error:
        warnings.warn(f"{error} This round is computed again.", stacklevel=2)
        return None


def _keep(setting: _Setting, seed: int, arm: str, index: int, one: Checkpoint) -> Checkpoint:
    """Writes a round down, says it, and returns it."""
    checkpoint.save(_path(setting, seed, arm, index), one)
    with (setting.workdir / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(one.record, allow_nan=False) + "\n")
    _say(setting, one.record)
    return one


def _say(setting: _Setting, record: dict):
    names = setting.problem.source.names
    setting.echo(report.round_line(record, len(setting.config.schedule), names))


def _target_only(setting: _Setting, seed: int, target: Rows) -> Checkpoint:
    """Ridge on the inputs of the target sample alone, its strength by exact leave-one-out."""
    found = _load(_path(setting, seed, TARGET_ONLY, 0), ())
    if found:
        _say(setting, found.record)
        return found
    started = time.monotonic()
    ones = np.ones(len(target.x), np.float32)
    fit = jax.jit(loo_ridge, static_argnames="intercept")(
        target.x, target.y, ones, intercept=setting.config.fit.intercept
    )
    test = setting.problem.test
    predictions = np.asarray(test.x @ np.asarray(fit.head.weight) + np.asarray(fit.head.bias))
    metrics = _metrics(setting, predictions)
    if setting.problem.truth is not None:
        weight = np.asarray(fit.head.weight)
        error = risks(setting.problem.truth, weight, np.ones(weight.shape[1], np.float32))
        metrics |= {"excess_risk": error["excess_risk"], "representation_risk": None}
    record = {
        "seed": seed,
        "round": 0,
        "strategy": TARGET_ONLY,
        "counts": [],
        "nu": [],
        "samples_total": 0,
        "train_loss": None,
        "target_loo": _number(fit.loss),
        "target": metrics,
        "seconds": round(time.monotonic() - started, 3),
    }
    return _keep(setting, seed, TARGET_ONLY, 0, Checkpoint((), predictions, record))


def _run_arm(setting: _Setting, seed: int, arm: str, target: Rows, first_round) -> list[Checkpoint]:
    """Runs or resumes the rounds of one arm."""
    learner, config = setting.learner, setting.config
    root = jax.random.key(seed)
    learner_key = jax.random.fold_in(root, build._LEARNER_KEY)
    data_key = jax.random.fold_in(root, build._DATA_KEY)
    num_sources = len(setting.problem.source.names)

    def batch_of(spent):
        rows = setting.problem.source.draw(data_key, spent)
        return build.pack_campaign(config, rows, target, num_sources)

    empty = jax.eval_shape(lambda: batch_shape(config, setting.problem, target))
    fresh = choose(learner.init(learner_key, empty), setting.rules.index(arm))
    template = jax.eval_shape(lambda: fresh)
    state, done = fresh, []
    for index in range(len(learner.budgets)):
        found = _load(_path(setting, seed, arm, index), template)
        if found is None:
            break
        state, done = found.state, [*done, found]
        _say(setting, found.record)
    for index in range(len(done), len(learner.budgets)):
        started = time.monotonic()
        key = jax.random.fold_in(learner_key, index)
        counts = np.asarray(setting.ask(key, state))
        if (counts < 0).any():
            raise RunError(
                f"Round {index + 1} of {arm}, seed {seed}: the budget cannot be split over the "
                "sources' remaining capacity. Lower the budget or the floor."
            )
        shared = counts.tobytes() if index == 0 else None
        if shared in first_round:
            state, info = first_round[shared]
            state = choose(state, setting.rules.index(arm))
        else:
            batch = batch_of(np.asarray(state.spent) + counts)
            state, info = jax.block_until_ready(setting.tell(key, state, batch))
            if shared:
                first_round[shared] = state, info
        seconds = time.monotonic() - started
        done.append(_finish_round(setting, seed, arm, index, state, info, seconds))
    return done


def batch_shape(config: Config, problem: build.Problem, target: Rows):
    """A packed batch of zeros of the campaign's shape, for `eval_shape`."""
    nothing = Rows(
        np.zeros((0, *problem.source.input_shape), np.float32),
        np.zeros((0, problem.source.num_outputs), np.float32),
        np.zeros(0, np.int32),
    )
    return build.pack_campaign(config, nothing, target, len(problem.source.names))


def _finish_round(setting, seed, arm, index, state, info, seconds) -> Checkpoint:
    """Evaluates a round on the test rows and writes it down."""
    relevance = state.proposal.relevance
    if not bool(info.is_finite) or not np.isfinite(np.asarray(state.proposal.scores)).all():
        raise RunError(
            f"Round {index + 1} of {arm}, seed {seed}: the fit gave numbers that are not finite "
            f"(objective {float(info.fit.objective):.3g}). Earlier rounds are kept. Check the "
            "scale of inputs and labels, or set a larger fit.penalty."
        )
    test = setting.problem.test
    predictions = np.asarray(setting.predict(state.params, state.target_head, test.x))
    metrics = _metrics(setting, predictions)
    if setting.problem.truth is not None:
        kernel = np.asarray(state.params["params"]["kernel"])
        metrics |= risks(setting.problem.truth, kernel, np.asarray(state.target_head.weight)[:, 0])
    record = {
        "seed": seed,
        "round": index,
        "strategy": arm,
        "counts": np.asarray(info.counts).tolist(),
        "nu": [_number(value) for value in np.asarray(relevance.nu)],
        "samples_total": int(np.sum(state.spent)),
        "train_loss": _number(info.fit.loss),
        "objective": _number(info.fit.objective),
        "gradient_passes": int(info.fit.steps),
        "penalty": _number(info.penalty),
        "held_out_losses": [_number(value) for value in np.asarray(info.penalty_losses)],
        "target_loo": _number(info.target_loss),
        "target_ridge": _number(info.target_ridge),
        "relevance": {
            "residual": _number(relevance.residual),
            "gap": _number(relevance.gap),
            "ok": bool(relevance.ok),
        },
        "target": metrics,
        "seconds": round(seconds, 3),
    }
    if not record["relevance"]["ok"]:
        setting.echo(
            f"  note: the relevance solver of {arm} missed its tolerance in round {index + 1} "
            f"(gap {record['relevance']['gap']}); the counts follow its best point."
        )
    return _keep(setting, seed, arm, index, Checkpoint(state, predictions, record))


def _metrics(setting: _Setting, predictions: np.ndarray) -> dict:
    labels = setting.problem.test.y
    values = evaluate(predictions, labels, is_classification=setting.problem.is_classification)
    return {name: _number(value) for name, value in values.items()}


def _number(value) -> float | None:
    """A float for JSON; what is not finite becomes null."""
    value = float(value)
    return value if np.isfinite(value) else None


def _write_metrics(workdir: Path, records: list[dict]):
    """Writes `metrics.jsonl` whole and in order from the checkpoints' records."""
    lines = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)
    write_atomically(workdir / "metrics.jsonl", lines.encode())


def _summarise(setting: _Setting, results: dict[str, list[Checkpoint]]) -> dict:
    """Gathers the final numbers of all arms, averaged over seeds, and their differences."""
    config, problem = setting.config, setting.problem
    labels = problem.test.y[:, 0]
    stacked = {
        arm: np.stack([one.predictions[:, 0] for one in ends]) for arm, ends in results.items()
    }
    strategies = {}
    for arm, ends in results.items():
        records = [one.record for one in ends]
        metrics = {
            name: _mean_number([record["target"][name] for record in records])
            for name in records[0]["target"]
        }
        bases = [base for base in ("uniform", TARGET_ONLY) if base in results and base != arm]
        difference = {
            base: {
                name: {field: _number(value) for field, value in interval.items()}
                for name, interval in differences(
                    stacked[arm],
                    stacked[base],
                    labels,
                    is_classification=problem.is_classification,
                    num_resamples=config.num_resamples,
                    level=config.level,
                ).items()
            }
            for base in bases
        }
        strategies[arm] = {
            "samples_total": max(record["samples_total"] for record in records),
            "target": metrics,
            "target_loo": _mean_number([record["target_loo"] for record in records]),
            "difference": difference,
            "top_sources": _top(records, problem.source.names),
        }
    buying = [arm for arm in strategies if arm != TARGET_ONLY]
    return {
        "name": config.name,
        "target": problem.target_name,
        "num_sources": len(problem.source.names),
        "seeds": list(config.seeds),
        "chosen_arm": min(
            buying, key=lambda arm: strategies[arm]["target_loo"] or np.inf, default=None
        ),
        "strategies": strategies,
        "versions": {"amtl_jax": amtl_jax.__version__, **_versions()},
        "device": jax.devices()[0].device_kind,
    }


def _top(records: list[dict], names: tuple[str, ...]) -> list[dict]:
    """The five sources of largest mean |nu| over seeds."""
    if not records[0]["nu"]:
        return []
    values = np.asarray([record["nu"] for record in records], float)
    mean = {"strategy": None, "nu": np.abs(values).mean(axis=0).tolist()}
    return [{"name": name, "nu": nu} for name, nu in report.top_sources(mean, names, 5)]


def _mean_number(values: list[float | None]) -> float | None:
    return None if None in values else float(np.mean(values))


def _versions() -> dict[str, str]:
    from importlib import metadata

    return {name: metadata.version(name) for name in _PACKAGES}
