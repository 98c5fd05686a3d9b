"""Image and label map through one composed warp, then changes of intensity for the image alone.

Dimension key: S side of the square image, L side of its label map (both show the same field).
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from carpus import labels as label_map
from carpus.labels import LabelMap


@dataclass(frozen=True)
class Settings:
    """How far an augmentation may go; every draw is uniform within its limits, and 0 or False turns it off.

    Args:
        rotation_deg: largest turn to either side, in degrees. Bent wrists call for much of it.
        scale: largest change of size as a factor: 0.1 draws from 1/1.1 to 1.1.
        shift: largest shift along each axis as a share of the side.
        flip: mirror left to right, every second time. The classes stay: a mirrored left hand is a right hand.
        gamma: largest change of the exponent as a factor, as `scale`.
        contrast: largest change of contrast as a factor, as `scale`.
        brightness: largest change of brightness, in units of the full range.
        noise: largest standard deviation of Gaussian noise, in units of the full range.
        blur: largest standard deviation of a Gaussian blur, in pixels.
    """

    rotation_deg: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    flip: bool = False
    gamma: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    noise: float = 0.0
    blur: float = 0.0


def apply(
    image: NDArray[np.uint8], labels: LabelMap, settings: Settings, random: np.random.Generator
) -> tuple[NDArray[np.float32], LabelMap]:
    """Augment one case.

    Args:
        image: (S, S) uint8.
        labels: (L, L) int32; L may differ from S.
        settings: the limits.
        random: decides everything; the same state gives the same result.

    Returns:
        The image as (S, S) float32 in 0..1 and the label map (L, L) int32 after the same warp.
    """
    matrix = _draw_warp(settings, random)
    warped = warp(image, matrix, cv2.INTER_LINEAR)
    warped_labels = label_map.from_channels(warp(label_map.channels(labels), matrix, cv2.INTER_NEAREST))
    return _intensity(warped, settings, random), warped_labels


def warp(pixels: NDArray[np.uint8], matrix: NDArray[np.float64], method: int) -> NDArray[np.uint8]:
    """Warp a square picture (S, S) or (S, S, C) by `matrix`, outside is 0.

    Args:
        pixels: the source.
        matrix: (2, 3), takes result coordinates to source coordinates, both centred and in units of the side
            (-0.5..0.5), so that one matrix serves an image and a label map of different sizes.
        method: cv2.INTER_LINEAR for images, cv2.INTER_NEAREST for label maps.
    """
    side = pixels.shape[0]
    if np.array_equal(matrix, _IDENTITY):
        return pixels
    # Pixel centres lie at (i + 0.5) / side - 0.5.
    middle = (side - 1) / 2
    offset = middle - matrix[:, :2] @ [middle, middle] + matrix[:, 2] * side
    inverse = np.column_stack([matrix[:, :2], offset])
    return cv2.warpAffine(pixels, inverse, (side, side), flags=method | cv2.WARP_INVERSE_MAP).astype(
        np.uint8, copy=False
    )


_IDENTITY = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def _draw_warp(settings: Settings, random: np.random.Generator) -> NDArray[np.float64]:
    # Every number is drawn even where its limit is 0, so that one setting does not change the draws of another.
    turn, grow, right, down = random.uniform(-1, 1, 4)
    mirrored = settings.flip and random.random() < 0.5
    angle = np.deg2rad(turn * settings.rotation_deg)
    size = (1 + settings.scale) ** grow
    cosine, sine = np.cos(angle) / size, np.sin(angle) / size
    matrix = np.array([[cosine, -sine, right * settings.shift], [sine, cosine, down * settings.shift]])
    if mirrored:
        matrix[0] *= -1
    return matrix


def _intensity(image: NDArray[np.uint8], settings: Settings, random: np.random.Generator) -> NDArray[np.float32]:
    gamma, contrast, brightness = random.uniform(-1, 1, 3)
    noise, blur = random.random(2)
    exponent = (1 + settings.gamma) ** gamma
    slope = (1 + settings.contrast) ** contrast
    # A curve over the 256 grey values is a table: one look-up a pixel instead of a power.
    grey = np.linspace(0, 1, 256) ** exponent * slope + brightness * settings.brightness
    result = np.clip(grey, 0, 1).astype(np.float32)[image]
    if blur * settings.blur > 0.2:  # below that a Gaussian is a single pixel
        result = cv2.GaussianBlur(result, (0, 0), blur * settings.blur)
    if settings.noise:
        result += random.standard_normal(result.shape, np.float32) * np.float32(noise * settings.noise)
        np.clip(result, 0, 1, out=result)
    return result
