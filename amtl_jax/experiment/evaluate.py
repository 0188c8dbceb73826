"""Test metrics of predictions, and what one arm gained over another."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from amtl_jax.bootstrap import paired_bootstrap, unpaired_bootstrap
from amtl_jax.data.scenarios import SyntheticTruth
from amtl_jax.metrics import (
    accuracy,
    balanced_accuracy,
    excess_risk,
    mean_squared_error,
    representation_risk,
    roc_auc,
)
from amtl_jax.types import Array

CLASSIFICATION: dict[str, Callable[..., Array]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "auc": roc_auc,
    "mse": mean_squared_error,
}
REGRESSION: dict[str, Callable[..., Array]] = {"mse": mean_squared_error}
_ROUNDING = 8 * float(np.finfo(np.float32).eps)
LOWER_IS_BETTER = {"mse", "excess_risk", "representation_risk"}


def metrics_of(is_classification: bool) -> dict[str, Any]:
    """Returns the metrics of a kind of problem by name, the primary one first."""
    return CLASSIFICATION if is_classification else REGRESSION


@functools.partial(jax.jit, static_argnames="is_classification")
def _evaluate(predictions, labels, *, is_classification: bool) -> dict[str, Any]:
    return {
        name: metric(predictions, labels) for name, metric in metrics_of(is_classification).items()
    }


def evaluate(
    predictions: np.ndarray, labels: np.ndarray, *, is_classification: bool
) -> dict[str, Any]:
    """Computes all test metrics of `[n, 1]` predictions as Python floats by name."""
    values = _evaluate(predictions[:, 0], labels[:, 0], is_classification=is_classification)
    return {name: float(value) for name, value in values.items()}


def risks(
    truth: SyntheticTruth, kernel: np.ndarray, head: np.ndarray, bias: float
) -> dict[str, Any]:
    """Computes the excess risk of a linear predictor against the known truth, as floats.

    Args:
      truth: of one output.
      kernel: `[D, K]`.
      head: `[K]`.
      bias: the predictor's intercept; the truth has none.
    """
    theta = np.asarray(truth.target_theta()[:, 0], np.float32)
    covariance = truth.target_covariance()
    whole = excess_risk(kernel, head, theta, bias=bias, input_covariance=covariance)
    representation = representation_risk(kernel, theta, input_covariance=covariance)
    return {"excess_risk": float(whole), "representation_risk": float(representation)}


@functools.partial(jax.jit, static_argnames=("is_classification", "num_resamples", "level"))
def _differences(arm, base, labels, key, *, is_classification, num_resamples, level):
    found = {}
    for name, metric in metrics_of(is_classification).items():
        interval = paired_bootstrap(
            metric, arm, base, labels, key=key, num_resamples=num_resamples, level=level
        )
        size = jax.vmap(lambda scores, metric=metric: metric(scores, labels))
        found[name] = interval, jnp.abs(size(arm)).max() + jnp.abs(size(base)).max()
    return found


def differences(
    arm: np.ndarray,
    base: np.ndarray,
    labels: np.ndarray,
    *,
    is_classification: bool,
    num_resamples: int,
    level: float,
) -> dict[str, Any]:
    """Compares two arms on the same test rows with paired bootstrap intervals.

    Args:
      arm: `[S, n]` predictions, a row per seed.
      base: `[S, n]` predictions of what it is compared with.
      labels: `[n]`.
      is_classification: which metrics to use.
      num_resamples: bootstrap resamples.
      level: coverage of the intervals.

    Returns:
      By metric name: `difference`, `low`, `high` (arm minus base) as floats. What is within
      rounding of 0 is 0: equal arms must not look different by the last bit of float32.
    """
    intervals = _differences(
        arm,
        base,
        labels,
        jax.random.key(0),
        is_classification=is_classification,
        num_resamples=num_resamples,
        level=level,
    )
    return {
        name: {end: _rounded(value, size) for end, value in interval._asdict().items()}
        for name, (interval, size) in intervals.items()
    }


@functools.partial(jax.jit, static_argnames=("is_classification", "num_resamples", "level"))
def _estimates(arm, labels, key, *, is_classification, num_resamples, level):
    return {
        name: unpaired_bootstrap(
            metric, arm, labels, key=key, num_resamples=num_resamples, level=level
        )
        for name, metric in metrics_of(is_classification).items()
    }


def estimates(
    arm: np.ndarray,
    labels: np.ndarray,
    *,
    is_classification: bool,
    num_resamples: int,
    level: float,
) -> dict[str, Any]:
    """Test metrics of one arm with bootstrap intervals over test rows and seeds.

    Args:
      arm: `[S, n]` predictions, a row per seed.
      labels: `[n]`.
      is_classification: which metrics to use.
      num_resamples: bootstrap resamples.
      level: coverage of the intervals.

    Returns:
      By metric name: `value`, `low`, `high` as floats, NaN where undefined.
    """
    found = _estimates(
        arm,
        labels,
        jax.random.key(0),
        is_classification=is_classification,
        num_resamples=num_resamples,
        level=level,
    )
    return {
        name: {end: float(value) for end, value in estimate._asdict().items()}
        for name, estimate in found.items()
    }


def _rounded(value, size) -> float:
    """A difference of two numbers of a given size, 0 where float32 cannot tell it from 0."""
    return 0.0 if abs(float(value)) <= _ROUNDING * float(size) else float(value)
