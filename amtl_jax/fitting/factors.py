"""The factors B and W of the linear representation: where a fit starts, and their balance."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from amtl_jax.encoders.scaled import ScaledInputs
from amtl_jax.fitting.reading import correlate
from amtl_jax.sharded import sum_rows_by_task
from amtl_jax.types import Array, Encoder, Params, TaskBatch

_PRECISION = jax.lax.Precision.HIGHEST


def task_sums(batch: TaskBatch, num_tasks: int) -> tuple[Array, Array, Array]:
    """Σ ω x `[M, D]`, Σ ω y `[M, O]` and Σ ω `[M]` of every task."""
    input_sum = correlate(batch, jnp.ones_like(batch.weight)[None], num_tasks)[0]
    label_sum = sum_rows_by_task(batch.weight[..., None] * batch.y, batch.task, num_tasks)
    count = sum_rows_by_task(batch.weight, batch.task, num_tasks)
    return input_sum, label_sum, count


def task_means(batch: TaskBatch, num_tasks: int, intercept: bool) -> tuple[Array, Array, Array]:
    """Weighted task means of inputs `[M, D]` and labels `[M, O]`, and counts `[M]`.

    The means are zeros without an intercept, and of tasks without weight.
    """
    input_sum, label_sum, count = task_sums(batch, num_tasks)
    inverse = inverse_count(count, intercept)
    return inverse * input_sum, inverse * label_sum, count


def inverse_count(count: Array, intercept: bool) -> Array:
    """What makes means `[M, 1]` of sums; zeros without an intercept, and of empty tasks."""
    return jnp.where(count > 0, intercept / jnp.where(count > 0, count, 1.0), 0.0)[:, None]


def spectral_kernel(batch: TaskBatch, num_features: int, num_tasks: int, intercept: bool) -> Array:
    """Top-K left singular vectors of the columns √n_m g_m, g_m = X_mᵀy_m / n_m, centred.

    References:
      Tripuraneni, Jin, Jordan. Provable Meta-Learning of Linear Representations. 2021.
    """
    _, label_mean, count = task_means(batch, num_tasks, intercept)
    residual = batch.y - label_mean[batch.task][:, None, :]
    moments = correlate(batch, jnp.moveaxis(residual, -1, 0), num_tasks)  # [O, M, D]
    return leading_inputs(jnp.moveaxis(moments, 0, -1), count, num_features)


def spectral_start(
    name: str, encoder: Encoder, num_tasks: int, intercept: bool
) -> Callable[[Array, TaskBatch, Array], Params]:
    """Returns `Fitter.init` of a linear encoder: the kernel of `spectral_kernel`.

    It raises `ValueError`, in the words of the fitter `name`, where inputs are not vectors.

    Raises:
      ValueError: if the encoder scales its inputs, which these fits read as they are.
    """
    if isinstance(encoder.apply, ScaledInputs):
        raise ValueError(
            f"{name} reads inputs as they are, got an encoder that multiplies them by "
            f"{encoder.apply.scale:g}: leave scaled_encoder out, or use joint_descent_fitter."
        )

    def init(key: Array, batch: TaskBatch, penalty: Array) -> Params:
        del key, penalty  # the start is deterministic, and its size does not matter to a fit
        if batch.x.ndim != 3:
            raise ValueError(
                f"{name} expects inputs that are vectors, x [B, R, D], got {batch.x.shape}; "
                "flatten images before packing them."
            )
        kernel = spectral_kernel(batch, encoder.num_features, num_tasks, intercept)
        return {"params": {"kernel": kernel}}

    return init


def check_descent(name: str, num_steps: int, memory: int, tolerance: float, window: int) -> None:
    """Raises `ValueError` for numbers that no quasi-Newton descent can run with."""
    if num_steps < 1 or memory < 1 or not tolerance >= 0:
        raise ValueError(
            f"{name} expects num_steps >= 1, memory >= 1 and tolerance >= 0, got "
            f"{num_steps}, {memory} and {tolerance}."
        )
    if window < 2:
        raise ValueError(f"{name} expects window >= 2, got {window}.")


def leading_inputs(moments: Array, count: Array, num_features: int) -> Array:
    """Top-K left singular vectors `[D, K]` of the columns `moments [M, D, O]` / √n_m."""
    moments = moments / jnp.sqrt(jnp.maximum(count, 1.0))[:, None, None]
    num_inputs = moments.shape[1]
    columns = jnp.moveaxis(moments, 1, 0).reshape(num_inputs, -1)  # [D, M·O]
    left, _, _ = jnp.linalg.svd(columns, full_matrices=False)
    # Θ has at most min(D, M·O) columns of rank: further features would be zero at any optimum.
    missing = max(0, num_features - left.shape[1])
    return jnp.pad(left[:, :num_features], [(0, 0), (0, missing)])


def product(kernel: Array, weight: Array) -> Array:
    """Θ = BW of every task: `[D, K]` and `[M, K, O]` to `[M, D, O]`."""
    return jnp.einsum("dk,mko->mdo", kernel, weight, precision=_PRECISION)


def theta_columns(kernel: Array, weight: Array) -> Array:
    """Θ = BW as the columns that samples are read with: `[D, K]` and `[M, K, O]` to `[O, M, D]`."""
    return jnp.einsum("mko,dk->omd", weight, kernel, precision=_PRECISION)


def by_factors(by_theta: Array, kernel: Array, weight: Array) -> tuple[Array, Array]:
    """Gradients by B `[D, K]` and W `[M, K, O]` from that by Θ `[O, M, D]`."""
    by_kernel = jnp.einsum("omd,mko->dk", by_theta, weight, precision=_PRECISION)
    by_weight = jnp.einsum("omd,dk->mko", by_theta, kernel, precision=_PRECISION)
    return by_kernel, by_weight


def balance(kernel: Array, weight: Array) -> tuple[Array, Array]:
    """The factors of the same product BW with BᵀB = WWᵀ, whose squared norms are least."""
    num_tasks, num_features, num_outputs = weight.shape
    flat = jnp.moveaxis(weight, 1, 0).reshape(num_features, -1)  # [K, M·O]
    orthonormal, upper = jnp.linalg.qr(kernel)  # [D, P], [P, K]
    core = jnp.matmul(upper, flat, precision=_PRECISION)
    left, sigma, right = jnp.linalg.svd(core, full_matrices=False)
    root = jnp.sqrt(sigma)
    kernel = jnp.matmul(orthonormal, left * root[None], precision=_PRECISION)
    flat = root[:, None] * right
    missing = num_features - len(sigma)
    kernel = jnp.pad(kernel, [(0, 0), (0, missing)])
    flat = jnp.pad(flat, [(0, missing), (0, 0)])
    weight = jnp.moveaxis(flat.reshape(num_features, num_tasks, num_outputs), 0, 1)
    return kernel, weight
