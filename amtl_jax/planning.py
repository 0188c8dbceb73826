"""What a split of the budget will be worth, and how rounds share it."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from amtl_jax.allocation import allocate
from amtl_jax.relevance import basis_pursuit, min_norm
from amtl_jax.types import Array


class Risk(NamedTuple):
    """First-order excess risk of the target predictor, in squared label units.

    Attributes:
      representation: `[]` what the source samples leave to be learnt about the representation.
      head: `[]` what the target sample leaves to be learnt about the target's head.
    """

    representation: Array
    head: Array


def first_order_risk(
    source_heads: ArrayLike,
    target_head: ArrayLike,
    counts: ArrayLike,
    *,
    noise_variance: float | Array,
    input_dim: int,
    num_target: int,
) -> Risk:
    """Predicts the target's excess risk after buying `counts` samples.

    `σ²(D − K) · min_{nu: W nu = w_T} Σ nu_m² / n_m + σ²K / n_T`, for isotropic inputs, equal
    noise and exact joint least squares. It needs about 10 D samples from every source that
    matters. The minimum is `w_Tᵀ(W diag(n) Wᵀ)⁻¹w_T` where that inverse exists, and goes on to
    hold where only a few sources were bought that span the target.

    Args:
      source_heads: `[M, K]` true or fitted heads on orthonormal features.
      target_head: `[K]`.
      counts: `[M]` samples of each source, non-negative.
      noise_variance: `[]` σ², squared label units.
      input_dim: D.
      num_target: n_T, size of the target's sample.

    Returns:
      The two terms; the first is inf where the sources bought do not span the target's head.

    Raises:
      ValueError: for arrays of other shapes, D < K or n_T < 1.

    References:
      Chen, Du, Jamieson. Active Multi-Task Representation Learning. ICML 2022 (the setting).
      Elfving. Optimum Allocation in Linear Regression Theory. Ann. Math. Stat. 1952.
    """
    num_tasks, num_features = _check_heads("first_order_risk", source_heads, target_head)
    if np.shape(counts) != (num_tasks,):
        raise ValueError(
            f"first_order_risk: expected counts of shape [{num_tasks}], one a source, "
            f"got {list(np.shape(counts))}."
        )
    if input_dim < num_features or num_target < 1:
        raise ValueError(
            f"first_order_risk: expected input_dim ≥ K = {num_features} and num_target ≥ 1, "
            f"got input_dim={input_dim}, num_target={num_target}."
        )
    target = jnp.asarray(target_head, float)
    root = jnp.sqrt(jnp.asarray(counts, float))
    # Singular values of √n W, not eigenvalues of its Gram matrix: no squared condition number.
    _, scale, rows = jnp.linalg.svd(root[:, None] * source_heads, full_matrices=False)
    tolerance = max(num_tasks, num_features) * jnp.finfo(scale.dtype).eps
    kept = scale > tolerance * scale[0]
    component = jnp.where(kept, jnp.matmul(rows, target, precision="highest"), 0)
    outside = target - jnp.matmul(component, rows, precision="highest")
    spanned = jnp.linalg.norm(outside) <= 10 * tolerance * jnp.linalg.norm(target)
    variance = jnp.sum((component / jnp.where(kept, scale, 1)) ** 2)
    return Risk(
        representation=noise_variance
        * (input_dim - num_features)
        * jnp.where(spanned, variance, jnp.inf),
        head=jnp.asarray(noise_variance * num_features / num_target, float),
    )


def saving(source_heads: ArrayLike, target_head: ArrayLike) -> Array:
    """How many times fewer samples the best split needs than the uniform one, for equal risk.

    `M ‖nu2‖₂² / ‖nu1‖₁²` with nu2 the minimum-norm and nu1 the basis-pursuit relevance: the
    ratio of the two first-order risks, between 1 and M.

    Args:
      source_heads: `[M, K]` heads of the sources.
      target_head: `[K]`.

    Returns:
      `[]` the ratio; NaN where either relevance missed its tolerance.

    Raises:
      ValueError: for arrays of other shapes.

    References:
      Wang, Chen, Jamieson, Du. Improved Active Multi-Task Representation Learning via Lasso.
      ICML 2023.
    """
    num_tasks, _ = _check_heads("saving", source_heads, target_head)
    heads, target = jnp.asarray(source_heads)[:, :, None], jnp.asarray(target_head)[:, None]
    uniform, best = min_norm(heads, target), basis_pursuit(heads, target)
    ratio = num_tasks * jnp.sum(uniform.nu**2) / jnp.sum(jnp.abs(best.nu)) ** 2
    return jnp.where(uniform.ok & best.ok, ratio, jnp.nan)


def _check_heads(name: str, source_heads: ArrayLike, target_head: ArrayLike) -> tuple[int, int]:
    shape, target_shape = np.shape(source_heads), np.shape(target_head)
    if len(shape) != 2 or target_shape != shape[1:]:
        raise ValueError(
            f"{name}: expected source heads [M, K] and a target head [K], got {list(shape)} and "
            f"{list(target_shape)}; of heads [M, K, O] pass one output at a time."
        )
    return shape


def split_budget(total: float, shares: Sequence[float]) -> tuple[int, ...]:
    """Splits a total budget into whole round budgets in proportion to `shares`.

    Args:
      total: samples of all rounds, a whole number.
      shares: one positive number a round, any scale.

    Returns:
      Samples of each round, summing to `total` exactly (largest remainder).

    Raises:
      ValueError: for no shares, shares that are not positive, or a round without a sample.
    """
    if len(shares) == 0 or not all(0 < share < math.inf for share in shares):
        raise ValueError(f"split_budget: expected one positive share a round, got {list(shares)}.")
    budgets = tuple(int(count) for count in allocate(np.asarray(shares, float), budget=total))
    if min(budgets) == 0:
        raise ValueError(
            f"split_budget: expected at least one sample in each of {len(budgets)} rounds, "
            f"got {budgets} from a total of {total}; raise the total or use fewer rounds."
        )
    return budgets


def round_floor(
    budget: float,
    num_tasks: int,
    *,
    count: int | None = None,
    share: float | None = None,
    root: bool = False,
) -> int:
    """Samples that every task gets in a round, by one of three rules.

    Args:
      budget: samples of the round.
      num_tasks: M.
      count: a fixed floor.
      share: part of the round's budget, in [0, 1], that is spread evenly. 0.2 without a rule.
      root: √budget, the floor of the papers.

    Returns:
      The floor; `num_tasks` floors fit into the budget.

    Raises:
      ValueError: for more than one rule, values out of range, or floors that do not fit.

    References:
      Chen, Du, Jamieson. Active Multi-Task Representation Learning. ICML 2022 (`β/ε`).
    """
    if (count is not None) + (share is not None) + bool(root) > 1:
        raise ValueError(
            "round_floor: expected at most one of count, share and root, "
            f"got count={count}, share={share}, root={root}."
        )
    if num_tasks < 1 or not 0 <= budget < math.inf:
        raise ValueError(
            "round_floor: expected num_tasks ≥ 1 and a finite budget ≥ 0, "
            f"got num_tasks={num_tasks}, budget={budget}."
        )
    if root:
        floor, advice = math.isqrt(int(budget)), f"a round budget of at least M² = {num_tasks**2}"
    elif count is not None:
        floor, advice = count, f"count ≤ {int(budget // num_tasks)}, or a larger round"
    else:
        share = 0.2 if share is None else share
        # 0.29 · 100 is 28.999…96 in floating point.
        floor, advice = math.floor(share * budget / num_tasks * (1 + 1e-12)), "a share in [0, 1]"
    if floor < 0 or floor * num_tasks > budget:
        raise ValueError(
            f"round_floor: expected floors that fit into the round, got {num_tasks} tasks × "
            f"{floor} samples for a budget of {budget:g}; this rule needs {advice}."
        )
    return floor
