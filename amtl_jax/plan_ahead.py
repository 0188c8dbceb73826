"""Before anything is bought: from which budget on adaptive sampling pays for its exploration."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from amtl_jax.plan_simulation import (
    NUM_DRAWS,
    NUM_STEPS,
    Sizes,
    Terms,
    num_parameters,
    simulate,
)
from amtl_jax.planning import round_floor
from amtl_jax.round_plan import SCHEDULE
from amtl_jax.types import Array, Numbers

_NORMAL = 1.96  # half the width of a 95 % interval, in standard errors
_MOST_WORSE = 0.04  # of the 5 % that are promised: theory is a little more hopeful than runs
_LEAST_ROWS = 3.0  # a parameter, in the first round: with 1.6 runs lost four times as often
_CLEAR = 1.5  # times the least information that a direction of one source is found by
_NUM_TRUTHS = 96
_WORK = 2e11  # multiplications that the default number of truths may take


class Payoff(NamedTuple):
    """Whether adaptive sampling is predicted to pay, for B budgets.

    Attributes:
      budgets: `[B]` money, or samples where prices are 1.
      ratio: `[B]` risk of adaptive over that of uniform sampling, means over truths; representation
        term, exploration charged.
      low: `[B]` lower end of its 95 % interval over truths.
      high: `[B]` upper end.
      worse: `[B]` share of single runs in which adaptive sampling loses.
      pays: `[B]` bool, `high < 1`, adaptive sampling loses in at most 4 % of runs, and the first
        round is large enough: three samples a parameter, `K(M + D − K)`, as runs do worse than
        theory with fewer, and of every source what finds a direction that no other source has:
        1.5 times `√((D−K)(M−K))` samples for heads as large as the noise.
      smallest: `[]` the first of the budgets from which on it pays; inf where it does at none.
    """

    budgets: Array
    ratio: Array
    low: Array
    high: Array
    worse: Array
    pays: Array
    smallest: Array


def adaptivity_pays(
    num_sources: int,
    num_features: int,
    input_dim: int,
    *,
    budgets: Numbers,
    num_target: float,
    noise_variance: float = 1.0,
    head_size: float = 1.0,
    price: Numbers | None = None,
    schedule: Sequence[float] = SCHEDULE,
    num_truths: int | None = None,
    key: Array | None = None,
) -> Payoff:
    """Predicts, before anything is bought, whether adaptive sampling beats uniform.

    Draws true heads from a Gaussian of norm `head_size`, and what a campaign would come to know of
    them: estimates whose errors have variance `κ_m s2/n_m`, the representation's error included
    (see `head_knowledge`), fewer with every round. The campaign designs each round by its own
    posterior and is judged by the true first-order risk, against uniform at the same money. No
    rows are drawn, so it takes seconds.

    Left out: errors in the noise estimate, the choice of λ and of K, and whatever the family is
    not. Sources that copy each other make adaptivity pay earlier than predicted here.

    Args:
      num_sources: M.
      num_features: K, true and fitted.
      input_dim: D, above K.
      budgets: `[B]` money of a whole campaign, increasing.
      num_target: n_T.
      noise_variance: of the labels, all tasks alike.
      head_size: norm of the heads: size of what a task's labels have to say, beside the noise.
      price: `[M]` price of one sample; None: 1 each.
      schedule: shares of the budget per round, the first bought uniformly.
      num_truths: truths per budget, at least 8; None: 96, fewer where M and K are large.
      key: PRNG key; None: of a fixed seed.

    Returns:
      `Payoff`.

    Raises:
      ValueError: for numbers out of range.
    """
    _check(num_sources, num_features, input_dim)
    amounts = _checked_budgets(budgets)
    given = {"num_target": num_target, "noise_variance": noise_variance, "head_size": head_size}
    for label, value in given.items():
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"adaptivity_pays expects {label} as a positive number, got {value}.")
    if len(schedule) < 2 or not all(share > 0 for share in schedule):
        raise ValueError(
            "adaptivity_pays expects a schedule of at least two positive shares, got "
            f"{schedule!r:.80}."
        )
    prices = np.ones(num_sources) if price is None else np.asarray(price, float)
    if prices.shape != (num_sources,) or not (prices > 0).all():
        raise ValueError(
            f"adaptivity_pays expects {num_sources} positive prices, got {price!r:.80}."
        )
    shares = np.asarray(schedule) / np.sum(schedule)
    if num_truths is None:
        designs = len(amounts) * (len(shares) - 1) * NUM_STEPS * NUM_DRAWS
        work = designs * (4 * num_sources * num_features**2 + num_features**3)
        num_truths = int(np.clip(_WORK / work, 16, _NUM_TRUTHS))
    if num_truths < 8:
        raise ValueError(f"adaptivity_pays expects num_truths >= 8, got {num_truths}.")

    rounds = amounts[:, None] * shares[None] * num_sources / prices.sum()
    floors = np.vectorize(lambda amount: round_floor(amount, num_sources))(rounds)
    floors[:, -1] = 0  # as campaigns have it where no floor is given
    sizes = Sizes(num_sources, num_features, input_dim, len(shares))
    values = (num_target, noise_variance, head_size, prices, np.cumsum(shares))
    terms = Terms(*(jnp.asarray(value, float) for value in values))
    keys = jax.random.split(jax.random.key(0) if key is None else key, num_truths)
    budgets, floors = jnp.asarray(amounts, float), jnp.asarray(floors, float)
    first = budgets * terms.shares[0] / jnp.sum(terms.price)  # of every source
    is_thick = first * num_sources >= _LEAST_ROWS * num_parameters(sizes)
    # Singular vectors of a matrix with noise are lost below this (Benaych-Georges, Nadakuditi).
    least = np.sqrt((input_dim - num_features) * max(num_sources - num_features, 1))
    is_found = first * head_size**2 / noise_variance >= _CLEAR * least
    return _payoff(budgets, is_thick & is_found, *simulate(sizes, terms, keys, budgets, floors))


def _check(num_sources: int, num_features: int, input_dim: int) -> None:
    if not (num_sources >= 1 and num_features >= 1 and input_dim > num_features):
        raise ValueError(
            "adaptivity_pays expects at least one source and one feature, and input_dim above "
            f"num_features, got {num_sources=}, {num_features=}, {input_dim=}."
        )


def _checked_budgets(budgets: Numbers) -> np.ndarray:
    amounts = np.asarray(budgets, float)
    usable = amounts.ndim == 1 and amounts.size and np.isfinite(amounts).all()
    if not usable or not (amounts > 0).all() or (np.diff(amounts) <= 0).any():
        raise ValueError(
            "adaptivity_pays expects budgets [B] as increasing positive numbers, got "
            f"{budgets!r:.80}."
        )
    return amounts


def _payoff(budgets: Array, is_thick: Array, own: Array, uniform: Array, worse: Array) -> Payoff:
    """Ratios of means over truths `[B, S]`, with the interval that their scatter gives."""
    ratio = jnp.mean(own, axis=1) / jnp.mean(uniform, axis=1)
    left = own - ratio[:, None] * uniform
    error = jnp.std(left, axis=1, ddof=1) / jnp.sqrt(own.shape[1]) / jnp.mean(uniform, axis=1)
    worse = jnp.mean(worse, axis=1)
    high = ratio + _NORMAL * error
    pays = is_thick & (high < 1) & (worse <= _MOST_WORSE)
    lasts = jnp.cumprod(pays[::-1])[::-1] > 0
    smallest = jnp.min(jnp.where(lasts, budgets, jnp.inf))
    return Payoff(budgets, ratio, ratio - _NORMAL * error, high, worse, pays, smallest)
