"""MNIST-C's neighbourhood filters: glass blur, motion blur and Canny edges, one image at a time.

A separable filter of a 28-pixel axis is a 28 × 28 matrix with its border rule built in, so every
blur here is one or two small matrix products.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from amtl_jax.types import Array

SIDE = 28

_MOTION_WIDTH = 21  # 2 · radius + 1 taps for the published radius of 10
_MOTION_SIGMA = 3.0
_CANNY_LOW, _CANNY_HIGH = 0.1, 0.2


def gaussian_matrix(sigma: float, *, border: str = "edge") -> np.ndarray:
    """Returns the `[28, 28]` float32 matrix that blurs one axis by `sigma` pixels.

    The kernel is cut off at 4 σ and normalised. Pixels outside the image repeat the nearest one
    for `border="edge"`; for `"renormalise"` they are left out and the remaining weights are
    scaled to sum to one.
    """
    radius = int(4 * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()
    rows = np.repeat(np.arange(SIDE), kernel.size)
    cols = (np.arange(SIDE)[:, None] + offsets).ravel()
    weights = np.tile(kernel, SIDE)
    if border == "renormalise":
        weights = np.where((cols >= 0) & (cols < SIDE), weights, 0.0)
    matrix = np.zeros((SIDE, SIDE))
    np.add.at(matrix, (rows, np.clip(cols, 0, SIDE - 1)), weights)
    return (matrix / matrix.sum(1, keepdims=True)).astype(np.float32)


def matmul(*factors) -> Array:
    """Multiplies matrices in full float32: accelerators would round to bfloat16 or TF32."""
    product = jnp.asarray(factors[0])
    for factor in factors[1:]:
        product = jnp.matmul(product, factor, precision=jax.lax.Precision.HIGHEST)
    return product


_GLASS_BLUR = gaussian_matrix(0.7)
_CANNY_BLUR = gaussian_matrix(1.0, border="renormalise")


def glass_blur(key: Array, image: Array) -> Array:
    """Blurs, swaps neighbouring pixels at random in two passes, and blurs again, `[28, 28]`.

    The original's blur took the horizontal axis for colour channels, so it is vertical only, and
    it rounded down to whole grey levels before the swaps. Pixels are visited from the bottom
    right; each swaps, with probability ½, with one at offset −1 or 0 in each direction. The
    swaps are sequential, so a grey level can travel far.
    """
    # The slack keeps float32 from rounding a whole grey level down to the one below.
    grey = jnp.floor(matmul(_GLASS_BLUR, image) * 255 + 1e-3)
    visits = SIDE - 2  # rows and columns 27 … 2: the original leaves two at the top and left
    # Eight equally likely draws: half name the partner in a 2 × 2 block whose last pixel is the
    # visited one, half leave it where it is.
    draws = jax.random.randint(key, (2 * visits * visits,), 0, 8, jnp.int32)
    partners = jnp.where(draws < 4, draws, 3)
    place = np.arange(4, dtype=np.int32).reshape(2, 2)

    def swap(step, grey):
        row = SIDE - 2 - step // visits % visits
        col = SIDE - 2 - step % visits
        # The block's address is the same for every image, so a batch needs no gather.
        block = jax.lax.dynamic_slice(grey, (row, col), (2, 2))
        at_partner = place == partners[step]
        partner = jnp.sum(jnp.where(at_partner, block, 0.0))
        swapped = jnp.where(place == 3, partner, jnp.where(at_partner, block[1, 1], block))
        return jax.lax.dynamic_update_slice(grey, swapped, (row, col))

    grey = jax.lax.fori_loop(0, partners.size, swap, grey)
    return matmul(_GLASS_BLUR, grey / 255)


def motion_blur(key: Array, image: Array) -> Array:
    """Smears along a line of 21 pixels at an angle uniform in ±45°, `[28, 28]`."""
    limit = math.pi / 4
    return smear(image, jax.random.uniform(key, (), image.dtype, -limit, limit))


def smear(image: Array, angle: Array) -> Array:
    """ImageMagick's motion blur: a one-sided Gaussian along `angle` (radians), nearest taps."""
    taps = np.arange(_MOTION_WIDTH)
    kernel = np.exp(-0.5 * (taps / _MOTION_SIGMA) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    padded = jnp.pad(image, _MOTION_WIDTH, mode="edge")

    def tap(distance):
        down = jnp.ceil(distance * jnp.sin(angle) - 0.5).astype(int)
        right = jnp.ceil(distance * jnp.cos(angle) - 0.5).astype(int)
        corner = (_MOTION_WIDTH + down, _MOTION_WIDTH + right)
        return jax.lax.dynamic_slice(padded, corner, image.shape)

    shifted = jax.vmap(tap)(jnp.asarray(taps, image.dtype))  # [21, 28, 28]
    return jnp.sum(kernel[:, None, None] * shifted, 0)


def canny_edges(key: Array, image: Array) -> Array:
    """Canny's edge map with σ = 1 and thresholds .1 and .2, `[28, 28]` of 0 and 1."""
    del key
    smooth = matmul(_CANNY_BLUR, image, _CANNY_BLUR.T)
    gradient = _sobel(smooth), _sobel(smooth.T).T  # down, right
    magnitude = jnp.sqrt(gradient[0] ** 2 + gradient[1] ** 2)
    inner = np.zeros((SIDE, SIDE), bool)
    inner[1:-1, 1:-1] = True  # nothing is known of what lies beyond the border
    weak = (magnitude >= _CANNY_LOW) & inner & _is_ridge(gradient, magnitude)
    return _connected(weak & (magnitude >= _CANNY_HIGH), weak).astype(image.dtype)


def _sobel(image: Array) -> Array:
    """Sobel derivative along the first axis, unnormalised, the border repeated."""
    padded = jnp.pad(image, 1, mode="edge")
    difference = padded[2:] - padded[:-2]
    return difference[:, :-2] + 2 * difference[:, 1:-1] + difference[:, 2:]


def _is_ridge(gradient: tuple[Array, Array], magnitude: Array) -> Array:
    """Non-maximum suppression: where no neighbour along the gradient is larger, `[28, 28]` bool.

    The neighbours are one pixel away along the gradient's longer component, interpolated
    linearly between the straight and the diagonal pixel.
    """
    down, right = gradient
    steep = jnp.abs(down) > jnp.abs(right)
    longer = jnp.where(steep, jnp.abs(down), jnp.abs(right))
    shorter = jnp.where(steep, jnp.abs(right), jnp.abs(down))
    slant = shorter / jnp.where(longer > 0, longer, 1)
    row, col = jnp.mgrid[:SIDE, :SIDE]
    step_down, step_right = jnp.sign(down).astype(int), jnp.sign(right).astype(int)

    def has_no_larger(direction):
        diagonal_row = row + direction * step_down
        diagonal_col = col + direction * step_right
        straight_row = jnp.where(steep, diagonal_row, row)
        straight_col = jnp.where(steep, col, diagonal_col)
        straight = magnitude.at[straight_row, straight_col].get(mode="clip")
        diagonal = magnitude.at[diagonal_row, diagonal_col].get(mode="clip")
        return diagonal * slant + straight * (1 - slant) <= magnitude

    return has_no_larger(1) & has_no_larger(-1)


def _connected(strong: Array, weak: Array) -> Array:
    """Hysteresis: the pixels of `weak` that 8-connected steps inside it join to `strong`."""

    def spread(mask):
        padded = jnp.pad(mask, 1)
        tall = padded[:-2] | padded[1:-1] | padded[2:]
        return weak & (tall[:, :-2] | tall[:, 1:-1] | tall[:, 2:])

    def grow(masks):
        _, mask = masks
        return mask, spread(mask)

    return jax.lax.while_loop(lambda masks: jnp.any(masks[0] != masks[1]), grow, (~weak, strong))[1]
