"""Whether the image has a border where a label has its own, by the grey values across the label's outline.

Bone is brighter than what surrounds it, so across its border the grey falls. Along rays that stand on the outline it is
looked up where it falls most, a stretch of outline at a time; on a good label that is near the outline, whatever the
exposure. A ray ends where it meets another bone's border: of which bone the next one is, nobody knows. Where borders
lie on each other, at the image's end, and where no fall is beyond chance, as in what is overexposed, a stretch says
nothing.

Dimension key: K classes, N rays, B stretches, D places on a ray from inside to outside, H W image resolution.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from carpus import labels as label_map
from carpus.labels import LabelMap
from carpus.phantom.hands import outward_normals

Floats = NDArray[np.float64]

SIDE = 1024
"""Longer side to which images are brought; what follows is in its pixels."""

SMALLEST = 256
"""Longer side of an image, in its own pixels, below which they are too coarse to say where a border is."""

REACH = 10
"""How far from the outline the border is looked for, either way: 2 to 3 mm of a hand that fills the image."""

BLUR = 1.5
"""Standard deviation of the blur that keeps noise and spongy bone from being borders."""

STEP, STRETCH = 2, 16
"""Every second point of the outline has a ray, and a stretch is 16 to 31 rays that decide together."""

LEAST = 0.4
"""Share of the rays that must say something about a stretch, and of the stretches about a bone."""

SURE = 4.0
"""Standard errors by which the grey must fall along a stretch."""

FEWEST, MOST = 8, 16_384
"""Rays that make an outline; OpenCV takes no more than twice the most."""


def distances(labels: LabelMap, image: NDArray[np.uint8], classes: int) -> Floats:
    """How far the labels' outlines are from borders of the image.

    Args:
        labels: (H, W).
        image: (H, W), bone bright.
        classes: K.

    Returns:
        (K,) mean distance along the outline, as a part of `REACH`: 0 on a border, about 0.5 by chance. NaN of an absent
        class, where too little of the outline can be judged, and of all classes in an image smaller than `SMALLEST`.
    """
    found = np.full(classes, np.nan)
    if max(image.shape) < SMALLEST:
        return found
    scale = SIDE / max(image.shape)
    height, width = (max(1, round(side * scale)) for side in image.shape)
    grey = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    grey = cv2.GaussianBlur(grey, (0, 0), BLUR).astype(np.float32, copy=False)
    pixels = cv2.resize(label_map.channels(labels), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    small = label_map.from_channels(pixels.astype(np.uint8, copy=False))
    edges = label_map.edges(small)
    for k, box in enumerate(label_map.boxes(small, classes)):
        if box is not None:
            corner = int(box[1].start), int(box[0].start)
            mask = label_map.has(small[box], k).astype(np.uint8)
            pieces, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE, offset=corner)
            outline = max(pieces, key=len)[::STEP, 0].astype(np.float64)
            if FEWEST <= len(outline) <= MOST:
                found[k] = _distance(*_falls(outline, grey, edges, k))
    return found


def _falls(outline: Floats, grey: NDArray[np.float32], edges: LabelMap, k: int) -> tuple[Floats, Floats]:
    """By how much the grey falls outward at every place of every ray, (N, D), and 1 up to another bone's border."""
    # The outline runs through the label's outermost pixels, half a pixel inside its border.
    places = 0.5 + np.arange(-REACH - 1, REACH + 2)
    rays = outline[:, None] + places[:, None] * outward_normals(outline)[:, None]
    x, y = (np.ascontiguousarray(rays[..., axis], np.float32) for axis in (0, 1))
    seen = cv2.remap(grey, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float64)
    # Outside the image is as bad as another bone: all bits are set.
    met = cv2.remap(
        label_map.channels(edges), x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=(255,) * 4
    )
    others = label_map.from_channels(met.astype(np.uint8, copy=False))
    label_map.erase(others, k)
    free = (others == 0).astype(np.float64)
    free = np.minimum(np.minimum(free[:, :-2], free[:, 1:-1]), free[:, 2:])
    inward, outward = (np.minimum.accumulate(half, axis=1) for half in (free[:, REACH::-1], free[:, REACH:]))
    return seen[:, :-2] - seen[:, 2:], np.concatenate([inward[:, :0:-1], outward], axis=1)


def _distance(falls: Floats, free: Floats) -> float:
    """Mean distance of the steepest fall from the middle of the rays, as a part of `REACH`; NaN if little is seen."""
    starts = np.linspace(0, len(falls), max(1, len(falls) // STRETCH), endpoint=False).astype(np.int64)
    rays = np.diff(starts, append=len(falls))
    counts, sums, squares = (np.add.reduceat(values, starts) for values in (free, free * falls, free * falls**2))
    known = counts >= LEAST * rays[:, None]
    mean = np.where(known, sums / np.maximum(counts, 1), 0)  # (B, D)
    error = np.sqrt(np.maximum(squares / np.maximum(counts, 1) - mean**2, 0) / np.maximum(counts - 1, 1))
    steepest = mean.argmax(axis=1)
    there = np.arange(len(mean)), steepest
    judged = known[:, REACH] & (mean[there] > SURE * error[there])
    if judged.mean() < LEAST:
        return np.nan
    return float(np.abs(steepest[judged] - REACH).mean() / REACH)
