"""What a fit of the sources and a target's sample say about each source: pure functions.

The rules of the library see statistics of features alone. Some answers of the literature look at
the inputs too; they are here to be compared with, see `benchmarks.source_scores`.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from amtl_jax.encoding import as_float, encode_rows
from amtl_jax.experiment.study.pools import Pools, Slots, gather, images_at
from amtl_jax.heads import head_stats
from amtl_jax.label_alignment import alignment
from amtl_jax.target import loo_ridge
from amtl_jax.types import Array, Encoder, FitResult, Heads, TaskBatch

_PRECISION = jax.lax.Precision.HIGHEST
_TINY = 1e-20


class Scores(NamedTuple):
    """What a fit says of each of M sources, `[M]` each; see the functions of these names."""

    correlation: Array
    cosine: Array
    gain: Array


@functools.partial(jax.jit, static_argnums=0)
def source_scores(
    encoder: Encoder, pools: Pools, rows: Array, label: Array, slots: Slots, fit: FitResult
) -> Scores:
    """Scores every source.

    Args:
      encoder: linear; static.
      pools: all images.
      rows: `[n]` places of the target's sample.
      label: `[]` class of the target.
      slots: places of the samples that were fitted.
      fit: of the sources.
    """
    x, y = images_at(pools, rows), (pools.label[rows] == label).astype(jnp.float32)
    features, batch = encode_rows(encoder, fit.params, x), gather(pools, slots)
    head = loo_ridge(features, y[:, None], jnp.ones_like(y)).head
    kernel = fit.params["params"]["kernel"]
    return Scores(
        correlations(features, y, fit.heads),
        gradient_cosines(kernel, fit.heads, batch, x, y, head),
        leave_one_out_gains(features, y, fit.heads),
    )


def correlations(features: Array, y: Array, heads: Heads) -> Array:
    """`[M]` correlation of the labels with each head's predictions, see `alignment`.

    Args:
      features: `[n, K]` of the target's sample.
      y: `[n]` its labels.
      heads: of M sources, one output.
    """
    rows = features[None]
    batch = TaskBatch(rows, y[None, :, None], jnp.ones((1, len(y))), jnp.zeros(1, jnp.int32))
    stats = head_stats(rows, batch, num_tasks=1)
    return alignment(heads, jax.tree.map(lambda leaf: leaf[0], stats))


def leave_one_out_gains(features: Array, y: Array, heads: Heads) -> Array:
    """`[M]` by how much the target's leave-one-out error falls when its head leans on a source's.

    The target's head is ridge around a multiple of the source's head, the non-negative one that
    fits the labels best, in place of ridge around 0.

    Args:
      features: `[n, K]` of the target's sample.
      y: `[n]` its labels.
      heads: of M sources, one output.
    """
    predicted = jnp.matmul(features, heads.weight[..., 0].T, precision=_PRECISION)  # [n, M]
    predicted = predicted - jnp.mean(predicted, axis=0, keepdims=True)
    label = y - jnp.mean(y)
    energy = jnp.maximum(jnp.sum(predicted**2, axis=0), _TINY)
    slope = jnp.maximum(jnp.matmul(label, predicted, precision=_PRECISION) / energy, 0.0)
    rest = y[None] - (slope[None] * predicted).T  # [M, n]

    def loss(y: Array) -> Array:
        return loo_ridge(features, y[:, None], jnp.ones_like(y)).loss

    return loss(y) - jax.lax.map(loss, rest, batch_size=16)


def gradient_cosines(
    kernel: Array, heads: Heads, batch: TaskBatch, x: Array, y: Array, target: Heads
) -> Array:
    """`[M]` cosine between the gradients of each source's error and of the target's.

    Gradients are by the linear representation, at heads that are held fixed: these are at their
    optimum, where what they would change is of second order. A source with a positive cosine pulls
    the representation where the target wants it.

    Args:
      kernel: `[D, K]` of the representation.
      heads: of M sources or more, one output.
      batch: their rows; blocks of tasks beyond `heads` must weigh nothing.
      x: `[n, ...]` inputs of the target's sample.
      y: `[n]` its labels.
      target: its head, leading axis dropped.

    References:
      Chen, Crammer, He, Roth, Su. Weighted training for cross-task learning (TAWT). ICLR 2022.
    """
    flat = as_float(x).reshape(len(x), -1)
    error = jnp.matmul(flat @ kernel, target.weight[:, 0]) + target.bias[0] - y
    own = jnp.matmul(error, flat, precision=_PRECISION)  # [D]; the gradient is own ⊗ weight
    weight = heads.weight[..., 0]

    def block(rows: tuple[Array, Array, Array, Array]) -> Array:
        inputs, label, counts, task = rows
        inputs = as_float(inputs).reshape(len(label), -1)
        guess = jnp.matmul(inputs @ kernel, weight[task]) + heads.bias[task, 0]
        return jnp.matmul(counts * (guess - label[:, 0]), inputs, precision=_PRECISION)

    pulls = jax.lax.map(block, (batch.x, batch.y, batch.weight, batch.task), batch_size=64)
    pulls = jax.ops.segment_sum(pulls, batch.task, len(weight))  # [M, D]
    alike = (pulls @ own) * (weight @ target.weight[:, 0])
    size = jnp.linalg.norm(pulls, axis=1) * jnp.linalg.norm(weight, axis=1)
    whole = jnp.linalg.norm(own) * jnp.linalg.norm(target.weight)
    return alike / jnp.maximum(size * whole, _TINY)
