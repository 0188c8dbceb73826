"""Arms that learn no representation: ridge on the target's rows alone, and on all rows pooled."""

import functools
import time
from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np

from amtl_jax.answer import CANDIDATES, Answer
from amtl_jax.data.sources import Rows, TaskSource
from amtl_jax.experiment.checkpoint import Checkpoint
from amtl_jax.experiment.problem import Problem
from amtl_jax.experiment.records import POOLED, TARGET_ONLY, baseline_record
from amtl_jax.target import RELATIVE_RIDGES, loo_ridge
from amtl_jax.types import Array

_PART_NUMBERS = 2**22  # inputs that are looked at together


def target_only_round(problem: Problem, target: Rows, *, seed: int, intercept: bool) -> Checkpoint:
    """Ridge on the inputs of the target sample alone, its strength by exact leave-one-out."""
    started = time.monotonic()
    inputs = target.x.reshape(len(target.x), -1)
    weight = np.ones(len(inputs), np.float32) if target.weight is None else target.weight
    fit = jax.jit(loo_ridge, static_argnames="intercept")(
        inputs, target.y, np.asarray(weight, np.float32), intercept=intercept
    )
    head = jax.tree.map(np.asarray, fit.head)
    answer = _answer_of_inputs(head.weight, head.bias, float(fit.loss))
    predictions = _predict(problem, head.weight, head.bias)
    record = baseline_record(
        problem,
        answer,
        predictions,
        seed=seed,
        arm=TARGET_ONLY,
        samples=0,
        ridge=float(fit.ridge),
        seconds=time.monotonic() - started,
    )
    return Checkpoint((), predictions, record, answer, predictions)


def pooled_round(
    problem: Problem, target: Rows, key: Array, *, seed: int, intercept: bool
) -> Checkpoint:
    """One ridge on all rows of all sources and the target sample, as if they were one task.

    What a person would do who has all the data and no method: every row counts alike, whatever its
    task, and the strength is chosen by exact leave-one-out over all of them.
    """
    started = time.monotonic()
    source = problem.source

    def parts() -> Iterator[Rows]:
        yield from _all_rows(source, key)
        yield target

    head, bias, ridge, loss = pooled_ridge(parts, intercept=intercept)
    answer = _answer_of_inputs(head, bias, loss)
    predictions = _predict(problem, head, bias)
    record = baseline_record(
        problem,
        answer,
        predictions,
        seed=seed,
        arm=POOLED,
        samples=int(np.sum(source.capacity)),
        ridge=ridge,
        seconds=time.monotonic() - started,
    )
    return Checkpoint((), predictions, record, answer, predictions)


def _all_rows(source: TaskSource, key: Array) -> Iterator[Rows]:
    """All rows of a source, some at a time: they may lie on disk, and be more than memory holds."""
    capacity = np.asarray(source.capacity, np.int64)
    first = np.cumsum(capacity) - capacity  # of each task, where tasks come one after another
    size = max(_PART_NUMBERS // int(np.prod(source.input_shape)), 1)
    for begin in range(0, int(capacity.sum()), size):
        start, stop = (np.clip(at - first, 0, capacity) for at in (begin, begin + size))
        yield source.draw(key, stop - start, start=start)


def pooled_ridge(
    parts: Callable[[], Iterable[Rows]], *, intercept: bool
) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Ridge whose strength has the least exact leave-one-out error, from one `[D, D]` spectrum.

    In float64 on the host: there may be many more rows than a device would like to decompose. They
    are gone through three times, for the means, for the spectrum, and for the errors.

    Args:
      parts: gives all rows, some at a time, and the same ones at every call.
      intercept: whether there is one.

    Returns:
      Weight `[D, O]` and bias `[O]` in float32, the ridge, and its leave-one-out squared error.
    """

    def numbers() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        for rows in parts():
            weight = np.ones(len(rows.x)) if rows.weight is None else rows.weight
            x = rows.x.reshape(len(rows.x), -1)
            yield x.astype(np.float64), rows.y.astype(np.float64), weight.astype(np.float64)

    def added(sums: Iterable[tuple]) -> tuple:
        return functools.reduce(lambda old, new: tuple(map(np.add, old, new)), sums)

    total, mean, label_mean = added((w.sum(), w @ x, w @ y) for x, y, w in numbers())
    mean, label_mean = intercept / total * mean, intercept / total * label_mean

    def centred() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        return ((x - mean, y - label_mean, weight) for x, y, weight in numbers())

    gram, moment = added(((w[:, None] * x).T @ x, (w[:, None] * x).T @ y) for x, y, w in centred())
    spectrum, axes = np.linalg.eigh(gram)
    spectrum, moment = np.maximum(spectrum, 0.0), axes.T @ moment
    least = np.sqrt(np.finfo(np.float64).tiny)  # where inputs do not vary; one over it is finite
    ridges = np.array(RELATIVE_RIDGES) * max(spectrum.mean(), least)
    heads = [moment / (spectrum + ridge)[:, None] for ridge in ridges]

    def squares(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Σ ω of the squared errors left out, of every ridge."""
        turned, found = x @ axes, []
        for ridge, head in zip(ridges, heads, strict=True):
            hat = weight * (intercept / total + turned**2 @ (1 / (spectrum + ridge)))
            errors = (y - turned @ head) / np.maximum(1 - hat, 1e-12)[:, None]
            found.append(np.sum(weight[:, None] * errors**2))
        return np.array(found)

    losses = sum(squares(*part) for part in centred()) / total
    best = int(np.argmin(losses))
    head = axes @ heads[best]
    bias = label_mean - mean @ head
    return (
        head.astype(np.float32),
        bias.astype(np.float32),
        float(ridges[best]),
        float(losses[best]),
    )


def _answer_of_inputs(weight: np.ndarray, bias: np.ndarray, loss: float) -> Answer:
    """A predictor that looks at the inputs alone, as an answer."""
    num_outputs = weight.shape[1]
    losses = np.full(len(CANDIDATES), np.nan, np.float32)
    losses[0] = loss
    return Answer(
        input_weight=weight,
        feature_weight=np.zeros((0, num_outputs), np.float32),
        bias=bias,
        shares=np.eye(len(CANDIDATES), dtype=np.float32)[0],
        losses=losses,
        loss=np.float32(loss),
    )


def _predict(problem: Problem, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Predictions on the test rows, in the units of the data."""
    test = problem.test.x.reshape(len(problem.test.x), -1)
    return problem.in_units(test @ weight + bias[None])
