"""Labels that are exchanged: those whose exchange makes the hand much likelier.

Dimension key and units: see `pose`.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from carpus.phantom.anatomy import Points
from carpus.pose.believed import FAR, believe
from carpus.pose.gaussian import Bools, Gaussian, Shapes

Pairs = tuple[tuple[int, int], ...]

SWAP_GAIN = 16.0
"""How much an exchange of labels must lessen the squared Mahalanobis distance of the hand to be believed.

Odds of 3,000 to 1, against some 400 exchanges that are tried. Only Triquetrum and Pisiform, which lie on each other
and differ by outline alone, come near it.
"""

_DIGITS = (range(3, 7), range(7, 11), range(11, 15), range(15, 19))


def swaps(points: Points, shapes: Shapes, present: Bools, model: Gaussian) -> list[tuple[Pairs, float]]:
    """Exchange labels while that makes the hand much likelier and leaves none of them far from its place."""
    swapped: list[tuple[Pairs, float]] = []
    both, precision = np.repeat(present, 2), model.precision(present)
    candidates, exchanges = _candidates(present.tobytes())
    order = exchanges[0]
    while len(swapped) < len(points) // 2:
        # Row 0 is the hand as it is, every other row the hand after one exchange.
        orders = order[exchanges]
        y = (points[orders] - model.mean).reshape(len(orders), -1)[:, both]
        size, shape = np.nan_to_num(model.oddity(shapes, orders))
        # An outline is weak evidence against a place: a wrong one must not look like another bone.
        unlike = np.minimum(size**2 + shape**2, FAR**2).sum(axis=1)
        cost = np.einsum("ci,ci->c", y @ precision, y) + unlike
        gain = cost[0] - cost[1:]
        for best in np.argsort(-gain)[:5].tolist():
            if gain[best] > SWAP_GAIN and _fits(points[orders[best + 1]], candidates[best], present, model):
                order = orders[best + 1]
                swapped.append((candidates[best], float(gain[best])))
                break
        else:
            break
    return swapped


def _fits(points: Points, pairs: Pairs, present: Bools, model: Gaussian) -> bool:
    """Whether all bones of `pairs` lie near their places, as the others see it."""
    members = np.array(pairs).ravel()
    others = present.copy()
    others[members] = False
    return bool(model.distance(points, believe(points, others, model))[members].max() < FAR)


@lru_cache(maxsize=8)
def _candidates(present: bytes) -> tuple[list[Pairs], NDArray[np.int64]]:
    """Any two bones, and the ends of two fingers from the tip down; with the order of the bones after each exchange.

    The orders are (1 + exchanges, N); the first is no exchange.
    """
    there = np.frombuffer(present, np.bool_)
    bones = np.flatnonzero(there).tolist()
    candidates: list[Pairs] = [((i, j),) for i in bones for j in bones if i < j]
    for first, second in ((i, j) for i in range(len(_DIGITS)) for j in range(i + 1, len(_DIGITS))):
        for length in range(2, 5):
            pairs = tuple(zip(_DIGITS[first][:length], _DIGITS[second][:length], strict=True))
            if there[np.array(pairs)].all():
                candidates.append(pairs)
    still = np.arange(len(there))
    return candidates, np.stack([still, *(exchanged(still, pairs) for pairs in candidates)])


def exchanged(values: NDArray, pairs: Pairs) -> NDArray:
    """`values` (N, ...) of bones, those of every pair exchanged."""
    moved = values.copy()
    for i, j in pairs:
        moved[[i, j]] = values[[j, i]]
    return moved
