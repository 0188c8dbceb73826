"""The fit of the linear representation for few inputs: samples are read once, into moments."""

from typing import Literal

import jax.numpy as jnp
from jax.typing import ArrayLike

from amtl_jax.fitting.factors import check_descent, leading_inputs, spectral_start
from amtl_jax.fitting.moment_descent import WINDOW, Descent, FittedFactors, fit_features
from amtl_jax.fitting.moments import (
    TaskMoments,
    error_of_heads,
    ridge_heads,
    squared_error,
    task_moments,
    total_count,
)
from amtl_jax.fitting.rank import fit_ranks
from amtl_jax.types import Array, Encoder, FitResult, Fitter, MomentFit, Params, TaskBatch


def gram_fitter(
    encoder: Encoder,
    *,
    num_tasks: int,
    intercept: bool = True,
    num_steps: int = 200,
    tolerance: float = 1e-6,
    memory: int = 10,
    window: int = WINDOW,
    rank: int | Literal["aic"] | None = None,
) -> Fitter:
    """Returns a fit of the linear encoder whose steps do not depend on how many samples there are.

    The objective, the start and the result are those of `lbfgs_fitter`. The samples are read once
    for the second moments of every task; a step of L-BFGS with the exact line search then costs
    M·D² operations instead of N·D. So it is the faster one where N > M·D, that is for small D.

    Args:
      encoder: a linear encoder with the one parameter `kernel` `[D, K]`.
      num_tasks: M, static; tasks without weight get zero heads.
      intercept: whether heads have an unpenalised intercept.
      num_steps: most steps.
      tolerance: stops when the objective fell by no more than this share over the last `window`
        values of it, which are `window − 1` steps.
      memory: pairs of the quasi-Newton history.
      window: values that are judged together, at least 2; one step fewer is made at least.
      rank: features that are fitted, the others exactly zero; None: all K. "aic" fits 1, 2, … up
        to K in turn and keeps the one Akaike's criterion chooses on the rows of the batch, see
        `choose_rank`; it starts from nothing and of the parameters given uses the shape alone.

    Returns:
      `Fitter`; its `fit` also rebalances the factors to BᵀB = Σ_m W_m W_mᵀ. The loss is a
      difference of sums, right to the float epsilon of the labels' mean square.

    Raises:
      ValueError: if a number is out of range.

    References:
      Nocedal, Wright. Numerical Optimization, chapter 7. Start: Tripuraneni, Jin, Jordan.
      Provable Meta-Learning of Linear Representations. 2021.
    """
    check_descent("gram_fitter", num_steps, memory, tolerance, window)
    _check_rank("gram_fitter", rank, encoder.num_features)
    descent = Descent(num_steps, tolerance, memory, window)

    def start(moments: TaskMoments, penalty: Array) -> Params:
        del penalty  # as for the samples
        kernel = leading_inputs(moments.moment, moments.count, encoder.num_features)
        return {"params": {"kernel": kernel}}

    def fit_of(params: Params, moments: TaskMoments, penalty: Array) -> FitResult:
        kernel = params["params"]["kernel"]
        return _fit(kernel, moments, penalty, intercept=intercept, descent=descent, rank=rank)

    def fit(params: Params, batch: TaskBatch, penalty: Array) -> FitResult:
        moments = task_moments(batch, num_tasks=num_tasks, intercept=intercept)
        return fit_of(params, moments, penalty)

    def error(found: FitResult, moments: TaskMoments) -> Array:
        return error_of_heads(moments, found.params["params"]["kernel"], found.heads)

    init = spectral_start("gram_fitter", encoder, num_tasks, intercept)
    of_moments = MomentFit(start, fit_of, error)
    return Fitter(init, fit, encoder, num_tasks, intercept, of_moments=of_moments)


def fit_moments(
    moments: TaskMoments,
    penalty: ArrayLike,
    *,
    num_features: int,
    intercept: bool = True,
    num_steps: int = 200,
    tolerance: float = 1e-6,
    memory: int = 10,
    window: int = WINDOW,
    rank: int | Literal["aic"] | None = None,
) -> FitResult:
    """Fits the linear representation to moments alone: what `gram_fitter` gives of their samples.

    For more samples than memory holds: `stream_moments` sums their moments.

    Args:
      moments: of the samples of M tasks, centred where there is an intercept.
      penalty: `[]` λ.
      num_features: K.
      intercept: whether heads have an unpenalised intercept.
      num_steps: most steps.
      tolerance: see `gram_fitter`.
      memory: pairs of the quasi-Newton history.
      window: see `gram_fitter`.
      rank: see `gram_fitter`.

    Raises:
      ValueError: if a number is out of range.
    """
    check_descent("fit_moments", num_steps, memory, tolerance, window)
    _check_rank("fit_moments", rank, num_features)
    return _fit(
        leading_inputs(moments.moment, moments.count, num_features),
        moments,
        jnp.asarray(penalty, moments.gram.dtype),
        intercept=intercept,
        descent=Descent(num_steps, tolerance, memory, window),
        rank=rank,
    )


def _check_rank(name: str, rank: int | str | None, num_features: int) -> None:
    if rank not in (None, "aic", *range(1, num_features + 1)):
        raise ValueError(
            f"{name} expects rank None, 'aic' or 1 to {num_features}, the encoder's features, got "
            f"{rank!r}."
        )


def _fit(
    kernel: Array,
    moments: TaskMoments,
    penalty: Array,
    *,
    intercept: bool,
    descent: Descent,
    rank: int | Literal["aic"] | None,
) -> FitResult:
    options = {"intercept": intercept, "descent": descent}
    if rank == "aic":
        found, _ = fit_ranks(moments, penalty, max_rank=kernel.shape[1], **options)
    else:
        found = fit_features(kernel, moments, penalty, rank=rank, **options)
    return _result(moments, found, penalty, intercept)


def _result(
    moments: TaskMoments, found: FittedFactors, penalty: Array, intercept: bool
) -> FitResult:
    """Solves the heads on the fitted features and gathers the result, from the moments alone."""
    heads, stats = ridge_heads(moments, found.kernel, penalty, intercept=intercept)
    loss = squared_error(moments, found.kernel, heads.weight) / total_count(moments)
    squares = jnp.sum(found.kernel**2) + jnp.sum(heads.weight**2)
    objective = loss + penalty * squares
    ok = jnp.isfinite(objective) & jnp.isfinite(found.gradient_norm)
    params = {"params": {"kernel": found.kernel}}
    return FitResult(params, heads, stats, objective, loss, found.gradient_norm, found.steps, ok)
