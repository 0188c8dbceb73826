"""A whole campaign in memory: buy in rounds, fit, and keep the safe answer."""

import functools
import warnings
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from amtl_jax.answer import Answer, fit_answer
from amtl_jax.compiled_round import Settings, compiled_learner
from amtl_jax.data.rows import join_rows, label_units, target_rows
from amtl_jax.data.sources import Rows, TaskSource
from amtl_jax.default_fit import default_fitter
from amtl_jax.fitted import ActiveFit, represent
from amtl_jax.packing import default_block_rows, max_blocks, pack
from amtl_jax.rank_choice import rank_doubt
from amtl_jax.round_plan import SCHEDULE, Floor
from amtl_jax.strategies.c_optimal import c_optimal
from amtl_jax.types import (
    Encoder,
    Fitter,
    HeadPrior,
    LearnerState,
    Numbers,
    Params,
    Strategy,
    TaskBatch,
)

_ENDLESS = 2**30  # a source of so many samples has no end: `budget=None` cannot mean them all
_DATA_KEY, _LEARNER_KEY = 0, 3  # folded into the seed's key, as a run does

_default_strategy = functools.cache(c_optimal)  # one object, as compiled rounds are found by it
_fit_answer = jax.jit(fit_answer, static_argnames="intercept")


def active_fit(
    source: TaskSource,
    target_x: ArrayLike,
    target_y: ArrayLike,
    *,
    budget: float | None,
    strategy: Strategy | None = None,
    encoder: Encoder | None = None,
    fitter: Fitter | None = None,
    rank: int | Literal["aic"] | None = None,
    join_target: bool = False,
    weigh_noise: bool = False,
    seed: int = 0,
    schedule: Sequence[float] = SCHEDULE,
    floor: Floor = Floor(),  # noqa: B008  (an immutable tuple)
    penalty: float | None = None,
    target_weight: Numbers | None = None,
    label_scale: float | None = None,
) -> ActiveFit:
    """Buys samples of the sources in rounds, fits, and returns the target's predictor.

    Each round asks the learner for counts, draws the samples, and fits on everything bought so
    far. Then the target's predictor is stacked from ridge on the inputs and heads on the
    representation (`fit_answer`), so that sources count only as far as they help. Everything
    stays in memory; `amtl_jax.run` is the same with files, arms to compare and a test.

    The fit's penalties are made for labels of order 1, so all labels are divided by one standard
    deviation: that of the labels of the first round around their task's mean. With an intercept
    the first round's mean is subtracted before. Predictions are in the original units. Inputs are
    taken as they are, and should be of order 1 as well.

    Args:
      source: the M tasks that samples are bought from.
      target_x: `[n_T, ...]` inputs of the target's sample; unsigned bytes are images.
      target_y: `[n_T]` or `[n_T, O]` its labels.
      budget: samples to buy in all rounds together, or money where the source has prices other
        than 1. None: all that the sources have, in one round.
      strategy: the rule that proposes; `c_optimal()` unless told.
      encoder: the representation; unless told linear with K = min(50, D, M·O) features, more of
        which M heads could not use.
      fitter: how an encoder of its own is fitted, for M + 1 tasks, in place of `encoder`. Unless
        told, `lbfgs_fitter` for a linear encoder, heads alone for one without parameters, and 100
        steps of Adam by variable projection for others.
      rank: K of the linear encoder, where neither `encoder` nor `fitter` is given; there is a
        warning where the last round's samples show that it is too small. "aic": every fit chooses
        it by Akaike's criterion, up to min(50, D, M·O), from the second moments of every task;
        for moderate D. See `choose_rank`.
      join_target: whether the representation is fitted to the target's sample too, as one more
        task. It pays where there are no features to spare and n_T is 5 D or more. Leave-one-out
        errors on the sample are then too small: the answer leans on features that fit its noise,
        and on sources that do not help.
      weigh_noise: whether the fits weigh every task by one over the noise of its labels, as an
        earlier fit estimates it. For sources whose labels differ much in quality.
      seed: of the draws and of everything random in the fit.
      schedule: shares of the budget per round, unless the strategy has its own.
      floor: what every source gets in every round.
      penalty: λ of the fit; None: chosen in the first round on held-out rows.
      target_weight: `[n_T]` non-negative weights of the target's rows. Rows of weight 0 are left
        out: their labels are missing, and may be NaN.
      label_scale: what all labels are divided by; None: see above.

    Returns:
      `ActiveFit`.

    Raises:
      ValueError: for arrays of wrong shapes, NaN or Inf, fewer than two target rows, or numbers
        that do not fit together, such as a budget beyond the capacity.
      RuntimeError: if a round cannot be met from what the sources have left, or its numbers are
        not finite.
    """
    target = target_rows(source, target_x, target_y, target_weight)
    if label_scale is not None and not 0 < label_scale < np.inf:
        raise ValueError(f"active_fit expects a positive label_scale or None, got {label_scale}.")
    if penalty is not None and not 0 <= penalty < np.inf:
        raise ValueError(f"active_fit expects penalty >= 0 or None, got {penalty}.")
    if fitter is None:
        fitter = default_fitter(
            encoder,
            num_sources=len(source.names),
            input_shape=tuple(source.input_shape),
            num_outputs=source.num_outputs,
            rank=rank,
        )
    elif encoder is not None or rank is not None:
        raise ValueError(
            "active_fit expects one of an encoder, a fitter of one, and a rank, got more."
        )
    prices, groups = tuple(source.price.tolist()), tuple(source.group.tolist())
    settings = Settings(
        fitter=fitter,
        strategy=strategy or _default_strategy(),
        num_target=len(target.x),
        budget=0.0 if budget is None else budget,
        schedule=tuple(schedule),
        floor=floor,
        capacity=tuple(source.capacity.tolist()),
        price=None if set(prices) == {1.0} else prices,
        group=None if len(set(groups)) == len(groups) else groups,
        join_target=join_target,
        weigh_noise=weigh_noise,
    )
    if budget is None:  # everything: there is nothing to choose, so prices do not matter
        settings = settings._replace(
            strategy=settings.strategy._replace(schedule=None),
            budget=_all_samples(source),
            schedule=(1.0,),
            floor=Floor(),
            price=None,
            group=None,
        )
    is_given = rank not in (None, "aic")
    return _buy(source, settings, target, seed, penalty, label_scale, checks_rank=is_given)


def _buy(
    source: TaskSource,
    settings: Settings,
    target: Rows,
    seed: int,
    penalty: float | None,
    label_scale: float | None,
    *,
    checks_rank: bool,
) -> ActiveFit:
    """Runs all rounds and fits the answer."""
    learner, tell = compiled_learner(settings)
    root = jax.random.key(seed)
    data_key, learner_key = (jax.random.fold_in(root, part) for part in (_DATA_KEY, _LEARNER_KEY))
    offset, scale = np.zeros(target.y.shape[1]), 1.0

    def packed(rows: Rows) -> TaskBatch:
        return _packed(rows, target, offset, scale, settings.num_rows())

    rows = Rows(target.x[:0], target.y[:0], target.task[:0])
    state = learner.init(learner_key, packed(rows))
    if penalty is not None:
        state = state._replace(penalty=jnp.full_like(state.penalty, penalty))
    bought, rounds, infos = np.zeros(len(source.names), np.int64), [], []
    for index in range(len(learner.budgets)):
        key = jax.random.fold_in(learner_key, index)
        counts = np.asarray(learner.ask(key, state), np.int64)
        if (counts < 0).any():
            raise RuntimeError(
                f"Round {index + 1}: the budget cannot be split over the sources' remaining "
                "capacity. Lower the budget or the floor."
            )
        rows = join_rows(rows, source.draw(data_key, counts, start=bought))
        bought = bought + counts
        if index == 0:  # the target's labels must not show in what the sources are fitted to
            offset, scale = label_units(rows)
            offset, scale = offset * settings.fitter.intercept, label_scale or scale
        state, info = tell(key, state, packed(rows), bought=bought.astype(np.int32))
        if not bool(info.is_finite):
            raise RuntimeError(_not_finite(f"Round {index + 1}"))
        rounds.append(counts)
        infos.append(info)
    if checks_rank:
        _check_rank(packed(rows), settings, state)
    prior = infos[-1].head_prior
    answer = _answer(settings.fitter, state.params, target, prior, offset, scale)
    return ActiveFit(
        params=state.params,
        encoder=settings.fitter.encoder,
        answer=answer,
        state=state,
        infos=tuple(infos),
        counts=np.stack(rounds),
        source_names=tuple(source.names),
        input_shape=target.x.shape[1:],
        label_offset=offset,
        label_scale=scale,
    )


def _check_rank(batch: TaskBatch, settings: Settings, state: LearnerState) -> None:
    """Warns where the rank that was given looks too small."""
    doubt = rank_doubt(
        batch,
        settings.fitter.encoder.num_features,
        num_sources=len(settings.capacity),
        intercept=settings.fitter.intercept,
        task_noise=state.task_noise if settings.weigh_noise else None,
    )
    if doubt is not None:
        warnings.warn(doubt, stacklevel=4)  # in the line that called `active_fit`


def _answer(
    fitter: Fitter,
    params: Params,
    target: Rows,
    prior: HeadPrior,
    offset: np.ndarray,
    scale: float,
) -> Answer:
    """The target's predictor on the fitted representation, in scaled labels."""
    features = represent(fitter.encoder, params, target.x)
    answer = _fit_answer(
        target.x.reshape(len(target.x), -1),
        features,
        ((target.y - offset) / scale).astype(features.dtype),
        np.asarray(target.weight, features.dtype),
        prior,
        intercept=fitter.intercept,
    )
    if not all(bool(jnp.isfinite(leaf).all()) for leaf in (answer.input_weight, answer.bias)):
        raise RuntimeError(_not_finite("The answer"))
    return answer


def _all_samples(source: TaskSource) -> int:
    """What the sources have in all."""
    total = int(source.capacity.sum())
    if total >= _ENDLESS:
        most = source.names[int(np.argmax(source.capacity))]
        raise ValueError(
            f"budget=None means all samples of the sources, but {most!r} has no end: pass a budget."
        )
    return total


def _packed(rows: Rows, target: Rows, offset: np.ndarray, scale: float, num_rows: int) -> TaskBatch:
    """Packs what was bought and the target's sample; the shape depends on `num_rows` alone."""
    both, num_tasks = join_rows(rows, target), int(target.task[0]) + 1
    block_rows = default_block_rows(num_rows, num_tasks)
    return pack(
        both.x,
        (both.y - offset) / scale,
        both.task,
        num_tasks=num_tasks,
        block_rows=block_rows,
        num_blocks=max_blocks(num_rows, num_tasks, block_rows),
        weight=both.weight,
    )


def _not_finite(what: str) -> str:
    return (
        f"{what} has numbers that are not finite. Check the scale of inputs and labels, which "
        "should be of order 1, or pass a larger penalty."
    )
