"""One case: read once, measured once, and what it shows by itself.

Dimension key: K classes, N bones of the anatomy, H rows, W columns. Contrasts are in standard deviations of brightness.
"""

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from carpus import labels as label_map
from carpus import pose
from carpus.check.finding import Finding, Kind
from carpus.data import Case
from carpus.errors import DataError, DataWarning
from carpus.formats import annotations, images
from carpus.labels import BONES, Classes, LabelMap

Floats = NDArray[np.float64]
T = TypeVar("T")

MIRROR_GAIN = 0.2
"""How much higher the contrast of mirrored labels must be: hands are symmetric enough for less to be chance."""

ON = 0.2
"""The share of a lost bone's pixels that another class must hold for the one to be called drawn on the other."""

_CONTRAST_SIDE = 256
"""The image is made about this small for its contrast, so that noise and fine texture do not count."""

_RIM = 9
"""The surroundings of a bone reach half as many of these small pixels beyond its outline."""


@dataclass(frozen=True)
class Seen:
    """What one case shows that others are compared with.

    Args:
        case: the case.
        split: train or test.
        digest: of the decoded pixels; empty where the image cannot be read.
        side_px: the image's longer side.
        fit: the hand that explains the labels; None without labels or with too few bones.
        thumb_left: whether the labels' thumb is on the image's left; None where they do not tell.
        contrast: of labelled pixels and their surroundings; NaN without labels, or where it is a finding already.
        lies_on: by bone of the anatomy that is far from its place, the class that it is drawn on, if any.
    """

    case: Case
    split: str
    digest: str = ""
    side_px: int = 0
    fit: pose.Fit | None = None
    thumb_left: bool | None = None
    contrast: float = np.nan
    lies_on: dict[int, str] = field(default_factory=dict)


def examine(case: Case, split: str, classes: Classes) -> tuple[Seen, list[Finding]]:
    """Read one case and measure it.

    Args:
        case: the case; without an annotation only its image is read.
        split: train or test.
        classes: the class list of the annotation.

    Returns:
        what the case is compared by, and what it shows alone. A file that cannot be read is a finding; without its
        image's size an annotation is not read.
    """
    image, findings = _read(lambda: images.read(case.image), case, "image")
    if image is None:
        return Seen(case, split), findings
    digest = hashlib.blake2b(np.ascontiguousarray(image).data, key=str(image.shape).encode()).hexdigest()
    side_px, size, annotation = max(image.shape), (image.shape[0], image.shape[1]), case.annotation
    if annotation is None:
        return Seen(case, split, digest, side_px), findings
    labels, found = _read(lambda: annotations.read(annotation, size, classes), case, "annotation")
    findings += found
    if labels is None:
        return Seen(case, split, digest, side_px), findings
    bones, found = pose.outlines(labels, classes), _topology(case, labels, classes)
    thumb_left, turned = _direction(case, bones.centroids)
    contrast, beside = _against_image(case, image, labels)
    findings += [*found, *turned, *beside]
    fit = pose.fit(bones.centroids, bones.areas, bones.elongations)
    lost = np.flatnonzero(fit.distance > pose.FAR).tolist() if fit else []
    drawn_on = {n: _beneath(labels, classes.index(BONES.names[n]), classes) for n in lost}
    lies_on = {n: below for n, below in drawn_on.items() if below}
    return Seen(case, split, digest, side_px, fit, thumb_left, contrast, lies_on), findings


def _read(read: Callable[[], T], case: Case, kind: Kind) -> tuple[T | None, list[Finding]]:
    """What `read` returns, or None where it cannot; its `DataError` and each `DataWarning` (of `kind`) as findings."""
    value: T | None = None
    findings: list[Finding] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataWarning)
        try:
            value = read()
        except DataError as error:
            findings.append(Finding(case.name, "unreadable", "error", str(error)))
    for warning in caught:
        if issubclass(warning.category, DataWarning):
            findings.append(Finding(case.name, kind, "warning", str(warning.message)))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return value, findings


def _topology(case: Case, labels: LabelMap, classes: Classes) -> list[Finding]:
    """Missing classes, parts and holes."""
    findings: list[Finding] = []
    for k, (name, box) in enumerate(zip(classes, label_map.boxes(labels, len(classes)), strict=True)):
        if box is None:
            findings.append(Finding(case.name, "missing", "warning", "not labelled", name))
            continue
        mask = label_map.has(labels[box], k).astype(np.uint8)
        hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)[1][0]
        holes = int(np.count_nonzero(hierarchy[:, 3] >= 0))
        if (parts := len(hierarchy) - holes) > 1:
            findings.append(Finding(case.name, "components", "note", f"in {parts} pieces", name, parts))
        if holes:
            message = f"with {holes} hole{'s' if holes > 1 else ''}"
            findings.append(Finding(case.name, "holes", "note", message, name, holes))
    return findings


def _beneath(labels: LabelMap, k: int, classes: Classes) -> str | None:
    """The class that holds most of class `k`'s pixels besides itself, if that is more than `ON` of them."""
    shared = label_map.area(labels[label_map.has(labels, k)], len(classes))
    own, shared[k] = shared[k], 0
    return classes.names[int(shared.argmax())] if shared.max() > ON * own else None


def _direction(case: Case, centroids: Floats) -> tuple[bool | None, list[Finding]]:
    """Whether the thumb is on the left; fingers, carpals and forearm must run from it the same way."""
    sides = pose.thumb_left(centroids)
    forearm, hand = sides.pop("forearm", None), set(sides.values())
    if len(hand) < 2:
        # A forearm that alone disagrees is Radius and Ulna exchanged, which is found as such.
        return next(iter(hand), forearm), []
    odd = "carpals" if sides["fingers"] == forearm else "fingers"
    others = " and ".join(group for group in ("fingers", "carpals", "forearm") if group != odd)
    message = f"the {odd} run from the thumb's to the little finger's side the other way than {others}"
    return None, [Finding(case.name, "mirrored", "error", message)]


def _against_image(case: Case, image: images.Grey, labels: LabelMap) -> tuple[float, list[Finding]]:
    """The contrast. Bones are brighter than what surrounds them; labels that are not are not on their image's bones."""
    step = max(1, max(image.shape) // _CONTRAST_SIDE)
    small = cv2.resize(image, (image.shape[1] // step, image.shape[0] // step), interpolation=cv2.INTER_AREA)
    mask = cv2.resize((labels != 0).astype(np.uint8), small.shape[::-1], interpolation=cv2.INTER_NEAREST)
    contrast, mirrored = _contrast(small, mask), _contrast(small, np.ascontiguousarray(mask[:, ::-1]))
    if mirrored > max(contrast, 0) + MIRROR_GAIN:
        message = f"mirrored, the labels would lie on the image's bones (contrast {mirrored:.2f}, now {contrast:.2f})"
        return np.nan, [Finding(case.name, "mirrored", "error", message, value=mirrored - contrast)]
    if contrast < 0:
        message = "labelled pixels are darker than their surroundings: inverted image, or labels of another image?"
        return np.nan, [Finding(case.name, "contrast", "warning", message, value=contrast)]
    return contrast, []


def _contrast(image: NDArray[Any], mask: NDArray[np.uint8]) -> float:
    """Mean brightness of the mask less that of the surroundings, in standard deviations of both."""
    near = cv2.dilate(mask, np.ones((_RIM, _RIM), np.uint8)) > 0
    inside, outside = image[mask > 0].astype(np.float64), image[near & (mask == 0)].astype(np.float64)
    if not len(inside) or not len(outside):
        return 0.0
    spread = float(image[near].astype(np.float64).std())
    return float(inside.mean() - outside.mean()) / spread if spread > 0 else 0.0
