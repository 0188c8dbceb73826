"""The campaigns of one context: what its targets share, and every target's own rounds."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from amtl_jax.allocation import allocate
from amtl_jax.experiment import build
from amtl_jax.experiment.rounds import RunError
from amtl_jax.experiment.study.arms import SAME_DIGIT, UNIFORM, known_split
from amtl_jax.experiment.study.grid import Context
from amtl_jax.experiment.study.pools import Places, Pools, Slots, slots_of, target_rows
from amtl_jax.experiment.study.programs import FitState, Parts, Programs, Rule, empty_batch
from amtl_jax.types import Array, Learner, LearnerState, TaskBatch


class Shared(NamedTuple):
    """What the targets of a context share: the uniform rounds. A plain tree of arrays.

    Attributes:
      first: the fit of the first round, a `PenaltyFit`.
      params: encoder parameters after each of the `rounds`.
      rounds: `[R']` int32 the rounds that were fitted: all where rounds are pooled, else the first
        and the last.
      counts: `[R', M]` int32 samples bought in them.
      seconds: `[R']` what each took.
    """

    first: Any
    params: tuple[Any, ...]
    rounds: np.ndarray
    counts: np.ndarray
    seconds: np.ndarray


class ArmRound(NamedTuple):
    """One round of an arm for one target.

    Attributes:
      arm: its name.
      index: of the round, from 0.
      samples: source samples charged so far.
      outputs: `[n]` of its predictor on the test rows.
      target_loss: leave-one-out error of the target head.
      seconds: of this round; what several targets shared is divided by their number.
      counts: `[M]` int32 bought in this round, or None where nothing is bought.
      nu: `[M]` relevance behind the next round, in the last one behind that; None where none is
        estimated.
    """

    arm: str
    index: int
    samples: int
    outputs: np.ndarray
    target_loss: float
    seconds: float
    counts: np.ndarray | None = None
    nu: np.ndarray | None = None


class Field(NamedTuple):
    """Where campaigns of one context take place.

    Attributes:
      parts: of the study.
      programs: of the context's budget and a number of target samples.
      pools: all images.
      places: of the context's corruption.
      context: seed and budget.
      target_samples: n_T.
    """

    parts: Parts
    programs: Programs
    pools: Pools
    places: Places
    context: Context
    target_samples: int

    @property
    def is_pooled(self) -> bool:
        """Whether a round's fit sees the samples of the rounds before."""
        return self.parts.config.rounds == "pooled"

    @property
    def budgets(self) -> tuple[int, ...]:
        """Budget of every round."""
        return tuple(int(one) for one in self.programs.base.budgets)

    def charged(self, index: int, learner: Learner | None = None) -> int:
        """Samples that an arm is charged for after a round; a rule may have rounds of its own."""
        budgets = [int(one) for one in (learner or self.programs.base).budgets]
        return sum(budgets[: index + 1]) if self.is_pooled else budgets[index]

    def key(self, number: int) -> Array:
        """Key of this seed for `build.DATA_KEY` and the others."""
        return jax.random.fold_in(jax.random.key(self.context.seed), number)

    def round_key(self, index: int) -> Array:
        """Key of a round's fit and rule."""
        return jax.random.fold_in(self.key(build.LEARNER_KEY), index)

    def sample(self) -> np.ndarray:
        """`[n_T]` places of the target sample."""
        return target_rows(self.places, self.key(build.TARGET_KEY), self.target_samples)

    def slots(
        self,
        index: int,
        counts: np.ndarray,
        spent: np.ndarray,
        target: Sequence[int] | np.ndarray = (),
        label: int = 0,
        *,
        learner: Learner | None = None,
    ) -> Slots:
        """The samples of a round: of all rounds so far, or of this one alone.

        Args:
          index: of the round.
          learner: whose round it is; None: that of uniform.
          counts: `[M]` bought in it.
          spent: `[M]` bought before it.
          target: `[n]` places of the target sample, none for the sources alone.
          label: class of the target.
        """
        config, source = self.parts.config, self.places.source
        members = np.unique(source.group, return_counts=True)[1].max()
        num_rows = self.charged(index, learner) * int(members) + len(target)
        own = (spent + counts, None) if self.is_pooled else (counts, spent)
        return slots_of(
            self.places,
            self.key(build.DATA_KEY),
            *own,
            np.asarray(target, np.int64),
            label,
            num_rows=num_rows,
            block_rows=config.block_rows,
        )


def fit_shared(field: Field) -> Shared:
    """Samples uniformly and fits, round by round; λ is chosen in the first."""
    base, num_rounds = field.programs.base, len(field.budgets)
    state = base.init(field.round_key(0), empty_batch(field.places.source.input_shape))
    wanted = range(num_rounds) if field.is_pooled else sorted({0, num_rounds - 1})
    first, params, counts, seconds = None, [], [], []
    for index in range(num_rounds):
        key, started = field.round_key(index), time.monotonic()
        now = np.asarray(base.ask(key, state))
        spent = np.asarray(state.spent)
        if index in wanted:
            slots = field.slots(index, now, spent)
            found = _fit_sources(field, UNIFORM, index, [(FitState.of(state), slots)])[0]
            first = first or found
            params.append(found.fit.params)
            counts.append(now)
            seconds.append(time.monotonic() - started)
            state = state._replace(
                params=found.fit.params, penalty=found.penalty, held_out_loss=found.held_out_loss
            )
        state = state._replace(
            round=state.round + 1,
            spent=jnp.asarray(spent + now),
            paid=jnp.asarray(sum(field.budgets[: index + 1]), state.paid.dtype),
        )
    return Shared(
        first, tuple(params), np.asarray(wanted, np.int32), np.stack(counts), np.asarray(seconds)
    )


def shared_template(field: Field) -> Shared:
    """Structure, shapes and dtypes of what `fit_shared` returns."""
    base, places = field.programs.base, field.places
    num_rounds, num_sources = len(field.budgets), len(places.label)
    kept = num_rounds if field.is_pooled else len({0, num_rounds - 1})
    shape = places.source.input_shape

    def fit(x: Array, y: Array, weight: Array, task: Array) -> Any:
        key, batch = jax.random.key(0), TaskBatch(x, y, weight, task)
        return base.fit_sources(key, base.init(key, batch), batch)

    first = jax.eval_shape(
        fit,
        jax.ShapeDtypeStruct((2, 8, *shape), np.float32),
        jax.ShapeDtypeStruct((2, 8, 1), np.float32),
        jax.ShapeDtypeStruct((2, 8), np.float32),
        jax.ShapeDtypeStruct((2,), np.int32),
    )
    return Shared(
        first,
        (first.fit.params,) * kept,
        np.zeros(kept, np.int32),
        np.zeros((kept, num_sources), np.int32),
        np.zeros(kept),
    )


def uniform_rounds(field: Field, shared: Shared, labels: Sequence[int]) -> list[list[ArmRound]]:
    """The rounds of `uniform` for each of several targets of the context."""
    rounds: list[list[ArmRound]] = [[] for _ in labels]
    for place, index in enumerate(shared.rounds.tolist()):
        found = heads_of(field, UNIFORM, index, labels, shared.params[place])
        for own, (outputs, loss, seconds) in zip(rounds, found, strict=True):
            own.append(
                ArmRound(
                    UNIFORM,
                    index,
                    field.charged(index),
                    outputs,
                    loss,
                    seconds + float(shared.seconds[place]) / len(labels),
                    shared.counts[place],
                )
            )
    return rounds


def heads_of(
    field: Field, arm: str, index: int, labels: Sequence[int], params: Any = None
) -> list[tuple[np.ndarray, float, float]]:
    """Outputs on the test rows, leave-one-out error and seconds of every target's own head.

    Args:
      field: where.
      arm: for the words of an error.
      index: of the round, likewise.
      labels: classes of the targets.
      params: of the representation; None: the inputs themselves.
    """
    started = time.monotonic()
    rows, classes = jnp.asarray(field.sample()), jnp.asarray(labels, jnp.int32)
    program = field.programs.ridges if params is None else field.programs.heads
    own = () if params is None else (params,)
    outputs, losses, ok = program(*own, field.pools, rows, classes, field.places.test_x)
    outputs, losses = np.asarray(outputs), np.asarray(losses)
    if not bool(ok):
        raise _not_finite(field, arm, index)
    seconds = (time.monotonic() - started) / len(labels)
    return [(one, float(loss), seconds) for one, loss in zip(outputs, losses, strict=True)]


def same_digit_round(field: Field, shared: Shared, label: int) -> ArmRound:
    """One purchase that favours the sources of the target's class, fitted at the shared λ."""
    started, places = time.monotonic(), field.places
    index = len(field.budgets) - 1
    budget = field.charged(index)
    counts = np.asarray(
        allocate(
            known_split(SAME_DIGIT, places.label, label),
            budget=budget,
            capacity=places.source.capacity,
        )
    )
    first = shared.first
    state = field.programs.base.init(field.round_key(0), empty_batch(places.source.input_shape))
    state = state._replace(
        round=jnp.int32(1),
        params=first.fit.params,
        penalty=first.penalty,
        held_out_loss=first.held_out_loss,
    )
    slots = field.slots(index, counts, np.zeros_like(counts))
    (found,) = _fit_sources(field, SAME_DIGIT, index, [(FitState.of(state), slots)])
    seconds = time.monotonic() - started
    ((outputs, loss, own),) = heads_of(field, SAME_DIGIT, index, [label], found.fit.params)
    return ArmRound(SAME_DIGIT, 0, budget, outputs, loss, seconds + own, counts)


def _fit_sources(
    field: Field, arm: str, index: int, cases: list[tuple[FitState, Slots]]
) -> list[Any]:
    """Fits the sources of several campaigns at once."""
    found = field.programs.fit_sources(field.pools, field.round_key(index), cases)
    if not all(bool(one.fit.ok) for one in found):
        raise _not_finite(field, arm, index)
    return found


class _Campaign(NamedTuple):
    """A rule at work for one target."""

    place: int
    label: int
    rule: Rule
    state: LearnerState
    rounds: tuple[ArmRound, ...] = ()


def rule_rounds(
    field: Field, shared: Shared, labels: Sequence[int], batch: int
) -> list[list[ArmRound]]:
    """The rounds of all rules for each of several targets of the context.

    First rounds that sample as uniform does share its fit of the sources, and those of one target
    its fit with the target's sample too.

    Args:
      field: where.
      shared: what the targets share.
      labels: classes of the targets.
      batch: campaigns that are computed at once.
    """
    rounds: list[list[ArmRound]] = [[] for _ in labels]
    opened: dict[Any, dict[int, tuple[Any, float]]] = {}
    for rule in field.programs.rules:
        fresh = rule.learner.init(field.round_key(0), empty_batch(field.places.source.input_shape))
        fresh = fresh._replace(penalty=shared.first.penalty)
        campaigns = [_Campaign(place, label, rule, fresh) for place, label in enumerate(labels)]
        counts = np.asarray(rule.learner.ask(field.round_key(0), fresh))
        is_plain = (counts == shared.counts[0]).all()
        found = opened.setdefault((rule.fit, is_plain), {}) if is_plain else {}
        last = len(rule.learner.budgets) - 1
        for index in range(last + 1):
            done = []
            for begin in range(0, len(campaigns), batch):
                some = campaigns[begin : begin + batch]
                if index == last:
                    done += _ended(field, rule, some, index)
                elif index == 0 and is_plain:
                    done += _opened(field, rule, some, shared, found, len(labels))
                else:
                    done += _told(field, rule, some, index)
            campaigns = done
        for one in campaigns:
            rounds[one.place] += one.rounds
    return rounds


def _opened(
    field: Field,
    rule: Rule,
    campaigns: list[_Campaign],
    shared: Shared,
    found: dict[int, tuple[Any, float]],
    num_targets: int,
) -> list[_Campaign]:
    """First rounds from fits that other rules of the same targets may have made already."""
    missing = [one for one in campaigns if one.place not in found]
    if missing:
        fits, seconds = _fits(field, rule, missing, 0, shared.first)
        for one, fit in zip(missing, fits, strict=True):
            found[one.place] = fit, seconds
    sharers = len(field.programs.rules)
    waiting = float(shared.seconds[0]) / (sharers * num_targets)
    fits, seconds = zip(*(found[one.place] for one in campaigns), strict=True)
    own = [waiting + one / sharers for one in seconds]
    return _concluded(field, rule, campaigns, 0, list(fits), own)


def _told(field: Field, rule: Rule, campaigns: list[_Campaign], index: int) -> list[_Campaign]:
    """A round of campaigns that are computed at once."""
    fits, seconds = _fits(field, rule, campaigns, index, None)
    return _concluded(field, rule, campaigns, index, fits, [seconds] * len(campaigns))


def _ended(field: Field, rule: Rule, campaigns: list[_Campaign], index: int) -> list[_Campaign]:
    """The last round: no rule will look at it, so the sources' fit is all there is to do."""
    started, cases, bought = time.monotonic(), [], []
    for one in campaigns:
        counts, spent = _bought(field, rule, one, index)
        slots = field.slots(index, counts, spent, learner=rule.learner)
        cases.append((FitState.of(one.state), slots))
        bought.append(counts)
    found = _fit_sources(field, rule.arm, index, cases)
    seconds = (time.monotonic() - started) / len(campaigns)
    samples, done = field.charged(index, rule.learner), []
    for one, counts, fit in zip(campaigns, bought, found, strict=True):
        ((outputs, loss, own),) = heads_of(field, rule.arm, index, [one.label], fit.fit.params)
        nu = np.asarray(one.state.proposal.relevance.nu)
        last = ArmRound(rule.arm, index, samples, outputs, loss, seconds + own, counts, nu)
        done.append(one._replace(rounds=(*one.rounds, last)))
    return done


def _bought(field: Field, rule: Rule, one: _Campaign, index: int) -> tuple[np.ndarray, np.ndarray]:
    """`[M]` samples that a campaign buys in a round, and those it bought before."""
    counts = np.asarray(rule.learner.ask(field.round_key(index), one.state))
    if (counts < 0).any():
        raise RunError(
            f"{_where(field, rule.arm, index)}: the budget cannot be split over the sources' "
            "remaining capacity. Lower the budget or the floor."
        )
    return counts, np.asarray(one.state.spent)


def _fits(
    field: Field, rule: Rule, campaigns: list[_Campaign], index: int, chosen: Any
) -> tuple[list[Any], float]:
    """Fits a round of campaigns at once; returns also the seconds of each."""
    started, sample, cases = time.monotonic(), field.sample(), []
    for one in campaigns:
        counts, spent = _bought(field, rule, one, index)
        slots = field.slots(index, counts, spent, sample, one.label, learner=rule.learner)
        cases.append((FitState.of(one.state), slots))
    fits = rule.fit(field.pools, field.round_key(index), chosen, cases)
    return fits, (time.monotonic() - started) / len(campaigns)


def _concluded(
    field: Field,
    rule: Rule,
    campaigns: list[_Campaign],
    index: int,
    fits: list[Any],
    seconds: list[float],
) -> list[_Campaign]:
    """Lets the rule look at the fits of a round."""
    started = time.monotonic()
    counts, spent = zip(*(_bought(field, rule, one, index) for one in campaigns), strict=True)
    cases = [
        (one.state, fit, jnp.asarray(before + now))
        for one, fit, now, before in zip(campaigns, fits, counts, spent, strict=True)
    ]
    told = rule.conclude(field.round_key(index), field.places.test_x, cases)
    own = (time.monotonic() - started) / len(campaigns)
    done = []
    for one, now, before, (state, said) in zip(campaigns, counts, seconds, told, strict=True):
        if not bool(said.is_finite):
            raise _not_finite(field, rule.arm, index)
        round_ = ArmRound(
            rule.arm,
            index,
            field.charged(index, rule.learner),
            np.asarray(said.outputs),
            float(said.target_loss),
            before + own,
            now,
            np.asarray(said.nu),
        )
        done.append(one._replace(state=state, rounds=(*one.rounds, round_)))
    return done


def _where(field: Field, arm: str, index: int) -> str:
    context = field.context
    return (
        f"Round {index + 1} of {arm}, targets of {context.corruption}, seed {context.seed}, "
        f"budget {context.budget:,}"
    )


def _not_finite(field: Field, arm: str, index: int) -> RunError:
    return RunError(
        f"{_where(field, arm, index)}: the fit gave numbers that are not finite. Check the scale "
        "of inputs and labels, or set a larger fit.penalty or a smaller fit.learning_rate. What "
        "was finished before is kept."
    )
