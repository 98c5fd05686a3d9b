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
_REACH = 0.45


def thickness(skeleton: Skeleton, who: Patient, size: int) -> Map:
    """Length of the ray in soft tissue, (size, size) float32, in units of the Capitate to finger-11 distance."""
    scale = _GRID / size
    unit = skeleton.unit_px * scale
    # exp-sums of the signed distances: a smooth union whose order does not matter.
    near = np.full((_GRID, _GRID), 1e-6, np.float32)
    depth = np.zeros((_GRID, _GRID), np.float32)
    for start, end, ra, rb, ha, hb in _rods(skeleton, who):
        a, b = (start + 0.5) * scale - 0.5, (end + 0.5) * scale - 0.5
        # Beyond its reach a rod adds nothing that can be seen.
        reach = (max(ra, rb) + _REACH) * unit
        x0, y0 = np.clip(np.minimum(a, b) - reach, 0, _GRID).astype(int).tolist()
        x1, y1 = np.clip(np.maximum(a, b) + reach + 1, 0, _GRID).astype(int).tolist()
        if x1 <= x0 or y1 <= y0:
            continue
        x = np.arange(x0, x1, dtype=np.float32)[None] - np.float32(a[0])
        y = np.arange(y0, y1, dtype=np.float32)[:, None] - np.float32(a[1])
        ux, uy = ((b - a) / max(float((b - a) @ (b - a)), 1e-9)).astype(np.float32).tolist()
        t = np.clip(x * np.float32(ux) + y * np.float32(uy), 0, 1)
        dx, dy = (b - a).astype(np.float32).tolist()
        gap = np.sqrt((x - np.float32(dx) * t) ** 2 + (y - np.float32(dy) * t) ** 2)
        weight = np.exp((np.float32(ra) + np.float32(rb - ra) * t - gap / np.float32(unit)) / np.float32(_MELT))
        near[y0:y1, x0:x1] += weight
        depth[y0:y1, x0:x1] += weight * (np.float32(ha) + np.float32(hb - ha) * t)
    inside = np.log(near) * np.float32(_MELT)
    # Between rods the distance to the skin counts, not the distance to the next rod.
    deep = cv2.distanceTransform((inside > 0).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5) - 1.0
    inside = np.maximum(inside, cv2.GaussianBlur(deep, (0, 0), 1.5) / np.float32(unit) - 0.01)
    half = cv2.GaussianBlur(depth / near, (0, 0), 0.08 * unit)
    working = min(size, 4 * _GRID)
    inside = cv2.resize(inside, (working, working), interpolation=cv2.INTER_CUBIC)
    half = cv2.resize(half, (working, working), interpolation=cv2.INTER_LINEAR)
    d = np.clip(inside, 0, half)
    return cv2.resize(2 * np.sqrt(d * (2 * half - d)), (size, size), interpolation=cv2.INTER_LINEAR)


def _rods(skeleton: Skeleton, who: Patient) -> list[tuple[Points, Points, float, float, float, float]]:
    """(start, end, radius at both, half depth at both); points in pixels, the rest in units."""
    place = dict(zip(BONES, skeleton.frames, strict=True))
    span = {}
    for name, frame, outline in zip(BONES, skeleton.frames, skeleton.outlines, strict=True):
        along = (outline - frame.centre) @ np.linalg.inv(frame.matrix)[1]
        span[name] = float(along.min()), float(along.max())

    def at(name: str, y: float, x: float = 0.0) -> Points:
        return place[name].matrix @ np.array([x, y]) + place[name].centre

    k = who.build**0.5
    rods: list[tuple[Points, Points, float, float, float, float]] = []

    def rod(start: Points, end: Points, radius: float, to_radius: float, half: float, to_half: float) -> None:
        rods.append((start, end, radius * k, to_radius * k, half * k, to_half * k))

    for finger, (first, *rest) in enumerate(FINGERS):
        base, head = span[first]
        thick = 1.12 if finger == 0 else (1.0, 1.03, 0.97, 0.86)[finger - 1]
        rod(at(first, base + 0.1), at(first, head - 0.1), 0.25, 0.24 * thick, 0.27, 0.24)
        radius, half = 0.215 * thick, 0.275 * thick
        before = at(first, head - 0.1)
        for number, name in enumerate(rest):
            last = number == len(rest) - 1
            end = at(name, span[name][1] - (0.10 if last else 0.02))
            # Pulps are as wide as the joint before them; only the very tip narrows.
            taper = 0.84 if last else 0.93
            rod(before, end, radius, radius * taper, half, half * taper)
            before, radius, half = end, radius * taper, half * taper
    for one, other in ((1, 2), (2, 3), (3, 4)):
        a, b = FINGERS[one][0], FINGERS[other][0]
        for share in (0.1, 0.35, 0.6, 0.85):
            start, end = (at(name, (1 - share) * span[name][0] + share * span[name][1]) for name in (a, b))
            rod(start, end, 0.22, 0.22, 0.27, 0.27 - 0.02 * share)
        # The web reaches a third up the first phalanges.
        a, b = FINGERS[one][1], FINGERS[other][1]
        rod(at(a, 0.62 * span[a][0]), at(b, 0.62 * span[b][0]), 0.15, 0.15, 0.21, 0.21)
        rod(at(a, 0.25 * span[a][0]), at(b, 0.25 * span[b][0]), 0.06, 0.06, 0.14, 0.14)
    for low, high, radius, half in (
        (-0.4, -0.6, 0.2, 0.29),
        (-0.15, -0.35, 0.18, 0.29),
        (0.1, -0.1, 0.15, 0.26),
        (0.32, 0.15, 0.10, 0.22),
        (0.45, 0.3, 0.04, 0.15),
    ):
        rod(at("finger-3", low), at("finger-7", high), radius, radius, half, half)
    base, head = span["finger-19"]
    rod(at("finger-19", base, 0.10), at("finger-19", head - 0.2, 0.06), 0.27, 0.22, 0.28, 0.24)
    rod(at("finger-3", span["finger-3"][0], -0.06), at("finger-3", 0.1, -0.03), 0.25, 0.24, 0.30, 0.28)
    wrist = place["Capitate"].centre
    for name, radius in (
        ("Trapezium", 0.32),
        ("Scaphoid", 0.34),
        ("Triquetrum", 0.40),
        ("Hamate", 0.32),
        ("Lunate", 0.34),
    ):
        rod(wrist, place[name].centre, 0.36, radius, 0.29, 0.28)
    radius_top, ulna_top = at("Radius", span["Radius"][1] - 0.25), at("Ulna", span["Ulna"][1] - 0.15)
    rod(place["Scaphoid"].centre, radius_top, 0.34, 0.44, 0.28, 0.29)
    rod(place["Trapezium"].centre, at("Radius", span["Radius"][1] - 0.1, -0.1), 0.32, 0.34, 0.28, 0.29)
    rod(place["Triquetrum"].centre, ulna_top, 0.40, 0.40, 0.28, 0.29)
    rod(radius_top, ulna_top, 0.42, 0.36, 0.29, 0.29)
    for name, start in (("Radius", radius_top), ("Ulna", ulna_top)):
        top = span[name][1]
        rod(start, at(name, top - 5.0), 0.42 if name == "Radius" else 0.36, 0.78, 0.29, 0.48)
    middle = (at("Radius", span["Radius"][1] - 5.0) + at("Ulna", span["Ulna"][1] - 5.0)) / 2
    rod((radius_top + ulna_top) / 2, middle, 0.36, 0.8, 0.29, 0.5)
    return rods
