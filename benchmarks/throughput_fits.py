"""Jobs of whole fits and rounds, on a linear Gaussian problem of the sizes of MNIST-C."""

import functools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import amtl_jax as amtl
from amtl_jax.encoders.conv import conv_encoder
from amtl_jax.encoders.linear import linear_encoder
from amtl_jax.encoders.mlp import mlp_encoder
from amtl_jax.fitting.reading import predict_and_correlate
from benchmarks import counts
from benchmarks.jobs import Job, passes
from benchmarks.timing import compiled

_PENALTY = 1e-3  # λ of a round
_WIDTH = 256
_CHANNELS = (32, 64)
_IMAGE_TASKS = 10
_LEAVES = ("x", "y", "task")


class FitSizes(NamedTuple):
    """Sizes of the problem.

    Attributes:
      num_sources: M.
      num_inputs: D; a square, for images.
      num_features: K.
      budget: source samples.
      num_target: rows of the target's sample.
      num_images: rows of the convolutional fit.
    """

    num_sources: int = 150
    num_inputs: int = 784
    num_features: int = 50
    budget: int = 15_000
    num_target: int = 400
    num_images: int = 1_000


def make_batch(sizes: FitSizes, budget: int) -> amtl.TaskBatch:
    """Source samples, evenly split, and the target's sample as task M."""
    truth = amtl.synthetic_truth(
        "gauss",
        num_tasks=sizes.num_sources,
        input_dim=sizes.num_inputs,
        num_features=sizes.num_features,
    )
    source = amtl.SyntheticSource(truth)
    each = np.full(sizes.num_sources, budget // sizes.num_sources)
    key = jax.random.key(0)
    parts = source.draw(key, each), source.draw_target(key, sizes.num_target)
    x, y, task = (np.concatenate([getattr(one, name) for one in parts]) for name in _LEAVES)
    return amtl.pack(x, y, task, num_tasks=sizes.num_sources + 1)


def fit_jobs(sizes: FitSizes) -> Iterator[Job]:
    """A step of every way to fit: one pass over all rows, of a longer fit less a shorter one.

    L-BFGS reads the rows with two columns, its direction's linear and quadratic part, so that its
    line search is exact: it makes twice the operations that are counted as needed.
    """
    num_tasks, num_features = sizes.num_sources + 1, sizes.num_features
    batch = make_batch(sizes, sizes.budget)
    num_rows = _rows_of(batch)
    linear = linear_encoder(num_features)
    work = counts.linear_pass(num_rows, sizes.num_inputs)
    yield _fit_job(
        "linear, a step of L-BFGS",
        functools.partial(_lbfgs, linear, num_tasks),
        batch,
        work,
        goes=8,
    )
    yield _fit_job(
        "linear, a joint step of Adadelta",
        functools.partial(_joint, linear, num_tasks),
        batch,
        work,
        goes=8,
    )
    layers = (sizes.num_inputs, _WIDTH, num_features)
    yield _fit_job(
        f"MLP of {_WIDTH}, a step of variable projection",
        functools.partial(_projected, mlp_encoder(num_features, widths=(_WIDTH,)), num_tasks),
        batch,
        counts.mlp_pass(num_rows, layers, num_tasks),
        goes=2,
    )
    images, side = _images(sizes), round(sizes.num_inputs**0.5)
    yield _fit_job(
        "conv, a joint step of Adadelta",
        functools.partial(_joint, conv_encoder(num_features, channels=_CHANNELS), _IMAGE_TASKS),
        images,
        counts.conv_pass(_rows_of(images), side, _CHANNELS, num_features),
        goes=1,
    )


def _images(sizes: FitSizes) -> amtl.TaskBatch:
    """A batch of few tasks whose inputs are images."""
    few = sizes.num_images // _IMAGE_TASKS
    fewer = sizes._replace(num_sources=_IMAGE_TASKS - 1, num_target=few)
    batch = make_batch(fewer, sizes.num_images - few)
    side = round(sizes.num_inputs**0.5)
    return batch._replace(x=batch.x.reshape(*batch.x.shape[:2], side, side, 1))


def _rows_of(batch: amtl.TaskBatch) -> int:
    """Rows that count."""
    return int(np.sum(batch.weight > 0))


def _fit_job(
    what: str,
    fitter_of: Callable[[int], amtl.Fitter],
    batch: amtl.TaskBatch,
    work: counts.Work,
    *,
    goes: int,
) -> Job:
    fitter, num_rows = fitter_of(1), _rows_of(batch)
    way, less = passes(fitter_of, batch, first=1, goes=goes)
    num_inputs = math.prod(batch.x.shape[2:])
    words = (
        f"M = {fitter.num_tasks:,}, D = {num_inputs}, K = {fitter.encoder.num_features}, "
        f"{num_rows:,} rows"
    )
    return Job(f"fit, {what}", words, way, num_rows, "rows", work, less, goes)


def _lbfgs(encoder: amtl.Encoder, num_tasks: int, steps: int) -> amtl.Fitter:
    """It makes all steps, as its window is longer."""
    return amtl.lbfgs_fitter(
        encoder, num_tasks=num_tasks, num_steps=steps, tolerance=0.0, window=steps + 2
    )


def _joint(encoder: amtl.Encoder, num_tasks: int, steps: int) -> amtl.Fitter:
    return amtl.joint_descent_fitter(
        encoder, optax.adadelta(0.01), num_tasks=num_tasks, num_steps=steps
    )


def _projected(encoder: amtl.Encoder, num_tasks: int, steps: int) -> amtl.Fitter:
    return amtl.variable_projection_fitter(
        encoder, optax.adam(0.01), num_tasks=num_tasks, num_steps=steps
    )


def pass_job(batch: amtl.TaskBatch, num_tasks: int, num_rows: int) -> Job:
    """What a step of L-BFGS does with the rows, and nothing else: all that grows with them."""
    num_inputs = batch.x.shape[-1]
    theta = jnp.ones((2, num_tasks, num_inputs))
    offset = jnp.zeros((2, *batch.weight.shape))

    def read(batch: amtl.TaskBatch, theta: jax.Array, offset: jax.Array) -> tuple:
        return predict_and_correlate(batch, theta, offset, num_tasks)

    return Job(
        "gradient pass",
        f"M = {num_tasks:,}, D = {num_inputs}, {num_rows:,} rows",
        compiled(read, batch, theta, offset),
        num_rows,
        "rows",
        counts.linear_pass(num_rows, num_inputs),
    )


def round_jobs(sizes: FitSizes) -> Iterator[Job]:
    """A whole round: `tell` of A-MTRL after an even first purchase, λ given.

    Of its work only the passes of its fit are counted, as many as it made.
    """
    batch = make_batch(sizes, sizes.budget)
    num_rows = _rows_of(batch)
    fitter = amtl.lbfgs_fitter(
        linear_encoder(sizes.num_features), num_tasks=sizes.num_sources + 1, tolerance=1e-3
    )
    learner = amtl.active_learner(
        fitter,
        amtl.a_mtrl(),
        num_sources=sizes.num_sources,
        num_target=sizes.num_target,
        budget=sizes.budget,
        penalty=_PENALTY,
    )
    key = jax.random.key(1)
    way = compiled(learner.tell, key, learner.init(key, batch), batch)
    _, info = way.call()
    steps = int(info.fit.steps)
    words = (
        f"M = {sizes.num_sources}, D = {sizes.num_inputs}, K = {sizes.num_features}, "
        f"{num_rows:,} rows, {steps} steps"
    )
    work = counts.linear_pass(num_rows, sizes.num_inputs).times(steps)
    yield Job("round, learner.tell", words, way, num_rows, "rows", work)
