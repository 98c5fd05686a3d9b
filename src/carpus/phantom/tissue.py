"""The soft tissue around a skeleton: tapered rods along the bones, melted into one another.

Dimension key: H rows, W columns of the image.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from carpus.labels import BONES
from carpus.phantom.anatomy import Points
from carpus.phantom.skeleton import FINGERS, Patient, Skeleton

Map = NDArray[np.float32]

_GRID = 256
_MELT = 0.045


def thickness(skeleton: Skeleton, who: Patient, size: int) -> Map:
    """Length of the ray in soft tissue, (size, size), in units of the Capitate to finger-11 distance."""
    scale = _GRID / size
    unit = skeleton.unit_px * scale
    columns, rows = np.meshgrid(np.arange(_GRID, dtype=np.float32) + 0.5, np.arange(_GRID, dtype=np.float32) + 0.5)
    # exp-sums of the signed distances: a smooth union whose order does not matter.
    near = np.zeros((_GRID, _GRID), np.float32)
    depth = np.zeros((_GRID, _GRID), np.float32)
    melt = np.float32(1 / _MELT)
    for start, end, ra, rb, ha, hb in _rods(skeleton, who):
        a, along = (start + 0.5) * scale, (end - start) * scale
        t = ((columns - a[0]) * along[0] + (rows - a[1]) * along[1]) / np.float32(along @ along + 1e-9)
        t = np.clip(t, 0, 1)
        gap = np.hypot(columns - a[0] - t * along[0], rows - a[1] - t * along[1]) / unit - (ra + (rb - ra) * t)
        weight = np.exp(np.clip(-gap * melt, -40, 40))
        near += weight
        depth += weight * (ha + (hb - ha) * t)
    inside = np.log(np.maximum(near, 1e-30)) / melt
    half = depth / np.maximum(near, 1e-30)
    working = max(size // 2, _GRID)
    inside = cv2.resize(inside, (working, working), interpolation=cv2.INTER_CUBIC)
    half = cv2.resize(half, (working, working), interpolation=cv2.INTER_LINEAR)
    d = np.clip(inside, 0, half)
    ray = 2 * np.sqrt(d * (2 * half - d))
    return cv2.resize(ray, (size, size), interpolation=cv2.INTER_LINEAR)


def _rods(skeleton: Skeleton, who: Patient) -> list[tuple[Points, Points, float, float, float, float]]:
    """(start, end, radius at both, half depth at both); points in pixels, the rest in units."""
    place = dict(zip(BONES, skeleton.frames, strict=True))
    outline = dict(zip(BONES, skeleton.outlines, strict=True))

    def at(name: str, y: float, x: float = 0.0) -> Points:
        return place[name].matrix @ np.array([x, y]) + place[name].centre

    def ends(name: str) -> tuple[float, float]:
        local = (outline[name] - place[name].centre) @ np.linalg.inv(place[name].matrix).T
        return float(local[:, 1].min()), float(local[:, 1].max())

    k = who.build**0.5
    rods = []
    for finger, (first, *rest) in enumerate(FINGERS):
        base, head = ends(first)
        thick = 1.12 if finger == 0 else (1.0, 1.03, 0.97, 0.86)[finger - 1]
        rods.append((at(first, base + 0.1), at(first, head - 0.1), 0.24 * k, 0.23 * k * thick, 0.30 * k, 0.23 * k))
        radius, depth = 0.205 * k * thick, 0.20 * k * thick
        before = at(first, head - 0.1)
        for number, name in enumerate(rest):
            base, head = ends(name)
            last = number == len(rest) - 1
            end = at(name, head - (0.09 if last else 0.02))
            taper = 0.80 if last else 0.93
            rods.append((before, end, radius, radius * taper, depth, depth * taper))
            before, radius, depth = end, radius * taper, depth * taper
    wrist = place["Capitate"].centre
    for name in ("Trapezium", "Scaphoid", "Triquetrum", "Hamate"):
        rods.append((wrist, place[name].centre, 0.36 * k, 0.26 * k, 0.38 * k, 0.32 * k))
    for one, other in ((1, 2), (2, 3), (3, 4)):
        a, b = FINGERS[one][0], FINGERS[other][0]
        rods.append((at(a, ends(a)[1] + 0.02), at(b, ends(b)[1] + 0.02), 0.16 * k, 0.16 * k, 0.24 * k, 0.24 * k))
        rods.append((at(a, 0), at(b, 0), 0.24 * k, 0.24 * k, 0.3 * k, 0.3 * k))
    rods.append((at("finger-3", 0.0), at("finger-7", -0.1), 0.22 * k, 0.22 * k, 0.3 * k, 0.3 * k))
    rods.append((at("finger-3", 0.25), at("finger-7", 0.25), 0.10 * k, 0.10 * k, 0.2 * k, 0.2 * k))
    for name in ("Radius", "Ulna"):
        top = ends(name)[1]
        rods.append((at(name, top - 0.2), at(name, top - 5.0), 0.30 * k, 0.50 * k, 0.38 * k, 0.62 * k))
    below = (at("Radius", ends("Radius")[1] - 0.4) + at("Ulna", ends("Ulna")[1] - 0.4)) / 2
    rods.append((wrist, below, 0.45 * k, 0.5 * k, 0.40 * k, 0.42 * k))
    return rods
