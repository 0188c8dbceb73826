"""The risk that an allocation will have, predicted from what is known of the heads.

To first order, buying n_m samples of source m leaves the target's predictor the excess risk
`(D−K) w_Tᵀ(Σ n_m w_m w_mᵀ/s2_m)⁻¹w_T + s2_T K/n_T`; `draw_risks` adds what finite samples cost
beyond that. Each posterior draw of the heads has such a risk, and a run's own risk scatters around
it as χ² with D − K degrees of freedom, as the errors of D − K directions are squared and summed:
intervals hold both.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from amtl_jax.knowledge import HeadDraws
from amtl_jax.types import Array

_RHO = 1.0  # information before any sample: so little that it does not show where there are some
_MOST_LOST = 0.75  # of the information, to inputs being random: where that theory ends
_PRECISION = jax.lax.Precision.HIGHEST


class PredictedRisk(NamedTuple):
    """Excess risk of the targets' predictors, in squared label units of the fit.

    Attributes:
      representation: `[T]` what the source samples leave to be learnt, the mean over the draws.
      low: `[T]` lower end of the interval of one run's representation term.
      high: `[T]` upper end.
      head: `[T]` what the target's own sample leaves to be learnt about its head.
    """

    representation: Array
    low: Array
    high: Array
    head: Array


def predicted_risk(
    draws: HeadDraws,
    counts: ArrayLike,
    *,
    num_target: ArrayLike,
    key: Array | None = None,
    level: float = 0.95,
    repeats: int = 16,
) -> PredictedRisk:
    """Predicts the excess risk after `counts` samples of each source.

    Args:
      draws: of all heads: `draw_knowledge`, or `known_heads` where they are known.
      counts: `[M]` samples of each source, all rounds together.
      num_target: n_T, a number or `[T]`.
      key: of the interval's random numbers; None: of a fixed seed.
      level: of the interval, in (0, 1); static.
      repeats: random numbers per draw; static.

    Returns:
      `PredictedRisk`. Where no source was bought for a direction that a draw's target needs, the
      representation term is that of predicting nothing.

    Raises:
      ValueError: for counts of another shape, or a level out of range.

    References:
      Chen, Du, Jamieson. Active Multi-Task Representation Learning. ICML 2022 (the setting).
    """
    draws_, num_tasks = draws.heads.shape[:2]
    if np.shape(counts) != (num_tasks,):
        raise ValueError(
            f"predicted_risk expects counts [M] = [{num_tasks}], got {list(np.shape(counts))}."
        )
    if not 0 < level < 1 or repeats < 1:
        raise ValueError(
            f"predicted_risk expects a level in (0, 1) and repeats >= 1, got {level} and {repeats}."
        )
    each = draw_risks(draws, jnp.asarray(counts, float))  # [S, T]
    key = jax.random.key(0) if key is None else key
    freedom = jnp.maximum(draws.free, 1.0)
    chi = jax.random.chisquare(key, freedom, (repeats, draws_, 1)) / freedom
    ends = jnp.asarray([(1 - level) / 2, (1 + level) / 2])
    low, high = jnp.quantile((each[None] * chi).reshape(repeats * draws_, -1), ends, axis=0)
    head = jnp.sum(draws.target_noise, axis=1) * draws.num_features / jnp.asarray(num_target, float)
    return PredictedRisk(jnp.mean(each, axis=0), low, high, head)


class Pulls(NamedTuple):
    """How the samples of every source teach the direction of the target; O outputs each.

    Attributes:
      each: `[S, T, M, O, O]` `w_moᵀA⁻¹w_Tp/√s2_mo`, what a product of input and noise of output o
        of source m adds to the error of the target's output p.
      variance: `[S, T]` of the error in each of the D − K directions, `Σ rows · each²`.
      information: `[S, K, K]` A.
      inverse: `[S, K, K]` A⁻¹.
      rows: `[M]` samples behind A.
    """

    each: Array
    variance: Array
    information: Array
    inverse: Array
    rows: Array


def pulls_of(draws: HeadDraws, counts: Array) -> Pulls:
    """Pulls at `counts` `[M]`, of which each source spends K on its own head.

    Every head is free in the fit of the representation: what is left of a source's inputs beside
    their K features has `n_m − K` degrees of freedom.
    """
    rows = rows_of(draws, counts)
    flat = _flat(draws)
    scaled = jnp.sqrt(rows)[None, :, None, None] * flat
    identity = jnp.eye(flat.shape[2])[None]
    information = jnp.einsum("smko,smlo->skl", scaled, scaled, precision=_PRECISION)
    information = information + _RHO * identity
    inverse = _inverse(information)
    solved = jnp.einsum("skl,stlo->stko", inverse, draws.target_heads, precision=_PRECISION)
    each = jnp.einsum("smko,stkp->stmop", flat, solved, precision=_PRECISION)
    variance = jnp.sum(rows[None, None, :, None, None] * each**2, axis=(2, 3, 4))
    return Pulls(each, variance, information, inverse, rows)


def draw_risks(draws: HeadDraws, counts: Array) -> Array:
    """`[S, T]` representation term of every draw, with the draw's own target heads.

    It is `Σ_k f(a_k) (u_kᵀw_T)²`, a_k and u_k the eigenvalues and eigenvectors of
    `A = Σ (n_m − K) w_m w_mᵀ/s2_m`. To first order `f = (D−K)/a`. Finite samples add to that:

    - Inputs are random. To second order their error makes the variance larger by
      `c = 1/(1 − (D−K+1) Σ p_m h_m/(n_m−K))`, p_m the share of source m in it and h_m its leverage
      `(n_m−K) w_mᵀA⁻¹w_m/s2_m`; of one source alone that is the mean of the inverse Wishart.
    - Heads are noisy as well, and a fit of rank K follows the strongest directions of both: with
      `b = c (D−K)` and M′ the heads beyond K, `f = b(a + M′)/(a(a + b))`, the angle between the
      singular vectors of a matrix and of the same with noise. Where a is so small that they are
      lost, `bM′b/(a + b)` is added below, and no risk is above that of predicting nothing.

    References:
      Benaych-Georges, Nadakuditi. The singular values and vectors of low rank perturbations of
      large rectangular random matrices. J. Multivariate Anal. 2012.
    """
    return risks_of(draws, pulls_of(draws, counts))


def risks_of(draws: HeadDraws, pulls: Pulls) -> Array:
    """`draw_risks` of allocations whose pulls are known."""
    flat, identity = _flat(draws), jnp.eye(draws.heads.shape[2])[None]
    per_row = jnp.einsum("smko,skl,smlo->sm", flat, pulls.inverse, flat, precision=_PRECISION)
    shares = pulls.rows[None, None] * jnp.sum(pulls.each**2, axis=(3, 4))  # [S, T, M]
    lost = jnp.einsum("stm,sm->st", shares, lost_shares(draws, per_row), precision=_PRECISION)
    lost = lost / jnp.where(pulls.variance > 0, pulls.variance, 1.0)
    width = draws.free / (1 - lost)  # b, [S, T]
    extra = extra_heads(draws, pulls.rows)
    noisy = identity + extra * pulls.inverse  # (a + M′)/a

    def one_target(pair):  # one after the other: each has matrices for every draw
        head, width = pair
        width = width[:, None, None]
        bound = pulls.inverse - _inverse(pulls.information + width * identity)
        system = pulls.information + width * (identity + extra * bound)
        solved = jnp.matmul(_inverse(system), head, precision=_PRECISION)
        turned = jnp.matmul(width * noisy, head, precision=_PRECISION)
        return jnp.sum(turned * solved, axis=(1, 2))

    by_target = (jnp.moveaxis(draws.target_heads, 1, 0), width.T)
    risk = jax.lax.map(one_target, by_target).T
    return jnp.minimum(risk, jnp.sum(draws.target_heads**2, axis=(2, 3)))


def rows_of(draws: HeadDraws, counts: Array) -> Array:
    """`[M]` samples that teach the representation: K of each source go to its own head."""
    return jnp.maximum(counts - draws.num_features, 0.0)


def extra_heads(draws: HeadDraws, rows: Array) -> Array:
    """`[]` M′: noisy heads in the fit beyond those that its rank takes."""
    number = jnp.sum(jnp.minimum(rows, 1.0)) * draws.heads.shape[3]
    return jnp.maximum(number - draws.num_features, 0.0)


def lost_shares(draws: HeadDraws, per_row: Array) -> Array:
    """Information of a source's samples that random inputs lose, as shares.

    Args:
      draws: for D − K.
      per_row: leverage of one sample, any shape.
    """
    return jnp.minimum((draws.free + 1) * per_row, _MOST_LOST)


def _flat(draws: HeadDraws) -> Array:
    """`[S, M, K, O]` heads over their noise's deviation: what a sample of each tells."""
    return draws.heads / jnp.sqrt(draws.noise)[None, :, None, :]


def _inverse(matrix: Array) -> Array:
    """Inverses of positive matrices `[S, K, K]`."""
    lower = jnp.linalg.cholesky(matrix)
    identity = jnp.broadcast_to(jnp.eye(matrix.shape[-1])[None], matrix.shape)
    return jax.scipy.linalg.cho_solve((lower, True), identity)


def known_heads(
    source_heads: ArrayLike,
    target_head: ArrayLike,
    *,
    noise_variance: ArrayLike,
    input_dim: int,
    target_noise_variance: ArrayLike | None = None,
) -> HeadDraws:
    """Heads that are known, as a single draw, for predictions and designs.

    Args:
      source_heads: `[M, K]` on orthonormal features.
      target_head: `[K]`, or `[T, K]` of several targets.
      noise_variance: of the sources, a number or `[M]`, positive.
      input_dim: D, at least K.
      target_noise_variance: of the targets; None: the mean of the sources'.

    Raises:
      ValueError: for arrays that do not fit together, or D < K.
    """
    heads, target = jnp.asarray(source_heads, float), jnp.asarray(target_head, float)
    target = target if target.ndim == 2 else target[None]
    if heads.ndim != 2 or target.ndim != 2 or target.shape[1] != heads.shape[1]:
        raise ValueError(
            "known_heads expects source heads [M, K] and a target head [K] or [T, K], got "
            f"{list(np.shape(source_heads))} and {list(np.shape(target_head))}."
        )
    num_tasks, num_features = heads.shape
    if input_dim < num_features:
        raise ValueError(f"known_heads expects input_dim >= K = {num_features}, got {input_dim}.")
    if np.shape(noise_variance) not in ((), (num_tasks,)):
        raise ValueError(
            f"known_heads expects noise_variance as a number or [M] = [{num_tasks}], got shape "
            f"{list(np.shape(noise_variance))}."
        )
    noise = jnp.broadcast_to(jnp.asarray(noise_variance, float), (num_tasks,))
    own = jnp.mean(noise) if target_noise_variance is None else target_noise_variance
    return HeadDraws(
        heads=heads[None, :, :, None],
        target_heads=target[None, :, :, None],
        target=target[:, :, None] * target[:, None, :],
        noise=noise[:, None],
        target_noise=jnp.full((len(target), 1), own, float),
        free=jnp.asarray(input_dim - num_features, float),
        num_features=jnp.asarray(num_features, float),
    )
