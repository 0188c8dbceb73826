"""Joint L-BFGS on the factors of the linear representation, with an exact line search.

The objective in the factors B `[D, K]` and W `[M, K, O]` is a nuclear norm problem in
Θ = BW. Each row meets only its task's θ_m = B w_m, so a gradient is two reads of the samples
whatever K is. Along a direction the residual is a quadratic in the step length and the
objective a quartic: reading the samples once gives its coefficients, hence the exact
minimiser, and the residual there needs no further read. One step costs exactly one forward
and one backward read, and no evaluation is ever wasted.
"""

import jax
import jax.numpy as jnp

from amtl_jax.fitting.objective import finish, total_weight
from amtl_jax.heads import head_stats, solve_heads
from amtl_jax.types import Array, Encoder, FitResult, Fitter, Params, TaskBatch

_PRECISION = jax.lax.Precision.HIGHEST
_LINE_SEARCH_STEPS = 30
_MAX_COLUMNS = 4


def lbfgs_fitter(
    encoder: Encoder,
    *,
    num_tasks: int,
    intercept: bool = True,
    num_steps: int = 200,
    tolerance: float = 1e-4,
    memory: int = 10,
) -> Fitter:
    """Returns the fast fit of the linear encoder: spectral start, then joint L-BFGS.

    Args:
      encoder: a linear encoder with the one parameter `kernel` `[D, K]`.
      num_tasks: M, static; tasks without weight get zero heads.
      intercept: whether heads have an unpenalised intercept.
      num_steps: most gradient passes over the samples.
      tolerance: stops when ten steps together lowered the objective by less than this share.
      memory: pairs of the quasi-Newton history.

    Returns:
      `Fitter`; its `fit` also rebalances the factors to BᵀB = Σ_m W_m W_mᵀ, where the penalty
      on the product is least.

    References:
      Nocedal, Wright. Numerical Optimization, chapter 7. Start: Tripuraneni, Jin, Jordan.
      Provable Meta-Learning of Linear Representations. 2021.
    """
    if num_steps < 1 or memory < 1 or not tolerance >= 0:
        raise ValueError(
            "lbfgs_fitter expects num_steps >= 1, memory >= 1 and tolerance >= 0, got "
            f"{num_steps}, {memory} and {tolerance}."
        )

    def init(key: Array, batch: TaskBatch, penalty: Array) -> Params:
        del key  # the spectral start is deterministic
        if batch.x.ndim != 3:
            raise ValueError(
                f"lbfgs_fitter expects inputs that are vectors, x [B, R, D], got {batch.x.shape}; "
                "flatten images before packing them."
            )
        kernel = _spectral_kernel(batch, encoder.num_features, num_tasks, intercept)
        return {"params": {"kernel": kernel}}

    def fit(params: Params, batch: TaskBatch, penalty: Array) -> FitResult:
        kernel = params["params"]["kernel"]
        features = jnp.matmul(batch.x, kernel, precision=_PRECISION)
        stats = head_stats(features, batch, num_tasks=num_tasks)
        ridge = penalty * total_weight(batch)
        heads = solve_heads(stats, ridge=ridge, intercept=intercept)
        factors = _balance(kernel, heads.weight)
        factors, gradient_norm, steps = _minimise(
            factors, batch, penalty, num_tasks, intercept, num_steps, tolerance, memory
        )
        kernel, _ = _balance(*factors)
        return finish(
            encoder,
            {"params": {"kernel": kernel}},
            batch,
            penalty,
            num_tasks=num_tasks,
            intercept=intercept,
            gradient_norm=gradient_norm,
            steps=steps,
        )

    return Fitter(init, fit, encoder, num_tasks, intercept)


def _means(batch: TaskBatch, num_tasks: int, intercept: bool):
    """Weighted task means of inputs `[M, D]` and labels `[M, O]`; zeros without an intercept."""
    sums = jnp.einsum("br,brd->bd", batch.weight, batch.x, precision=_PRECISION)
    label_sums = jnp.einsum("br,bro->bo", batch.weight, batch.y, precision=_PRECISION)
    count = jax.ops.segment_sum(batch.weight.sum(axis=1), batch.task, num_tasks)
    inverse = jnp.where(count > 0, intercept / jnp.where(count > 0, count, 1.0), 0.0)[:, None]
    mean = inverse * jax.ops.segment_sum(sums, batch.task, num_tasks)
    return mean, inverse * jax.ops.segment_sum(label_sums, batch.task, num_tasks), count


def _forward(batch: TaskBatch, mean: Array, theta: Array) -> Array:
    """Centred predictions `(x − mean)ᵀθ` of every row: `[M, D, P]` to `[B, R, P]`."""
    product = _rows_times(batch.x, theta[batch.task])
    shift = jnp.einsum("md,mdp->mp", mean, theta, precision=_PRECISION)
    return product - shift[batch.task][:, None, :]


def _rows_times(x: Array, theta: Array) -> Array:
    """`[B, R, D]` times `[B, D, P]`, both per block, to `[B, R, P]`."""

    def at_once(x, theta):
        return jnp.einsum("brd,bdp->brp", x, theta, precision=_PRECISION)

    def by_column(x, theta):
        columns = [
            jnp.einsum("brd,bd->br", x, theta[..., column], precision=_PRECISION)
            for column in range(theta.shape[-1])
        ]
        return jnp.stack(columns, axis=-1)

    if theta.shape[-1] > _MAX_COLUMNS:
        return at_once(x, theta)
    # A CPU has fast matrix-vector products, even read twice; elsewhere one read is what counts.
    return jax.lax.platform_dependent(x, theta, cpu=by_column, default=at_once)


def _backward(batch: TaskBatch, rows: Array, num_tasks: int) -> Array:
    """Σ ω x rowᵀ of every task: `[B, R, O]` to `[M, D, O]`."""
    weighted = batch.weight[..., None] * rows
    products = jnp.einsum("brd,bro->bdo", batch.x, weighted, precision=_PRECISION)
    return jax.ops.segment_sum(products, batch.task, num_tasks)


def _spectral_kernel(batch, num_features, num_tasks, intercept):
    """Top-K left singular vectors of the columns √n_m g_m, g_m = X_mᵀy_m / n_m, centred."""
    _, label_mean, count = _means(batch, num_tasks, intercept)
    residual = batch.y - label_mean[batch.task][:, None, :]
    moments = _backward(batch, residual, num_tasks)
    moments /= jnp.sqrt(jnp.maximum(count, 1.0))[:, None, None]
    num_inputs = moments.shape[1]
    columns = jnp.moveaxis(moments, 1, 0).reshape(num_inputs, -1)  # [D, M·O]
    left, _, _ = jnp.linalg.svd(columns, full_matrices=False)
    # Θ has at most min(D, M·O) columns of rank: further features would be zero at any optimum.
    missing = max(0, num_features - left.shape[1])
    return jnp.pad(left[:, :num_features], [(0, 0), (0, missing)])


def _balance(kernel: Array, weight: Array):
    """The factors of the same product BW with BᵀB = WWᵀ, whose squared norms are least."""
    num_tasks, num_features, num_outputs = weight.shape
    flat = jnp.moveaxis(weight, 1, 0).reshape(num_features, -1)  # [K, M·O]
    orthonormal, upper = jnp.linalg.qr(kernel)  # [D, P], [P, K]
    core = jnp.matmul(upper, flat, precision=_PRECISION)
    left, sigma, right = jnp.linalg.svd(core, full_matrices=False)
    root = jnp.sqrt(sigma)
    kernel = jnp.matmul(orthonormal, left * root[None], precision=_PRECISION)
    flat = root[:, None] * right
    missing = num_features - len(sigma)
    kernel = jnp.pad(kernel, [(0, 0), (0, missing)])
    flat = jnp.pad(flat, [(0, missing), (0, 0)])
    weight = jnp.moveaxis(flat.reshape(num_features, num_tasks, num_outputs), 0, 1)
    return kernel, weight


def _minimise(factors, batch, penalty, num_tasks, intercept, num_steps, tolerance, memory):
    """Runs L-BFGS from balanced factors; returns factors, relative gradient norm and steps."""
    mean, label_mean, _ = _means(batch, num_tasks, intercept)
    count = total_weight(batch)
    shapes = [leaf.shape for leaf in factors]
    split = factors[0].size

    def unravel(vector):
        return vector[:split].reshape(shapes[0]), vector[split:].reshape(shapes[1])

    def ravel(kernel, weight):
        return jnp.concatenate([kernel.ravel(), weight.ravel()])

    def product(kernel, weight):  # Θ, [M, D, O]
        return jnp.einsum("dk,mko->mdo", kernel, weight, precision=_PRECISION)

    def gradient_at(point, residual):
        kernel, weight = unravel(point)
        theta_gradient = -2.0 / count * _backward(batch, residual, num_tasks)
        kernel_gradient = jnp.einsum("mdo,mko->dk", theta_gradient, weight, precision=_PRECISION)
        weight_gradient = jnp.einsum("mdo,dk->mko", theta_gradient, kernel, precision=_PRECISION)
        return ravel(kernel_gradient, weight_gradient) + 2.0 * penalty * point

    def inner(left, right):  # (1/N) Σ ω leftᵀright
        return jnp.sum(batch.weight[..., None] * left * right) / count

    def step(carry):
        point, residual, gradient, history, values, index = carry
        direction = _quasi_newton_direction(gradient, history)
        kernel, weight = unravel(point)
        kernel_step, weight_step = unravel(direction)
        linear = product(kernel_step, weight) + product(kernel, weight_step)
        both = jnp.concatenate([linear, product(kernel_step, weight_step)], axis=-1)
        change = _forward(batch, mean, both)
        linear, quadratic = jnp.split(change, 2, axis=-1)
        coefficients = (
            -2.0 * inner(residual, linear) + 2.0 * penalty * jnp.vdot(point, direction),
            inner(linear, linear)
            - 2.0 * inner(residual, quadratic)
            + penalty * jnp.vdot(direction, direction),
            2.0 * inner(linear, quadratic),
            inner(quadratic, quadratic),
        )
        length = _first_minimiser(coefficients)
        residual = residual - length * linear - length**2 * quadratic
        new_point = point + length * direction
        new_gradient = gradient_at(new_point, residual)
        history = _remember(history, length * direction, new_gradient - gradient)
        value = inner(residual, residual) + penalty * jnp.vdot(new_point, new_point)
        values = jnp.append(values[1:], value)
        return new_point, residual, new_gradient, history, values, index + 1

    def unfinished(carry):
        _, _, gradient, _, values, index = carry
        improving = values[0] - values[-1] > tolerance * values[-1]
        healthy = jnp.isfinite(values[-1]) & jnp.any(gradient != 0)
        return (index < num_steps) & healthy & improving

    point = ravel(*factors)
    labels = batch.y - label_mean[batch.task][:, None, :]
    residual = labels - _forward(batch, mean, product(*factors))
    gradient = gradient_at(point, residual)
    value = inner(residual, residual) + penalty * jnp.vdot(point, point)
    zeros = jnp.zeros((memory, point.size), point.dtype)
    history = (zeros, zeros, jnp.zeros(memory, point.dtype))
    values = jnp.append(jnp.full(9, jnp.inf, point.dtype), value)
    carry = (point, residual, gradient, history, values, jnp.int32(0))
    point, _, last_gradient, _, _, steps = jax.lax.while_loop(unfinished, step, carry)
    start = jnp.linalg.norm(gradient)
    relative = jnp.linalg.norm(last_gradient) / jnp.where(start > 0, start, 1.0)
    return unravel(point), relative, steps


def _quasi_newton_direction(gradient, history):
    """Two-loop recursion over pairs stored newest last; unused pairs have curvature 0."""
    steps, changes, curvature = history
    used = curvature > 0
    inverse = jnp.where(used, 1.0 / jnp.where(used, curvature, 1.0), 0.0)

    def backward(vector, pair):
        step, change, rho = pair
        alpha = rho * jnp.vdot(step, vector)
        return vector - alpha * change, alpha

    vector, alphas = jax.lax.scan(backward, gradient, (steps, changes, inverse), reverse=True)
    scale = jnp.vdot(changes[-1], changes[-1])
    vector *= jnp.where(scale > 0, curvature[-1] / jnp.where(scale > 0, scale, 1.0), 1.0)

    def forward(vector, pair):
        step, change, rho, alpha = pair
        return vector + (alpha - rho * jnp.vdot(change, vector)) * step, None

    vector, _ = jax.lax.scan(forward, vector, (steps, changes, inverse, alphas))
    return -vector


def _remember(history, step, change):
    """Appends a pair if its curvature is positive beyond rounding; the oldest is dropped."""
    curvature = jnp.vdot(step, change)
    size = jnp.linalg.norm(step) * jnp.linalg.norm(change)
    is_good = curvature > jnp.finfo(step.dtype).eps * size
    shifted = tuple(
        jnp.concatenate([old[1:], new[None]])
        for old, new in zip(history, (step, change, curvature), strict=True)
    )
    return jax.tree.map(lambda new, old: jnp.where(is_good, new, old), shifted, history)


def _first_minimiser(coefficients):
    """Smallest positive root of the derivative of c1 t + c2 t² + c3 t³ + c4 t⁴, where c1 < 0."""
    c1, c2, c3, c4 = coefficients

    def slope(t):
        return c1 + t * (2.0 * c2 + t * (3.0 * c3 + t * 4.0 * c4))

    def grow(_, high):
        return jnp.where(slope(high) < 0, 2.0 * high, high)

    def narrow(_, bracket):  # Newton where it stays inside the bracket, else bisection
        low, high, t = bracket
        is_low = slope(t) < 0
        low, high = jnp.where(is_low, t, low), jnp.where(is_low, high, t)
        bend = 2.0 * c2 + t * (6.0 * c3 + t * 12.0 * c4)
        newton = t - slope(t) / jnp.where(bend > 0, bend, 1.0)
        inside = (bend > 0) & (newton > low) & (newton < high)
        return low, high, jnp.where(inside, newton, 0.5 * (low + high))

    high = jax.lax.fori_loop(0, _LINE_SEARCH_STEPS, grow, jnp.ones_like(c1))
    bracket = (jnp.zeros_like(c1), high, jnp.minimum(high, 1.0))
    return jax.lax.fori_loop(0, _LINE_SEARCH_STEPS, narrow, bracket)[2]
