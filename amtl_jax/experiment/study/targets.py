"""All arms of each target of a context."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax

from amtl_jax.experiment.study.answers import heads_of
from amtl_jax.experiment.study.arms import (
    ALL_DATA,
    CLAIRVOYANT,
    SAME_DIGIT,
    TARGET_ONLY,
    UNIFORM,
)
from amtl_jax.experiment.study.batches import batch_size, in_order, num_threads
from amtl_jax.experiment.study.field import ArmRound, Field
from amtl_jax.experiment.study.grid import Unit
from amtl_jax.experiment.study.rule_rounds import rule_rounds
from amtl_jax.experiment.study.uniform_rounds import Shared, same_digit_round, uniform_rounds
from amtl_jax.experiment.study.units import UnitResult, unit_result
from amtl_jax.experiment.study_checks import UNBOUND


class Ceiling(NamedTuple):
    """The representation of all source rows.

    Attributes:
      params: of the encoder.
      samples: rows with their labels.
      seconds: that the fit took.
    """

    params: Any
    samples: int
    seconds: float


class _Member(NamedTuple):
    """A target of the context, and its arms that look at nothing but the target sample."""

    unit: Unit
    label: int
    known: list[ArmRound]


def results_of(
    field: Field,
    arms: Sequence[str],
    units: Sequence[Unit],
    shared: Shared,
    everything: Ceiling | None,
    keep: Callable[[Unit, UnitResult], None],
    *,
    compiled: bool,
) -> Iterator[tuple[Unit, UnitResult]]:
    """Computes units of one context and number of target samples, and gives them in order.

    Args:
      field: where.
      arms: that are wanted.
      units: of different targets.
      shared: the uniform rounds.
      everything: the ceiling, where that arm is wanted.
      keep: called with each as soon as it is there, from several threads.
      compiled: whether the field's programs have computed targets before.

    Raises:
      RunError: if a fit gives numbers that are not finite, or a budget cannot be split.
    """
    labels = [int(unit.target.rpartition("_")[2]) for unit in units]
    known = _known_arms(field, arms, shared, everything, labels)
    members = [_Member(*one) for one in zip(units, labels, known, strict=True)]
    config = field.parts.config
    batch = batch_size(config, field)
    together = max(1, batch // max(len(field.programs.rules), 1))
    chunks = [members[begin : begin + together] for begin in range(0, len(members), together)]
    compute = functools.partial(_computed, field, arms, shared, batch, keep)
    for done in in_order(compute, chunks, num_threads(config), alone=0 if compiled else 1):
        yield from done


def _computed(
    field: Field,
    arms: Sequence[str],
    shared: Shared,
    batch: int,
    keep: Callable[[Unit, UnitResult], None],
    members: Sequence[_Member],
) -> list[tuple[Unit, UnitResult]]:
    """All arms of some targets."""
    told = rule_rounds(field, shared, [member.label for member in members], batch)
    device, done = jax.devices()[0].device_kind, []
    for member, found in zip(members, told, strict=True):
        rounds = [*member.known, *found]
        if SAME_DIGIT in arms:
            rounds.append(same_digit_round(field, shared, member.label))
        if CLAIRVOYANT in arms:
            rounds.append(_clairvoyant(rounds))
        result = unit_result(member.unit, rounds, field.places.test_label, device)
        keep(member.unit, result)
        done.append((member.unit, result))
    return done


def _clairvoyant(rounds: Sequence[ArmRound]) -> ArmRound:
    """The best of the arms of one budget, by labels of the target that none of them sees."""
    last = {one.arm: one for one in rounds if one.arm not in UNBOUND}
    best = min(last.values(), key=lambda one: one.other_loss)
    seconds = sum(one.seconds for one in rounds if one.arm in last)
    return best._replace(arm=CLAIRVOYANT, index=0, seconds=seconds, counts=None, nu=None)


def _known_arms(
    field: Field,
    arms: Sequence[str],
    shared: Shared,
    everything: Ceiling | None,
    labels: Sequence[int],
) -> list[list[ArmRound]]:
    """Arms that look at nothing but the target sample, for each target of a context."""
    rounds: list[list[ArmRound]] = [[] for _ in labels]
    if TARGET_ONLY in arms:
        for own, one in zip(rounds, heads_of(field, TARGET_ONLY, 0, 0, labels), strict=True):
            own.append(one)
    if UNIFORM in arms:
        for own, more in zip(rounds, uniform_rounds(field, shared, labels), strict=True):
            own += more
    if everything is not None:
        params, samples, fitted = everything
        fitted /= field.num_targets
        for own, one in zip(
            rounds, heads_of(field, ALL_DATA, 0, samples, labels, params), strict=True
        ):
            own.append(one._replace(seconds=one.seconds + fitted))
    return rounds
