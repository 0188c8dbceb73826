"""The linear fit beside training loops in PyTorch, to the same loss."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from amtl_jax.experiment.config import Config
from amtl_jax.experiment.loading import load_config
from benchmarks import torch_fits
from benchmarks.fit_rows import FitRows, made_rows, mnist_c_rows
from benchmarks.fit_ways import OurFit, Speeds, optimum, our_fit, passes_within, speeds
from benchmarks.timing import ratio_to, side_by_side

BASE = "amtl_jax"
_SHARE = 0.01  # of the optimum


class FitProblem(NamedTuple):
    """What is fitted.

    Attributes:
      name: what the table is called.
      rows: the data.
      config: of our fit, whose K, λ and stop it is.
      published: config of the published procedure.
    """

    name: str
    rows: FitRows
    config: Config
    published: Config


class FitRow(NamedTuple):
    """A line of the table.

    Attributes:
      way: what fits.
      pass_seconds: of a gradient pass and what a step needs beside it.
      passes: made until the loss is reached, or until the time was up.
      is_reached: whether it is; otherwise `passes`, `seconds` and `ratio` are lower bounds.
      seconds: passes × their seconds; of ours, start and end of the fit included, as measured.
      ratio: times the seconds of ours: median and quartiles over rounds.
    """

    way: str
    pass_seconds: float
    passes: int
    is_reached: bool
    seconds: float
    ratio: tuple[float, float, float]


class FitTable(NamedTuple):
    """Ways to fit, and what else was found.

    Attributes:
      rows: of the table.
      penalty: λ.
      optimum: least objective.
      objective: of our fit at its own stop.
      loss: its mean squared error.
      passes_within: gradient passes of ours to 1 % of the optimum.
      torch_passes_within: those of L-BFGS in PyTorch; None where it came no so far, or is not
        there.
      speeds: of our fit.
    """

    rows: list[FitRow]
    penalty: float
    optimum: float
    objective: float
    loss: float
    passes_within: int
    torch_passes_within: int | None
    speeds: Speeds


def fit_problem(
    root: Path | None, num_tasks: int, rows_each: int, num_inputs: int, num_features: int
) -> FitProblem:
    """The problem on MNIST-C, or on made rows.

    Args:
      root: folder of MNIST-C, which has its own M and D; None: made rows.
      num_tasks: M.
      rows_each: rows of a task.
      num_inputs: D.
      num_features: K.
    """
    config, published = (
        _with_features(load_config(name), num_features)
        for name in ("mnist_c_linear", "mnist_c_published")
    )
    if root is None:
        kind, rows = "made rows", made_rows(num_tasks, rows_each, num_inputs)
    else:
        without = config.data.target.rpartition("_")[0]
        kind, rows = "MNIST-C", mnist_c_rows(root, without=without, rows_each=rows_each)
    name = (
        f"linear fit, {kind}, M = {rows.num_tasks:,}, K = {num_features}, "
        f"{rows.x.shape[0]:,} rows of {rows.x.shape[1]}"
    )
    return FitProblem(name, rows, config, published)


def _with_features(config: Config, num_features: int) -> Config:
    return dataclasses.replace(
        config, encoder=dataclasses.replace(config.encoder, num_features=num_features)
    )


def fit_table(
    problem: FitProblem, *, rounds: int, most_seconds: float, with_torch: bool
) -> FitTable:
    """Fits the rows by every way.

    Args:
      problem: to fit.
      rounds: how often a pass is timed.
      most_seconds: a loop is run for, at most.
      with_torch: whether PyTorch is there.
    """
    ours = our_fit(problem.rows, problem.config)
    best = optimum(ours)
    least = min(float(best.objective), float(ours.result.objective))
    near = (1 + _SHARE) * least
    timed = speeds(ours, rounds=rounds)
    loops, descents, torch_within = {}, {}, None
    if with_torch:
        loops, descents = _torch_ways(problem, ours, most_seconds)
        values = descents["PyTorch L-BFGS"].values
        torch_within = next((at for at, value in enumerate(values, 1) if value <= near), None)
    calls = {BASE: ours.way.call} | {name: loop.one_pass for name, loop in loops.items()}
    seconds = side_by_side(calls, rounds=rounds)
    whole = {name: len(descents[name].values) * seconds[name] for name in loops}
    whole[BASE] = seconds[BASE]
    ratios = ratio_to(whole, BASE)
    steps = int(ours.result.steps)
    rows = [FitRow(BASE, timed.step, steps, True, _middle(whole[BASE]), ratios[BASE])]
    for name, descent in descents.items():
        made, reached = len(descent.values), descent.is_reached
        rows.append(
            FitRow(name, _middle(seconds[name]), made, reached, _middle(whole[name]), ratios[name])
        )
    return FitTable(
        rows,
        penalty=float(ours.penalty),
        optimum=least,
        objective=float(ours.result.objective),
        loss=float(ours.result.loss),
        passes_within=passes_within(ours, near, most=int(best.steps)),
        torch_passes_within=torch_within,
        speeds=timed,
    )


def _torch_ways(
    problem: FitProblem, ours: OurFit, most_seconds: float
) -> tuple[dict[str, torch_fits.Loop], dict[str, torch_fits.Descent]]:
    """Loops by name, and how far each goes.

    Whether representation and head are multiplied first changes what a pass costs, and its result
    by rounding alone: the passes are counted once, in the cheaper order.
    """
    num_features, penalty = ours.result.heads.weight.shape[1], float(ours.penalty)
    loops, descents = {}, {}
    for first in (False, True):
        order = "" if first else ", predictors first"
        loops[f"PyTorch, published loop{order}"] = torch_fits.published_loop(
            problem.rows, num_features, problem.published, features_first=first
        )
        loops[f"PyTorch L-BFGS{order}"] = torch_fits.lbfgs_loop(
            problem.rows, num_features, penalty, features_first=first
        )
    wanted = {"PyTorch, published loop": ours.result.loss, "PyTorch L-BFGS": ours.result.objective}
    for name, value in wanted.items():
        cheap = f"{name}, predictors first"
        descents[name] = descents[cheap] = loops[cheap].run(float(value), most_seconds)
    return loops, descents


def _middle(values: np.ndarray) -> float:
    return float(np.median(values))


def markdown(rows: Sequence[FitRow]) -> str:
    """The table; `>` marks lower bounds."""
    lines = ["| way | ms a pass | passes | s | times ours |", "|---|---:|---:|---:|---:|"]
    for row in rows:
        middle, low, high = row.ratio
        bound = "" if row.is_reached else "> "
        lines.append(
            f"| {row.way} | {1e3 * row.pass_seconds:.1f} | {bound}{row.passes:,} | "
            f"{bound}{row.seconds:.3g} | {bound}{middle:.3g} [{low:.3g}, {high:.3g}] |"
        )
    return "\n".join(lines)


def said(table: FitTable) -> str:
    """What the fit reached, and how its passes compare with reading the data."""
    read, gradient_pass, step = table.speeds
    (ours,) = [row for row in table.rows if row.way == BASE]
    others = ""
    if table.torch_passes_within is not None:
        others = f" (L-BFGS in PyTorch after {table.torch_passes_within})"
    return (
        f"λ = {table.penalty:.2g}, optimum {table.optimum:.5f}. Ours is within 1 % of it after "
        f"{table.passes_within} gradient passes{others}, and stops after {ours.passes}, "
        f"{table.objective / table.optimum - 1:.2%} above, at a mean squared error of "
        f"{table.loss:.5f}: to which the published loop is run, without a penalty, and L-BFGS to "
        f"our objective. A read of the inputs takes {1e3 * read:.1f} ms, a gradient pass "
        f"{gradient_pass / read:.1f} reads, a step of the fit {step / read:.1f}, and its start and "
        f"end {(ours.seconds - ours.passes * step) / read:.0f}."
    )
