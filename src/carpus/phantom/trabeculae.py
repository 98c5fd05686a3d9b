"""The texture of spongy bone: a net of fine struts that run mostly along the bone."""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]

TILE = 1024
"""Side of the repeating tile in texels, one texel to a pixel of an image 2048 wide."""

_TEXELS = 301.5


@lru_cache(maxsize=1)
def _levels() -> tuple[Map, ...]:
    """A tile that repeats, mean 0 and sd 1 at full resolution, and its halves, quarters ..."""
    rng = np.random.default_rng(20)
    u, v = np.fft.rfftfreq(TILE)[None], np.fft.fftfreq(TILE)[:, None]

    def band(wavelength: float, stretch: float) -> NDArray[np.float64]:
        radius = np.sqrt(u**2 + (stretch * v) ** 2) * wavelength
        noise = np.fft.rfft2(rng.standard_normal((TILE, TILE)))
        field = np.fft.irfft2(noise * np.exp(-2.5 * (radius - 1) ** 2))
        return field / field.std()

    def struts(wavelength: float, stretch: float) -> NDArray[np.float64]:
        # Where a smooth field passes through zero there is a thin curved line.
        ridge = np.exp(-1.6 * np.abs(band(wavelength, stretch)))
        return (ridge - ridge.mean()) / ridge.std()

    cloud = band(90.0, 1.0)
    tile = 1.0 * struts(12.0, 2.0) + 0.7 * struts(7.0, 1.5) + 0.6 * struts(20.0, 2.8) + 0.5 * cloud
    tile = (tile / tile.std()).astype(np.float32)
    levels = [tile - tile.mean()]
    while levels[-1].shape[0] > 64:
        levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    return tuple(levels)


def sample(
    offset: NDArray[np.int64],
    inverse: NDArray[np.floating],
    corner: NDArray[np.floating],
    window: tuple[int, int],
    unit_px: float,
) -> Map:
    """The texture in a bone's own frame, in a window of the image.

    Args:
        offset: (2,) where in the tile the bone's origin lies.
        inverse: (2, 2) from pixels to the bone's frame.
        corner: (2,) the window's first pixel in the bone's frame.
        window: (W, H) of the window.
        unit_px: pixels to the unit of length.
    """
    levels = _levels()
    level = int(np.clip(np.round(np.log2(_TEXELS / unit_px)), 0, len(levels) - 1))
    start = corner * _TEXELS + offset
    matrix = np.concatenate([inverse * _TEXELS, start[:, None]], axis=1) / 2**level
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    sampled = cv2.warpAffine(levels[level], matrix, window, flags=flags, borderMode=cv2.BORDER_WRAP)
    return np.asarray(sampled, np.float32)
