"""Distances between the borders of two masks, exact, on the pixels of the borders alone.

The border of a mask is what an erosion by the four neighbours removes; outside the image nothing is set. From a
border pixel rows are searched outwards in the other border, a binary search in each, until the row itself is
further away than the best pixel found. Borders that nearly agree cost a few rows; the full frame is never touched.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from carpus.kernels.cpu.shapes import boxes
from carpus.labels import LabelMap

Distances = tuple[NDArray[np.float64], NDArray[np.float64]]


def surface_distances(a: LabelMap, b: LabelMap, classes: int) -> list[Distances]:
    """`kernels.surface_distances`."""
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    result = []
    for k, (box_a, box_b) in enumerate(zip(boxes(a, classes), boxes(b, classes), strict=True)):
        points_a, first_a = _border(a, k, box_a)
        points_b, first_b = _border(b, k, box_b)
        forth = _nearest(points_a, points_b[:, 1].copy(), first_b, box_b[0])
        back = _nearest(points_b, points_a[:, 1].copy(), first_a, box_a[0])
        result.append((np.sqrt(forth), np.sqrt(back)))
    return result


@njit(cache=True, nogil=True)
def _border(labels, k, box):
    """Border pixels (N, 2) as row and column, row by row, and where every row of the box starts among them."""
    height, width = labels.shape
    top, bottom, left, right = box
    points, count = np.empty((4 * (bottom - top + right - left) + 16, 2), np.int32), 0
    starts = np.zeros(bottom - top + 1, np.int64)
    for y in range(top, bottom):
        for x in range(left, right):
            if not (labels[y, x] >> k) & 1:
                continue
            inner = 0 < y < height - 1 and 0 < x < width - 1
            if inner:
                around = labels[y - 1, x] & labels[y + 1, x] & labels[y, x - 1] & labels[y, x + 1]
                inner = (around >> k) & 1 != 0
            if not inner:
                if count == len(points):
                    larger = np.empty((2 * count, 2), np.int32)
                    larger[:count] = points
                    points = larger
                points[count, 0], points[count, 1] = y, x
                count += 1
        starts[y - top + 1] = count
    return points[:count], starts


@njit(cache=True, nogil=True)
def _nearest(points, columns, starts, top):
    """Squared distance from every point to the nearest of `columns`, sorted within rows that begin at `starts`."""
    nearest = np.full(len(points), np.inf)
    rows = len(starts) - 1
    for n in range(len(points)):
        y, x = points[n, 0] - top, points[n, 1]
        best = np.inf
        away = max(0, -y, y - rows + 1)
        while away * away < best and (y - away >= 0 or y + away < rows):
            for side in range(2 if away else 1):
                row = y - away if side == 0 else y + away
                if row < 0 or row >= rows:
                    continue
                low, high = starts[row], starts[row + 1]
                stop = high
                while low < high:
                    middle = (low + high) // 2
                    if columns[middle] < x:
                        low = middle + 1
                    else:
                        high = middle
                if low < stop:
                    best = min(best, away * away + (columns[low] - x) ** 2)
                if low > starts[row]:
                    best = min(best, away * away + (columns[low - 1] - x) ** 2)
            away += 1
        nearest[n] = best
    return nearest
