"""Overlap of a prediction with the truth, as formulas on pixel counts.

The counts are those of `kernels.overlap` and `kernels.overlap_runs`: pixels in both, in the prediction, in the
truth. Dimension key: K classes; any dimensions may stand before the last.
"""

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
