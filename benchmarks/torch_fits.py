"""Fits of the linear representation as people write them in PyTorch: loops down to a loss."""

import contextlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from amtl_jax.cpu_threads import num_cpus
from amtl_jax.experiment.config import Config
from benchmarks.fit_rows import FitRows


class Descent(NamedTuple):
    """How far a loop went.

    Attributes:
      values: what it descends at each of its gradient passes, in turn; per row.
      is_reached: whether the last value is as small as was asked.
    """

    values: list[float]
    is_reached: bool


class Loop(NamedTuple):
    """A training loop.

    Attributes:
      one_pass: a forward and a backward pass, and the optimiser's step where each pass has one;
        returns what is descended, per row.
      run: `(value, most_seconds) -> Descent`: goes on until what is descended is as small.
    """

    one_pass: Callable[[], float]
    run: Callable[[float, float], Descent]


class _Model(NamedTuple):
    """A linear representation, a head of each task, and the rows they are trained on."""

    parameters: list[Any]  # kernel [D, K], heads [M, K], intercepts [M]
    squared_error: Callable[[], Any]


def published_loop(
    rows: FitRows, num_features: int, config: Config, *, features_first: bool = True
) -> Loop:
    """The procedure of Chen, Du, Jamieson (ICML 2022), with the settings of a config.

    Full-batch Adadelta on the summed squared error, without a penalty, from heads of zero; images
    of 0 to 255. What is descended per row is the mean squared error.

    Args:
      rows: in [0, 1].
      num_features: K.
      config: `mnist_c_published`, or one with another rate or scale.
      features_first: see `lbfgs_loop`; it changes a step by rounding alone.
    """
    import torch

    num_rows, fit = len(rows.y), config.fit
    scaled = rows._replace(x=rows.x * np.float32(config.encoder.input_scale))
    model = _model(scaled, num_features, features_first=features_first)
    optimizer = torch.optim.Adadelta(model.parameters, lr=fit.learning_rate)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, fit.decay_steps, fit.decay)

    def one_pass() -> float:
        optimizer.zero_grad()
        loss = model.squared_error()
        loss.backward()
        optimizer.step()
        schedule.step()
        return loss.item() / num_rows

    def run(value: float, most_seconds: float) -> Descent:
        ends, values = time.perf_counter() + most_seconds, []
        while time.perf_counter() < ends:
            values.append(one_pass())
            if values[-1] <= value:
                return Descent(values, True)
        return Descent(values, False)

    return Loop(one_pass, run)


def lbfgs_loop(
    rows: FitRows, num_features: int, penalty: float, *, features_first: bool = True
) -> Loop:
    """L-BFGS with the strong Wolfe line search of PyTorch, on the objective of our fits.

    Args:
      rows: float32 or float64.
      num_features: K.
      penalty: λ.
      features_first: whether rows meet the representation and then the head, as people write it;
        otherwise representation and head are multiplied first, which needs K times fewer
        operations.
    """
    import torch

    num_rows = len(rows.y)
    model = _model(rows, num_features, features_first=features_first)
    kernel, heads, _ = model.parameters
    optimizer = torch.optim.LBFGS(
        model.parameters,
        max_iter=10**9,
        max_eval=10**9,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Any:
        optimizer.zero_grad()
        size = kernel.square().sum() + heads.square().sum()
        found = model.squared_error() / num_rows + penalty * size
        found.backward()
        return found

    def run(value: float, most_seconds: float) -> Descent:
        ends, values = time.perf_counter() + most_seconds, []

        def closure() -> Any:
            found = objective()
            values.append(found.item())
            if values[-1] <= value or time.perf_counter() > ends:
                raise StopIteration  # an iteration has many passes: this is how to end within one
            return found

        with contextlib.suppress(StopIteration):
            optimizer.step(closure)
        return Descent(values, values[-1] <= value)

    return Loop(lambda: objective().item(), run)


def start_kernel(num_inputs: int, num_features: int) -> Any:
    """A representation `[D, K]` as `torch.nn.Linear` starts it, float32."""
    import torch

    generator = torch.Generator().manual_seed(0)
    return (2 * torch.rand(num_inputs, num_features, generator=generator) - 1) / num_inputs**0.5


def _model(rows: FitRows, num_features: int, *, features_first: bool) -> _Model:
    """The representation of `start_kernel` and heads of zero; on all cores there are."""
    import torch

    torch.set_num_threads(num_cpus())
    x, y = torch.from_numpy(rows.x), torch.from_numpy(rows.y.astype(rows.x.dtype))
    kernel = start_kernel(x.shape[1], num_features).to(x.dtype)
    heads = torch.zeros(rows.num_tasks, num_features, dtype=x.dtype)
    parameters = [kernel, heads, torch.zeros(rows.num_tasks, dtype=x.dtype)]
    for parameter in parameters:
        parameter.requires_grad_()
    own_rows = [(x[own], y[own]) for own in rows.slices()]

    def squared_error() -> Any:
        kernel, heads, biases = parameters
        errors = []
        for (x, y), head, bias in zip(own_rows, heads, biases, strict=True):
            made = (x @ kernel) @ head if features_first else x @ (kernel @ head)
            errors.append((made + bias - y).square().sum())
        return torch.stack(errors).sum()

    return _Model(parameters, squared_error)
