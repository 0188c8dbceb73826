"""Jobs of whole fits and rounds, on a linear Gaussian problem of the sizes of MNIST-C."""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
import optax

import amtl_jax as amtl
from amtl_jax.encoders.conv import conv_encoder
from amtl_jax.encoders.linear import linear_encoder
from amtl_jax.encoders.mlp import mlp_encoder
from benchmarks import counts
from benchmarks.jobs import Job, passes
from benchmarks.timing import compiled

_PENALTY = 1e-3  # λ of a round
_WIDTH = 256
_CHANNELS = (32, 64)
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
    """One pass over all rows of every way to fit: a longer fit less a shorter one.

    L-BFGS reads the rows with two columns, its direction's linear and quadratic part, so that its
    line search is exact: it makes twice the operations that are counted as needed.
    """
    num_tasks = sizes.num_sources + 1
    batch = make_batch(sizes, sizes.budget)
    images = make_batch(sizes, sizes.num_images)
    side = round(sizes.num_inputs**0.5)
    images = images._replace(x=images.x.reshape(*images.x.shape[:2], side, side, 1))
    linear = linear_encoder(sizes.num_features)
    mlp = mlp_encoder(sizes.num_features, widths=(_WIDTH,))
    conv = conv_encoder(sizes.num_features, channels=_CHANNELS)
    num_rows, num_images = (int(np.sum(one.weight > 0)) for one in (batch, images))

    def lbfgs(steps: int) -> amtl.Fitter:  # of a window that it never leaves
        return lbfgs_of_steps(steps, sizes.num_features, num_tasks)

    def joint(encoder: amtl.Encoder, steps: int) -> amtl.Fitter:
        return amtl.joint_descent_fitter(
            encoder, optax.adadelta(0.01), num_tasks=num_tasks, num_steps=steps
        )

    def projected(steps: int) -> amtl.Fitter:
        return amtl.variable_projection_fitter(
            mlp, optax.adam(0.01), num_tasks=num_tasks, num_steps=steps
        )

    words = f"M = {num_tasks:,}, D = {sizes.num_inputs}, K = {sizes.num_features}"
    of_linear = counts.linear_pass(num_rows, sizes.num_inputs)
    of_mlp = counts.mlp_pass(num_rows, (sizes.num_inputs, _WIDTH, sizes.num_features), num_tasks)
    of_conv = counts.conv_pass(num_images, side, _CHANNELS, sizes.num_features)
    ways = (
        ("linear, a step of L-BFGS", lbfgs, batch, of_linear, 8),
        ("linear, a joint step of Adadelta", functools.partial(joint, linear), batch, of_linear, 8),
        (f"MLP of {_WIDTH}, a step of variable projection", projected, batch, of_mlp, 2),
        ("conv, a joint step of Adadelta", functools.partial(joint, conv), images, of_conv, 1),
    )
    for what, fitter_of, rows, work, goes in ways:
        number = num_images if rows is images else num_rows
        way, less = passes(fitter_of, rows, first=1, goes=goes)
        text = f"{words}, {number:,} rows"
        yield Job(f"fit, {what}", text, way, number, "rows", work, less, goes)


def lbfgs_of_steps(steps: int, num_features: int, num_tasks: int) -> amtl.Fitter:
    """The linear fit that makes so many steps, as its window is longer."""
    return amtl.lbfgs_fitter(
        linear_encoder(num_features),
        num_tasks=num_tasks,
        num_steps=steps,
        tolerance=0.0,
        window=steps + 2,
    )


def round_jobs(sizes: FitSizes) -> Iterator[Job]:
    """A whole round: `tell` of A-MTRL after an even first purchase, λ given.

    Of its work only the passes of its fit are counted, as many as it made.
    """
    batch = make_batch(sizes, sizes.budget)
    num_rows = int(np.sum(batch.weight > 0))
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
