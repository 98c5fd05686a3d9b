"""Distances between the borders of two masks, exact, on the pixels of the borders alone.

The border of a mask is what an erosion by the four neighbours removes; outside the image nothing is set. From a
border pixel rows are searched outwards in the other border, a binary search in each, until the row itself is
further away than the best pixel found. Borders that nearly agree cost a few rows; the full frame is never touched.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from carpus.kernels.cpu.elementary import lowest_bit
from carpus.kernels.cpu.runs import enlarged, places
from carpus.kernels.cpu.threads import follow_torch
from carpus.labels import LabelMap

Distances = tuple[NDArray[np.float64], NDArray[np.float64]]


def surface_distances(a: LabelMap, b: LabelMap, classes: int) -> list[Distances]:
    """`kernels.surface_distances`."""
    if not a.size:
        return [(np.empty(0), np.empty(0))] * classes
    follow_torch()
    with ThreadPoolExecutor(1) as pool:
        borders_b = pool.submit(_borders, np.ascontiguousarray(b), classes)
        points_a, ends_a = _borders(np.ascontiguousarray(a), classes)
        points_b, ends_b = borders_b.result()
    forth = _all_nearest(points_a, ends_a, points_b, ends_b)
    back = _all_nearest(points_b, ends_b, points_a, ends_a)
    return list(zip(np.split(forth, ends_a[:-1]), np.split(back, ends_b[:-1]), strict=True))


@njit(cache=True, nogil=True)
def _borders(labels, classes):
    """Border pixels of every class as (N, 2) row and column, row by row, class after class, and where each ends.

    All classes at once: a bit of a word is on the border unless it is set in all four neighbours.
    """
    height, width = labels.shape
    found, count = np.empty((4096, 3), np.int32), 0
    ends = np.zeros(classes, np.int64)
    outside, edge = np.zeros(width, np.int32), np.zeros(width, np.int32)
    # Padded to whole words of eight flags; at least as long as the row.
    flags, at = np.zeros(width // 8 * 8 + 8, np.uint8), np.empty(width, np.int64)
    known = np.int32((np.int64(1) << classes) - 1)
    for y in range(height):
        up, down = labels[y - 1] if y > 0 else outside, labels[y + 1] if y < height - 1 else outside
        _edges(labels[y], up, down, known, edge, flags)
        for n in range(places(flags, at)):
            x, word = at[n], edge[at[n]]
            while word:
                k = lowest_bit(word)
                word &= word - np.int32(1)
                if count == len(found):
                    found = enlarged(found)
                found[count, 0], found[count, 1], found[count, 2] = k, y, x
                ends[k] += 1
                count += 1
    ends[:] = np.cumsum(ends)
    place = np.zeros(classes, np.int64)
    place[1:] = ends[:-1]
    points = np.empty((count, 2), np.int32)
    for n in range(count):
        k = found[n, 0]
        points[place[k], 0], points[place[k], 1] = found[n, 1], found[n, 2]
        place[k] += 1
    return points, ends


@njit(nogil=True)
def _edges(row, up, down, known, edge, flags):
    """The words of a row less what an erosion leaves of them, and a flag where anything is left."""
    last = len(row) - 1
    edge[0], edge[last] = row[0] & known, row[last] & known
    middle, left, right, above, below = row[1:-1], row[:-2], row[2:], up[1:-1], down[1:-1]
    rest = edge[1:-1]
    for x in range(len(rest)):
        rest[x] = middle[x] & ~(above[x] & below[x] & left[x] & right[x]) & known
    for x in range(len(edge)):
        flags[x] = np.uint8(edge[x] != 0)


@njit(cache=True, parallel=True, nogil=True)
def _all_nearest(points, ends, others, other_ends):
    """Distance of every point to the nearest point of the same class among the others; infinite without any."""
    nearest = np.full(len(points), np.inf)
    for k in prange(len(ends)):
        begin, other_begin = (ends[k - 1], other_ends[k - 1]) if k > 0 else (0, 0)
        of_class, targets = points[begin : ends[k]], others[other_begin : other_ends[k]]
        if len(of_class) > 0 and len(targets) > 0:
            _nearest(of_class, targets, nearest[begin : ends[k]])
    return nearest


@njit(nogil=True)
def _nearest(points, targets, nearest):
    top, rows = targets[0, 0], targets[-1, 0] - targets[0, 0] + 1
    columns, starts = targets[:, 1].copy(), np.zeros(rows + 1, np.int64)
    for n in range(len(targets)):
        starts[targets[n, 0] - top + 1] = n + 1
    for row in range(rows):
        starts[row + 1] = max(starts[row], starts[row + 1])
    for n in range(len(points)):
        y, x = points[n, 0] - top, points[n, 1]
        best = np.int64(1) << 60
        away = max(0, -y, y - rows + 1)
        while away * away < best and (y - away >= 0 or y + away < rows):
            if 0 <= y - away < rows:
                best = min(best, away * away + _across(columns, starts[y - away], starts[y - away + 1], x))
            if away > 0 and 0 <= y + away < rows:
                best = min(best, away * away + _across(columns, starts[y + away], starts[y + away + 1], x))
            away += 1
        nearest[n] = np.sqrt(best)


@njit(nogil=True)
def _across(columns, low, high, x):
    """Squared distance along a row to the nearest of its sorted columns, which are low..high."""
    best, begin, end = np.int64(1) << 59, low, high
    while low < high:
        middle = (low + high) // 2
        if columns[middle] < x:
            low = middle + 1
        else:
            high = middle
    if low < end:
        best = np.int64(columns[low] - x) ** 2
    if low > begin:
        best = min(best, np.int64(columns[low - 1] - x) ** 2)
    return best
