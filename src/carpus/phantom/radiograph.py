"""The X-ray projection of a skeleton: Beer-Lambert through bones and soft tissue, then a display curve.

A bone is a solid whose depth profile across is an ellipse: at distance d from its outline and half width w the ray
passes through 2 f sqrt(d (2 w - d)), f the flattening. Within it lies the same solid shrunk by the cortex's
thickness; the shell attenuates strongly, what is inside weakly. So the shaft's edges, where the ray runs along
the shell, are bright by themselves, and overlapping bones add up.

Lengths are millimetres (`MM` to the hand's unit of length), attenuations are per millimetre.

Dimension key: H rows, W columns of the image.
"""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from carpus.labels import BONES
from carpus.phantom import tissue
from carpus.phantom.anatomy import Points, Side
from carpus.phantom.skeleton import Frame, Patient, Skeleton

Map = NDArray[np.float32]

MM = 45.0
"""Millimetres to the unit of length, the Capitate to finger-11 distance."""

_CORTEX, _SPONGY, _MARROW = 0.105, 0.030, 0.010
_CARPALS = frozenset(BONES.groups["carpals"])
_METACARPALS = frozenset(("finger-3", "finger-7", "finger-11", "finger-15", "finger-19"))
_TIPS = frozenset(("finger-1", "finger-4", "finger-8", "finger-12", "finger-16"))
_SOFT = 0.0115
_BINS = 96
_TEXTURE = 1024


def attenuation(skeleton: Skeleton, who: Patient, size: int, rng: np.random.Generator) -> Map:
    """Sum over all bones of attenuation times length of the ray, (size, size)."""
    total = np.zeros((size, size), np.float32)
    for name, outline, frame in zip(BONES, skeleton.outlines, skeleton.frames, strict=True):
        offset = rng.integers(0, _TEXTURE, 2)
        variation = rng.standard_normal(4)
        _add_bone(total, name, outline, frame, skeleton.unit_px, who, offset, variation)
    return total


def _add_bone(
    total: Map,
    name: str,
    outline: Points,
    frame: Frame,
    unit_px: float,
    who: Patient,
    texture_offset: NDArray[np.int64],
    variation: NDArray[np.float64],
) -> None:
    """Add one bone's attenuation to `total`, in the bone's own window of it."""
    size = total.shape[0]
    low = np.maximum(np.floor(outline.min(axis=0)).astype(int) - 2, 0)
    high = np.minimum(np.ceil(outline.max(axis=0)).astype(int) + 3, size)
    if (high <= low).any():
        return
    width, height = (high - low).tolist()
    # A margin below keeps the cut at the image's edge from counting as the bone's end.
    margin = 0 if name not in BONES.groups["forearm"] else max(8, size // 12)
    mask = np.zeros((height + margin, width), np.uint8)
    cv2.fillPoly(mask, [np.round((outline - low) * 256).astype(np.int32)], 255, cv2.LINE_AA, shift=8)
    distance = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_5)[:height]
    mask = mask[:height]
    mm = np.float32(MM / unit_px)
    # Up to a pixel the antialiased coverage knows the distance better than the transform.
    distance = np.maximum(distance - 1, 0) * mm + mask * np.float32(mm / 255)

    inverse = np.linalg.inv(frame.matrix)
    x0, y0 = inverse @ (low - frame.centre)
    along = (
        y0 + inverse[1, 0] * np.arange(width, dtype=np.float32)[None] + inverse[1, 1] * np.arange(height)[:, None]
    ).astype(np.float32)
    del x0
    half, cortex, spongy, span = _profiles(name, (outline - frame.centre) @ inverse.T, who)
    index = np.clip((along - span[0]) * np.float32((_BINS - 1) / (span[1] - span[0])), 0, _BINS - 1.001)
    row = index.astype(np.int32)
    w = np.maximum(half[row], distance)
    d = np.minimum(distance, w)
    outer = np.sqrt(d * (2 * w - d))
    t = cortex[row]
    inner_d = np.maximum(d - t, 0)
    inner = np.sqrt(inner_d * np.maximum(2 * w - t - d, 0))

    flat = np.float32(1.75 if name in _CARPALS else 1.8)
    texture = _sampled(texture_offset, inverse, (width, height), unit_px)
    s = spongy[row]
    inside = np.float32(_MARROW) + s * np.float32(_SPONGY - _MARROW)
    inside = inside * (1 + texture * (np.float32(0.10) + np.float32(0.32) * s))
    del variation
    total[low[1] : high[1], low[0] : high[0]] += flat * (np.float32(_CORTEX) * (outer - inner) + inside * inner)


def _profiles(name: str, local: Points, who: Patient) -> tuple[Map, Map, Map, tuple[float, float]]:
    """Half width (mm), cortex (mm) and share of spongy bone along a bone, and the span of y they cover."""
    low, high = float(local[:, 1].min()), float(local[:, 1].max())
    y = np.linspace(low, high, _BINS)
    first, last = int(local[:, 1].argmax()), int(local[:, 1].argmin())
    one = np.roll(local, -first, axis=0)[: (last - first) % len(local) + 1]
    other = np.roll(local, -last, axis=0)[: (first - last) % len(local) + 1]
    left = np.interp(y, one[::-1, 1], one[::-1, 0])
    right = np.interp(y, other[:, 1], other[:, 0])
    half = np.abs(right - left) / 2
    step = y[1] - y[0]
    reach = max(1, round(0.10 / step))
    half = cv2.dilate(half[:, None], np.ones((2 * reach + 1, 1)))
    half = cv2.GaussianBlur(half, (1, 0), sigmaX=0.1, sigmaY=max(0.5, 0.05 / step), borderType=cv2.BORDER_REPLICATE)
    half = half[:, 0] * MM
    if name in _CARPALS:
        half = np.full(_BINS, half.max() * 0.95)
        return tuple(a.astype(np.float32) for a in (half, np.full(_BINS, 0.42 * who.cortex), np.ones(_BINS))) + (
            (low, high),
        )
    from_tip, from_base = (high - y) * MM, (y - low) * MM
    if name in ("Radius", "Ulna"):
        shaft = _step(from_tip, 12.0, 34.0)
        thick = 3.0 if name == "Radius" else 2.6
        spongy = 1 - _step(from_tip, 10.0, 42.0)
        ends = 0.45
    else:
        length = (high - low) * MM
        shaft = _step(from_tip, 0.16 * length, 0.42 * length) * _step(from_base, 0.16 * length, 0.42 * length)
        narrow = half[int(_BINS * 0.3) : int(_BINS * 0.7)].min()
        thick = narrow * (0.42 if name in _METACARPALS else 0.40 if name not in _TIPS else 0.34)
        spongy = 1 - _step(from_tip, 0.12 * length, 0.36 * length) * _step(from_base, 0.12 * length, 0.36 * length)
        ends = 0.36
    cortex = (ends + (thick - ends) * shaft) * who.cortex
    return half.astype(np.float32), cortex.astype(np.float32), spongy.astype(np.float32), (low, high)


def _step(x: NDArray[np.float64], start: float, stop: float) -> NDArray[np.float64]:
    t = np.clip((x - start) / (stop - start), 0, 1)
    return t * t * (3 - 2 * t)


@lru_cache(maxsize=1)
def _texture() -> list[Map]:
    """Trabecular bone as a tile that repeats, mean 0 and sd 1, at full, half, quarter ... resolution."""
    rng = np.random.default_rng(20)
    frequency = np.fft.rfftfreq(_TEXTURE)[None] ** 2, np.fft.fftfreq(_TEXTURE)[:, None] ** 2
    # Struts run mostly along the bone: narrow across (columns), long along it (rows).
    radius = np.sqrt(frequency[0] + 2.2 * frequency[1])
    band = radius * np.exp(-((radius / 0.10) ** 2)) + 0.25 * np.exp(-((radius / 0.03) ** 2))
    noise = np.fft.rfft2(rng.standard_normal((_TEXTURE, _TEXTURE)))
    tile = np.fft.irfft2(noise * band).astype(np.float32)
    tile = np.tanh(tile / tile.std())
    levels = [(tile - tile.mean()) / tile.std()]
    while levels[-1].shape[0] > 64:
        levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    return levels


def _sampled(offset: NDArray[np.int64], inverse: NDArray[np.float64], window: tuple[int, int], unit_px: float) -> Map:
    """The texture in a bone's own frame, one texel to the pixel of an image 2048 wide."""
    texels = 301.5
    level = int(np.clip(np.round(np.log2(texels / unit_px)), 0, len(_texture()) - 1))
    matrix = np.concatenate([inverse * texels, offset[:, None].astype(float)], axis=1) / 2**level
    return cv2.warpAffine(
        _texture()[level],
        matrix,
        window,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_WRAP,
    )


def image(
    skeleton: Skeleton,
    who: Patient,
    size: int,
    rng: np.random.Generator,
    *,
    side: Side,
    domain_shift: float = 0.0,
) -> NDArray[np.uint8]:
    """The radiograph (size, size) uint8 of a skeleton; `domain_shift` as in `phantom.hand`."""
    structure, scene, grain = rng.spawn(3)
    exposure = float(np.exp(0.10 * np.clip(scene.standard_normal(), -2, 2)))
    bone = attenuation(skeleton, who, size, structure)
    soft = tissue.thickness(skeleton, who, size)
    soft *= np.float32(MM * _SOFT)
    bone += soft
    np.exp(-bone * np.float32(exposure), out=bone)
    shown = 1 - bone
    angle, strength = scene.uniform(0, 2 * np.pi), scene.uniform(0.03, 0.14)
    ramp = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    tilt = np.clip(0.5 + 0.8 * (np.cos(angle) * ramp[None] + np.sin(angle) * ramp[:, None]), 0, 1)
    shown += (np.float32(0.03) + np.float32(strength) * tilt * tilt) * bone
    del side, domain_shift
    noise = grain.standard_normal((size, size), dtype=np.float32)
    shown += noise * np.float32(0.008)
    return cv2.convertScaleAbs(np.clip(shown, 0, 1), alpha=255)
