"""All arms of each target of a context."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax

from amtl_jax.experiment.study.arms import ALL_DATA, SAME_DIGIT, TARGET_ONLY, UNIFORM
from amtl_jax.experiment.study.batches import batch_size, in_order
from amtl_jax.experiment.study.field import ArmRound, Field
from amtl_jax.experiment.study.grid import Unit
from amtl_jax.experiment.study.rule_rounds import rule_rounds
from amtl_jax.experiment.study.uniform_rounds import (
    Shared,
    heads_of,
    same_digit_round,
    uniform_rounds,
)
from amtl_jax.experiment.study.units import UnitResult, unit_result


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
) -> Iterator[tuple[Unit, UnitResult]]:
    """Computes units of one context and number of target samples, and gives them in order.

    Args:
      field: where.
      arms: that are wanted.
      units: of different targets.
      shared: the uniform rounds.
      everything: the ceiling, where that arm is wanted.
    """
    labels = [int(unit.target.rpartition("_")[2]) for unit in units]
    known = _known_arms(field, arms, shared, everything, labels)
    members = [_Member(*one) for one in zip(units, labels, known, strict=True)]
    batch = batch_size(field.parts.config, field)
    together = max(1, batch // max(len(field.programs.rules), 1))
    chunks = [members[begin : begin + together] for begin in range(0, len(members), together)]
    compute = functools.partial(_computed, field, arms, shared, batch)
    for done in in_order(compute, chunks):
        yield from done


def _computed(
    field: Field, arms: Sequence[str], shared: Shared, batch: int, members: Sequence[_Member]
) -> list[tuple[Unit, UnitResult]]:
    """All arms of some targets."""
    told = rule_rounds(field, shared, [member.label for member in members], batch)
    done = []
    for member, found in zip(members, told, strict=True):
        rounds = [*member.known, *found]
        if SAME_DIGIT in arms:
            rounds.append(same_digit_round(field, shared, member.label))
        device = jax.devices()[0].device_kind
        result = unit_result(member.unit, rounds, field.places.test_label, device)
        done.append((member.unit, result))
    return done


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
        found = heads_of(field, TARGET_ONLY, 0, labels)
        for own, (outputs, loss, seconds) in zip(rounds, found, strict=True):
            own.append(ArmRound(TARGET_ONLY, 0, 0, outputs, loss, seconds))
    if UNIFORM in arms:
        for own, more in zip(rounds, uniform_rounds(field, shared, labels), strict=True):
            own += more
    if everything is not None:
        num_targets = len(set(field.places.label.tolist()))  # one of each class
        found = heads_of(field, ALL_DATA, 0, labels, everything.params)
        for own, (outputs, loss, seconds) in zip(rounds, found, strict=True):
            seconds += everything.seconds / num_targets
            own.append(ArmRound(ALL_DATA, 0, everything.samples, outputs, loss, seconds))
    return rounds
