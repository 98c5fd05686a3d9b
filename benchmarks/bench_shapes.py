"""Annotations: polygons to masks, masks to polygons; OpenCV and pycocotools."""

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from benchmarks import inputs
from benchmarks.measure import Comparison, require
from carpus import kernels
from carpus import labels as label_map

K, SIZE = inputs.CLASSES, (inputs.SIZE, inputs.SIZE)
Planes = NDArray[np.uint8]


def planes_of(polygons: Sequence[NDArray[np.int32]]) -> Planes:
    planes = np.zeros((K, *SIZE), np.uint8)
    for plane, polygon in zip(planes, polygons, strict=True):
        cv2.fillPoly(plane, [polygon], (1,))
    return planes


def stack_of(polygons: Sequence[NDArray[np.int32]]) -> Planes:
    """The usual baseline's (H, W, K) stack: one class at a time through a plane."""
    stack = np.zeros((*SIZE, K), np.uint8)
    for k, polygon in enumerate(polygons):
        plane = np.zeros(SIZE, np.uint8)
        cv2.fillPoly(plane, [polygon], (1,))
        stack[..., k] = plane
    return stack


def contours(planes: Planes) -> list[list[NDArray[np.int32]]]:
    """External contours of every plane, as pseudo-labellers do."""
    found = []
    for plane in planes:
        outlines, _ = cv2.findContours(plane, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        found.append([outline[:, 0] for outline in outlines])
    return found


def equal_pixels(theirs: Planes, mine: NDArray[np.int32]) -> str:
    return require(np.array_equal(label_map.pack(theirs.astype(bool)), mine), "the same pixels")


def coco_stack_of(polygons: Sequence[NDArray[np.int32]]) -> Planes:
    """(H, W, K), by way of COCO's runs."""
    objects: Any = coco.frPyObjects([polygon.ravel().tolist() for polygon in polygons], *SIZE)
    return coco.decode(objects)


def equal_inside(polygons: Sequence[NDArray[np.int32]], theirs: Planes, mine: NDArray[np.int32]) -> str:
    """COCO has another rule for pixels that an outline crosses: only next to outlines may the two differ."""
    count = 0
    for k, polygon in enumerate(polygons):
        outline = cv2.polylines(np.zeros(SIZE, np.uint8), [polygon], True, (1,))
        beside = cv2.dilate(outline, np.ones((3, 3), np.uint8)) != 0
        differ = (theirs[..., k] != 0) != label_map.has(mine, k)
        require(not (differ & ~beside).any(), f"class {k} differs away from its outline")
        count += int(differ.sum())
    return f"{count} of {theirs.size} pixels differ, each at an outline"


def comparisons(quick: bool) -> Iterator[Comparison]:
    hand = inputs.hand()
    polygons = [np.ascontiguousarray(polygon) for polygon in hand.polygons]
    shapes = [[polygon] for polygon in polygons]

    def ours() -> NDArray[np.int32]:
        return kernels.rasterise(shapes, SIZE)

    yield Comparison("polygons to masks (K, H, W)", lambda: planes_of(polygons), ours, equal_pixels)
    yield Comparison(
        "polygons to masks (H, W, K)", lambda: stack_of(polygons), ours,
        lambda theirs, mine: equal_pixels(theirs.transpose(2, 0, 1), mine),
    )  # fmt: skip
    yield Comparison(
        "polygons to masks, against pycocotools", lambda: coco_stack_of(polygons), ours,
        lambda theirs, mine: equal_inside(polygons, theirs, mine),
    )  # fmt: skip
    planes = label_map.unpack(hand.labels, K).astype(np.uint8)

    def equal(theirs: list[list[NDArray[np.int32]]], mine: list[list[NDArray[np.int32]]]) -> str:
        a, b = kernels.rasterise(theirs, SIZE), kernels.rasterise(mine, SIZE)
        return require(np.array_equal(a, b) and np.array_equal(b, hand.labels), "the same pixels when filled")

    yield Comparison("masks to polygons", lambda: contours(planes), lambda: kernels.polygons(hand.labels, K), equal)
