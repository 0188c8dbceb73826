"""Campaigns without rows: what heads, their estimates and the designs that follow would be."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from amtl_jax.design import Limits, c_optimal_design
from amtl_jax.forecast import draw_risks
from amtl_jax.knowledge import HeadDraws, thinness
from amtl_jax.paired_risk import paired_risks, share_worse
from amtl_jax.types import Array

NUM_DRAWS, NUM_STEPS = 12, 15  # fewer than a campaign has: nearly as good, and much quicker
_LEAST_PRIOR = 1e-8
_PRECISION = jax.lax.Precision.HIGHEST


class Sizes(NamedTuple):
    """Static numbers of the simulation."""

    num_sources: int
    num_features: int
    input_dim: int
    num_rounds: int


class Terms(NamedTuple):
    """Other numbers of the simulation, and the money spent by the end of each round `[R]`."""

    num_target: Array
    noise: Array
    head_size: Array
    price: Array
    shares: Array


@functools.partial(jax.jit, static_argnums=0)
def simulate(
    sizes: Sizes, terms: Terms, keys: Array, budgets: Array, floors: Array
) -> tuple[Array, Array, Array]:
    """True risks of adaptive and uniform sampling, and how often the first is larger, `[B, S]`."""

    def at_budget(pair):
        budget, floor = pair
        return jax.vmap(lambda key: _campaign(sizes, terms, key, budget, floor))(keys)

    return jax.lax.map(at_budget, (budgets, floors))


def _campaign(
    sizes: Sizes, terms: Terms, key: Array, budget: Array, floors: Array
) -> tuple[Array, Array, Array]:
    """One truth: a campaign of heads alone, without rows."""
    keys = jax.random.split(key, 5)
    shape = (sizes.num_sources + 1, sizes.num_features)
    heads = jax.random.normal(keys[0], shape)
    heads *= terms.head_size / jnp.linalg.norm(heads, axis=1, keepdims=True)
    truth = _as_draws(sizes, terms, heads[None, :-1], heads[None, -1], heads[-1:].T @ heads[-1:])
    even = jnp.full(sizes.num_sources, 1.0) / jnp.sum(terms.price)

    def one_round(index, state):
        spent, error = state
        known = jnp.append(spent, terms.num_target)
        inflation = _inflation(sizes, terms, heads, spent)
        estimates = heads + error * jnp.sqrt(inflation * terms.noise / known)[:, None]
        draw_key = jax.random.fold_in(keys[1], index)
        draws = _posterior_draws(sizes, terms, draw_key, estimates, spent)
        limits = Limits(
            budget=budget * terms.shares[index],
            low=spent + floors[index],
            high=jnp.full_like(spent, jnp.inf),
            price=terms.price,
            group=jnp.arange(sizes.num_sources),
        )
        counts = c_optimal_design(
            draws.heads,
            draws.target,
            noise=draws.noise,
            rho=draws.rho,
            limits=limits,
            num_steps=NUM_STEPS,
        ).counts
        # Means over more samples keep the errors of those that were there before.
        kept = jnp.append(spent / counts, 1.0)[:, None]
        news = jax.random.normal(jax.random.fold_in(keys[2], index), shape)
        return counts, jnp.sqrt(kept) * error + jnp.sqrt(1 - kept) * news

    start = (even * budget * terms.shares[0], jax.random.normal(keys[3], shape))
    counts, _ = jax.lax.fori_loop(1, sizes.num_rounds, one_round, start)
    worse = share_worse(*paired_risks(keys[4], truth, counts, even * budget))
    own, uniform = (jnp.sum(draw_risks(truth, n)) for n in (counts, even * budget))
    return own, uniform, worse


def num_parameters(sizes: Sizes) -> int:
    """Of a linear representation and all its heads: K(M + D − K)."""
    return sizes.num_features * (sizes.num_sources + sizes.input_dim - sizes.num_features)


def _inflation(sizes: Sizes, terms: Terms, heads: Array, spent: Array) -> Array:
    """κ `[M + 1]`: what the representation's error adds to the noise of each head."""
    free = sizes.input_dim - sizes.num_features
    sources = heads[:-1]
    weighed = sources * (spent / terms.noise)[:, None]
    information = jnp.matmul(weighed.T, sources, precision=_PRECISION)
    lower = jnp.linalg.cholesky(information + free * jnp.eye(sizes.num_features))
    half = jax.scipy.linalg.solve_triangular(lower, heads.T, lower=True)
    first = 1 + free * jnp.sum(half**2, axis=0) / terms.noise
    return thinness(jnp.sum(spent), jnp.asarray(num_parameters(sizes), float)) * first


def _posterior_draws(
    sizes: Sizes, terms: Terms, key: Array, estimates: Array, spent: Array
) -> HeadDraws:
    """Draws of the heads given their estimates, as `head_knowledge` would have them."""
    square = jnp.mean(estimates[:-1] ** 2)
    prior = square - jnp.mean(terms.noise / spent)
    prior = jnp.maximum(jnp.maximum(prior, square / 10), _LEAST_PRIOR)
    priors = jnp.append(jnp.full_like(spent, prior), sizes.num_features * prior)
    spread = _inflation(sizes, terms, estimates, spent) * terms.noise
    spread = spread / jnp.append(spent, terms.num_target)
    variance = 1 / (1 / priors + 1 / spread)  # [M + 1]
    means = estimates * (variance / spread)[:, None]
    noise = jax.random.normal(key, (NUM_DRAWS, *estimates.shape))
    drawn = means[None] + noise * jnp.sqrt(variance)[None, :, None]
    moment = means[-1:].T @ means[-1:] + variance[-1] * jnp.eye(sizes.num_features)
    return _as_draws(sizes, terms, drawn[:, :-1], drawn[:, -1], moment)


def _as_draws(sizes: Sizes, terms: Terms, heads: Array, target: Array, moment: Array) -> HeadDraws:
    """Heads `[S, M, K]` and target heads `[S, K]` in the form that designs and risks take."""
    return HeadDraws(
        heads=heads[..., None],
        target_heads=target[:, None, :, None],
        target=moment[None],
        noise=jnp.full((sizes.num_sources, 1), terms.noise),
        target_noise=jnp.full((1, 1), terms.noise),
        free=jnp.asarray(sizes.input_dim - sizes.num_features, float),
        num_features=jnp.asarray(sizes.num_features, float),
    )
