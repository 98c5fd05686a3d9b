"""Points as label files hold them: checked, made whole, and doubted where they should be.

Dimension key: N points of a polygon, E pairs of edges.
"""

from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from carpus import kernels
from carpus import labels as label_map
from carpus.errors import DataError, warn
from carpus.kernels import Polygon
from carpus.labels import LabelMap

MAX_COORDINATE = 1 << 16
"""Farther from the image than any slip of the hand; what lies beyond would cost time and change no pixel."""

_MAX_PAIRS = 1 << 20

Points = NDArray[np.float64]
"""(N, 2) points as (x, y) in pixels of the image."""


def read(value: object, source: str, least: int = 3) -> Points:
    """Check what a label file gives as points, a list of [x, y], and return it as (N, 2) float64.

    Raises:
        DataError: naming `source`: not a list of pairs of finite numbers, fewer than `least`, or absurdly far away.
    """
    if not isinstance(value, list) or not set(map(type, value)) <= {list}:
        raise DataError(f"{source}: expected a list of [x, y]")
    if len(value) < least:
        raise DataError(f"{source}: needs at least {least} points, has {len(value)}")
    if set(map(len, value)) - {2}:
        row = next(row for row, pair in enumerate(value) if len(pair) != 2)
        raise DataError(f"{source}[{row}]: expected [x, y], has {len(value[row])} values")
    return _numbers(list(chain.from_iterable(value)), source)


def read_flat(value: object, source: str) -> Points:
    """`read`, of points in COCO's manner: one list of x1, y1, x2, y2, ..."""
    if not isinstance(value, list):
        raise DataError(f"{source}: expected a list of x1, y1, x2, y2, ...")
    if len(value) % 2:
        raise DataError(f"{source}: expected pairs of x and y, has an odd number of values ({len(value)})")
    if len(value) < 6:
        raise DataError(f"{source}: needs at least 3 points, has {len(value) // 2}")
    return _numbers(value, source)


def _numbers(flat: list, source: str) -> Points:
    if not set(map(type, flat)) <= {int, float}:
        at = next(at for at, number in enumerate(flat) if type(number) not in (int, float))
        raise DataError(f"{source}: point {at // 2}: expected numbers, has {flat[at]!r:.80}")
    try:
        points = np.array(flat, np.float64).reshape(-1, 2)
    except OverflowError:
        raise DataError(f"{source}: a number has hundreds of digits") from None
    # Written so that NaN and infinity fail it too.
    near = np.abs(points) <= MAX_COORDINATE
    if not near.all():
        at = int(np.flatnonzero(~near)[0])
        raise DataError(f"{source}: point {at // 2}: {flat[at]!r:.40} is no place near an image")
    return points


def whole(points: Points, source: str) -> Polygon:
    """Points to whole pixels; warns when that changes one."""
    rounded = np.rint(points)
    if (rounded != points).any():
        row = int(np.flatnonzero((rounded != points).any(axis=1))[0])
        warn(f"{source}[{row}]: {points[row].tolist()} lies between pixels; points are rounded")
    return rounded.astype(np.int32)


def doubt(points: NDArray, size: tuple[int, int], source: str, border: int = 1) -> None:
    """Warn if the polygon leaves the image or crosses itself.

    Args:
        points: (N, 2) points as (x, y).
        size: (H, W) of the image.
        source: the file and field.
        border: 1 where a point is the centre of a pixel and the last is at W - 1, 0 where the image ends at W.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    if low.min() < 0 or high[0] > size[1] - border or high[1] > size[0] - border:
        warn(f"{source}: leaves the {size[0]} x {size[1]} image and is cut off at its edge")
    if crosses_itself(points):
        warn(f"{source}: crosses itself; it is filled even-odd")


def doubt_overlap(polygons: Sequence[Polygon], labels: LabelMap, k: int, source: str) -> None:
    """Warn if two polygons of class `k`, all painted in `labels`, share a pixel: the bone may be labelled twice."""
    if len(polygons) < 2:
        return
    limit = np.array([labels.shape[1], labels.shape[0]]) - 1
    corners = [(np.clip(points.min(axis=0), 0, limit), np.clip(points.max(axis=0), 0, limit)) for points in polygons]
    apart = 0
    for points, (low, high) in zip(polygons, corners, strict=True):
        width, height = (high - low + 1).tolist()
        alone = kernels.rasterise([[points - low.astype(np.int32)]], (height, width))
        apart += int(np.count_nonzero(alone))
    left, top = np.min([low for low, _ in corners], axis=0).tolist()
    right, bottom = np.max([high for _, high in corners], axis=0).tolist()
    together = int(np.count_nonzero(label_map.has(labels[top : bottom + 1, left : right + 1], k)))
    if apart > together:
        warn(f"{source}: {len(polygons)} polygons share {apart - together} pixels; the union is taken")


def crosses_itself(points: NDArray) -> bool:
    """Whether two edges of the closed polygon cross properly, at a point inside both.

    Edges that touch, share an end or run along each other do not count: an outline walks a neck of one pixel twice.
    Of a polygon with so many edges side by side that the search would take seconds, the first part is searched.
    """
    if len(points) < 4:
        return False
    start = points.astype(np.float64)
    end = np.roll(start, -1, axis=0)
    low, high = np.minimum(start, end), np.maximum(start, end)
    order = np.argsort(low[:, 1], kind="stable")
    start, end, low, high = start[order], end[order], low[order], high[order]
    # An edge can cross only those of the following ones that begin above its lower end: for an outline a few each.
    count = np.searchsorted(low[:, 1], high[:, 1], side="left") - np.arange(len(start)) - 1
    count = np.maximum(count, 0)
    count[np.cumsum(count) > _MAX_PAIRS] = 0
    a = np.repeat(np.arange(len(start)), count)
    b = np.arange(len(a)) - np.repeat(np.cumsum(count) - count, count) + a + 1
    near = (low[a, 0] < high[b, 0]) & (low[b, 0] < high[a, 0]) & (low[a, 1] < high[b, 1])
    a, b = a[near], b[near]
    return bool(
        (
            (_side(start[a], end[a], start[b]) * _side(start[a], end[a], end[b]) < 0)
            & (_side(start[b], end[b], start[a]) * _side(start[b], end[b], end[a]) < 0)
        ).any()
    )


def _side(start: NDArray, end: NDArray, point: NDArray) -> NDArray:
    """On which side of the line start-end every point lies: (E,) of -1, 0, 1."""
    along, to = end - start, point - start
    return np.sign(along[:, 0] * to[:, 1] - along[:, 1] * to[:, 0])
