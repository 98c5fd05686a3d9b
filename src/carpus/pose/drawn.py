"""What is drawn: place, area and elongation of every bone in a label map."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from carpus import labels as label_map
from carpus.labels import BONES, Classes, LabelMap
from carpus.phantom.anatomy import Points

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Outlines:
    """The bones of an image in the order of `labels.BONES`, as `fit` takes them; NaN for an absent bone.

    A bone that the image's border cuts has a centroid alone.

    Attributes:
        centroids: (N, 2) as (x, y down) pixels.
        areas: (N,) pixels.
        elongations: (N,) see `elongation`.
    """

    centroids: Points
    areas: Floats
    elongations: Floats


def outlines(labels: LabelMap, classes: Classes) -> Outlines:
    """Place, area and elongation of every bone in a label map (H, W), whatever other classes it has."""
    found = Outlines(*(np.full((len(BONES), *columns), np.nan) for columns in ((2,), (), ())))
    for name, box in zip(classes, label_map.boxes(labels, len(classes)), strict=True):
        if box is None or name not in BONES:
            continue
        n, mask = BONES.index(name), label_map.has(labels[box], classes.index(name))
        moments, (top, left) = cv2.moments(mask.astype(np.uint8), binaryImage=True), (box[0].start, box[1].start)
        found.centroids[n] = left + moments["m10"] / moments["m00"], top + moments["m01"] / moments["m00"]
        cut = top == 0 or left == 0 or box[0].stop == labels.shape[0] or box[1].stop == labels.shape[1]
        if not cut:
            found.areas[n], found.elongations[n] = moments["m00"], elongation(moments)
    return found


def elongation(moments: Any) -> float:
    """Logarithm of the ratio of a shape's long to its short axis, from OpenCV's moments."""
    xx, yy, xy = (moments[key] / max(moments["m00"], 1e-12) for key in ("mu20", "mu02", "mu11"))
    mean, half = (xx + yy) / 2, float(np.hypot((xx - yy) / 2, xy))
    return float(np.log((mean + half) / (mean - half)) / 2) if mean > half else 0.0
