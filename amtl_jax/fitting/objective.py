"""The one objective of every fit.

L(phi, W, c) = (1/N) Σ ω (y − c − phi(x)ᵀw)² + λ(‖phi‖² + ‖W‖²), N = Σ ω.
"""

import jax
import jax.numpy as jnp

from amtl_jax.heads import head_stats, predict_heads, solve_heads
from amtl_jax.types import Array, Encoder, FitResult, Heads, Params, TaskBatch


def squared_norm(params: Params) -> Array:
    """Sums the squared weights of an encoder, biases left out (leaves named `bias`)."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return sum(
        jnp.sum(leaf**2)
        for path, leaf in leaves
        if getattr(path[-1], "key", getattr(path[-1], "name", None)) != "bias"
    )


def total_weight(batch: TaskBatch) -> Array:
    """Returns N = Σ ω, at least a tiny number, so that empty batches divide."""
    return jnp.maximum(jnp.sum(batch.weight), jnp.finfo(batch.weight.dtype).tiny)


def mean_squared_error(heads: Heads, features: Array, batch: TaskBatch) -> Array:
    """Returns `[]` (1/N) Σ ω ‖y − prediction‖² over the rows of a batch."""
    error = (batch.y - predict_heads(heads, features, batch)) ** 2
    return jnp.sum(batch.weight[..., None] * error) / total_weight(batch)


def penalised_loss(heads: Heads, params: Params, features: Array, batch: TaskBatch, penalty):
    """Returns `(objective, loss)` of given heads and encoder; see the module docstring."""
    loss = mean_squared_error(heads, features, batch)
    return loss + penalty * (squared_norm(params) + jnp.sum(heads.weight**2)), loss


def finish(
    encoder: Encoder,
    params: Params,
    batch: TaskBatch,
    penalty: Array,
    *,
    num_tasks: int,
    intercept: bool,
    gradient_norm: Array,
    steps: Array,
) -> FitResult:
    """Solves the heads on the fitted features and gathers the result, for any way of fitting."""
    features = encoder.apply(params, batch.x)
    stats = head_stats(features, batch, num_tasks=num_tasks)
    heads = solve_heads(stats, ridge=penalty * total_weight(batch), intercept=intercept)
    objective, loss = penalised_loss(heads, params, features, batch, penalty)
    ok = jnp.isfinite(objective) & jnp.isfinite(gradient_norm)
    return FitResult(params, heads, stats, objective, loss, gradient_norm, steps, ok)
