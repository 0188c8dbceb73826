"""How a round is computed: counts, samples, fit, and what the test rows say."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from amtl_jax.data.sources import Rows
from amtl_jax.encoding import encode_rows
from amtl_jax.experiment import build
from amtl_jax.experiment.checkpoint import Checkpoint
from amtl_jax.experiment.config import Config, ConfigError
from amtl_jax.experiment.journal import Slot
from amtl_jax.experiment.observer import Observer
from amtl_jax.experiment.records import TARGET_ONLY, round_record, target_only_record
from amtl_jax.experiment.representation import build_encoder
from amtl_jax.strategies.one_of import choose
from amtl_jax.target import loo_ridge
from amtl_jax.types import Array, Encoder, Learner, LearnerState, RoundInfo


class RunError(RuntimeError):
    """A run that cannot go on; the message says where, why, and what to do."""


class Setting(NamedTuple):
    """What every round of a run shares."""

    config: Config
    problem: build.Problem
    learner: Learner | None
    rules: tuple[str, ...]
    ask: Callable[..., Any]
    tell: Callable[..., Any]
    predict: Callable[..., Any]
    observer: Observer
    encoder: Encoder


def prepare(config: Config, observer: Observer, module: Any = None) -> Setting:
    """Builds tasks and learner; numbers that do not fit together come up here.

    Args:
      config: of the run.
      observer: hears what a person should know.
      module: a linen module, where `encoder.kind` is `module`.

    Raises:
      ConfigError: names the numbers.
      ImportError: if the data needs a package that is not installed.
    """
    learner, rules, jitted = None, (), (None, None)
    try:
        problem = build.build_problem(config)
        encoder = build_encoder(config, problem.source.input_shape, module)
        if any(arm in build.RULES for arm in config.arms):
            learner, rules = build.build_learner(config, problem, encoder)
            jitted = jax.jit(learner.ask), jax.jit(learner.tell)
    except (ValueError, TypeError) as error:
        raise ConfigError(str(error)) from error

    def predict(params, head, x):
        features = encode_rows(encoder, params, x)
        # Default precision would be TF32 on an accelerator.
        return jnp.matmul(features, head.weight, precision="highest") + head.bias[None]

    return Setting(config, problem, learner, rules, *jitted, jax.jit(predict), observer, encoder)


def num_rounds(setting: Setting, arm: str) -> int:
    """Returns how many rounds an arm has."""
    return 1 if arm == TARGET_ONLY else len(setting.learner.budgets)


def templates(setting: Setting) -> dict[str, Checkpoint]:
    """Structure, shapes and dtypes of a checkpoint by arm."""
    labels = setting.problem.test.y
    predictions = jax.ShapeDtypeStruct(labels.shape, np.float32)
    templates = {TARGET_ONLY: Checkpoint((), predictions, {})}
    if setting.learner:
        target = setting.problem.draw_target(jax.random.key(0))
        state = jax.eval_shape(lambda: _fresh(setting, jax.random.key(0), target))
        templates |= dict.fromkeys(setting.rules, Checkpoint(state, predictions, {}))
    return templates


def _fresh(setting: Setting, key, target: Rows) -> LearnerState:
    """A learner state before any round."""
    empty = jax.eval_shape(lambda: build.empty_batch(setting.config, setting.problem, target))
    return setting.learner.init(key, empty)


def target_only_round(setting: Setting, seed: int, target: Rows) -> Checkpoint:
    """Ridge on the inputs of the target sample alone, its strength by exact leave-one-out.

    Raises:
      RunError: if its numbers are not finite.
    """
    started = time.monotonic()
    ones = np.ones(len(target.x), np.float32)
    inputs, test = (x.reshape(len(x), -1) for x in (target.x, setting.problem.test.x))
    fit = jax.jit(loo_ridge, static_argnames="intercept")(
        inputs, target.y, ones, intercept=setting.config.fit.intercept
    )
    head = jax.tree.map(np.asarray, fit.head)
    predictions = test @ head.weight + head.bias[None]
    if not np.isfinite(predictions).all():
        raise _not_finite(Slot(seed, TARGET_ONLY, 0), "Check the scale of inputs and labels.")
    seconds = time.monotonic() - started
    record = target_only_record(setting.problem, fit, predictions, seed=seed, seconds=seconds)
    return Checkpoint((), predictions, record)


def teller(setting: Setting, root: Array, target: Rows) -> Callable[..., Any]:
    """Returns `(slot, state) -> (state, info)`, which buys the samples of a round and tells.

    The first rounds of rules that want the same counts are one round: it is told once a seed.
    It raises `RunError` where the counts cannot be met.
    """
    learner_key = jax.random.fold_in(root, build.LEARNER_KEY)
    data_key = jax.random.fold_in(root, build.DATA_KEY)
    shared: dict[bytes, tuple[LearnerState, RoundInfo]] = {}

    def tell(slot: Slot, state: LearnerState | None) -> tuple[LearnerState, RoundInfo]:
        rule = setting.rules.index(slot.arm)
        if state is None:
            state = choose(_fresh(setting, learner_key, target), rule)
        key = jax.random.fold_in(learner_key, slot.index)
        counts = np.asarray(setting.ask(key, state))
        if (counts < 0).any():
            raise RunError(
                f"Round {slot.index + 1} of {slot.arm}, seed {slot.seed}: the budget cannot be "
                "split over the sources' remaining capacity. Lower the budget or the floor."
            )
        name = counts.tobytes()
        if slot.index == 0 and name in shared:
            state, info = shared[name]
            return choose(state, rule), info
        rows = setting.problem.source.draw(data_key, np.asarray(state.spent) + counts)
        batch = build.pack_campaign(setting.config, rows, target, setting.problem.source)
        told = jax.block_until_ready(setting.tell(key, state, batch))
        if slot.index == 0:
            shared[name] = told
        return told

    return tell


def bought_round(
    setting: Setting, slot: Slot, tell: Callable[..., Any], state: LearnerState | None
) -> Checkpoint:
    """Computes a round and evaluates it on the test rows.

    Raises:
      RunError: if its numbers are not finite.
    """
    started = time.monotonic()
    state, info = tell(slot, state)
    seconds = time.monotonic() - started
    advice = (
        "Check the scale of inputs and labels, or set a larger fit.penalty or a smaller "
        "fit.learning_rate."
    )
    scores = np.asarray(state.proposal.scores)
    if not bool(info.is_finite) or not np.isfinite(scores).all():
        raise _not_finite(slot, f"(objective {float(info.fit.objective):.3g}). {advice}")
    predictions = np.asarray(
        setting.predict(state.params, state.target_head, setting.problem.test.x)
    )
    if not np.isfinite(predictions).all():
        raise _not_finite(slot, f"on the test rows. {advice}")
    record = round_record(
        setting.problem,
        state,
        info,
        predictions,
        seed=slot.seed,
        arm=slot.arm,
        index=slot.index,
        seconds=seconds,
    )
    if not record["relevance"]["ok"]:
        setting.observer.noted(
            f"The relevance solver of {slot.arm} missed its tolerance in round "
            f"{slot.index + 1} (gap {record['relevance']['gap']}); the counts follow its best "
            "point."
        )
    return Checkpoint(state, predictions, record)


def _not_finite(slot: Slot, rest: str) -> RunError:
    return RunError(
        f"Round {slot.index + 1} of {slot.arm}, seed {slot.seed}: the fit gave numbers that are "
        f"not finite {rest} Earlier rounds are kept."
    )
