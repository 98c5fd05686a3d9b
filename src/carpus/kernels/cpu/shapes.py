"""Polygons to label maps, filled exactly as ``cv2.fillPoly`` does, and back.

The fill: an edge crosses row y at x0 + (y - y0) * dx in 16.16 fixed point, with dx cut towards zero; between the
crossings of a row, sorted and taken in pairs (even-odd), pixels from the first rounded up to the second rounded
down are set. The outline is drawn too, edge by edge, as a Bresenham line from left to right.
"""

from collections.abc import Sequence

import numpy as np
from numba import njit

from carpus.kernels import Polygon
from carpus.labels import LabelMap

SHIFT = 16


def rasterise(shapes: Sequence[Sequence[Polygon]], size: tuple[int, int]) -> LabelMap:
    """`kernels.rasterise`."""
    labels = np.zeros(size, np.int32)
    classes = [k for k, of_class in enumerate(shapes) for _ in of_class]
    polygons = [np.asarray(polygon, np.int32) for of_class in shapes for polygon in of_class]
    if not polygons:
        return labels
    ends = np.cumsum([0] + [len(polygon) for polygon in polygons])
    left_out = _rasterise(np.concatenate(polygons), ends, np.array(classes), labels)
    if left_out.any():
        # OpenCV moves the ends of lines that leave the image: rare, and best left to it.
        from carpus.kernels import reference

        for n in np.flatnonzero(left_out):
            labels |= reference.rasterise([[polygons[n]]], size) << np.int32(classes[n])
    return labels


@njit(cache=True, nogil=True)
def _rasterise(points, ends, classes, labels):
    """Fill the polygons that end at `ends` among the points; tells which were left out, as they leave the image."""
    height, width = labels.shape
    place = np.empty(height + 1, np.int64)
    left_out = np.zeros(len(classes), np.bool_)
    for n in range(len(classes)):
        bit = np.int32(1 << classes[n])
        polygon = points[ends[n] : ends[n + 1]].astype(np.int64)
        left, top, right, bottom = polygon[0, 0], polygon[0, 1], polygon[0, 0], polygon[0, 1]
        for i in range(1, len(polygon)):
            left, right = min(left, polygon[i, 0]), max(right, polygon[i, 0])
            top, bottom = min(top, polygon[i, 1]), max(bottom, polygon[i, 1])
        if left < 0 or top < 0 or right >= width or bottom >= height:
            left_out[n] = True
            continue
        place[top : bottom + 2] = 0
        for i in range(len(polygon)):
            x0, y0, x1, y1 = polygon[i - 1, 0], polygon[i - 1, 1], polygon[i, 0], polygon[i, 1]
            _line(labels, x0, y0, x1, y1, bit)
            for y in range(min(y0, y1), max(y0, y1)):
                place[y + 1] += 1
        for y in range(top, bottom + 1):
            place[y + 1] += place[y]
        crossings = np.empty(place[bottom + 1], np.int64)
        filled = place[top : bottom + 1].copy()
        for i in range(len(polygon)):
            x0, y0, x1, y1 = polygon[i - 1, 0], polygon[i - 1, 1], polygon[i, 0], polygon[i, 1]
            if y0 > y1:
                x0, y0, x1, y1 = x1, y1, x0, y0
            if y0 == y1:
                continue
            # A division costs as much as an edge of some pixels; one that crosses a single row needs none.
            step = 0 if y1 - y0 == 1 else (abs(x1 - x0) << SHIFT) // (y1 - y0) * (1 if x1 > x0 else -1)
            x = x0 << SHIFT
            for y in range(y0, y1):
                at = filled[y - top]
                while at > place[y] and crossings[at - 1] > x:
                    crossings[at] = crossings[at - 1]
                    at -= 1
                crossings[at] = x
                filled[y - top] += 1
                x += step
        for y in range(top, bottom):
            for at in range(place[y], place[y + 1] - 1, 2):
                first = (crossings[at] + (1 << SHIFT) - 1) >> SHIFT
                part = labels[y, first : (crossings[at + 1] >> SHIFT) + 1]
                for x in range(len(part)):
                    part[x] |= bit
    return left_out


@njit(nogil=True)
def _line(labels, x0, y0, x1, y1, bit):
    if x1 < x0:
        x0, y0, x1, y1 = x1, y1, x0, y0
    across, down, turn = x1 - x0, abs(y1 - y0), 1 if y1 >= y0 else -1
    steep = down > across
    major, minor = (down, across) if steep else (across, down)
    error = major - 2 * minor
    for _ in range(major + 1):
        labels[np.uint32(y0), np.uint32(x0)] |= bit
        aside = error < 0
        if aside:
            error += 2 * major
        error -= 2 * minor
        y0 += turn if steep or aside else 0
        x0 += 1 if not steep or aside else 0


def polygons(labels: LabelMap, classes: int) -> list[list[Polygon]]:
    """`kernels.polygons`."""
    from carpus.kernels import reference  # and with it torch

    labels = np.ascontiguousarray(labels)
    result: list[list[Polygon]] = []
    for k, (top, bottom, left, right) in enumerate(boxes(labels, classes).tolist()):
        mask = _mask(labels[top:bottom, left:right], k)
        result.append(reference.polygons_of(mask, left, top) if mask.size else [])
    return result


@njit(cache=True, nogil=True)
def boxes(labels, classes):
    """Top, bottom, left and right of every class, half open."""
    height, width = labels.shape
    sides = np.zeros((32, 4), np.int64)
    by_column, seen = np.zeros(width, np.int32), np.int32(0)
    for y in range(height):
        row, found = labels[y], np.int32(0)
        for x in range(width):
            found |= row[x]
        if found == 0:
            continue
        for x in range(width):
            by_column[x] |= row[x]
        for k in range(classes):
            if (found >> k) & 1:
                if not (seen >> k) & 1:
                    sides[k, 0] = y
                sides[k, 1] = y + 1
        seen |= found
    seen = np.int32(0)
    for x in range(width):
        for k in range(classes):
            if (by_column[x] >> k) & 1:
                if not (seen >> k) & 1:
                    sides[k, 2] = x
                sides[k, 3] = x + 1
        seen |= by_column[x]
    return sides[:classes]


@njit(cache=True, nogil=True)
def _mask(labels, k):
    mask = np.empty(labels.shape, np.uint8)
    for y in range(labels.shape[0]):
        row, out = labels[y], mask[y]
        for x in range(len(row)):
            out[x] = np.uint8((row[x] >> k) & 1)
    return mask
