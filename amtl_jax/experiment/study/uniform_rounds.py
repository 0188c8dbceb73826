"""The arms that look at no target: uniform rounds, which targets share, and a known split."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from amtl_jax.allocation import allocate
from amtl_jax.experiment.study.answers import heads_of
from amtl_jax.experiment.study.arms import SAME_DIGIT, UNIFORM, known_split
from amtl_jax.experiment.study.field import ArmRound, Field, fit_sources
from amtl_jax.experiment.study.pools import Slots
from amtl_jax.experiment.study.programs import FitState, empty_batch
from amtl_jax.types import Array, LearnerState, TaskBatch


class Shared(NamedTuple):
    """What the targets of a context share: the uniform rounds. A plain tree of arrays.

    Attributes:
      first: the fit of the first round, a `PenaltyFit`.
      penalties: `[R']` λ of each of the `rounds`, chosen on held-out rows unless given.
      held_out_losses: `[R']` held-out error at it, in rounds between that of the round before; NaN
        where λ is given.
      params: encoder parameters after each of the `rounds`.
      rounds: `[R']` int32 the rounds that were fitted: the first and the last, and those between
        where a later fit sees their samples or starts where theirs ended.
      counts: `[R', M]` int32 samples bought in them.
      seconds: `[R']` what each took.
    """

    first: Any
    penalties: np.ndarray
    held_out_losses: np.ndarray
    params: tuple[Any, ...]
    rounds: np.ndarray
    counts: np.ndarray
    seconds: np.ndarray


def fit_shared(field: Field) -> Shared:
    """Samples uniformly and fits, round by round.

    What λ is best falls as samples grow, whichever target they are for. Where none is given it is
    chosen on held-out rows of the first and of the last round, and interpolated between, a power of
    the number of samples; the arms of all targets have that of the uniform round of their size.
    The paths of fits that choose it are for that alone: uniform's own fits are made as those of a
    rule are, at a λ that is given. Behind a path they would go further than the rules'.

    Raises:
      RunError: if a fit gives numbers that are not finite.
    """
    num_rounds = len(field.budgets)
    wanted = range(num_rounds) if field.fits_all_rounds else sorted({0, num_rounds - 1})
    counts, spent = _uniform_counts(field)
    slots = {index: field.slots(index, counts[index], spent[index]) for index in wanted}
    seconds = dict.fromkeys(wanted, 0.0)
    paths = _paths(field, slots, seconds) if field.parts.config.fit.penalty is None else {}
    state, fits = FitState.of(_fresh(field)), list[Any]()
    for index in wanted:
        started = time.monotonic()
        own = state._replace(round=jnp.int32(index), penalty=_penalty(field, index, paths))
        if fits:
            own = own._replace(params=fits[-1].fit.params, held_out_loss=fits[-1].held_out_loss)
        if index in paths:
            own = own._replace(held_out_loss=paths[index].held_out_loss)
        (found,) = fit_sources(field, UNIFORM, index, [(own, slots[index])])
        fits.append(found._replace(losses=paths[index].losses) if index in paths else found)
        seconds[index] += time.monotonic() - started
    return Shared(
        fits[0],
        np.asarray([one.penalty for one in fits]),
        np.asarray([one.held_out_loss for one in fits]),
        tuple(one.fit.params for one in fits),
        np.asarray(wanted, np.int32),
        np.stack([counts[index] for index in wanted]),
        np.asarray([seconds[index] for index in wanted]),
    )


def _paths(field: Field, slots: dict[int, Slots], seconds: dict[int, float]) -> dict[int, Any]:
    """Chooses λ of the first and of the last round; adds what that took to their seconds."""
    state, paths = FitState.of(_fresh(field)), {}
    for index in sorted({0, len(field.budgets) - 1}):
        started = time.monotonic()
        own = state._replace(round=jnp.int32(index), penalty=jnp.float32(jnp.nan))
        if paths:
            own = own._replace(params=paths[0].fit.params)
        (paths[index],) = fit_sources(field, UNIFORM, index, [(own, slots[index])])
        seconds[index] += time.monotonic() - started
    return paths


def _penalty(field: Field, index: int, paths: dict[int, Any]) -> Array:
    """λ of a round: given, chosen, or between those of the first and the last."""
    given = field.parts.config.fit.penalty
    if given is not None:
        return jnp.float32(given)
    if index in paths:
        return paths[index].penalty
    return _between(field, index, paths[0].penalty, paths[max(paths)].penalty)


def _fresh(field: Field) -> LearnerState:
    shape = field.places.source.input_shape
    return field.programs.base.init(field.round_key(0), empty_batch(shape))


def _uniform_counts(field: Field) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """`[M]` samples that uniform buys in each round, and those it bought before."""
    base, state = field.programs.base, _fresh(field)
    counts, spent = [], []
    for index in range(len(field.budgets)):
        spent.append(np.asarray(state.spent))
        counts.append(np.asarray(base.ask(field.round_key(index), state)))
        state = state._replace(
            round=state.round + 1,
            spent=jnp.asarray(spent[-1] + counts[-1]),
            paid=jnp.asarray(sum(field.budgets[: index + 1]), state.paid.dtype),
        )
    return counts, spent


def _between(field: Field, index: int, first: Array, last: Array) -> Array:
    """λ of a round between the first and the last: λ ∝ a power of the number of samples."""
    sizes = np.log([field.charged(one) for one in (0, index, len(field.budgets) - 1)])
    share = (sizes[1] - sizes[0]) / (sizes[2] - sizes[0]) if sizes[2] != sizes[0] else 0.0
    return jnp.float32(float(first) ** (1 - share) * float(last) ** share)


def shared_template(field: Field) -> Shared:
    """Structure, shapes and dtypes of what `fit_shared` returns."""
    base, places = field.programs.base, field.places
    num_rounds, num_sources = len(field.budgets), len(places.label)
    kept = num_rounds if field.fits_all_rounds else len({0, num_rounds - 1})
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
        np.zeros(kept, np.float32),
        np.zeros(kept, np.float32),
        (first.fit.params,) * kept,
        np.zeros(kept, np.int32),
        np.zeros((kept, num_sources), np.int32),
        np.zeros(kept),
    )


def uniform_rounds(field: Field, shared: Shared, labels: Sequence[int]) -> list[list[ArmRound]]:
    """The rounds of `uniform` for each of several targets of the context.

    Args:
      field: where.
      shared: of the context.
      labels: classes of the targets.

    Raises:
      RunError: if a head is not finite.
    """
    rounds: list[list[ArmRound]] = [[] for _ in labels]
    for place, index in enumerate(shared.rounds.tolist()):
        samples, params = field.charged(index), shared.params[place]
        fitted = float(shared.seconds[place]) / field.num_targets
        for own, one in zip(
            rounds, heads_of(field, UNIFORM, index, samples, labels, params), strict=True
        ):
            own.append(one._replace(seconds=one.seconds + fitted, counts=shared.counts[place]))
    return rounds


def same_digit_round(field: Field, shared: Shared, label: int) -> ArmRound:
    """One purchase that favours the sources of the target's class, at the λ of uniform's last.

    Args:
      field: where.
      shared: of the context.
      label: class of the target.

    Raises:
      RunError: if the fit gives numbers that are not finite.
    """
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
    state = FitState.of(_fresh(field))._replace(
        penalty=jnp.asarray(shared.penalties[-1], jnp.float32)
    )
    slots = field.slots(index, counts, np.zeros_like(counts))
    (found,) = fit_sources(field, SAME_DIGIT, index, [(state, slots)])
    seconds = time.monotonic() - started
    (one,) = heads_of(field, SAME_DIGIT, index, budget, [label], found.fit.params)
    return one._replace(index=0, seconds=one.seconds + seconds, counts=counts)
