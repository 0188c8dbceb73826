"""PNG images of a few colours, written by hand: heat maps of thousands of cells in few bytes."""

import base64
import struct
import zlib
from collections.abc import Sequence

import numpy as np

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _PALETTE, _RGB = 0, 3, 2
_UP = 2

Colour = tuple[int, int, int, int]


def palette_png(pixels: np.ndarray, colours: Sequence[Colour]) -> bytes:
    """A PNG file of palette colours.

    Args:
      pixels: `[H, W]` uint8 places in `colours`.
      colours: at most 256 of red, green, blue and opacity, 0 … 255 each.
    """
    table = np.asarray(colours, np.uint8)
    chunks = [(b"PLTE", table[:, :3].tobytes()), (b"tRNS", table[:, 3].tobytes())]
    return _file(pixels[..., None], _PALETTE, chunks)


def image_png(pixels: np.ndarray) -> bytes:
    """A PNG file of an image, `[H, W]` or `[H, W, 3]` uint8."""
    if pixels.ndim == 2:
        return _file(pixels[..., None], _GREY, [])
    return _file(pixels, _RGB, [])


def data_uri(png: bytes) -> str:
    """A PNG file as an address that loads nothing."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _file(pixels: np.ndarray, kind: int, chunks: Sequence[tuple[bytes, bytes]]) -> bytes:
    height, width, depth = pixels.shape
    rows = pixels.reshape(height, width * depth)
    # The difference to the row above is zero where cells are taller than a pixel.
    moved = rows - np.concatenate([np.zeros_like(rows[:1]), rows[:-1]])
    body = np.concatenate([np.full((height, 1), _UP, np.uint8), moved], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    parts = [
        (b"IHDR", header),
        *chunks,
        (b"IDAT", zlib.compress(body.tobytes(), 9)),
        (b"IEND", b""),
    ]
    return _SIGNATURE + b"".join(_chunk(name, content) for name, content in parts)


def _chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)
