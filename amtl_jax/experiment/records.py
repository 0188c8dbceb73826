"""What is written down about a round: its line of `metrics.jsonl`, as plain data."""

from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

from amtl_jax.answer import CANDIDATES, Answer
from amtl_jax.experiment.evaluate import evaluate, risks
from amtl_jax.experiment.problem import Problem
from amtl_jax.rank_choice import features_in_use
from amtl_jax.types import Encoder, LearnerState, RoundInfo

TARGET_ONLY = "target_only"
POOLED = "pooled"
NOT_BUYING = (TARGET_ONLY, POOLED)


def number(value: ArrayLike) -> float | None:
    """A float for JSON; what is not finite becomes null."""
    value = float(value)
    return value if np.isfinite(value) else None


def baseline_record(
    problem: Problem,
    answer: Answer,
    predictions: np.ndarray,
    *,
    seed: int,
    arm: str,
    samples: int,
    ridge: float,
    seconds: float,
) -> dict[str, Any]:
    """The record of an arm that is one ridge on the inputs."""
    target = evaluate(predictions, problem.test.y, kind=problem.kind)
    if problem.truth is not None:
        kernel = np.asarray(answer.input_weight)
        one = np.ones(kernel.shape[1], np.float32)
        found = risks(problem.truth, kernel, one, float(answer.bias[0]))
        # It learns no representation that a head could be better or worse on.
        target |= {"excess_risk": found["excess_risk"], "representation_risk": np.nan}
    return {
        "seed": seed,
        "round": 0,
        "strategy": arm,
        "counts": [],
        "nu": [],
        "samples_total": samples,
        "train_loss": None,
        "target_loo": number(answer.loss * problem.scale**2) if arm == TARGET_ONLY else None,
        "target_ridge": number(ridge),
        "target": _numbers(target),
        "device": jax.devices()[0].device_kind,
        "seconds": round(seconds, 3),
    }


def round_record(
    problem: Problem,
    encoder: Encoder,
    state: LearnerState,
    info: RoundInfo,
    predictions: np.ndarray,
    answer: Answer,
    answered: np.ndarray,
    *,
    seed: int,
    arm: str,
    index: int,
    seconds: float,
) -> dict[str, Any]:
    """The record of a round of an arm that buys samples."""
    target = evaluate(predictions, problem.test.y, kind=problem.kind)
    if problem.truth is not None:
        target |= _risks(problem, state, predictions)
    relevance = state.proposal.relevance
    num_features = features_in_use(encoder, state.params)
    values = np.asarray(info.diagnosis.singular_values)
    if num_features < encoder.num_features:  # chosen by AIC: what is not in use is no direction
        values = values[: max(num_features, 1)]  # largest first
    return {
        "seed": seed,
        "round": index,
        "strategy": arm,
        "counts": np.asarray(info.counts).tolist(),
        "nu": _plain(relevance.nu),
        "samples_total": int(np.sum(state.spent)),
        "num_features": num_features,
        "train_loss": number(info.fit.loss),
        "objective": number(info.fit.objective),
        "gradient_passes": int(info.fit.steps),
        "penalty": number(info.penalty),
        "held_out_losses": _plain(info.penalty_losses),
        "target_loo": number(info.target_loss * problem.scale**2),
        "target_ridge": number(info.target_ridge),
        "relevance": {
            "residual": number(relevance.residual),
            "gap": number(relevance.gap),
            "ok": bool(relevance.ok),
        },
        "diagnosis": {
            "effective_rank": number(info.diagnosis.effective_rank),
            "largest_singular_value": number(values[0]),
            "smallest_singular_value": number(values[-1]),
            "unexplained": number(info.diagnosis.unexplained),
        },
        "target": _numbers(target),
        "answer": {
            "shares": dict(zip(CANDIDATES, _plain(answer.shares), strict=True)),
            "losses": dict(zip(CANDIDATES, _plain(answer.losses * problem.scale**2), strict=True)),
            "loo": number(answer.loss * problem.scale**2),
            "target": _numbers(evaluate(answered, problem.test.y, kind=problem.kind)),
        },
        "device": jax.devices()[0].device_kind,
        "seconds": round(seconds, 3),
    }


def _plain(values: ArrayLike) -> list[float | None]:
    return [number(value) for value in np.asarray(values)]


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
