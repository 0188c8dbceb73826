"""Fixed allocations: their predicted risk beside what fits of drawn samples have."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from amtl_jax.forecast import draw_risks, known_heads, pulls_of
from amtl_jax.types import Array
from benchmarks.curves_arms import ARMS
from benchmarks.curves_campaign import (
    PENALTY,
    SAMPLES,
    Cell,
    cell_fitter,
    cell_rows,
    kernel_risk,
    over_seeds,
)
from benchmarks.curves_truths import Truths, draw_truths, predicted_risks

SPLITS = ("even", "skewed", "half on five")


class FixedRisks(NamedTuple):
    """Risks of one allocation on S seeds.

    Attributes:
      measured: `[S]` representation-limited risk of the fits.
      predicted: `[S]` of the known heads, finite samples included.
      first_order: `[S]` of the known heads, endless samples.
      rows: `[S]` rows that the target's direction is learnt from, `(Σ n q)²/Σ n q²`, over D.
    """

    measured: Array | np.ndarray
    predicted: Array | np.ndarray
    first_order: Array | np.ndarray
    rows: Array | np.ndarray


def split_of(name: str, budget: int, num_tasks: int) -> np.ndarray:
    """`[M]` whole counts of a split of `SPLITS`, at most the budget.

    `skewed` has counts in proportion to a log-normal; `half on five` has half of the budget on the
    last five sources, among them the one that `dup` and `dup2` need.
    """
    shares = np.ones(num_tasks)
    if name == "skewed":
        shares = np.exp(np.random.default_rng(0).normal(size=num_tasks))
    elif name == "half on five":
        few = min(5, num_tasks // 2)
        shares = np.append(np.full(num_tasks - few, few), np.full(few, num_tasks - few))
    elif name != "even":
        raise ValueError(f"Unknown split {name!r}; expected one of {', '.join(SPLITS)}.")
    return np.floor(budget * shares / shares.sum()).astype(np.int32)


def fixed_risks(cell: Cell, split: str, seeds: Sequence[int]) -> FixedRisks:
    """Draws, fits and predicts a split on every seed; the target is not in the fit.

    Raises:
      ValueError: if a risk is not finite.
    """
    counts = split_of(split, cell.budget, cell.sizes.num_tasks)
    truths = draw_truths(cell.scenario, seeds, cell.sizes)
    program = _compiled(cell._replace(scenario=""))
    found = over_seeds(functools.partial(program, jnp.asarray(counts)), truths, seeds)
    if not np.isfinite(found.measured).all():
        raise ValueError(f"Risks of the split {split!r} are not finite in {cell}.")
    first = predicted_risks(truths, np.broadcast_to(counts, (len(seeds), len(counts))))
    return found._replace(first_order=np.asarray(first))


@functools.lru_cache(maxsize=64)
def _compiled(cell: Cell) -> Callable[[Array, Truths, Array], FixedRisks]:
    fitter = cell_fitter(cell, ARMS["uniform"])

    def one(counts: Array, truth: Truths, key: Array) -> FixedRisks:
        batch = cell_rows(jax.random.fold_in(key, SAMPLES), cell, truth, counts)
        on_target = (batch.task == cell.sizes.num_tasks)[:, None]
        batch = batch._replace(weight=jnp.where(on_target, 0, batch.weight))
        start = fitter.init(jax.random.key(0), batch, PENALTY)
        kernel = fitter.fit(start, batch, PENALTY).params["params"]["kernel"]
        draws = known_heads(
            truth.heads,
            truth.target_head,
            noise_variance=truth.noise[:-1] ** 2,
            input_dim=cell.sizes.input_dim,
        )
        rows = counts.astype(float)
        pulls = pulls_of(draws, rows)
        taught = pulls.rows * pulls.each[0, 0, :, 0, 0] ** 2
        even = jnp.sum(taught**2 / jnp.maximum(pulls.rows, 1.0))
        worth = jnp.sum(taught) ** 2 / even / cell.sizes.input_dim
        predicted = draw_risks(draws, rows)[0, 0]
        return FixedRisks(kernel_risk(kernel, truth), predicted, jnp.zeros(()), worth)

    return jax.jit(jax.vmap(one, (None, 0, 0)))
