"""What a computation needs at least: operations and bytes, for rates that can be held to a ceiling.

An operation is one addition or multiplication of floats. Counted is what the answer needs, not what
a program does: rows of padding, refinements of rounding, and what is computed twice or fetched
again from memory make a rate lower, never higher. Inputs are read once and results written once, 4
bytes a number. A Gram matrix counts as the whole product, as the matmul of the ceiling makes it;
its symmetry would spare half of it.

Where the number of steps depends on the data, as in basis pursuit, the lasso and a fit that stops
by itself, nobody can say what is needed: `UNKNOWN`, or what the steps that were made need.
"""

import itertools
import math
from typing import NamedTuple

_BYTES = 4  # float32


class Work(NamedTuple):
    """What is needed.

    Attributes:
      operations: additions and multiplications; NaN where unknown.
      bytes: read and written; NaN where unknown.
    """

    operations: float
    bytes: float

    def times(self, count: float) -> "Work":
        """The work of doing it so often."""
        return Work(count * self.operations, count * self.bytes)


UNKNOWN = Work(math.nan, math.nan)


def statistics(num_rows: int, num_features: int, num_tasks: int, num_outputs: int = 1) -> Work:
    """`head_stats`: of every row φφᵀ, φyᵀ, φ and y² are added to its task's sums.

    Read are features, labels, weight of the rows; written are the sums of the tasks.
    """
    of_row = num_features**2 + num_features * (num_outputs + 1) + num_outputs
    return Work(
        2 * num_rows * of_row,
        _BYTES
        * (
            num_rows * (num_features + num_outputs + 1)
            + num_tasks * _sums(num_features, num_outputs)
        ),
    )


def _sums(num_features: int, num_outputs: int) -> int:
    """Numbers of the statistics of a task: gram, moment, energy and the three sums."""
    return num_features**2 + num_features * num_outputs + num_features + 2 * num_outputs + 1


def solution(num_tasks: int, num_features: int, num_outputs: int = 1) -> Work:
    """`solve_heads`: of every task a Cholesky factor, and what follows from it.

    2K² for centring, K³/3 for the Cholesky factor, 2K² an output for its two triangles, 2K² an
    output for the residuals, K³/3 for the inverse of the factor, of which the degrees of freedom
    are made. Read are the statistics; written are weight, intercept and variance.
    """
    size, outputs = num_features, num_outputs
    operations = 2 * size**3 / 3 + 2 * size**2 + 4 * size**2 * outputs
    moved = _sums(size, outputs) + size * outputs + 2 * outputs
    return Work(num_tasks * operations, _BYTES * num_tasks * moved)


def min_norm(num_sources: int, num_targets: int, num_features: int) -> Work:
    """Least norm by normal equations: `Wᵀ(W Wᵀ)⁻¹w_T`, W factored once for all targets.

    2K²M for W Wᵀ, K³/3 for its factor; of every target 2K² for the triangles and 2KM for the
    coefficients. Read are the heads of sources and targets; written are the coefficients.
    """
    size = num_features
    shared = 2 * size**2 * num_sources + size**3 / 3
    own = 2 * size**2 + 2 * size * num_sources
    moved = size * num_sources + num_targets * (size + num_sources)
    return Work(shared + num_targets * own, _BYTES * moved)


def linear_pass(num_rows: int, num_inputs: int, num_outputs: int = 1) -> Work:
    """A gradient pass of the linear fit: xᵀθ of every row, and back from it Σ ω x rᵀ.

    2D each, an output, whatever K is. The rows are read once.
    """
    return Work(
        4 * num_rows * num_inputs * num_outputs,
        _BYTES * num_rows * (num_inputs + num_outputs + 1),
    )


def mlp_pass(num_rows: int, sizes: tuple[int, ...], num_tasks: int, num_outputs: int = 1) -> Work:
    """A gradient pass of an MLP whose heads are solved in it (variable projection).

    Args:
      num_rows: N.
      sizes: of the layers, from D inputs to K features.
      num_tasks: M.
      num_outputs: O.

    Returns:
      Two operations a weight and row forward, two for the gradient by the weight, and, but in the
      first layer, two for that by the layer's input; statistics and their solution; 2K an output
      for predictions and 2K for the gradient by the features. The rows are read once.
    """
    layers = [2 * left * right for left, right in itertools.pairwise(sizes)]
    network = 3 * sum(layers) - layers[0]
    heads = statistics(num_rows, sizes[-1], num_tasks, num_outputs).operations
    heads += solution(num_tasks, sizes[-1], num_outputs).operations
    return Work(
        num_rows * (network + 4 * sizes[-1] * num_outputs) + heads,
        _BYTES * num_rows * (sizes[0] + num_outputs + 1),
    )


def conv_pass(
    num_rows: int, side: int, channels: tuple[int, ...], num_features: int, num_outputs: int = 1
) -> Work:
    """A gradient pass of the convolutional encoder with one pool, its heads descended with it.

    Every 3×3 convolution takes 2 · 9 · C · C' operations a pixel forward, so much by the kernel
    and, but in the first, by its input; the dense layer behind the pool three times 2 a weight;
    the heads three times 2K an output. Images, of one channel, are read once.
    """
    pixels, inputs = side**2, (1, *channels[:-1])
    layers = [2 * 9 * pixels * left * right for left, right in zip(inputs, channels, strict=True)]
    dense = 2 * (side // 2) ** 2 * channels[-1] * num_features
    of_row = 3 * (sum(layers) + dense + 2 * num_features * num_outputs) - layers[0]
    return Work(num_rows * of_row, _BYTES * num_rows * (pixels + num_outputs + 1))


def image_pass(num_images: int, num_pixels: int) -> Work:
    """Images read and written; what a corruption computes of them is not counted."""
    return Work(math.nan, 2 * _BYTES * num_images * num_pixels)
