"""Draws of heads as a prediction needs them: brought to the size that fitted heads stand for.

A fit of rank K turns its representation towards the noise: its heads look larger than they are, and
the target's smaller, as what the representation misses of its predictor is not in its head. A
design, which compares sources with each other, hardly minds; the size of a predicted risk does.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from amtl_jax.centred_stats import (
    after,
    centred,
    centred_heads,
    in_features,
    principal_axes,
    whitening,
)
from amtl_jax.forecast import extra_heads, lost_shares, rows_of
from amtl_jax.knowledge import HeadDraws
from amtl_jax.types import Array, HeadStats

_LEAST_KEPT = 0.1  # of the target's energy in a direction: beyond, the correction is a guess
_DEAD = 1e-6  # of the largest information: float32 knows no less
_PRECISION = jax.lax.Precision.HIGHEST


def calibrated_draws(
    key: Array,
    draws: HeadDraws,
    source_stats: HeadStats,
    *,
    intercept: ArrayLike,
) -> HeadDraws:
    """Scales draws along the directions of the information that the fit had.

    With `Â = Σ (n_m−K) ŵ_m ŵ_mᵀ/s2_m` of heads by least squares, an eigenvalue is to second order
    `â = (a + M′)(a + b)/a` where it should be a (see `draw_risks` for M′ and b): noise of heads
    adds M′, and the representation's turn towards the noise b. Along the same direction, the
    draws' heads are scaled to a, and the target's by `1/√(1 − f(a))`, f the share that the
    representation misses. Where â is no more than noise gives, a is the least that could be told
    from it, `√(bM′)`, and not below b.

    What is left out is of the order of the last term that is in: each draw takes `1 + ξ` times
    this correction, in logarithms, with a standard normal ξ of its own, cut at ±2. So intervals
    are wide where a direction of the target is hardly told from noise.

    Args:
      key: PRNG key.
      draws: from these statistics: `draw_knowledge`.
      source_stats: of the M sources, on raw weights.
      intercept: `[]` bool, whether heads have one.

    Returns:
      Draws of the same shapes; the target's second moment is the corrections' own, without ξ.

    References:
      Gavish, Donoho. Optimal Shrinkage of Singular Values. IEEE Trans. Inform. Theory 2017.
    """
    sources = after(draws.heads, centred(source_stats, intercept))
    rows = rows_of(draws, sources.count)
    seen = _seen_information(sources, rows, draws.noise)  # ascending

    weight = (rows[:, None] / draws.noise)[None, :, None, :] * draws.heads
    mean = jnp.einsum("smko,smlo->kl", weight, draws.heads, precision=_PRECISION)
    mean = mean / len(draws.heads) + 0 * seen[0]
    had, axes = jnp.linalg.eigh(mean)
    alive = (had > _DEAD * had[-1]) & (seen > 0)
    safe = jnp.where(alive, had, 1.0)

    # Shares of the sources in each direction, and what random inputs cost there.
    along = jnp.einsum("kj,smko->smjo", axes, draws.heads, precision=_PRECISION)
    energy = jnp.mean(jnp.sum(along**2 / draws.noise[None, :, None, :], axis=3), axis=0)  # [M, K]
    shares = jnp.where(alive[None], energy * rows[:, None] / safe[None], 0.0)
    per_row = jnp.sum(shares, axis=1) / jnp.where(rows > 0, rows, 1.0)
    lost = jnp.einsum("mk,m->k", shares, lost_shares(draws, per_row), precision=_PRECISION)
    width = draws.free / (1 - lost)  # b, [K]

    extra = extra_heads(draws, rows)
    middle = jnp.maximum(seen - extra - width, 0.0)
    root = jnp.sqrt(jnp.maximum(middle**2 - 4 * extra * width, 0.0))
    wanted = jnp.maximum((middle + root) / 2, jnp.maximum(jnp.sqrt(extra * width), width))
    wanted = jnp.where(alive & (wanted > 0), wanted, safe)
    bound = wanted * width + width**2 * extra / (wanted + width)  # as in `draw_risks`
    missed = width * (wanted + extra) / (wanted**2 + bound)
    kept = jnp.where(alive, jnp.maximum(1 - missed, _LEAST_KEPT), 1.0)

    luck = jax.random.truncated_normal(key, -2.0, 2.0, (len(draws.heads), 1))
    own = _along(axes, (wanted / safe)[None] ** ((1 + luck) / 2))  # [S, K, K]
    outwards = _along(axes, kept[None] ** (-(1 + luck) / 2))
    usual = _along(axes, kept[None] ** -0.5)[0]
    half = jnp.einsum("kl,tlj->tkj", usual, draws.target, precision=_PRECISION)
    return draws._replace(
        heads=jnp.einsum("skl,smlo->smko", own, draws.heads, precision=_PRECISION),
        target_heads=jnp.einsum(
            "skl,stlo->stko", outwards, draws.target_heads, precision=_PRECISION
        ),
        target=jnp.einsum("tkj,ij->tki", half, usual, precision=_PRECISION),
    )


def _along(axes: Array, scale: Array) -> Array:
    """Matrices `[S, K, K]` that scale by `[S, K]` along the axes, the columns of `[K, K]`."""
    return jnp.matmul(axes[None] * scale[:, None, :], axes.T[None], precision=_PRECISION)


def _seen_information(sources: HeadStats, rows: Array, noise: Array) -> Array:
    """Eigenvalues `[K]` of Â in features of identity covariance, ascending."""
    axes, deviation = principal_axes(sources)
    white = in_features(whitening(axes, deviation), after(deviation, sources))
    heads = centred_heads(white, jnp.zeros_like(noise[0, 0])).weight  # what λ took is no noise
    weighed = (rows[:, None] / noise)[:, None, :] * heads
    return jnp.linalg.eigvalsh(jnp.einsum("mko,mlo->kl", weighed, heads, precision=_PRECISION))
