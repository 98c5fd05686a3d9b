"""Image, label map and soft labels through one composed warp, then changes of intensity for the image alone.

Dimension key: S side of the square image, L side of its label map (both show the same field), G points of a grid.

The label map is warped once, not 29 times, and only in the window that is kept. docs/augmentation.md has a picture of
every change.
"""

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

import cv2
import numpy as np
from numpy.typing import NDArray

from carpus import labels as label_map
from carpus.labels import LabelMap

Floats = NDArray[np.float64]
Random = np.random.Generator


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
        elastic: largest smooth displacement as a share of the side.
        clahe: largest clip limit of contrast-limited adaptive histogram equalisation (Zuiderveld 1994), in tiles of an
            eighth of the side.
        collimation: largest depth of a dark bar at each edge, as a share of the side. As the diaphragm of an X-ray
            tube it frames the hand: it ends before the first labelled pixel.
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
    elastic: float = 0.0
    clahe: float = 0.0
    collimation: float = 0.0

    def stronger(self, factor: float) -> "Settings":
        """Every limit times a factor, as far as it can go; mirroring stays as it is."""
        most = {
            "rotation_deg": 180.0,
            "shift": 1.0,
            "brightness": 1.0,
            "noise": 1.0,
            "elastic": 1.0,
            "collimation": 1.0,
        }
        limits = {name: limit for name, limit in vars(self).items() if name != "flip"}
        return replace(self, **{name: min(limit * factor, most.get(name, math.inf)) for name, limit in limits.items()})


@dataclass(frozen=True)
class Crop:
    """A window of the image to learn from.

    Args:
        side: of the window, in pixels of the image; side * L / S must be whole.
        foreground: share of the windows that hold a drawn pixel of a drawn class, every class of the case alike.
        classes: how many bits of the label map are classes.
    """

    side: int
    foreground: float
    classes: int = label_map.MAX_CLASSES


@dataclass(frozen=True)
class Warp:
    """From coordinates of the result to those of the source, both centred and in units of the side (-0.5..0.5), so
    that one warp serves an image and a label map of different sizes.

    Args:
        matrix: (2, 3).
        bend: (G, G, 2) float32 displacements (x, y) on a grid over the result, added after the matrix; None for none.
    """

    matrix: Floats
    bend: NDArray[np.float32] | None = None


def apply(
    image: NDArray[np.uint8], labels: LabelMap, settings: Settings, random: Random, crop: Crop | None = None
) -> tuple[NDArray[np.float32], LabelMap]:
    """`apply_soft` for a case without soft labels."""
    return apply_soft(image, labels, None, settings, random, crop)[:2]


def apply_soft(
    image: NDArray[np.uint8],
    labels: LabelMap,
    soft: NDArray[np.uint8] | None,
    settings: Settings,
    random: Random,
    crop: Crop | None = None,
) -> tuple[NDArray[np.float32], LabelMap, NDArray[np.uint8] | None]:
    """Augment one case.

    Args:
        image: (S, S) uint8.
        labels: (L, L) int32; L may differ from S.
        soft: (h, h, K) uint8 soft labels; None for none.
        settings: the limits.
        random: decides everything; the same state gives the same result.
        crop: the window to keep; None for all.

    Returns:
        The image as (S, S) float32 in 0..1, the label map (L, L) int32 and the soft labels (h, h, K) after the same
        warp; of a crop of side C, sides are C, C L / S and C h / S.
    """
    # A stream for each kind of change, so that a setting does not change the draws of another.
    for_warp, for_bend, for_crop, for_grey, for_bars = random.spawn(5)
    moved = Warp(_draw_matrix(settings, for_warp), _draw_bend(settings, for_bend))
    left, top = _draw_corner(crop, labels, moved, for_crop, image.shape[0]) if crop else (0.0, 0.0)
    part = crop.side / image.shape[0] if crop else 1.0
    warped = warp(image, moved, cv2.INTER_LINEAR, (left, top, part))
    warped_soft = None if soft is None else warp(soft, moved, cv2.INTER_LINEAR, (left, top, part))
    pixels = warp(label_map.channels(labels), moved, cv2.INTER_NEAREST, (left, top, part))
    warped_labels = label_map.from_channels(pixels)
    if settings.collimation:
        warped = _collimate(warped, warped_labels, settings.collimation, for_bars)
    return _intensity(warped, settings, for_grey), warped_labels, warped_soft


def warp(
    pixels: NDArray[np.uint8], warp: Warp, method: int, window: tuple[float, float, float] = (0.0, 0.0, 1.0)
) -> NDArray[np.uint8]:
    """Warp a square picture (S, S) or (S, S, C), outside is 0.

    Args:
        pixels: the source.
        warp: where a pixel of the result comes from.
        method: cv2.INTER_LINEAR for images and soft labels, cv2.INTER_NEAREST for label maps.
        window: left, top and side of the part of the result to make, in units of the side.
    """
    side = pixels.shape[0]
    left, top, size = window[0] * side, window[1] * side, round(window[2] * side)
    if warp.bend is None and np.array_equal(warp.matrix, _IDENTITY) and left == int(left) and top == int(top):
        return pixels[int(top) : int(top) + size, int(left) : int(left) + size]
    # Pixel centres lie at (i + 0.5) / side - 0.5.
    middle, turn = (side - 1) / 2, warp.matrix[:, :2]
    offset = middle + turn @ [left - middle, top - middle] + warp.matrix[:, 2] * side
    if warp.bend is None:
        inverse = np.column_stack([turn, offset])
        moved = cv2.warpAffine(pixels, inverse, (size, size), flags=method | cv2.WARP_INVERSE_MAP)
    else:
        places = _bent(warp.bend, left, top, size, side)
        across = np.arange(size, dtype=np.float32)
        places[..., 0] += np.float32(turn[0, 0]) * across + (turn[0, 1] * across + offset[0])[:, None].astype(
            np.float32
        )
        places[..., 1] += np.float32(turn[1, 0]) * across + (turn[1, 1] * across + offset[1])[:, None].astype(
            np.float32
        )
        moved = cv2.remap(pixels, places, None, method)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return moved.astype(np.uint8, copy=False)


_IDENTITY = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])

_GRID = 6
"""Points of the elastic grid along each axis: bends of about the width of a hand's palm."""

_ROUNDS = 12
"""Guesses of where a bend takes a point. Each is nearer by the bend's slope, a third or so where elastic is 0.03."""

_QUANTILES = np.array([NormalDist().inv_cdf((n + 0.5) / 256) for n in range(256)], np.float32)
"""256 equally likely values of a standard normal: one random byte a pixel makes noise, eight times as fast."""


def _draw_matrix(settings: Settings, random: Random) -> Floats:
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


def _draw_bend(settings: Settings, random: Random) -> NDArray[np.float32] | None:
    if not settings.elastic:
        return None
    return random.uniform(-settings.elastic, settings.elastic, (_GRID, _GRID, 2)).astype(np.float32)


def _bent(bend: NDArray[np.float32], left: float, top: float, size: int, side: int) -> NDArray[np.float32]:
    """Displacements (size, size, 2) in pixels, smooth between the points of the grid."""
    step = len(bend) / side
    grid = np.array([[step, 0, (left + 0.5) * step - 0.5], [0, step, (top + 0.5) * step - 0.5]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    smooth = cv2.warpAffine(bend * side, grid, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    limit = float(np.abs(bend).max()) * side
    return np.clip(smooth, -limit, limit).astype(np.float32, copy=False)  # a cubic overshoots


def _draw_corner(crop: Crop, labels: LabelMap, moved: Warp, random: Random, side: int) -> tuple[float, float]:
    """The top left corner of the window as (x, y) in units of the side, whole pixels of the image."""
    at_bone, *where = random.random(3)
    free = side - crop.side
    corner = np.array(where) * (free + 1)
    present = int(np.bitwise_or.reduce(labels, axis=None)) & (1 << crop.classes) - 1
    if at_bone < crop.foreground and present:
        bits = [k for k in range(crop.classes) if present >> k & 1]
        found = np.flatnonzero(label_map.has(labels, bits[random.integers(len(bits))]))
        row, column = divmod(int(found[random.integers(len(found))]), labels.shape[1])
        source = (np.array([column, row]) + 0.5) / labels.shape[0] - 0.5
        place = (_place(moved, source, side) + 0.5) * side
        # The pixel may lie anywhere in the window, also once its corner is a whole number.
        corner = np.maximum(np.floor(place - np.array(where) * crop.side), np.floor(place) + 1 - crop.side)
    x, y = np.clip(np.floor(corner), 0, free) / side
    return float(x), float(y)


def _place(moved: Warp, source: Floats, side: int) -> Floats:
    """Where a point (x, y) of the source comes to lie in the result, both in units of the side from the middle."""
    inverse, place = np.linalg.inv(moved.matrix[:, :2]), source
    for _ in range(1 if moved.bend is None else _ROUNDS):
        # What the bend adds there is known only at the place itself: from the last guess.
        left, top = (place + 0.5) * side - 0.5
        bent = 0.0 if moved.bend is None else _bent(moved.bend, left, top, 1, side)[0, 0] / side
        place = inverse @ (source - moved.matrix[:, 2] - bent)
    return place


def _collimate(image: NDArray[np.uint8], labels: LabelMap, limit: float, random: Random) -> NDArray[np.uint8]:
    depths = random.random(4) * limit
    rows, columns = (np.flatnonzero(np.bitwise_or.reduce(labels, axis=axis)) for axis in (1, 0))
    side = len(labels)
    if len(rows):
        margins = [rows[0], side - 1 - rows[-1], columns[0], side - 1 - columns[-1]]
        depths = np.minimum(depths, np.array(margins) / side)
    above, below, left, right = np.floor(depths * len(image)).astype(int)
    framed = np.zeros_like(image)
    inside = slice(above, len(image) - below), slice(left, len(image) - right)
    framed[inside] = image[inside]
    return framed


def _intensity(image: NDArray[np.uint8], settings: Settings, random: Random) -> NDArray[np.float32]:
    gamma, contrast, brightness = random.uniform(-1, 1, 3)
    noise, blur, clahe = random.random(3)
    if clahe * settings.clahe >= 1:  # at a limit of 1 nothing is left to equalise
        image = cv2.createCLAHE(clahe * settings.clahe, (8, 8)).apply(image).astype(np.uint8, copy=False)
    exponent = (1 + settings.gamma) ** gamma
    slope = (1 + settings.contrast) ** contrast
    # A curve over the 256 grey values is a table: one look-up a pixel instead of a power.
    grey = np.linspace(0, 1, 256) ** exponent * slope + brightness * settings.brightness
    result = np.asarray(cv2.LUT(image, np.clip(grey, 0, 1).astype(np.float32)), np.float32)
    if blur * settings.blur > 0.2:  # below that a Gaussian is a single pixel
        result = cv2.GaussianBlur(result, (0, 0), blur * settings.blur)
    if settings.noise:
        drawn = np.frombuffer(random.bytes(result.size), np.uint8).reshape(result.shape)
        result += np.asarray(cv2.LUT(drawn, _QUANTILES * np.float32(noise * settings.noise)), np.float32)
        np.clip(result, 0, 1, out=result)
    return np.asarray(result, np.float32)
