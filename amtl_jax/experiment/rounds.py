"""How a round is computed: counts, samples, fit, and what the test rows say."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from amtl_jax.answer import Answer, answer_template, fit_answer
from amtl_jax.data.sources import Rows
from amtl_jax.encoding import encode_rows
from amtl_jax.experiment import build
from amtl_jax.experiment.baselines import pooled_round, target_only_round
from amtl_jax.experiment.buying import buy
from amtl_jax.experiment.checkpoint import Checkpoint
from amtl_jax.experiment.config import Config, ConfigError
from amtl_jax.experiment.evaluate import error_of, evaluate
from amtl_jax.experiment.journal import Slot
from amtl_jax.experiment.observer import Observer
from amtl_jax.experiment.on_mesh import jit_round, mesh_of
from amtl_jax.experiment.predictor import predictor
from amtl_jax.experiment.problem import Problem
from amtl_jax.experiment.records import NOT_BUYING, TARGET_ONLY, number, round_record
from amtl_jax.experiment.representation import build_encoder
from amtl_jax.experiment.study_checks import refuse_study_values
from amtl_jax.strategies.one_of import choose
from amtl_jax.types import Array, Encoder, Evidence, Learner, LearnerState, RoundInfo

_ROWS_AN_INPUT = 5  # of the target, from which on its sample helps the representation


class RunError(RuntimeError):
    """A run that cannot go on; the message says where, why, and what to do."""


class Setting(NamedTuple):
    """What every round of a run shares."""

    config: Config
    problem: Problem
    learner: Learner | None
    rules: tuple[str, ...]
    ask: Callable[..., Any]
    tell: Callable[..., Any]
    predict: Callable[..., Any]
    answer: Callable[..., Any]
    predict_answer: Callable[..., Any]
    observer: Observer
    encoder: Encoder
    mesh: Mesh | None


def prepare(
    config: Config,
    observer: Observer,
    module: Any = None,
    *,
    make_problem: Callable[[Config], Problem] | None = None,
) -> Setting:
    """Builds tasks and learner; numbers that do not fit together come up here.

    Args:
      config: of the run.
      observer: hears what a person should know.
      module: a linen module, where `encoder.kind` is `module`.
      make_problem: makes the tasks; `build_problem` unless told.

    Raises:
      ConfigError: names the numbers.
      ImportError: if the data needs a package that is not installed.
    """
    refuse_study_values(config)
    learner, rules, jitted, mesh = None, (), (None, None), None
    try:
        problem = (make_problem or build.build_problem)(config)
        config = dataclasses.replace(config, num_target=problem.num_target, budget=problem.budget)
        encoder = build_encoder(config, problem.source.input_shape, module)
        if any(arm in build.RULES for arm in config.arms):
            learner, rules = build.build_learner(config, problem, encoder)
            mesh = mesh_of(config.scale)
            jitted = jax.jit(learner.ask), jit_round(learner.tell, mesh)
    except (ValueError, TypeError) as error:
        raise ConfigError(str(error)) from error
    for note in (*problem.notes, *_join_notes(config, problem)):
        observer.noted(note)

    def predict(params, head, x):
        features = encode_rows(encoder, params, x)
        # Default precision would be TF32 on an accelerator.
        return jnp.matmul(features, head.weight, precision="highest") + head.bias[None]

    def answer(params, prior, x, y, weight):
        features = encode_rows(encoder, params, x)
        flat = x.reshape(len(x), -1)
        intercept = config.fit.intercept
        return fit_answer(flat, features, y, weight, prior, intercept=intercept)

    return Setting(
        config,
        problem,
        learner,
        rules,
        *jitted,
        jax.jit(predict),
        jax.jit(answer),
        predictor(encoder),
        observer,
        encoder,
        mesh,
    )


def _join_notes(config: Config, problem: Problem) -> tuple[str, ...]:
    """What a person should know where the target's labels are in the representation."""
    if not config.target_in_final_fit:
        return ()
    num_inputs = int(np.prod(problem.source.input_shape))
    few = ""
    if config.num_target < _ROWS_AN_INPUT * num_inputs:
        few = f", and with fewer than {_ROWS_AN_INPUT} rows an input it gains little or loses"
    return (
        "target_in_final_fit: leave-one-out errors on the target's sample are too small, as the "
        f"representation has seen its labels{few}; the answer may lean on sources that do not "
        "help. Go by the test rows.",
    )


def num_rounds(setting: Setting, arm: str) -> int:
    """Returns how many rounds an arm has."""
    return 1 if arm in NOT_BUYING else len(setting.learner.budgets)


def templates(setting: Setting) -> dict[str, Checkpoint]:
    """Structure, shapes and dtypes of a checkpoint by arm."""
    problem = setting.problem
    predictions = jax.ShapeDtypeStruct(problem.test.y.shape, np.float32)
    num_inputs, num_outputs = int(np.prod(problem.source.input_shape)), problem.test.y.shape[1]

    def template(state, num_features):
        answer = answer_template(num_inputs, num_features, num_outputs)
        return Checkpoint(state, predictions, {}, answer, predictions)

    found = {arm: template((), 0) for arm in NOT_BUYING}
    if setting.learner:
        target = problem.draw_target(jax.random.key(0))
        state = jax.eval_shape(lambda: _fresh(setting, jax.random.key(0), target))
        found |= dict.fromkeys(setting.rules, template(state, setting.encoder.num_features))
    return found


def _fresh(setting: Setting, key, target: Rows) -> LearnerState:
    """A learner state before any round."""
    empty = jax.eval_shape(lambda: build.empty_batch(setting.config, setting.problem, target))
    return setting.learner.init(key, empty)


def baseline_round(setting: Setting, slot: Slot, root: Array, target: Rows) -> Checkpoint:
    """Computes an arm that is one ridge on the inputs.

    Raises:
      RunError: if its numbers are not finite.
    """
    options = {"seed": slot.seed, "intercept": setting.config.fit.intercept}
    if slot.arm == TARGET_ONLY:
        one = target_only_round(setting.problem, target, **options)
    else:
        key = jax.random.fold_in(root, build.DATA_KEY)
        one = pooled_round(setting.problem, target, key, **options)
    if not np.isfinite(one.predictions).all():
        raise _not_finite(slot, "Check the scale of inputs and labels.")
    return one


def teller(setting: Setting, root: Array, target: Rows) -> Callable[..., Any]:
    """Returns `(slot, state) -> (state, info)`, which buys the samples of a round and tells.

    The first rounds of rules that want the same counts are one round: it is told once a seed.
    It raises `RunError` where the counts cannot be met, or rows are not as expected.
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
        bought = np.asarray(state.spent) + counts
        config, problem = setting.config, setting.problem
        chooses = key if np.isnan(state.penalty) else None
        try:
            rows = buy(config, problem, setting.mesh, data_key, bought, target, chooses)
        except ValueError as error:
            raise RunError(
                f"Round {slot.index + 1} of {slot.arm}, seed {slot.seed}: {error}"
            ) from error
        own = () if rows.shows_counts else (bought,)
        told = jax.block_until_ready(setting.tell(key, state, rows.samples, *own))
        if slot.index == 0:
            shared[name] = told
        return told

    return tell


def bought_round(
    setting: Setting,
    slot: Slot,
    tell: Callable[..., Any],
    state: LearnerState | None,
    target: Rows,
) -> tuple[Checkpoint, Evidence]:
    """Computes a round and evaluates it on the test rows.

    Returns:
      The round, and what the strategy looked at in it.

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
    problem = setting.problem
    outputs = np.asarray(setting.predict(state.params, state.target_head, problem.test.x))
    predictions = problem.in_units(outputs)
    answer = answer_of(setting, state, info, target)
    answered = _answered(setting, state, answer, problem.test.x)
    if not (np.isfinite(predictions).all() and np.isfinite(answered).all()):
        raise _not_finite(slot, f"on the test rows. {advice}")
    record = round_record(
        problem,
        setting.encoder,
        state,
        info,
        predictions,
        answer,
        answered,
        seed=slot.seed,
        arm=slot.arm,
        index=slot.index,
        seconds=seconds,
    )
    if problem.held_out is not None:
        held = _answered(setting, state, answer, problem.held_out.x)
        metrics = evaluate(held, problem.held_out.y, kind=problem.kind)
        record["held_out_error"] = number(error_of(metrics))
    if not record["relevance"]["ok"]:
        setting.observer.noted(
            f"The relevance solver of {slot.arm} missed its tolerance in round "
            f"{slot.index + 1} (gap {record['relevance']['gap']}); the counts follow its best "
            "point."
        )
    return Checkpoint(state, predictions, record, answer, answered), info.evidence


def is_good_enough(config: Config, record: dict[str, Any]) -> bool:
    """Whether an arm stops after a round: its held-out error is as small as was wished."""
    error = record.get("held_out_error")
    return config.until is not None and error is not None and error <= config.until


def answer_of(setting: Setting, state: LearnerState, info: RoundInfo, target: Rows) -> Answer:
    """The safe answer after a round, fitted on the target's sample; host arrays."""
    weight = build.weights_of(target)
    answer = setting.answer(state.params, info.head_prior, target.x, target.y, weight)
    return jax.tree.map(np.asarray, answer)


def _answered(setting: Setting, state: LearnerState, answer: Answer, x: np.ndarray) -> np.ndarray:
    return setting.problem.in_units(setting.predict_answer(state.params, answer, x))


def _not_finite(slot: Slot, rest: str) -> RunError:
    return RunError(
        f"Round {slot.index + 1} of {slot.arm}, seed {slot.seed}: the fit gave numbers that are "
        f"not finite {rest} Earlier rounds are kept."
    )
