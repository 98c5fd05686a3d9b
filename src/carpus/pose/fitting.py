"""The hand of either side and wrist that best explains what is drawn.

Dimension key and units: see `pose`.
"""

from dataclasses import dataclass

import numpy as np

from carpus.phantom.anatomy import Points, Wrist
from carpus.pose.believed import FAR, MIN_BONES, believe
from carpus.pose.drawn import Floats
from carpus.pose.exchanges import SWAP_GAIN, Pairs, exchanged, swaps
from carpus.pose.gaussian import Bools, Shapes, gaussian, whitened


@dataclass(frozen=True)
class Fit:
    """The hand that best explains centroids, areas and shapes.

    Attributes:
        thumb_left: whether the labels are those of a hand with its thumb on the image's left.
        wrist: straight or bent.
        scale_px: the unit of length in pixels.
        residual: (N, 2) observed minus expected place, given the other believed bones; NaN for an absent bone.
        whiten: (N, 2, 2) turns a residual into standard deviations.
        size: (N,) how much larger the area is than expected, in standard deviations; NaN where it is not known.
        shape: (N,) how much longer the outline is than the bone's own, in standard deviations; NaN as above.
        believed: (N,) the bones that agree; the others are absent or misplaced.
        swapped: exchanged labels, each a tuple of pairs of bones, and the gain. They count as exchanged back.
        cost: how badly the hand explains the labels; only differences mean something.
    """

    thumb_left: bool
    wrist: Wrist
    scale_px: float
    residual: Points
    whiten: Floats
    size: Floats
    shape: Floats
    believed: Bools
    swapped: list[tuple[Pairs, float]]
    cost: float

    @property
    def white(self) -> Floats:
        """(N, 2) every bone's residual in standard deviations; NaN for an absent bone."""
        return whitened(self.whiten, self.residual)

    @property
    def distance(self) -> Floats:
        """(N,) standard deviations of every bone from its place; NaN for an absent bone."""
        return np.linalg.norm(self.white, axis=1)


def fit(pixels: Points, areas_px: Floats, elongations: Floats) -> Fit | None:
    """Fit hands of either side and wrist to the bones in the order of `labels.BONES`; the likeliest wins.

    Args:
        pixels: (29, 2) centroids as (x, y down) pixels; NaN for an absent bone.
        areas_px: (29,) pixels; NaN for a bone that is absent or that the image cuts off.
        elongations: (29,) see `drawn.elongation`; NaN as in `areas_px`.

    Returns:
        the fit, or None for fewer than `MIN_BONES` bones or bones all in one place.
    """
    present = np.asarray(~np.isnan(pixels).any(axis=1), np.bool_)
    if present.sum() < MIN_BONES or np.ptp(pixels[present], axis=0).max() < 1:
        return None
    wrists: tuple[Wrist, ...] = ("straight", "bent")
    trials: list[tuple[float, bool, Wrist, Points, float]] = []
    for thumb_left in (True, False):
        upright = np.nan_to_num(pixels * (1.0 if thumb_left else -1.0, -1.0))
        for wrist in wrists:
            points, scale = _lay(upright, present, gaussian(wrist).mean)
            off = np.linalg.norm(points - gaussian(wrist).mean, axis=1)[present]
            trials.append((float(np.minimum(off, 1.0).sum()), thumb_left, wrist, points, scale))
    # What lies half as well is not worth the search for misplaced bones, which is long in a wrong hand.
    best = min(trial[0] for trial in trials)
    hands = [
        _explain(thumb_left, wrist, points, scale, Shapes(np.log(areas_px) + 2 * np.log(scale), elongations), present)
        for off, thumb_left, wrist, points, scale in trials
        if off <= 2 * best + 1
    ]
    return min(hands, key=lambda hand: hand.cost)


def _lay(upright: Points, present: Bools, mean: Points) -> tuple[Points, float]:
    """The bones turned, scaled and shifted onto the mean hand, those that do not fit counting little; and the scale."""
    weight = present.astype(np.float64)
    points, scale = _align(upright, mean, weight)
    for _ in range(8):
        off = np.linalg.norm(points - mean, axis=1)
        points, scale = _align(upright, mean, weight / (1 + (off / 0.3) ** 2))
    return points, scale


def _align(points: Points, target: Points, weight: Floats) -> tuple[Points, float]:
    """`points` turned, scaled and shifted onto `target` by weighted least squares, and the scale."""
    # As complex numbers, a turn and a scale are one factor.
    z, goal = points @ (1, 1j), target @ (1, 1j)
    z = z - np.average(z, weights=weight)
    centre = np.average(goal, weights=weight)
    factor = np.sum(weight * z.conj() * (goal - centre)) / np.sum(weight * abs(z) ** 2)
    placed = factor * z + centre
    return np.stack([placed.real, placed.imag], axis=1), float(abs(factor))


def _explain(thumb_left: bool, wrist: Wrist, points: Points, scale: float, shapes: Shapes, present: Bools) -> Fit:
    """The hand of one side and wrist, laid onto the mean: labels exchanged, bones believed, and what that costs."""
    model = gaussian(wrist)
    swapped = swaps(points, shapes, present, model)
    order = np.arange(len(points))
    for pairs, _ in swapped:
        order = exchanged(order, pairs)
    points = points[order]
    believed = believe(points, present, model)
    residual, whiten = model.conditional(points, believed)
    y = (points - model.mean)[believed].ravel()
    cost = float(y @ model.precision(believed) @ y) + SWAP_GAIN * len(swapped)
    # A misplaced bone explains less than an exchange does, and so must cost more.
    cost += 2 * FAR**2 * float(np.count_nonzero(present & ~believed))
    residual[~present] = np.nan
    size, shape = model.oddity(shapes, order)
    return Fit(thumb_left, wrist, 1 / scale, residual, whiten, size, shape, believed, swapped, cost)
