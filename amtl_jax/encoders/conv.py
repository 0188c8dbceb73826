"""A small convolutional network, and convolutions that are fast inside loops on a CPU too.

XLA's CPU backend has one fast path for convolutions: channels last, filters `HWIO`. The gradient
by the filter, as automatic differentiation writes it, has other layouts; outside of a loop the
compiler transposes its way to the fast path, in the body of a loop it does not, and is many
times slower. A fit is a loop. So `convolve` brings its own gradients, each written as one more
channels-last convolution with the transposes spelled out. Of a grey image that path is slow as
well: a matrix product over patches, nine times the image's size, takes its place.
"""

import functools
import itertools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from amtl_jax.encoders.modules import check_float, module_encoder
from amtl_jax.types import Array, Encoder

_PRECISION = jax.lax.Precision.HIGHEST
_LAYOUT = ("NHWC", "HWIO", "NHWC")
_SMALL_PATCH = 27  # values; up to so many a matrix product over patches is faster


def convolve(x: Array, kernel: Array, padding: tuple[tuple[int, int], ...]) -> Array:
    """Slides a kernel over images, stride 1, in full float32.

    It has gradients in reverse mode only.

    Args:
      x: `[n, H, W, C]` images.
      kernel: `[h, w, C, C']`.
      padding: zeros before and after rows, before and after columns; static. Negative ones crop.

    Returns:
      `[n, H', W', C']`.

    Raises:
      ValueError: if the padding is not two pairs of numbers.
    """
    try:
        (top, bottom), (left, right) = padding
        pads = tuple((int(one), int(other)) for one, other in ((top, bottom), (left, right)))
    except (TypeError, ValueError):
        raise ValueError(
            f"convolve expects padding ((top, bottom), (left, right)), got {padding!r}."
        ) from None
    return _convolve(x, kernel, pads)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x, kernel, padding):
    return _convolve_forward(x, kernel, padding)[0]


def _convolve_forward(x, kernel, padding):
    if _takes_patches(kernel, padding):
        patches = _patches(x, kernel.shape[:2], padding)
        found = jnp.matmul(patches, kernel.reshape(-1, kernel.shape[3]), precision=_PRECISION)
        return found, (patches, kernel)
    return _slide(x, kernel, padding), (x, kernel)


def _takes_patches(kernel, padding):
    return math.prod(kernel.shape[:3]) <= _SMALL_PATCH and min(itertools.chain(*padding)) >= 0


def _slide(x, kernel, padding):
    # XLA's CPU backend reads beyond its arrays where padding is negative: crop instead.
    (top, bottom), (left, right) = ((max(-one, 0), max(-other, 0)) for one, other in padding)
    x = x[:, top : x.shape[1] - bottom, left : x.shape[2] - right]
    padding = tuple((max(one, 0), max(other, 0)) for one, other in padding)
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), padding, dimension_numbers=_LAYOUT, precision=_PRECISION
    )


def _patches(x, size, padding):
    """What a kernel sees at each place, `[n, H', W', h · w · C]`."""
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    height, width = (have - own + 1 for have, own in zip(x.shape[1:3], size, strict=True))
    places = itertools.product(range(size[0]), range(size[1]))
    seen = [x[:, row : row + height, column : column + width] for row, column in places]
    return jnp.concatenate(seen, axis=3)


def _convolve_backward(padding, saved, grad):
    x, kernel = saved
    rows, columns = ((size - 1, size - 1) for size in kernel.shape[:2])
    back = tuple(
        (size[0] - pads[0], size[1] - pads[1])
        for size, pads in zip((rows, columns), padding, strict=True)
    )
    by_x = _slide(grad, kernel[::-1, ::-1].swapaxes(2, 3), back)
    if _takes_patches(kernel, padding):  # then x is patches
        by_kernel = jnp.einsum("nhwp,nhwc->pc", x, grad, precision=_PRECISION)
        return by_x, by_kernel.reshape(kernel.shape)
    # Images are the channels here, and the gradient is the filter: [C, h, w, C'].
    by_kernel = _slide(x.transpose(3, 1, 2, 0), grad.transpose(1, 2, 0, 3), padding)
    return by_x, by_kernel.transpose(1, 2, 0, 3)


_convolve.defvjp(_convolve_forward, _convolve_backward)


def max_pool(x: Array) -> Array:
    """Takes the maximum of each 2×2 square of `[n, H, W, C]`; an odd last row or column is left.

    Strided slices, and its own gradient: that of a pooling window is a scatter, and slow on a CPU.
    Where values are alike they share the gradient.
    """
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    x = x[:, :height, :width]
    return _max_pool(x)


@jax.custom_vjp
def _max_pool(x):
    rows = jnp.maximum(x[:, ::2], x[:, 1::2])
    return jnp.maximum(rows[:, :, ::2], rows[:, :, 1::2])


def _max_pool_forward(x):
    found = _max_pool(x)
    return found, (x, found)


def _max_pool_backward(saved, grad):
    x, found = saved
    num, height, width, channels = found.shape
    squares = x.reshape(num, height, 2, width, 2, channels)
    is_largest = squares == found[:, :, None, :, None]
    share = grad / jnp.sum(is_largest, axis=(2, 4), dtype=grad.dtype)  # of those that are alike
    by_x = jnp.where(is_largest, share[:, :, None, :, None], 0)
    return (by_x.reshape(x.shape),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


class Convolution(nn.Module):
    """A 3×3 convolution with bias that keeps the size of the image; see `convolve`.

    Attributes:
      channels: C'.
    """

    channels: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[n, H, W, C]` to `[n, H, W, C']`."""
        shape = (3, 3, x.shape[-1], self.channels)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape, x.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.channels,), x.dtype)
        return convolve(x, kernel, ((1, 1), (1, 1))) + bias[None, None, None]


class ConvEncoder(nn.Module):
    """3×3 ReLU convolutions, 2×2 max-pool, and a dense layer to K features.

    With the defaults it is the representation of the paper's second experiment: 32 and 64
    channels, one pool at the end (Chen, Du, Jamieson 2022, section 5).

    Attributes:
      num_features: K.
      channels: of the convolutions.
      pool_each: pools after every convolution, which makes the later ones four times cheaper.
    """

    num_features: int
    channels: tuple[int, ...] = (32, 64)
    pool_each: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps images `[n, H, W, C]` to `[n, K]`.

        Raises:
          ValueError: if the inputs are not images, or too small to pool.
        """
        check_float("ConvEncoder", x)
        if x.ndim != 4:
            raise ValueError(
                f"ConvEncoder expects images [n, H, W, C], got inputs of shape "
                f"{tuple(x.shape[1:])}; grey images need C = 1."
            )
        last = len(self.channels) - 1
        for layer, channels in enumerate(self.channels):
            x = Convolution(channels)(x)
            if self.pool_each or layer == last:
                x = max_pool(x)
            x = nn.relu(x)  # behind the pool, which changes nothing but has a quarter of the work
        if 0 in x.shape[1:3]:
            raise ValueError(f"ConvEncoder's pools leave nothing of the image: {tuple(x.shape)}.")
        x = x.reshape(len(x), math.prod(x.shape[1:]))
        return nn.Dense(self.num_features, use_bias=False, precision=_PRECISION)(x)


def conv_encoder(
    num_features: int, *, channels: tuple[int, ...] = (32, 64), pool_each: bool = False
) -> Encoder:
    """Returns `ConvEncoder` as a pair of pure functions.

    Raises:
      ValueError: if there is no convolution, or a number of channels is below 1.
    """
    if not channels or any(number < 1 for number in channels):
        raise ValueError(f"conv_encoder expects channels >= 1, one a convolution, got {channels}.")
    return module_encoder(ConvEncoder(num_features, tuple(channels), pool_each), chunk_rows=512)
