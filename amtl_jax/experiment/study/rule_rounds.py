"""Every target's own rounds of the rules that look at evidence."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from amtl_jax.experiment.rounds import RunError
from amtl_jax.experiment.study.answers import heads_of
from amtl_jax.experiment.study.field import ArmRound, Field, fit_sources, not_finite, where
from amtl_jax.experiment.study.programs import FitState, Rule, empty_batch
from amtl_jax.experiment.study.uniform_rounds import Shared
from amtl_jax.types import LearnerState


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

    Raises:
      RunError: if a fit gives numbers that are not finite, or a budget cannot be split.
    """
    rounds: list[list[ArmRound]] = [[] for _ in labels]
    opened: dict[Any, dict[int, tuple[Any, float]]] = {}
    for rule in field.programs.rules:
        fresh = rule.learner.init(field.round_key(0), empty_batch(field.places.source.input_shape))
        campaigns = [_Campaign(place, label, rule, fresh) for place, label in enumerate(labels)]
        counts = np.asarray(rule.learner.ask(field.round_key(0), fresh))
        is_plain = np.array_equal(counts, shared.counts[0])
        found = opened.setdefault(rule.fit, {})
        last = len(rule.learner.budgets) - 1
        for index in range(last + 1):
            campaigns = [_prepared(field, shared, one, index) for one in campaigns]
            done = []
            for begin in range(0, len(campaigns), batch):
                some = campaigns[begin : begin + batch]
                if index == last:
                    done += _ended(field, rule, some, index)
                elif index == 0 and is_plain:
                    done += _opened(field, rule, some, shared, found)
                else:
                    done += _told(field, rule, some, index)
            campaigns = done
        for one in campaigns:
            rounds[one.place] += one.rounds
    return rounds


def _prepared(field: Field, shared: Shared, one: _Campaign, index: int) -> _Campaign:
    """A campaign whose next fit has λ of the uniform round that is nearest in size.

    It does not start where that round's ended, near as that may be: from there a fit ends near
    uniform's representation, which its arm did not pay for, and learns less of its own samples.
    """
    size = field.charged(index, one.rule.learner)
    sizes = [field.charged(index) for index in shared.rounds.tolist()]
    nearest = int(np.argmin(np.abs(np.log(sizes) - np.log(size))))
    state = one.state._replace(
        penalty=jnp.asarray(shared.penalties[nearest], one.state.penalty.dtype),
        held_out_loss=jnp.asarray(shared.held_out_losses[nearest], one.state.held_out_loss.dtype),
    )
    return one._replace(state=state)


def _opened(
    field: Field,
    rule: Rule,
    campaigns: list[_Campaign],
    shared: Shared,
    found: dict[int, tuple[Any, float]],
) -> list[_Campaign]:
    """First rounds from fits that other rules of the same targets may have made already."""
    missing = [one for one in campaigns if one.place not in found]
    if missing:
        fits, seconds = _fits(field, rule, missing, 0, shared.first)
        for one, fit in zip(missing, fits, strict=True):
            found[one.place] = fit, seconds
    waiting = float(shared.seconds[0]) / field.num_targets
    fits, seconds = zip(*(found[one.place] for one in campaigns), strict=True)
    own = [waiting + one for one in seconds]
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
    found = fit_sources(field, rule.arm, index, cases)
    seconds = (time.monotonic() - started) / len(campaigns)
    samples, done = field.charged(index, rule.learner), []
    for one, counts, fit in zip(campaigns, bought, found, strict=True):
        (last,) = heads_of(field, rule.arm, index, samples, [one.label], fit.fit.params)
        nu = np.asarray(one.state.proposal.relevance.nu)
        last = last._replace(seconds=last.seconds + seconds, counts=counts, nu=nu)
        done.append(one._replace(rounds=(*one.rounds, last)))
    return done


def _bought(field: Field, rule: Rule, one: _Campaign, index: int) -> tuple[np.ndarray, np.ndarray]:
    """`[M]` samples that a campaign buys in a round, and those it bought before."""
    counts = np.asarray(rule.learner.ask(field.round_key(index), one.state))
    if (counts < 0).any():
        raise RunError(
            f"{where(field, rule.arm, index)}: the budget cannot be split over the sources' "
            "remaining capacity. Lower the budget or the floor."
        )
    return counts, np.asarray(one.state.spent)


def _fits(
    field: Field, rule: Rule, campaigns: list[_Campaign], index: int, chosen: Any
) -> tuple[list[Any], float]:
    """Fits a round of campaigns at once; returns also the seconds of each."""
    started, cases = time.monotonic(), []
    sample, _ = field.target_split()
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
            raise not_finite(field, rule.arm, index)
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
