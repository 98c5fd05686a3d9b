"""Decoded pixels to one upright grey channel of a known range.

Dimension key: H rows, W columns.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Exif

Grey = NDArray[np.uint8 | np.uint16]
"""(H, W) uint8 or uint16; 0 is black, the type's highest value white."""

_TO_8_BITS = ((np.arange(1 << 16, dtype=np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def scale(pixels: Grey, bits: int) -> Grey:
    """Bring uint8 or uint16 to 8 or 16 bits, range to range, to the nearest level."""
    if pixels.dtype == np.uint8:
        return pixels if bits == 8 else pixels.astype(np.uint16) * np.uint16(257)
    return _TO_8_BITS[pixels] if bits == 8 else pixels


def luma(pixels: NDArray[Any]) -> Grey:
    """(H, W, 3 or 4) RGB of 8 or 16 bits to grey (ITU-R 601); equal channels stay that channel."""
    # The weights sum to 2**16, so that the sum of three 16-bit channels just fits into 32 bits.
    total = np.full(pixels.shape[:2], 1 << 15, np.uint32)
    for channel, weight in enumerate((19595, 38470, 7471)):
        total += pixels[..., channel].astype(np.uint32) * np.uint32(weight)
    return (total >> 16).astype(pixels.dtype)


def on_black(pixels: Grey, alpha: Grey) -> Grey:
    """Lay grey pixels on black, as opaque as `alpha`, of the same type, says."""
    top = np.iinfo(pixels.dtype).max
    return ((pixels.astype(np.uint64) * alpha + top // 2) // top).astype(pixels.dtype)


def orientation(exif: Exif) -> int:
    """The EXIF orientation, 1 to 8; 1, which changes nothing, where it is missing or nonsense."""
    value = exif.get(0x112)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def upright(pixels: Grey, orientation: int) -> Grey:
    """Undo an EXIF orientation, 1 to 8: the array as it is meant to be seen."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.T
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def turned(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """The size (H, W) that `upright` gives."""
    height, width = size
    return (width, height) if orientation in (5, 6, 7, 8) else (height, width)
