"""How many features the linear representation should have: ranks in turn, Akaike's criterion.

A representation with too few features breaks every rule that looks at the heads; one or two too
many cost little. AIC errs on that side: of pure noise, one more feature explains about as much as
its parameters are charged. Where the rows are less than some twenty times the parameters plain
AIC knows no end; the criterion with Hurvich and Tsai's correction does, and can end too early.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from amtl_jax.fitting.akaike import (
    akaike,
    correction,
    goes_on,
    last_rank,
    lowest_rank,
    num_parameters,
    stopping_rank,
)
from amtl_jax.fitting.factors import leading_inputs, product
from amtl_jax.fitting.moment_descent import Descent, FittedFactors, fit_features
from amtl_jax.fitting.moments import (
    TaskMoments,
    gram_times,
    ridge_heads,
    squared_error,
    task_moments,
    total_count,
)
from amtl_jax.types import Array, TaskBatch


class RankChoice(NamedTuple):
    """What Akaike's criterion says of the ranks 1, 2, … that were tried.

    Attributes:
      rank: `[]` int32 the rank AIC chooses.
      corrected_rank: `[]` int32 the rank AIC with the small-sample correction chooses; not above
        `rank`.
      criterion: `[max_rank]` AIC; NaN where not tried.
      corrected: `[max_rank]` the same with the correction; infinite where there are no fewer
        parameters than labels.
      loss: `[max_rank]` weighted mean squared error of the fits.
      parameters: `[max_rank]` how many a rank has.
    """

    rank: Array
    corrected_rank: Array
    criterion: Array
    corrected: Array
    loss: Array
    parameters: Array


def choose_rank(
    batch: TaskBatch,
    *,
    num_tasks: int,
    max_rank: int,
    penalty: float | Array = 1e-7,
    intercept: bool = True,
    num_steps: int = 200,
    tolerance: float = 1e-6,
) -> RankChoice:
    """Chooses how many features a linear representation of these samples should have.

    Ranks k = 1, 2, … are fitted in turn, each from the one before and the direction of the inputs
    that explains most of what it leaves, until AIC has not improved twice in a row:
    `n log(RSS / n) + 2p`, n labels of positive weight and p = k(D − k) + k·M·O parameters, tasks
    without weight left out of M. The correction adds `2p(p + 1) / (n − p − 1)`. Noise that differs
    much between tasks looks like features: weigh the rows by one over its variance.

    Args:
      batch: packed samples, x `[B, R, D]`.
      num_tasks: M, static.
      max_rank: the largest rank that may be tried; static.
      penalty: λ; small, since AIC counts the parameters of unpenalised fits.
      intercept: whether heads have an unpenalised intercept.
      num_steps: most steps of each fit.
      tolerance: of each fit, see `gram_fitter`.

    Raises:
      ValueError: if `max_rank` is below 1 or above D, or inputs are not vectors.

    References:
      Akaike. A new look at the statistical model identification. 1974.
      Hurvich, Tsai. Regression and time series model selection in small samples. 1989.
    """
    if batch.x.ndim != 3 or not 1 <= max_rank <= batch.x.shape[-1]:
        raise ValueError(
            "choose_rank expects inputs that are vectors, x [B, R, D], and 1 <= max_rank <= D, "
            f"got x {batch.x.shape} and max_rank={max_rank}."
        )
    moments = task_moments(batch, num_tasks=num_tasks, intercept=intercept)
    return choose_rank_of(
        moments,
        max_rank=max_rank,
        penalty=penalty,
        intercept=intercept,
        num_steps=num_steps,
        tolerance=tolerance,
    )


def choose_rank_of(
    moments: TaskMoments,
    *,
    max_rank: int,
    penalty: float | Array = 1e-7,
    intercept: bool = True,
    num_steps: int = 200,
    tolerance: float = 1e-6,
) -> RankChoice:
    """`choose_rank` of the samples of these moments, with 1 <= max_rank <= D."""
    _, choice = fit_ranks(
        moments,
        jnp.asarray(penalty, moments.gram.dtype),
        max_rank=max_rank,
        intercept=intercept,
        descent=Descent(num_steps, tolerance),
    )
    return choice


def rank_warning(choice: RankChoice, num_features: int) -> str | None:
    """Says that a representation has too few features, where that is clear; else None.

    The corrected criterion must want more than `num_features` of them, and by more than chance
    gives one feature of noise: two standard deviations of χ² with its parameters. Call
    `choose_rank` with a `max_rank` beyond `num_features`.
    """
    wanted, most = int(choice.corrected_rank), len(choice.criterion)
    if wanted <= num_features:
        return None
    values, parameters = np.asarray(choice.corrected), np.asarray(choice.parameters)
    gain = values[num_features - 1] - values[wanted - 1]
    if gain <= 2.0 * np.sqrt(2.0 * (parameters[num_features] - parameters[num_features - 1])):
        return None
    least = "at least " if wanted == most else ""
    return (
        f"K = {num_features} looks too small: AIC wants {least}{wanted} features (lower by "
        f"{gain:,.0f}). Relevance from too few features can be worse than uniform sampling; fit "
        f"{wanted}."
    )


class _Path(NamedTuple):
    """The fits so far: the last and the best of them, and what each rank came to."""

    last: FittedFactors
    best: FittedFactors
    criterion: Array  # [max_rank]
    loss: Array  # [max_rank]
    tried: Array
    steps: Array


def fit_ranks(
    moments: TaskMoments,
    penalty: Array,
    *,
    max_rank: int,
    intercept: bool,
    descent: Descent,
) -> tuple[FittedFactors, RankChoice]:
    """Fits ranks in turn, see `choose_rank`: the fit at AIC's rank, exactly zero beyond it.

    Its kernel is `[D, max_rank]`, its steps are those of all the fits together.
    """
    parameters = num_parameters(moments, max_rank)
    most = last_rank(moments, parameters)

    def fit_next(path):
        rank = path.tried + 1
        left = _remaining(path.last, moments)
        added = leading_inputs(left, moments.count, 1)
        kernel = jnp.where((jnp.arange(max_rank) == path.tried)[None], added, path.last.kernel)
        last = fit_features(
            kernel, moments, penalty, intercept=intercept, descent=descent, rank=rank
        )
        heads, _ = ridge_heads(moments, last.kernel, penalty, intercept=intercept)
        loss = squared_error(moments, last.kernel, heads.weight) / total_count(moments)
        criterion = path.criterion.at[path.tried].set(akaike(loss, parameters[path.tried], moments))
        is_best = lowest_rank(criterion, rank) == rank
        best = jax.tree.map(lambda new, old: jnp.where(is_best, new, old), last, path.best)
        losses = path.loss.at[path.tried].set(loss)
        return _Path(last, best, criterion, losses, rank, path.steps + last.steps)

    shape, dtype = moments.moment.shape, moments.moment.dtype
    unknown = jnp.full(max_rank, jnp.nan, dtype)
    nothing = FittedFactors(
        jnp.zeros((shape[1], max_rank), dtype),
        jnp.zeros((shape[0], max_rank, shape[2]), dtype),
        jnp.zeros((), dtype),
        jnp.int32(0),
    )
    path = _Path(nothing, nothing, unknown, unknown, jnp.int32(0), jnp.int32(0))
    path = jax.lax.while_loop(
        lambda path: goes_on(path.criterion, path.tried, most), fit_next, path
    )
    corrected = path.criterion + correction(parameters, moments)
    choice = RankChoice(
        lowest_rank(path.criterion, path.tried),
        stopping_rank(corrected),
        path.criterion,
        corrected,
        path.loss,
        parameters,
    )
    return path.best._replace(steps=path.steps), choice


def _remaining(found: FittedFactors, moments: TaskMoments) -> Array:
    """Moments `[M, D, O]` of the inputs with what a fit leaves of the labels."""
    return moments.moment - gram_times(moments, product(found.kernel, found.weight))
