"""The one objective of every fit.

L(phi, W, c) = (1/N) Σ ω (y − c − phi(x)ᵀw)² + λ(‖phi‖² + ‖W‖²), N = Σ ω.
"""

import jax
import jax.numpy as jnp

from amtl_jax.encoding import encode, encode_live
from amtl_jax.heads import head_stats, predict_heads, solve_heads
from amtl_jax.sharded import sum_rows
from amtl_jax.types import Array, Encoder, FitResult, Heads, Params, TaskBatch


def squared_norm(params: Params) -> Array:
    """Sums the squared weights of an encoder, biases left out (leaves named `bias`)."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    squares = [
        jnp.sum(leaf**2)
        for path, leaf in leaves
        if not path or getattr(path[-1], "key", getattr(path[-1], "name", None)) != "bias"
    ]
    return jnp.stack(squares).sum() if squares else jnp.zeros(())


def total_weight(batch: TaskBatch) -> Array:
    """Returns N = Σ ω, at least a tiny number, so that empty batches divide."""
    return jnp.maximum(sum_rows(batch.weight), jnp.finfo(batch.weight.dtype).tiny)


def mean_squared_error(heads: Heads, features: Array, batch: TaskBatch) -> Array:
    """Returns `[]` (1/N) Σ ω ‖y − prediction‖² over the rows of a batch."""
    error = (batch.y - predict_heads(heads, features, batch)) ** 2
    return sum_rows(batch.weight * jnp.sum(error, axis=-1)) / total_weight(batch)


def penalised_loss(
    heads: Heads, params: Params, features: Array, batch: TaskBatch, penalty: Array
) -> tuple[Array, Array]:
    """Returns `(objective, loss)` of given heads and encoder; see the module docstring."""
    loss = mean_squared_error(heads, features, batch)
    return loss + penalty * (squared_norm(params) + jnp.sum(heads.weight**2)), loss


def projected_objective(
    encoder: Encoder,
    params: Params,
    batch: TaskBatch,
    penalty: Array,
    *,
    num_tasks: int,
    intercept: bool,
) -> Array:
    """Returns `[]` the objective as a function of the encoder alone, heads at their optimum.

    The heads are solved and then held constant: at the optimum the objective's derivative by the
    heads vanishes, so its gradient by `params` is that of the whole (envelope theorem), and none
    goes through the solver.

    References:
      Golub, Pereyra. The differentiation of pseudo-inverses and nonlinear least squares problems
      whose variables separate. 1973.
    """
    features = encode(encoder, params, batch.x)
    stats = head_stats(jax.lax.stop_gradient(features), batch, num_tasks=num_tasks)
    heads = solve_heads(stats, ridge=penalty * total_weight(batch), intercept=intercept)
    return penalised_loss(heads, params, features, batch, penalty)[0]


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
    features = encode_live(encoder, params, batch.x, batch.weight)
    stats = head_stats(features, batch, num_tasks=num_tasks)
    heads = solve_heads(stats, ridge=penalty * total_weight(batch), intercept=intercept)
    objective, loss = penalised_loss(heads, params, features, batch, penalty)
    ok = jnp.isfinite(objective) & jnp.isfinite(gradient_norm)
    return FitResult(params, heads, stats, objective, loss, gradient_norm, steps, ok)
