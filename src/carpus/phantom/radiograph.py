"""Attenuation by the bones: the X-ray's way through 29 hollow solids, added up.

A bone is a solid whose depth across is an ellipse: at distance d from its outline, with half width w, the ray
passes through 2 f sqrt(d (2 w - d)), f the flattening. Within it lies the same solid shrunk by the cortex's
thickness; the shell attenuates strongly, what is inside weakly. So the edges of a shaft, where the ray runs along
the shell, are bright by themselves, and overlapping bones add up.

Lengths are millimetres (`MM` to the hand's unit of length), attenuations are per millimetre.

Dimension key: H rows, W columns of the image; N outline points.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from carpus.labels import BONES
from carpus.phantom import trabeculae
from carpus.phantom.anatomy import Points
from carpus.phantom.skeleton import Frame, Patient, Skeleton

Map = NDArray[np.float32]

MM = 45.0
"""Millimetres to the unit of length, the Capitate to finger-11 distance."""

_CORTEX, _SPONGY, _MARROW = 0.118, 0.0205, 0.008
_CARPALS = frozenset(BONES.groups["carpals"])
_FOREARM = frozenset(BONES.groups["forearm"])
_METACARPALS = frozenset(("finger-3", "finger-7", "finger-11", "finger-15", "finger-19"))
_TIPS = frozenset(("finger-1", "finger-4", "finger-8", "finger-12", "finger-16"))
_BINS = 1024
_SMALL = 768
_COARSE = 128
_SESAMOIDS = (
    ("finger-3", 0.07, -0.13, 0.055, 0.045, 1.0),
    ("finger-3", -0.06, -0.10, 0.05, 0.04, 1.0),
    ("finger-7", -0.06, -0.10, 0.034, 0.028, 0.35),
    ("finger-19", 0.06, -0.10, 0.034, 0.028, 0.5),
)
"""Bone, place across and below its head, two radii (units), and how many hands have it."""


@dataclass(frozen=True)
class _Profile:
    """What varies along a bone, (_BINS,) float32 each, from y = `low` to `high` in the bone's frame."""

    low: float
    high: float
    half: Map
    cortex: Map
    spongy: Map
    rim: Map


def attenuation(skeleton: Skeleton, who: Patient, size: int, rng: np.random.Generator) -> Map:
    """Sum over all bones of attenuation times length of the ray, (size, size) float32.

    The draws do not depend on `size`.
    """
    if size <= _SMALL:
        # A cortex of a pixel or less would step along slanting edges.
        twice = _attenuation(skeleton.doubled(), who, 2 * size, rng)
        return np.asarray(cv2.resize(twice, (size, size), interpolation=cv2.INTER_AREA), np.float32)
    return _attenuation(skeleton, who, size, rng)


def _attenuation(skeleton: Skeleton, who: Patient, size: int, rng: np.random.Generator) -> Map:
    total = np.zeros((size, size), np.float32)
    for name, outline, frame in zip(BONES, skeleton.outlines, skeleton.frames, strict=True):
        offset = rng.integers(0, trabeculae.TILE, 2)
        variation = np.clip(rng.standard_normal(6), -2, 2)
        _add_bone(total, name, outline, frame, skeleton.unit_px, who, offset, variation)
    for name, across, below, radius, other, share in _SESAMOIDS:
        present, turn = rng.random() < share, rng.uniform(-0.02, 0.02, 2)
        if present:
            k = BONES.index(name)
            frame = skeleton.frames[k]
            head = ((skeleton.outlines[k] - frame.centre) @ np.linalg.inv(frame.matrix).T)[:, 1].max()
            _add_pebble(total, frame, np.array([across, head + below]) + turn, (radius, other), 0.24)
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
    margin = size // 12 if name in _FOREARM else 0
    mask = np.zeros((height + margin, width), np.uint8)
    cv2.fillPoly(mask, [np.round((outline - low) * 256).astype(np.int32)], 255, cv2.LINE_AA, shift=8)
    mm = np.float32(MM / unit_px)
    distance = _depth(mask)[:height] * mm

    inverse = np.linalg.inv(frame.matrix)
    local = (outline - frame.centre) @ inverse.T
    profile = _profile(name, local, who)
    corner = inverse @ (low - frame.centre)
    step = np.float32((_BINS - 1) / (profile.high - profile.low))
    index = np.float32(inverse[1, 0] * step) * np.arange(width, dtype=np.float32)[None]
    index = index + np.float32(inverse[1, 1] * step) * np.arange(height, dtype=np.float32)[:, None]
    index += np.float32((corner[1] - profile.low) * step)
    row = np.clip(index, 0, _BINS - 1).astype(np.int16)

    texture = trabeculae.sample(texture_offset, inverse, corner, (width, height), unit_px)
    w = np.maximum(profile.half[row], distance)
    t = profile.cortex[row] * (1 + np.float32(0.05) * texture)
    s = profile.spongy[row]
    outer = np.sqrt(distance * (2 * w - distance))
    within = np.maximum(distance - t, 0)
    inner = np.sqrt(within * np.maximum(2 * w - t - distance, 0))
    inside = np.float32(_MARROW) + s * np.float32(_SPONGY - _MARROW)
    inside *= 1 + texture * (np.float32(0.05) + np.float32(0.17) * s)
    flat, dense = (1.4, 1.35) if name in _CARPALS else (1.3, 0.75) if name in _FOREARM else (1.75, 1.0)
    # Facing joints the surface curves away from the ray: the outermost rim is faint and the gap looks dark.
    shell = np.minimum(distance / profile.rim[row], 1)
    ray = (outer - inner) * (
        np.float32(_CORTEX * dense) * (np.float32(0.25) + np.float32(0.75) * shell * shell * (3 - 2 * shell))
    )
    thinning = np.float32(3.0 if name in _CARPALS else 1.2)
    ray += inside * inner * (np.float32(0.35) + np.float32(0.65) * np.sqrt(np.minimum(distance / thinning, 1)))
    ray *= np.float32(flat)
    for curve, amount in _contours(name, local, variation):
        _add_line(ray, (curve @ frame.matrix.T + frame.centre - low), float(0.45 / mm), amount, mask[:height])
    total[low[1] : high[1], low[0] : high[0]] += ray


def _depth(coverage: NDArray[np.uint8]) -> Map:
    """Distance in pixels to the outline whose antialiased coverage (H, W) is given; smooth along slanting edges."""
    full = (coverage == 255).astype(np.uint8)
    distance, nearest = cv2.distanceTransformWithLabels(full, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    # Pixels that are not full are numbered row by row; the nearest one's coverage tells where in it the edge lies.
    partial = coverage[full == 0].astype(np.float32) / 255
    # OpenCV's antialiased polygons reach 0.7 pixels beyond the outline (measured); half a pixel is the centre's.
    return np.where(full, np.maximum(distance - np.float32(1.2) + partial[nearest - 1], 0), np.float32(0))


def _profile(name: str, local: Points, who: Patient) -> _Profile:
    """Half width, cortex, share of spongy bone and width of the faint rim along a bone."""
    high = float(local[:, 1].max())
    low = max(float(local[:, 1].min()), high - 3.6)
    y = np.linspace(low, high, _COARSE)
    first, last = int(local[:, 1].argmax()), int(local[:, 1].argmin())
    one = np.roll(local, -first, axis=0)[: (last - first) % len(local) + 1]
    other = np.roll(local, -last, axis=0)[: (first - last) % len(local) + 1]
    half = np.abs(np.interp(y, other[:, 1], other[:, 0]) - np.interp(y, one[::-1, 1], one[::-1, 0])) / 2
    # Towards a tip the outline narrows but the solid's curvature does not: carry the width on to the end.
    step = y[1] - y[0]
    reach = max(1, round(0.10 / step))
    half = cv2.dilate(half[:, None], np.ones((2 * reach + 1, 1)))
    half = cv2.GaussianBlur(half, (1, 0), sigmaX=0.1, sigmaY=max(0.5, 0.05 / step), borderType=cv2.BORDER_REPLICATE)
    half = half[:, 0] * MM
    tip, base, length = (high - y) * MM, (y - low) * MM, (high - low) * MM
    if name in _CARPALS:
        half = np.full(_COARSE, half.max() * 0.95)
        shaft, spongy, thick, ends = np.zeros(_COARSE), np.ones(_COARSE), 0.4, 0.4
        rim = np.full(_COARSE, 0.6)
    elif name in _FOREARM:
        shaft, spongy = _step(tip, 10.0, 42.0), 1 - _step(tip, 8.0, 48.0)
        thick, ends = (3.0 if name == "Radius" else 2.6), 0.5
        rim = 0.8 - 0.6 * _step(tip, 4.0, 12.0)
    else:
        shaft = _step(tip, 0.14 * length, 0.44 * length) * _step(base, 0.14 * length, 0.44 * length)
        spongy = 1 - _step(tip, 0.10 * length, 0.40 * length) * _step(base, 0.10 * length, 0.40 * length)
        narrow = half[int(_COARSE * 0.3) : int(_COARSE * 0.7)].min()
        thick, ends = narrow * (0.44 if name in _METACARPALS else 0.36 if name in _TIPS else 0.42), 0.42
        rim = 0.2 + 0.9 * (1 - _step(np.minimum(tip, base), 1.0, 4.0))
    cortex = (ends + (thick - ends) * shaft) * who.cortex
    fine = np.linspace(low, high, _BINS)
    return _Profile(low, high, *(np.interp(fine, y, value).astype(np.float32) for value in (half, cortex, spongy, rim)))


def _step(x: NDArray[np.float64], start: float, stop: float) -> NDArray[np.float64]:
    t = np.clip((x - start) / (stop - start), 0, 1)
    return t * t * (3 - 2 * t)


def _contours(name: str, local: Points, variation: NDArray[np.float64]) -> list[tuple[Points, float]]:
    """Edges of the far side seen through a bone: curves (N, 2) in its frame and how much they attenuate.

    A base has a near and a far rim, a carpal a palmar and a dorsal face, the Hamate its hook.
    """
    low, high = float(local[:, 1].min()), float(local[:, 1].max())
    curves: list[tuple[Points, float]] = []
    if name in _CARPALS:
        start = int((variation[0] + 2) / 4 * len(local))
        arc = np.roll(local, -start, axis=0)[: int(len(local) * 0.45)]
        curves.append((0.80 * arc + 0.012 * variation[1:3], 0.07))
        if name == "Hamate":
            # The hook points at the viewer: an open, uneven ring.
            turn = np.linspace(0.4 * variation[5], 4.6 + 0.5 * variation[3], 40)
            ring = np.stack([0.07 * np.cos(turn), 0.052 * np.sin(turn + 0.15 * variation[4])], axis=1)
            curves.append((ring + np.array([0.03, -0.02]) + 0.01 * variation[3:5], 0.085))
    elif name in _FOREARM:
        near = _run(local, local[:, 1] > high - (0.34 if name == "Radius" else 0.16))
        middle = near.mean(axis=0)
        curves.append(((near - middle) * [0.9, 0.55] + middle - [0.0, 0.02], 0.10))
        if name == "Radius":
            x = np.linspace(0.85, -0.85, 24)
            level = high - 0.50 + 0.012 * variation[0]
            wave = 0.012 * np.sin(7 * x + variation[1])
            curves.append((np.stack([0.27 * x, level + wave - 0.03 * x], axis=1), 0.035))
    else:
        near = _run(local, local[:, 1] < low + 0.14 * min(1.0, high - low))
        middle = near.mean(axis=0)
        inset = 0.06 if name in _METACARPALS else 0.042
        curves.append(((near - middle) * [0.86, 0.6] + middle + [0.0, inset], 0.09))
    return curves


def _run(points: Points, keep: NDArray[np.bool_]) -> Points:
    """The kept points of a closed outline, from where the run of them starts."""
    start = int(np.flatnonzero(keep & ~np.roll(keep, 1))[0])
    rolled = np.roll(keep, -start)
    return np.roll(points, -start, axis=0)[: int(np.argmin(rolled)) if not rolled.all() else len(points)]


def _add_line(ray: Map, curve: Points, width_px: float, amount: float, mask: NDArray[np.uint8]) -> None:
    """Add a soft line that attenuates by `amount` at its middle, inside the bone's mask, to the window `ray`."""
    drawn = np.zeros(ray.shape, np.uint8)
    points = np.round(curve * 256).astype(np.int32)
    cv2.polylines(drawn, [points], False, 255, max(1, round(width_px)), cv2.LINE_AA, shift=8)
    # A smoothed line of one pixel keeps the same sum however small the image.
    soft = cv2.GaussianBlur(drawn, (0, 0), max(0.4, 0.55 * width_px))
    ray += cv2.bitwise_and(soft, mask) * np.float32(1.6 * amount / 255 * min(1.0, width_px))


def _add_pebble(total: Map, frame: Frame, at: Points, radii: tuple[float, float], amount: float) -> None:
    """Add a small rounded bone (a sesamoid) of two radii at a point of another bone's frame."""
    centre = frame.matrix @ at + frame.centre
    reach = float(np.linalg.norm(frame.matrix[:, 0])) * max(radii) + 2
    low = np.maximum(np.floor(centre - reach).astype(int), 0)
    high = np.minimum(np.ceil(centre + reach).astype(int), total.shape[0])
    if (high <= low).any():
        return
    x, y = np.meshgrid(np.arange(low[0], high[0]) - centre[0], np.arange(low[1], high[1]) - centre[1])
    inverse = np.linalg.inv(frame.matrix)
    u = (inverse[0, 0] * x + inverse[0, 1] * y) / radii[0]
    v = (inverse[1, 0] * x + inverse[1, 1] * y) / radii[1]
    square = np.clip(1 - u * u - v * v, 0, 1)
    shell = np.sqrt(square) - 0.55 * np.sqrt(np.clip(square - 0.3, 0, 1))
    total[low[1] : high[1], low[0] : high[0]] += (amount * shell).astype(np.float32)
