"""The 16 corruptions of MNIST-C at their published default severities, in pure JAX.

Every corruption is a pure function of a key and one `[28, 28]` float32 image in [0, 1]; `corrupt`
maps it over a batch in one compiled call. Signs, angles, rows and noise are drawn per image, so
the same digit can be corrupted afresh in every draw.

References:
  Mu, Gilmer. MNIST-C: A Robustness Benchmark for Computer Vision. 2019. arXiv:1906.02337.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

from amtl_jax.data._filters import SIDE, canny_edges, glass_blur, matmul, motion_blur
from amtl_jax.data._overlays import dotted_line, fog, spatter, zigzag
from amtl_jax.types import Array

_CENTRE = (SIDE - 1) / 2
_TILT = 0.4  # radians of shear and rotation
_SHRINK = 0.7
_SHIFT = 3  # pixels
_CHUNK = 250  # images at a time: fog alone takes about a megabyte of height maps for each


def identity(key: Array, image: Array) -> Array:
    """Returns the image as it is."""
    del key
    return image


def shot_noise(key: Array, image: Array) -> Array:
    """Draws Poisson(3x) / 3 for every pixel, cut off at 1."""
    # Counts above 3 are cut off anyway, so three steps of the distribution function are enough.
    rate = 3 * image
    tail = jax.random.uniform(key, image.shape, image.dtype) * jnp.exp(rate)
    steps = (tail >= 1, tail >= 1 + rate, tail >= 1 + rate + rate**2 / 2)
    one, two, three = (step.astype(image.dtype) for step in steps)
    return (one + two + three) / 3


def impulse_noise(key: Array, image: Array) -> Array:
    """Sets 17 % of the pixels to 0 or 1 with equal probability."""
    draw = jax.random.uniform(key, image.shape, image.dtype)
    return jnp.where(draw < 0.085, 0.0, jnp.where(draw < 0.17, 1.0, image))


def shear(key: Array, image: Array) -> Array:
    """Shears by ±.4 rad about the centre."""
    tilt = _TILT * _signs(key, ()).astype(image.dtype)
    return _warp(image, ((1.0, -jnp.sin(tilt)), (0.0, jnp.cos(tilt))))


def scale(key: Array, image: Array) -> Array:
    """Shrinks the image to .7 of its size about the centre."""
    del key
    return matmul(_SHRINKING, image, _SHRINKING.T)


def rotate(key: Array, image: Array) -> Array:
    """Rotates by ±.4 rad about the centre."""
    tilt = _TILT * _signs(key, ()).astype(image.dtype)
    sin, cos = jnp.sin(tilt), jnp.cos(tilt)
    return _warp(image, ((cos, -sin), (sin, cos)))


def brightness(key: Array, image: Array) -> Array:
    """Adds .5."""
    del key
    return image + 0.5


def translate(key: Array, image: Array) -> Array:
    """Shifts by ±3 pixels in each direction, with independent signs."""
    corner = _SHIFT + _SHIFT * _signs(key, (2,))
    return jax.lax.dynamic_slice(jnp.pad(image, _SHIFT), corner, image.shape)


def stripe(key: Array, image: Array) -> Array:
    """Inverts the outer quarters: columns 0–6 and 21–27."""
    del key
    col = np.arange(SIDE)[None]
    return jnp.where((col < 7) | (col >= 21), 1 - image, image)


def _signs(key: Array, shape: tuple[int, ...]) -> Array:
    """Draws int32 signs; `jax.random.rademacher` would draw others where float64 is enabled."""
    return 2 * jax.random.randint(key, shape, 0, 2, jnp.int32) - 1


def _warp(image: Array, matrix: tuple[tuple[Array | float, Array], ...]) -> Array:
    """Reads the image, bilinearly and 0 outside, where `matrix` maps each pixel about the centre.

    The matrix acts on (column, row), in that order.
    """
    row, col = jnp.mgrid[:SIDE, :SIDE].astype(image.dtype) - _CENTRE
    from_col = _CENTRE + matrix[0][0] * col + matrix[0][1] * row
    from_row = _CENTRE + matrix[1][0] * col + matrix[1][1] * row
    return map_coordinates(image, [from_row, from_col], order=1)


def _shrinking_matrix() -> np.ndarray:
    """Returns the `[28, 28]` matrix that shrinks one axis about the centre, bilinearly."""
    source = _CENTRE + (np.arange(SIDE) - _CENTRE) / _SHRINK
    distance = np.abs(source[:, None] - np.arange(SIDE))
    return np.maximum(1 - distance, 0).astype(np.float32)


_SHRINKING = _shrinking_matrix()

_FUNCTIONS = {
    function.__name__: function
    for function in (
        identity,
        shot_noise,
        impulse_noise,
        glass_blur,
        motion_blur,
        shear,
        scale,
        rotate,
        brightness,
        translate,
        stripe,
        fog,
        spatter,
        dotted_line,
        zigzag,
        canny_edges,
    )
}

CORRUPTIONS: tuple[str, ...] = tuple(_FUNCTIONS)


def corrupt(name: str, key: Array, images: Array) -> Array:
    """Corrupts a batch of images, each with randomness of its own.

    Image `i` is corrupted with `fold_in(key, i)`, whatever else is in the batch. The call is
    compiled once per corruption and batch size.

    Args:
      name: one of `CORRUPTIONS`.
      key: one typed PRNG key, `[]`.
      images: `[N, 28, 28]` float32 in [0, 1].

    Returns:
      `[N, 28, 28]` float32 in [0, 1].

    Raises:
      ValueError: if the name is unknown, `key` is not one typed key, or the images are not
        float32 of that shape.

    References:
      Mu, Gilmer. MNIST-C: A Robustness Benchmark for Computer Vision. 2019. arXiv:1906.02337.
    """
    if name not in _FUNCTIONS:
        raise ValueError(f"unknown corruption {name!r}; expected one of {', '.join(CORRUPTIONS)}")
    dtype = getattr(key, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key) or key.shape:
        raise ValueError(f"key must be one typed key such as jax.random.key(0), got {key!r}")
    shape, dtype = np.shape(images), getattr(images, "dtype", type(images).__name__)
    if len(shape) != 3 or shape[1:] != (SIDE, SIDE):
        raise ValueError(f"images must have shape [N, 28, 28], got {list(shape)}")
    if dtype != jnp.float32:
        raise ValueError(f"images must be float32 in [0, 1], got {dtype}")
    # The keys are made apart, so that their generator is compiled once and not 16 times.
    return _corrupt(name, _image_keys(key, len(images)), images)


@jax.jit(static_argnums=1)
def _image_keys(key: Array, count: int) -> Array:
    """Returns a key for each image, `[N]`."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(count))


@jax.jit(static_argnums=0)
def _corrupt(name: str, keys: Array, images: Array) -> Array:
    """Maps the corruption over the batch, a chunk at a time."""
    function = _FUNCTIONS[name]

    def one(key_and_image):
        return jnp.clip(function(*key_and_image), 0, 1)

    return jax.lax.map(one, (keys, images), batch_size=max(1, min(len(images), _CHUNK)))
