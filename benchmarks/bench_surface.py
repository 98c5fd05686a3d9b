"""NSD and HD95: distances between borders, by distance transforms of the full frame and of the crop.

SciPy's exact transform is the baseline, as in surface-distance and MONAI.
"""

from collections.abc import Callable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from benchmarks import inputs
from benchmarks.measure import Comparison, require
from carpus import kernels
from carpus import labels as label_map

K = inputs.CLASSES
CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
Pair = tuple[NDArray[np.floating], NDArray[np.floating]]


def border(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    eroded = cv2.erode(mask.astype(np.uint8), CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return mask & (eroded == 0)


def distances(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> Pair:
    border_a, border_b = border(a), border(b)
    if not border_a.any() or not border_b.any():
        return np.full(border_a.sum(), np.inf), np.full(border_b.sum(), np.inf)
    to_a, to_b = (np.asarray(distance_transform_edt(~border)) for border in (border_a, border_b))
    return to_b[border_a], to_a[border_b]


def full_frame(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> list[Pair]:
    return [distances(*pair) for pair in zip(a, b, strict=True)]


def cropped(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> list[Pair]:
    found = []
    for first, second in zip(a, b, strict=True):
        either = first | second
        rows, columns = np.flatnonzero(either.any(1)), np.flatnonzero(either.any(0))
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        found.append(distances(first[box], second[box]))
    return found


def equal(theirs: list[Pair], mine: list[Pair]) -> str:
    close = all(np.allclose(x, y, atol=1e-3) for one, other in zip(theirs, mine, strict=True)
                for x, y in zip(one, other, strict=True))  # fmt: skip
    return require(close, "the same distances")


def comparisons(quick: bool) -> Iterator[Comparison]:
    a, b = inputs.hand().labels, inputs.other_labels()
    planes = [label_map.unpack(labels, K) for labels in (a, b)]
    ways: list[tuple[str, Callable[..., list[Pair]]]] = [("crops", cropped)]
    if not quick:
        ways.insert(0, ("the full frame", full_frame))
    for what, way in ways:
        yield Comparison(
            f"surface distances, against SciPy on {what}", lambda way=way: way(*planes),
            lambda: kernels.surface_distances(a, b, K), equal,
        )  # fmt: skip
