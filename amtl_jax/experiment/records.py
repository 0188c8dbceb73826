"""What is written down about a round: its line of `metrics.jsonl`, as plain data."""

from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

from amtl_jax.experiment.build import Problem
from amtl_jax.experiment.evaluate import evaluate, risks
from amtl_jax.target import LooRidge
from amtl_jax.types import LearnerState, RoundInfo

TARGET_ONLY = "target_only"


def number(value: ArrayLike) -> float | None:
    """A float for JSON; what is not finite becomes null."""
    value = float(value)
    return value if np.isfinite(value) else None


def target_only_record(
    problem: Problem, fit: LooRidge, predictions: np.ndarray, *, seed: int, seconds: float
) -> dict[str, Any]:
    """The record of the arm that buys nothing: ridge on the inputs of the target sample."""
    target = evaluate(predictions, problem.test.y, is_classification=problem.is_classification)
    if problem.truth is not None:
        kernel = np.asarray(fit.head.weight)
        one = np.ones(kernel.shape[1], np.float32)
        found = risks(problem.truth, kernel, one, float(fit.head.bias[0]))
        # It learns no representation that a head could be better or worse on.
        target |= {"excess_risk": found["excess_risk"], "representation_risk": np.nan}
    return {
        "seed": seed,
        "round": 0,
        "strategy": TARGET_ONLY,
        "counts": [],
        "nu": [],
        "samples_total": 0,
        "train_loss": None,
        "target_loo": number(fit.loss),
        "target_ridge": number(fit.ridge),
        "target": _numbers(target),
        "device": jax.devices()[0].device_kind,
        "seconds": round(seconds, 3),
    }


def round_record(
    problem: Problem,
    state: LearnerState,
    info: RoundInfo,
    predictions: np.ndarray,
    *,
    seed: int,
    arm: str,
    index: int,
    seconds: float,
) -> dict[str, Any]:
    """The record of a round of an arm that buys samples."""
    target = evaluate(predictions, problem.test.y, is_classification=problem.is_classification)
    if problem.truth is not None:
        target |= _risks(problem, state, predictions)
    relevance = state.proposal.relevance
    return {
        "seed": seed,
        "round": index,
        "strategy": arm,
        "counts": np.asarray(info.counts).tolist(),
        "nu": [number(value) for value in np.asarray(relevance.nu)],
        "samples_total": int(np.sum(state.spent)),
        "train_loss": number(info.fit.loss),
        "objective": number(info.fit.objective),
        "gradient_passes": int(info.fit.steps),
        "penalty": number(info.penalty),
        "held_out_losses": [number(value) for value in np.asarray(info.penalty_losses)],
        "target_loo": number(info.target_loss),
        "target_ridge": number(info.target_ridge),
        "relevance": {
            "residual": number(relevance.residual),
            "gap": number(relevance.gap),
            "ok": bool(relevance.ok),
        },
        "target": _numbers(target),
        "device": jax.devices()[0].device_kind,
        "seconds": round(seconds, 3),
    }


def _risks(problem: Problem, state: LearnerState, predictions: np.ndarray) -> dict[str, float]:
    """Risks against the known truth: exact for linear features, on the test rows for others."""
    inputs = problem.test.x
    weight, bias = (np.asarray(leaf) for leaf in state.target_head[:2])
    match jax.tree.leaves(state.params):
        case []:
            kernel = np.eye(inputs.shape[1], dtype=np.float32)
        case [kernel] if kernel.ndim == 2:
            kernel = np.asarray(kernel)
        case _:
            kernel = np.zeros((0, 0))
    # A module of one's own may have such parameters and not be linear: its predictions tell.
    if kernel.shape == (inputs.shape[1], len(weight)):
        linear = inputs @ kernel @ weight + bias[None]
        size = np.abs(predictions).max()
        if np.allclose(linear, predictions, rtol=1e-3, atol=1e-3 * size):
            return risks(problem.truth, kernel, weight[:, 0], float(bias[0]))
    truth = inputs @ problem.truth.target_theta()
    excess = float(np.mean((predictions - truth) ** 2))
    return {"excess_risk": excess, "representation_risk": np.nan}


def _numbers(values: dict[str, float]) -> dict[str, float | None]:
    return {name: number(value) for name, value in values.items()}
