"""One hand: a radiograph and its exact label map.

Dimension key: H rows, W columns, both `size`; K bones, N points.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from carpus import labels as label_map
from carpus.errors import ConfigError
from carpus.labels import LabelMap
from carpus.phantom import exposure, skeleton
from carpus.phantom.anatomy import Points, Side, Wrist
from carpus.phantom.skeleton import Patient, Sex


@dataclass(frozen=True)
class Hand:
    """A synthetic radiograph.

    Attributes:
        image: (H, W) uint8, bone bright.
        labels: (H, W) int32 label map of `labels.BONES`.
        polygons: for every class one polygon (N, 2) int32 of (x, y) pixels, within the image; filled with its
            outline included they give `labels` exactly.
        outlines: the same, neither cut at the image's edges nor rounded to pixels: (N, 2) float64.
        side: "right" shows the thumb on the image's left.
        wrist: "straight" or "bent".
        patient: what the patient's other hand shares.
    """

    image: NDArray[np.uint8]
    labels: LabelMap
    polygons: tuple[NDArray[np.int32], ...]
    outlines: tuple[Points, ...]
    side: Side
    wrist: Wrist
    patient: Patient


def hand(
    rng: np.random.Generator,
    size: int = 2048,
    *,
    wrist: Wrist = "straight",
    side: Side = "right",
    height_cm: float | None = None,
    sex: Sex | None = None,
    patient: Patient | None = None,
    domain_shift: float = 0.0,
) -> Hand:
    """Draw a hand radiograph with exact labels.

    The same generator state draws the same hand at every `size`: all lengths scale with it.

    Args:
        rng: the only source of randomness.
        size: H = W in pixels, at least 64.
        wrist: "straight", or "bent" to the little finger's side by about 38 degrees.
        side: "right" shows the thumb on the image's left, "left" on its right.
        height_cm, sex: of a new patient; drawn when None, ignored with `patient`.
        patient: a patient from `phantom.patient`, to draw both hands of one.
        domain_shift: 0 (the training images' equipment) to 1 (darker, softer and noisier).

    Raises:
        ConfigError: a size below 64, a `domain_shift` outside 0 to 1, or an unknown `wrist` or `side`.
    """
    if size < 64:
        raise ConfigError(f"size: expected at least 64 pixels, got {size}")
    if wrist not in ("straight", "bent"):
        raise ConfigError(f"wrist: expected straight or bent, got {wrist!r}")
    if side not in ("right", "left"):
        raise ConfigError(f"side: expected right or left, got {side!r}")
    if not 0 <= domain_shift <= 1:
        raise ConfigError(f"domain_shift: expected 0 to 1, got {domain_shift}")
    who, posing, looks = rng.spawn(3)
    patient = patient or skeleton.patient(who, height_cm=height_cm, sex=sex)
    bones = skeleton.pose(posing, patient, wrist=wrist, side=side, size=size)
    polygons = tuple(within(outline, size) for outline in bones.outlines)
    image = exposure.image(bones, patient, size, looks, side=side, domain_shift=domain_shift)
    return Hand(image, filled(polygons, size), polygons, bones.outlines, side, wrist, patient)


def filled(polygons: tuple[NDArray[np.int32], ...], size: int) -> LabelMap:
    """The label map of one polygon (N, 2) a class, outlines included as ``cv2.fillPoly`` draws them."""
    labels = label_map.empty((size, size))
    for k, polygon in enumerate(polygons):
        left, top = polygon.min(axis=0).tolist()
        right, bottom = polygon.max(axis=0).tolist()
        mask = np.zeros((bottom - top + 1, right - left + 1), np.uint8)
        cv2.fillPoly(mask, [polygon - np.array([left, top], np.int32)], 1)
        label_map.paint(labels, k, mask > 0, top, left)
    return labels


def within(outline: Points, size: int) -> NDArray[np.int32]:
    """The part of an outline (N, 2) inside the image, in whole pixels, no point twice in a row.

    Half a pixel smaller all around: a filled polygon includes its outline's pixels, and would be as much too large.
    """
    outline = outline - 0.5 * outward_normals(outline)
    for axis in (0, 1):
        for edge, sign in ((0.0, 1.0), (size - 1.0, -1.0)):
            inside = sign * (outline[:, axis] - edge) >= 0
            following = np.roll(outline, -1, axis=0)
            crosses = inside != np.roll(inside, -1)
            span = np.where(crosses, following[:, axis] - outline[:, axis], 1.0)
            cut = outline + ((edge - outline[:, axis]) / span)[:, None] * (following - outline)
            cut[:, axis] = edge
            pairs = np.stack([outline, cut], axis=1).reshape(-1, 2)
            outline = pairs[np.stack([inside, crosses], axis=1).reshape(-1)]
    points = np.round(outline).astype(np.int32)
    return points[(points != np.roll(points, 1, axis=0)).any(axis=1)]


def outward_normals(outline: Points) -> Points:
    """The unit normal at every point of a closed outline (N, 2), outward whichever way it runs."""
    along = np.roll(outline, -1, axis=0) - np.roll(outline, 1, axis=0)
    x, y = outline.T
    way = np.sign(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
    normal = np.stack([along[:, 1], -along[:, 0]], axis=1) * way
    return normal / np.maximum(np.linalg.norm(normal, axis=1), 1e-9)[:, None]
