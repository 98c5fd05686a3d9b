"""From attenuation to the picture: metal and lead, exposure, background, collimation, blur, noise, display.

Dimension key: H rows, W columns, both `size`.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from carpus.phantom import metal, radiograph, tissue
from carpus.phantom.anatomy import FULL_SIZE, Side
from carpus.phantom.skeleton import Patient, Skeleton

Map = NDArray[np.float32]

_SOFT = 0.0150
"""Attenuation of soft tissue per millimetre."""


def image(
    skeleton: Skeleton,
    who: Patient,
    size: int,
    rng: np.random.Generator,
    *,
    side: Side,
    domain_shift: float = 0.0,
) -> NDArray[np.uint8]:
    """The radiograph (size, size) uint8 of a skeleton, bone bright; `side` and `domain_shift` as in `phantom.hand`.

    All draws but the noise are independent of `size`.
    """
    structure, scene, things, grain = rng.spawn(4)
    scale = size / FULL_SIZE
    thickness = radiograph.attenuation(skeleton, who, size, structure)
    soft = tissue.thickness(skeleton, who, size)
    empty = cv2.resize(soft, (64, 64), interpolation=cv2.INTER_AREA) == 0
    # Fat between the muscles: slow, faint variation.
    streaks = 1 + 0.035 * np.clip(structure.standard_normal((24, 24), dtype=np.float32), -2, 2)
    soft *= cv2.resize(streaks * np.float32(radiograph.MM * _SOFT), (size, size), interpolation=cv2.INTER_CUBIC)
    thickness += soft
    metal.add(thickness, skeleton, who, things, side=side, empty=empty)

    exposure = np.exp(0.08 * np.clip(scene.standard_normal(), -2, 2) - 0.07 - 0.25 * domain_shift)
    direct = _background(scene, size)
    np.exp(thickness * np.float32(-exposure), out=thickness)
    through = thickness
    shown = 1 - through * (1 - direct)
    shown = _display(shown, size)
    _collimate(shown, scene)
    blur = (0.75 + 1.6 * domain_shift) * scale
    if blur > 0.3:
        shown = cv2.GaussianBlur(shown, (0, 0), blur)
    sigma = 0.0085 * np.exp(0.25 * np.clip(scene.standard_normal(), -2, 2)) * (1 + 1.5 * domain_shift)
    noise = grain.standard_normal((size, size), dtype=np.float32)
    # The more is absorbed the fewer quanta arrive.
    noise *= np.float32(sigma) * (np.float32(0.6) + shown)
    shown += noise
    np.clip(shown, 0, 1, out=shown)
    return np.asarray(cv2.convertScaleAbs(shown, alpha=255), np.uint8)


def _background(rng: np.random.Generator, size: int) -> Map:
    """What the bare detector shows, (size, size): nearly black, rising slowly to one edge."""
    angle, level, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.010, 0.030), rng.uniform(0.02, 0.16)
    ramp = np.linspace(-0.5, 0.5, 64, dtype=np.float32)
    tilt = np.clip(0.5 + 0.75 * (np.cos(angle) * ramp[None] + np.sin(angle) * ramp[:, None]), 0, 1)
    small = (level + strength * tilt**2.2).astype(np.float32)
    return cv2.resize(small, (size, size), interpolation=cv2.INTER_LINEAR)


def _display(shown: Map, size: int) -> Map:
    """The equipment's edge enhancement: a little of what differs from the surroundings is added."""
    small = cv2.resize(shown, (256, 256), interpolation=cv2.INTER_AREA)
    wide = cv2.GaussianBlur(small, (0, 0), 4.0)
    wide = cv2.resize(wide, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.asarray(shown + np.float32(0.16) * (shown - wide), np.float32)


def _collimate(shown: Map, rng: np.random.Generator) -> None:
    """In many images the upper border is the collimator's: white, with a soft dark edge below it."""
    present, height, slope = rng.random() < 0.6, rng.uniform(0.003, 0.013), rng.normal(0, 0.002)
    if not present:
        return
    size = shown.shape[0]
    rows = np.arange(int(size * 0.07), dtype=np.float32)[:, None] / size
    below = rows - np.float32(height) - np.float32(slope) * np.linspace(-1, 1, size, dtype=np.float32)[None]
    shade = 1 - np.float32(0.6) * np.exp(-np.maximum(below, 0) * 120)
    band = shown[: len(rows)]
    np.copyto(band, np.where(below < 0, np.float32(1.0), band * shade))
