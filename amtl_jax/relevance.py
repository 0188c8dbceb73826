"""Which source heads the target's head is made of: minimum norm, lasso and basis pursuit.

A factorisation in float32 loses κ·eps, with κ the condition number of the heads: 2e-5 at κ = 300.
The answers here do not. The factorisation only chooses coordinates; in them the problem is written
down again from the heads themselves, with products that round once (`_exact_matmul`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from amtl_jax._l1 import matmul, solve_lasso
from amtl_jax._pursuit import solve_basis_pursuit
from amtl_jax.types import Array, Relevance

_TOLERANCE = 1e-5  # `ok` holds where the certificate is at most this


def min_norm(source_heads: Array, target_head: Array, *, ridge: float | Array = 0.0) -> Relevance:
    """Finds the smallest coefficients in the Euclidean norm that compose the target's head.

    `Wᵀ(W Wᵀ + ridge I)⁻¹ w_T` with the heads as columns of W `[K·O, M]`. Without ridge this is
    `pinv(W) @ w_T`: least squares where w_T is outside the span of the heads, and singular values
    below `max(M, K·O)·eps` of the largest count as zero.

    Args:
      source_heads: `[M, K, O]`.
      target_head: `[K, O]`.
      ridge: `[]`, non-negative.

    Returns:
      `gap` is the Newton step that is left, relative to `nu`: the stationarity residual
      `Wᵀ(w_T − W nu) − ridge nu` in the metric of the solution. `ok` where it is at most 1e-5.
      For non-finite values under a trace everything is NaN and `ok` False.

    Raises:
      ValueError: shapes do not fit; heads not finite, or ridge negative, where concrete.

    References:
      Chen, Du, Jamieson. Active Multi-Task Representation Learning. ICML 2022.
    """
    problem = _prepare(source_heads, target_head)
    ridge, valid = _check_weight("ridge", ridge, problem.w.dtype)
    space = _row_space(problem.w)
    ridge_scaled = ridge / problem.source_scale**2
    x, left = _least_squares(problem, space, ridge_scaled)
    gap = _ratio(jnp.linalg.norm(left), jnp.linalg.norm(x))
    return _result(problem, x, gap, valid)


def lasso(source_heads: Array, target_head: Array, *, penalty: float | Array) -> Relevance:
    """Minimises `½‖W nu − w_T‖² + penalty ‖nu‖₁`, heads as columns of W `[K·O, M]`.

    Args:
      source_heads: `[M, K, O]`.
      target_head: `[K, O]`.
      penalty: `[]`, non-negative; from `max |Wᵀw_T|` on, `nu` is exactly 0. At 0 the certificate
        is void, since 0 is the only feasible dual point: use `basis_pursuit` or `min_norm`.

    Returns:
      `gap` is the duality gap at a feasible dual point relative to the objective at `nu`, so
      that no coefficients have an objective below `(1 − gap)` times this one. `ok` where it is
      at most 1e-5. For non-finite values under a trace everything is NaN and `ok` False.

    Raises:
      ValueError: shapes do not fit; heads not finite, or penalty negative, where concrete.

    References:
      Wang, Chen, Jamieson, Du. Improved Active Multi-Task Representation Learning via Lasso.
      ICML 2023.
    """
    problem = _prepare(source_heads, target_head)
    penalty, valid = _check_weight("penalty", penalty, problem.w.dtype)
    # A rotation by the left singular vectors: its rows have the sizes of the singular values, so
    # that weak directions of the heads are not lost in the rounding of the strong ones.
    rotation = _row_space(problem.w).rotation
    columns = _exact_matmul(rotation.T, problem.w)  # [K, M] in the names of `_l1`
    vector = _exact_matmul(rotation.T, problem.target[:, None])[:, 0]
    outside = problem.target - matmul(rotation, vector)

    penalty_scaled = penalty / (problem.source_scale * problem.target_scale)
    x, y = solve_lasso(columns, vector, penalty_scaled)
    steepest = jnp.max(jnp.abs(matmul(y, columns)))
    u = y * jnp.where(steepest > penalty_scaled, penalty_scaled / steepest, 1)
    residual = vector - matmul(columns, x)
    slack = penalty_scaled * jnp.abs(x) - x * matmul(u, columns)  # non-negative term by term
    gap = jnp.sum((residual - u) ** 2) / 2 + jnp.sum(slack)
    smooth = (jnp.sum(residual**2) + jnp.sum(outside**2)) / 2
    gap = _ratio(gap, smooth + penalty_scaled * jnp.sum(jnp.abs(x)))
    return _result(problem, x, gap, valid)


def basis_pursuit(source_heads: Array, target_head: Array) -> Relevance:
    """Finds the smallest coefficients in the ℓ1 norm that compose the target's head.

    Minimises `‖nu‖₁` subject to `W nu = w_T`, heads as columns of W `[K·O, M]`: the limit of
    `lasso` as its penalty goes to 0. Where w_T is outside the span of the heads its projection
    takes its place; singular values below `max(M, K·O)·eps` of the largest count as zero. At most
    rank(W) coefficients are non-zero.

    Args:
      source_heads: `[M, K, O]`.
      target_head: `[K, O]`.

    Returns:
      `gap` is the duality gap at a feasible dual point relative to `‖nu‖₁`, so that no feasible
      coefficients have a norm below `(1 − gap)` times this one. `ok` where it is at most 1e-5
      and so is the error in the constraint, relative to the smallest coefficients that meet it.
      For non-finite values under a trace everything is NaN and `ok` False.

    Raises:
      ValueError: shapes do not fit; heads not finite, where concrete.

    References:
      Chen, Donoho, Saunders. Atomic Decomposition by Basis Pursuit. SIAM Review 2001.
      Wang, Chen, Jamieson, Du. Improved Active Multi-Task Representation Learning via Lasso.
      ICML 2023.
    """
    problem = _prepare(source_heads, target_head)
    # Any invertible map of the rows of W and w_T leaves the feasible set alone; the one that makes
    # the rows orthonormal removes the condition number of the heads from the problem.
    space = _row_space(problem.w)
    anywhere, left = _least_squares(problem, space, 0.0)
    b = matmul(space.rows, anywhere)
    size = jnp.linalg.norm(b)
    x, y = solve_basis_pursuit(space.rows, b / jnp.where(size > 0, size, 1))
    x = x * size
    u = y / jnp.maximum(jnp.max(jnp.abs(matmul(y, space.rows))), 1)
    slack = jnp.abs(x) - x * matmul(u, space.rows)  # non-negative term by term
    missed = matmul(space.rows, x) - b
    gap = jnp.maximum(jnp.sum(slack) + matmul(missed, u), 0)
    infeasibility = _ratio(jnp.linalg.norm(missed) + jnp.linalg.norm(left), size)
    gap = _ratio(gap, jnp.sum(jnp.abs(x)))
    result = _result(problem, x, gap, jnp.asarray(True))
    return result._replace(ok=result.ok & (infeasibility <= _TOLERANCE))


class _Problem(NamedTuple):
    """W `[K·O, M]` and w_T `[K·O]`, scaled by powers of two, zeros where not finite."""

    w: Array
    target: Array
    source_scale: Array
    target_scale: Array
    finite: Array


def _prepare(source_heads: Array, target_head: Array) -> _Problem:
    source_heads, target_head = jnp.asarray(source_heads), jnp.asarray(target_head)
    shape = source_heads.shape
    if len(shape) != 3 or 0 in shape:
        raise ValueError(f"source_heads: expected a shape [M, K, O] without zeros, got {shape}")
    if target_head.shape != shape[1:]:
        raise ValueError(
            f"target_head: expected shape {shape[1:]} to match source_heads {shape}, "
            f"got {target_head.shape}"
        )
    for name, value in (("source_heads", source_heads), ("target_head", target_head)):
        if jnp.issubdtype(value.dtype, jnp.complexfloating):
            raise ValueError(f"{name}: expected real numbers, got {value.dtype}")
        if not isinstance(value, Tracer):  # by NumPy: within a trace jnp would trace it
            bad = int(np.sum(~np.isfinite(np.asarray(value))))
            if bad:
                raise ValueError(f"{name}: expected finite values, got {bad} NaN or infinite")
    dtype = jnp.result_type(source_heads, target_head, jnp.float32)
    w, source_scale, source_finite = _normalise(source_heads.astype(dtype).reshape(shape[0], -1).T)
    target, target_scale, target_finite = _normalise(target_head.astype(dtype).reshape(-1))
    return _Problem(w, target, source_scale, target_scale, source_finite & target_finite)


def _normalise(values: Array) -> tuple[Array, Array, Array]:
    """Divides by a power of two, which rounds nothing, to bring the largest entry near 1."""
    finite = jnp.all(jnp.isfinite(values))
    values = jnp.where(finite, values, 0)
    scale = _power_of_two(jnp.max(jnp.abs(values)))
    return values / scale, scale, finite


def _check_weight(name: str, value: float | Array, dtype: jnp.dtype) -> tuple[Array, Array]:
    """Returns a scalar weight and whether it is valid; raises where that is known."""
    value = jnp.asarray(value, dtype)
    if value.shape:
        raise ValueError(f"{name}: expected a scalar, got shape {value.shape}")
    valid = (value >= 0) & (value < jnp.inf)
    if not isinstance(value, Tracer) and not 0 <= float(value) < np.inf:
        raise ValueError(f"{name}: expected a finite number of at least 0, got {float(value)}")
    return jnp.where(valid, value, 0), valid


def _ratio(a: Array, b: Array) -> Array:
    """A / b for non-negative numbers, with 0/0 = 0."""
    return jnp.where(a > 0, a / b, 0)


def _result(problem: _Problem, x: Array, gap: Array, valid: Array) -> Relevance:
    missed = jnp.linalg.norm(problem.target - matmul(problem.w, x))
    residual = _ratio(missed, jnp.linalg.norm(problem.target))
    nu = x * (problem.target_scale / problem.source_scale)
    usable = problem.finite & valid
    nu, residual, gap = (jnp.where(usable, value, jnp.nan) for value in (nu, residual, gap))
    return Relevance(nu, residual, gap, usable & jnp.all(jnp.isfinite(nu)) & (gap <= _TOLERANCE))


class _RowSpace(NamedTuple):
    """Coordinates of the row space of W; directions that W lacks are zero throughout.

    Attributes:
      rotation: `[K·O, R]` left singular vectors, R = min(K·O, M).
      sizes: `[R]` singular values.
      transform: `[R, K·O]` maps W to its rows.
      rows: `[R, M]` combinations of the rows of W to the last digit, orthonormal up to κ·eps.
      excess: `[R, R]` how far they are from that, rows @ rowsᵀ − I.
    """

    rotation: Array
    sizes: Array
    transform: Array
    rows: Array
    excess: Array


def _row_space(w: Array) -> _RowSpace:
    """Rows as an explicit product with W: those of the factorisation are off by κ·eps."""
    rotation, sizes, _ = jnp.linalg.svd(w, full_matrices=False)
    keep = sizes > max(w.shape) * jnp.finfo(w.dtype).eps * sizes[0]
    transform = jnp.where(keep, 1 / jnp.where(keep, sizes, 1), 0)[:, None] * rotation.T
    rows = _exact_matmul(transform, w)
    excess = matmul(rows, rows.T) - jnp.diag(keep.astype(w.dtype))
    return _RowSpace(rotation, jnp.where(keep, sizes, 0), transform, rows, excess)


def _least_squares(
    problem: _Problem, space: _RowSpace, ridge: Array | float
) -> tuple[Array, Array]:
    """Solves `(WᵀW + ridge) x = Wᵀw_T` in the row space by refinement from x = 0.

    A step contracts the error by about κ²·eps, or κ·eps where W has full row rank and there is no
    ridge, and its residuals round once: x has the digits of the dtype, not those of the normal
    equations. Beyond κ of about 5,000, or 50,000, float32 fails and the step that is left shows it.

    Returns:
      x `[M]`, and the Newton step that is left at x, `[R]` in coordinates of the row space.
    """
    squares = space.sizes**2
    shrink = jnp.where(squares > 0, squares / jnp.where(squares > 0, squares + ridge, 1), 0)
    # W is the same for every target of a batch: it is cut once, before the loop.
    across, down = _slices(problem.w, axis=1), _slices(problem.w.T, axis=1)
    target = problem.target[:, None]
    solvable = (jnp.sum(squares > 0) == problem.target.size) & (ridge == 0)

    def refine(_, state):
        y, step = state
        y = y + step
        x = matmul(y, space.rows)
        residual = _exact_product(across, _slices(-x[:, None], axis=0), plus=target)
        gradient = _exact_product(down, _slices(residual, axis=0))[:, 0] - ridge * x
        step = matmul(space.rows, gradient)
        step = step - matmul(space.excess, step)  # strong directions must not leak into weak ones
        step = matmul(
            space.rotation, shrink * matmul(matmul(step, space.transform), space.rotation)
        )
        return y, matmul(space.transform, jnp.where(solvable, residual[:, 0], step))

    zero = jnp.zeros_like(space.sizes)
    y, step = jax.lax.fori_loop(0, 5, refine, (zero, zero))
    return matmul(y, space.rows), step


class _Slices(NamedTuple):
    """A factor of a product, in units of its rows or columns, cut after `bits` and `2 bits` bits.

    Attributes:
      first: `[P, C]`, or `[C, Q]` as a right factor.
      second: of the same shape.
      rest: of the same shape; first + second + rest is the factor, exactly.
      unit: `[P, 1]` or `[1, Q]` powers of two.
    """

    first: Array
    second: Array
    rest: Array
    unit: Array


def _slices(matrix: Array, *, axis: int) -> _Slices:
    """Cuts a factor whose products sum over `axis`."""
    # One bit short of the most that fits, so that a sum of two products is exact as well.
    bits = (jnp.finfo(matrix.dtype).nmant - (matrix.shape[axis] - 1).bit_length()) // 2
    unit = 4 * _power_of_two(jnp.max(jnp.abs(matrix), axis=axis, keepdims=True))
    rest = matrix / unit
    first = jnp.trunc(rest * 2.0**bits) * 2.0**-bits
    rest = rest - first
    second = jnp.trunc(rest * 2.0 ** (2 * bits)) * 2.0 ** (-2 * bits)
    return _Slices(first, second, rest - second, unit)


def _exact_product(left: _Slices, right: _Slices, *, plus: Array | float = 0.0) -> Array:
    """Multiplies matrices as if in twice the precision, then rounds: cancellation costs nothing.

    The slices have so few bits that the larger products of slices are exact in the dtype, and so
    is their sum, which carries along what it rounds off (Ozaki et al., Numer. Algorithms 2012). In
    float32 and for C = 150, 2⁻²⁸ of the factors' sizes is lost at most, by a plain product 2⁻¹⁸.

    Args:
      left: of `[P, C]`, cut along its axis 1.
      right: of `[C, Q]`, cut along its axis 0.
      plus: what is added to the product before it is rounded, `[P, Q]`.
    """
    unit = left.unit * right.unit
    large = matmul(left.first, right.first)
    middle = matmul(left.first, right.second) + matmul(left.second, right.first)
    small = matmul(left.first, right.rest) + matmul(left.second, right.second + right.rest)
    small = small + matmul(left.rest, right.first + right.second + right.rest)
    total, lost = _two_sum(plus, unit * large)
    total, lost_again = _two_sum(total, unit * middle)
    return total + (lost + lost_again + unit * small)


def _two_sum(a: Array | float, b: Array) -> tuple[Array, Array]:
    """The rounded sum and what rounding took from it, exactly (Knuth)."""
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)


def _exact_matmul(a: Array, b: Array) -> Array:
    """The product of two matrices by `_exact_product`."""
    return _exact_product(_slices(a, axis=1), _slices(b, axis=0))


def _power_of_two(x: Array) -> Array:
    """A power of two in [x/3, x/1.4], and 1 for 0; halved first, so that it cannot overflow."""
    rounded = jax.lax.reduce_precision(x / 2, jnp.finfo(x.dtype).nexp, 0)
    return jnp.where(rounded > 0, rounded, 1)
