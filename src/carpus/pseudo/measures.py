"""How sure a pseudo-label is, bone by bone: numbers that speak for it or against it.

Dimension key: K classes, M measures, H W image resolution, h w logit resolution. Deviations are in standard deviations.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from carpus import ensemble, kernels, pose
from carpus import labels as label_map
from carpus.kernels import Runs
from carpus.labels import BONES, Classes, LabelMap, Mask
from carpus.postprocess import Step, repair
from carpus.pseudo import edge
from carpus.pseudo.criteria import MEASURES
from carpus.pseudo.sources import Prediction

Floats = NDArray[np.float64]


UNSURE = (0.2, 0.8)
"""Between these probabilities a pixel is unsure."""


def measure(found: Prediction, classes: Classes) -> Floats:
    """What can be said of the labels of one image: (K, M), the columns in the order of `MEASURES`."""
    columns = {name: np.full(len(classes), np.nan) for name in MEASURES}
    labels = kernels.decode(found.runs, found.size)
    if len(found.members) > 1:
        columns["agreement"] = _agreement(found)
    if found.probabilities is not None:
        columns["confidence"], columns["border"] = _sureness(labels, found.probabilities)
    if found.image is not None:
        columns["edge"] = edge.distances(labels, found.image, len(classes))
    boxes = label_map.boxes(labels, len(classes))
    columns["missing"] = np.array([float(box is None) for box in boxes])
    for k, box in enumerate(boxes):
        if box is not None:
            columns["pieces"][k], columns["holes"][k] = _topology(label_map.has(labels[box], k))
    for name, values in _anatomy(labels, classes).items():
        for n, bone in enumerate(BONES):
            if bone in classes:
                columns[name][classes.index(bone)] = values[n]
    return np.stack(list(columns.values()), axis=1)


def unsure(found: Prediction) -> list[Runs]:
    """The pixels of every class in which the members disagree, or of one member the probability is unsure: K runs."""
    if len(found.members) > 1:
        votes, count = list(zip(*found.members, strict=True)), len(found.members)
        some, every = (
            kernels.decode([ensemble.vote(masks, [1.0] * count, share) for masks in votes], found.size)
            for share in (0.0, 1 - 0.5 / count)
        )
        return kernels.encode(label_map.differing(some, every), len(found.runs))
    if found.probabilities is None:
        return [np.empty((0, 2), np.int64)] * len(found.runs)
    side = max(found.size)
    small = label_map.pack((found.probabilities > UNSURE[0]) & (found.probabilities < UNSURE[1]))
    pixels = cv2.resize(label_map.channels(small), (side, side), interpolation=cv2.INTER_NEAREST_EXACT)
    labels = label_map.from_channels(pixels.astype(np.uint8, copy=False))
    return kernels.encode(np.ascontiguousarray(labels[: found.size[0], : found.size[1]]), len(found.runs))


def doubtful(of_class: Sequence[Runs], kept: NDArray[np.bool_]) -> Runs:
    """The pixels that are unsure for any bone that counts; what is said of the others matters to nobody.

    Args:
        of_class: see `unsure`.
        kept: (K,) the bones that count.
    """
    chosen = [of_class[k] for k in np.flatnonzero(kept).tolist()]
    return ensemble.vote(chosen, [1.0] * len(chosen), 0.0) if chosen else np.empty((0, 2), np.int64)


def _agreement(found: Prediction) -> Floats:
    """(K,) the lowest Dice of the label with a member's; 1 where both are empty."""
    lowest = np.ones(len(found.runs))
    for member in found.members:
        for k, (label, own) in enumerate(zip(found.runs, member, strict=True)):
            both, first, second = kernels.overlap_runs(label, own)
            lowest[k] = min(lowest[k], 2 * both / (first + second) if first + second else 1.0)
    return lowest


def _sureness(labels: LabelMap, probabilities: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """(K,) mean probability within the label, and unsure pixels as a part of it, at the logits' resolution."""
    height, width = probabilities.shape[1:]
    side = max(labels.shape)
    square = np.zeros((side, side), np.int32)
    square[: labels.shape[0], : labels.shape[1]] = labels
    pixels = cv2.resize(label_map.channels(square), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    small = label_map.from_channels(pixels.astype(np.uint8, copy=False))
    confidence, border = np.full((2, len(probabilities)), np.nan)
    for k, plane in enumerate(probabilities):
        inside = plane[label_map.has(small, k)]
        if len(inside):
            confidence[k] = inside.mean()
            border[k] = np.count_nonzero((plane > UNSURE[0]) & (plane < UNSURE[1])) / len(inside)
    return confidence, border


def _topology(mask: Mask) -> tuple[float, float]:
    """Parts of a label outside its largest piece, and area of its holes, as parts of it."""
    pixels = int(np.count_nonzero(mask))
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    filled = np.count_nonzero(repair(mask, Step(fill=True), pixels))
    return 1 - stats[1:, cv2.CC_STAT_AREA].max() / pixels, filled / pixels - 1


def _anatomy(labels: LabelMap, classes: Classes) -> dict[str, Floats]:
    """What the measured anatomy says, by measure, a value for each of the 29 bones."""
    seen = pose.outlines(labels, classes)
    present = ~np.isnan(seen.centroids).any(axis=1)
    sides = set(pose.thumb_left(seen.centroids).values())
    found = {"mirrored": np.where(present, float(len(sides) > 1), np.nan)}
    fit = pose.fit(seen.centroids, seen.areas, seen.elongations)
    if fit is None:
        return found
    exchanged = np.zeros(len(BONES))
    for pairs, _ in fit.swapped:
        exchanged[np.array(pairs).ravel()] = 1
    return found | {
        "place": fit.distance,
        "size": np.abs(fit.size),
        "shape": np.abs(fit.shape),
        "swapped": np.where(present, exchanged, np.nan),
    }
