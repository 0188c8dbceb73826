"""MNIST-C's overlays: fog, spatter, a dotted line and a zigzag, one image at a time."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from amtl_jax.data._filters import SIDE, gaussian_matrix, matmul
from amtl_jax.types import Array

_FOG_STRENGTH, _FOG_DECAY = 3.0, 1.4
_FRACTAL_LEVELS = 8  # a 256 × 256 map
_MUD_THRESHOLD, _MUD_EDGE, _MUD_GREY = 0.65, 0.8, 63 / 255
_LINE_REACH = 2.3  # vertical distance in pixels at which the profile's logarithm diverges
_TOOTH = 2.0  # width and height of a zigzag's tooth

_LIQUID_BLUR = gaussian_matrix(1.0)
_MASK_BLUR = gaussian_matrix(1.5)


def fog(key: Array, image: Array) -> Array:
    """Adds three times a plasma fractal and rescales by the image's own maximum, `[28, 28]`."""
    peak = jnp.max(image)
    cloud = plasma_fractal(key)[:SIDE, :SIDE]
    return (image + _FOG_STRENGTH * cloud) * peak / (peak + _FOG_STRENGTH)


def plasma_fractal(key: Array) -> Array:
    """Returns a periodic diamond-square height map, `[256, 256]` in [0, 1].

    Every level halves the grid: first the centre of each square becomes the mean of its corners,
    then the middle of each edge the mean of its four neighbours, each plus a uniform wibble whose
    amplitude falls by the square of the decay (the original multiplies by the wibble twice).
    """
    corner = jnp.zeros((1, 1), jnp.float32)
    # One draw for all levels (a generator for each would double the time to compile), 16 bits a
    # number (the generator is most of the work, and the map is shown in 256 grey levels).
    bits = jax.random.bits(key, (4**_FRACTAL_LEVELS // 2,), jnp.uint32)
    halves = jax.lax.bitcast_convert_type(bits, jnp.uint16).reshape(-1)
    draws = (halves.astype(jnp.float32) + 0.5) / 2**15 - 1  # uniform in (-1, 1)
    for level in range(_FRACTAL_LEVELS):
        size = 2**level
        # The map is rescaled at the end, so the first amplitude is free.
        wibble = draws[size**2 : 4 * size**2].reshape(3, size, size) / _FOG_DECAY ** (2 * level)
        below, right = jnp.roll(corner, -1, 0), jnp.roll(corner, -1, 1)
        centre = (corner + below + right + jnp.roll(below, -1, 1)) / 4 + wibble[0]
        top = (corner + right + centre + jnp.roll(centre, 1, 0)) / 4 + wibble[1]
        left = (corner + below + centre + jnp.roll(centre, 1, 1)) / 4 + wibble[2]
        even, odd = jnp.stack([corner, top], -1), jnp.stack([left, centre], -1)  # [size, size, 2]
        # Unfenced, XLA fuses levels into one another and takes twice as long to compile.
        corner = jax.lax.optimization_barrier(jnp.stack([even, odd], 1).reshape(2 * size, 2 * size))
    low, high = jnp.min(corner), jnp.max(corner)
    return (corner - low) / (high - low)


def spatter(key: Array, image: Array) -> Array:
    """Covers the image with dark grey mud where blurred noise is high, `[28, 28]`."""
    liquid = 0.65 + 0.3 * jax.random.normal(key, image.shape, image.dtype)
    wet = matmul(_LIQUID_BLUR, liquid, _LIQUID_BLUR.T) > _MUD_THRESHOLD
    mud = matmul(_MASK_BLUR, wet.astype(image.dtype), _MASK_BLUR.T)
    mud = jnp.where(mud < _MUD_EDGE, 0.0, mud)
    return image * (1 - mud) + _MUD_GREY * mud


def dotted_line(key: Array, image: Array) -> Array:
    """Draws a line from edge to edge, two columns off and two on, `[28, 28]`."""
    start, end = jax.random.randint(key, (2,), 0, SIDE - 1, jnp.int32).astype(image.dtype)
    is_on = np.arange(SIDE)[None] // 2 % 2 == 1
    return image + jnp.where(is_on, _segment(0.0, start, SIDE - 1.0, end), 0.0)


def zigzag(key: Array, image: Array) -> Array:
    """Draws a zigzag from column 2 to column 25 along a slanted line, `[28, 28]`."""
    key_start, key_rise = jax.random.split(key)
    start = jax.random.randint(key_start, (), 0, SIDE - 1, jnp.int32).astype(image.dtype)
    rise = jax.random.randint(key_rise, (), -5, 5, jnp.int32).astype(image.dtype)
    first, last = 2.0, 25.0
    angle = jnp.arctan(rise / (last - first))
    length = (last - first) / jnp.cos(angle)
    # The rise is at most 5, so the length stays within [23, 23.6] and there are always six full
    # teeth, the last at 22, and a short one that the original ends at this height.
    along = _TOOTH * (2 * np.arange(6, dtype=np.float32) + 1)
    across = _TOOTH * (-1) ** np.arange(6, dtype=np.float32)
    whole = 2 * _TOOTH * math.floor((last - first) / (2 * _TOOTH))
    stub = -_TOOTH / (2 * (length - whole))
    along = jnp.stack([0.0, *along, length])
    across = jnp.stack([0.0, *across, stub])
    cols = first + jnp.cos(angle) * along - jnp.sin(angle) * across
    rows = start + jnp.sin(angle) * along + jnp.cos(angle) * across
    return image + jnp.sum(jax.vmap(_segment)(cols[:-1], rows[:-1], cols[1:], rows[1:]), 0)


def _segment(
    col_start: Array | float, row_start: Array, col_end: Array | float, row_end: Array
) -> Array:
    """Draws the part of a line between two columns, 1 on it and fading vertically, `[28, 28]`."""
    row, col = jnp.mgrid[:SIDE, :SIDE].astype(jnp.float32)
    slope = (row_end - row_start) / (col_end - col_start)
    distance = jnp.abs(row - (row_start + slope * (col - col_start)))
    # The profile is cut off at zero well before the floor that keeps the logarithm finite.
    ink = jnp.maximum(1 + jnp.log(jnp.maximum(1 - distance / _LINE_REACH, 0.1)), 0)
    return jnp.where((col >= jnp.floor(col_start)) & (col < jnp.ceil(col_end)), ink, 0.0)
