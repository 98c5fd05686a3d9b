"""Overlap of a prediction with the truth as formulas on pixel counts, and agreement of their borders.

The counts are those of `kernels.overlap` and `kernels.overlap_runs`: pixels in both, in the prediction, in the
truth; the distances those of `kernels.surface_distances`, from border pixel to nearest border pixel. Dimension key: K
classes; any dimensions may stand before the last.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

EPSILON = 1e-4
"""The competition's smoothing. It decides one case only: a class that is empty in both has Dice 1."""


def dice(counts: NDArray[np.int64], epsilon: float = EPSILON) -> NDArray[np.float64]:
    """The Dice coefficient as the competition counts it: (2 |A∩B| + eps) / (|A| + |B| + eps).

    Args:
        counts: (..., K, 3) pixels in both, in A, in B.
        epsilon: above 0.

    Returns:
        (..., K) from 0 to 1. Both empty gives 1; one empty gives eps / (pixels of the other + eps), nearly 0.
    """
    both, a, b = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    return (2 * both + epsilon) / (a + b + epsilon)


def iou(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Intersection over union (Jaccard index): |A∩B| / |A∪B|, exact, without smoothing.

    Args:
        counts: (..., K, 3) pixels in both, in A, in B.

    Returns:
        (..., K) from 0 to 1. Both empty gives 1; one empty gives 0.
    """
    both, a, b = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    union = a + b - both
    return np.divide(both, union, out=np.ones_like(union), where=union > 0)


Distances = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Of one class: from each border pixel of the prediction to the truth's border, and the other way; any one unit."""


def nsd(distances: Sequence[Distances], tolerance: float) -> NDArray[np.float64]:
    """Normalised surface Dice: the share of both borders that lies within `tolerance` of the other (Nikolov 2018).

    Borders are counted in pixels, not measured in length.

    Args:
        distances: K of them.
        tolerance: in the unit of the distances, 0 or more; a distance of just so much is within.

    Returns:
        (K,) from 0 to 1. Absent in both gives 1, absent in one gives 0.
    """
    found = [np.concatenate(of_class) for of_class in distances]
    return np.array([float((of_class <= tolerance).mean()) if len(of_class) else 1.0 for of_class in found])


def hd95(distances: Sequence[Distances], absent: float) -> NDArray[np.float64]:
    """The larger of the two directions' 95th percentiles of border distances.

    Args:
        distances: K of them.
        absent: what a class counts that is absent in one of prediction and truth, where a distance does not exist; the
            image's diagonal is the largest there could be.

    Returns:
        (K,) in the unit of the distances, 0 or more. Absent in both gives 0.
    """

    def of_class(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        if not len(a) and not len(b):
            return 0.0
        if not len(a) or not len(b):
            return absent
        return max(float(np.percentile(a, 95)), float(np.percentile(b, 95)))

    return np.array([of_class(*both) for both in distances])
