"""Second moments of every task: all that a linear representation needs of its samples."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from amtl_jax.encoding import as_float
from amtl_jax.fitting.factors import inverse_count, task_sums
from amtl_jax.heads import solve_heads
from amtl_jax.sharded import Sums, add_blocks, empty_sums, sum_by_task, sum_rows_by_task
from amtl_jax.types import Array, Heads, HeadStats, TaskBatch

_PRECISION = jax.lax.Precision.HIGHEST
_SUM_ROWS = 64


class TaskMoments(NamedTuple):
    """Weighted moments of inputs and labels, centred where heads have an intercept.

    Centring the rows rather than their sums of products keeps the digits that float32 has.

    Attributes:
      gram: `[M, D, D]` Σ ω (x − mean)(x − mean)ᵀ.
      moment: `[M, D, O]` Σ ω (x − mean)(y − label_mean)ᵀ.
      energy: `[M, O]` Σ ω (y − label_mean)².
      mean: `[M, D]` weighted means of the inputs; zeros without an intercept.
      label_mean: `[M, O]` of the labels; zeros without an intercept.
      input_sum: `[M, D]` Σ ω x.
      label_sum: `[M, O]` Σ ω y.
      count: `[M]` Σ ω.
      num_rows: `[]` rows of positive weight.
    """

    gram: Array
    moment: Array
    energy: Array
    mean: Array
    label_mean: Array
    input_sum: Array
    label_sum: Array
    count: Array
    num_rows: Array


class MomentSums(NamedTuple):
    """What moments are centred by; these sums add over batches.

    Attributes:
      input_sum: `[M, D]` Σ ω x.
      label_sum: `[M, O]` Σ ω y.
      count: `[M]` Σ ω.
      num_rows: `[]` rows of positive weight.
    """

    input_sum: Array
    label_sum: Array
    count: Array
    num_rows: Array

    def means(self, intercept: bool) -> tuple[Array, Array]:
        """Means of inputs `[M, D]` and labels `[M, O]`; zeros without an intercept."""
        inverse = inverse_count(self.count, intercept)
        return inverse * self.input_sum, inverse * self.label_sum


class CentredSums(NamedTuple):
    """Moments about given means, fields of `TaskMoments`; these sums add over batches."""

    gram: Array
    moment: Array
    energy: Array


def task_moments(batch: TaskBatch, *, num_tasks: int, intercept: bool) -> TaskMoments:
    """Sums the moments of every task; tasks without weight get zeros."""
    sums = moment_sums(batch, num_tasks)
    centred = centred_sums(batch, *sums.means(intercept), intercept=intercept)
    return moments_of(sums, centred, intercept=intercept)


def moment_sums(batch: TaskBatch, num_tasks: int) -> MomentSums:
    """Sums inputs, labels and weights of every task."""
    batch = _short_blocks(batch._replace(x=as_float(batch.x, batch.weight.dtype)))
    num_rows = jnp.sum(batch.weight > 0, dtype=batch.weight.dtype)
    return MomentSums(*task_sums(batch, num_tasks), num_rows)


def moments_of(sums: MomentSums, centred: CentredSums, *, intercept: bool) -> TaskMoments:
    """Gathers moments from the sums of all rows, and those about the means that they give."""
    mean, label_mean = sums.means(intercept)
    return TaskMoments(*centred, mean, label_mean, *sums)


def centred_sums(
    batch: TaskBatch, mean: Array, label_mean: Array, *, intercept: bool
) -> CentredSums:
    """Sums products of inputs and labels of every task, less the means with an intercept."""
    batch = _short_blocks(batch._replace(x=as_float(batch.x, batch.weight.dtype)))
    inputs, labels, num_tasks = batch.x, batch.y, len(mean)
    if intercept:
        inputs = inputs - mean[batch.task][:, None, :]
        labels = labels - label_mean[batch.task][:, None, :]

    def products(pair: tuple[Array, Array], slot: Array, num_edges: int) -> tuple[None, Sums]:
        of_blocks = jnp.einsum("brp,brq->bpq", *pair, precision=_PRECISION)
        return None, add_blocks(empty_sums(of_blocks, num_tasks, num_edges), slot, of_blocks)

    def summed(left: Array, right: Array) -> Array:  # [M, P, Q]
        return sum_by_task(products, (left, right), batch.task, num_tasks=num_tasks)[1]

    weighted = batch.weight[..., None] * labels
    gram = summed(batch.weight[..., None] * inputs, inputs)
    energy = sum_rows_by_task(weighted * labels, batch.task, num_tasks)
    return CentredSums(gram, summed(inputs, weighted), energy)


def _short_blocks(batch: TaskBatch) -> TaskBatch:
    """The same rows in blocks of 64 where the blocks divide: short sums round less."""
    num_blocks, block_rows = batch.weight.shape
    parts = block_rows // _SUM_ROWS
    if parts < 2 or block_rows % _SUM_ROWS:
        return batch
    shape = (num_blocks * parts, _SUM_ROWS)
    return TaskBatch(
        batch.x.reshape(*shape, -1),
        batch.y.reshape(*shape, -1),
        batch.weight.reshape(shape),
        jnp.repeat(batch.task, parts),
    )


def total_count(moments: TaskMoments) -> Array:
    """Returns N = Σ ω, at least a tiny number, so that empty batches divide."""
    return jnp.maximum(jnp.sum(moments.count), jnp.finfo(moments.count.dtype).tiny)


def gram_times(moments: TaskMoments, theta: Array) -> Array:
    """The Gram matrix of every task times its columns, `[M, D, P]` to `[M, D, P]`."""
    return jnp.einsum("mde,mep->mdp", moments.gram, theta, precision=_PRECISION)


def feature_stats(moments: TaskMoments, kernel: Array | None) -> HeadStats:
    """Head statistics on the features xᵀB, what encoding all rows gives.

    Args:
      moments: of the samples.
      kernel: B `[D, K]`; None: the inputs are the features, here and below.
    """
    centred, moment = _centred(moments, kernel)
    mean = _features_of(moments.mean, kernel)  # [M, K]
    weighted = moments.count[:, None] * mean
    return HeadStats(
        gram=centred + weighted[:, :, None] * mean[:, None, :],
        moment=moment + weighted[:, :, None] * moments.label_mean[:, None, :],
        energy=moments.energy + moments.count[:, None] * moments.label_mean**2,
        feature_sum=_features_of(moments.input_sum, kernel),
        label_sum=moments.label_sum,
        count=moments.count,
    )


def ridge_heads(
    moments: TaskMoments, kernel: Array | None, penalty: Array, *, intercept: bool
) -> tuple[Heads, HeadStats]:
    """The closed-form heads on the features of a kernel, ridge λN, and their statistics."""
    stats = feature_stats(moments, kernel)
    ridge = penalty * total_count(moments)
    return solve_heads(stats, ridge=ridge, intercept=intercept), stats


def squared_error(moments: TaskMoments, kernel: Array | None, weight: Array) -> Array:
    """Σ ω ‖y − c − wᵀBᵀx‖² over all tasks, the intercepts at their best.

    A difference of sums: right to the float epsilon of the labels' energy.
    """
    gram, moment = _centred(moments, kernel)
    left = moment - jnp.matmul(gram, weight, precision=_PRECISION)
    explained = jnp.sum(weight * (moment + left), axis=1)  # [M, O]
    return jnp.sum(jnp.maximum(moments.energy - explained, 0.0))


def error_of_heads(moments: TaskMoments, kernel: Array | None, heads: Heads) -> Array:
    """Returns `[]` (1/N) Σ ω ‖y − prediction‖² of heads that were fitted to other rows.

    Right to the float epsilon of the labels' energy, as `squared_error`.
    """
    mean = _features_of(moments.mean, kernel)  # [M, K]
    predicted = jnp.einsum("mk,mko->mo", mean, heads.weight, precision=_PRECISION) + heads.bias
    level = jnp.sum(moments.count[:, None] * (moments.label_mean - predicted) ** 2)
    return (squared_error(moments, kernel, heads.weight) + level) / total_count(moments)


def _features_of(inputs: Array, kernel: Array | None) -> Array:
    """Features `[M, K]` of inputs `[M, D]`."""
    return inputs if kernel is None else jnp.matmul(inputs, kernel, precision=_PRECISION)


def _centred(moments: TaskMoments, kernel: Array | None) -> tuple[Array, Array]:
    """Centred Gram matrices `[M, K, K]` and moments `[M, K, O]` of the features."""
    if kernel is None:
        return moments.gram, moments.moment
    half = jnp.matmul(moments.gram, kernel, precision=_PRECISION)  # [M, D, K]
    gram = jnp.einsum("dk,mdl->mkl", kernel, half, precision=_PRECISION)
    return gram, jnp.einsum("dk,mdo->mko", kernel, moments.moment, precision=_PRECISION)
