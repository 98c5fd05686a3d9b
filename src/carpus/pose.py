"""Where every bone of a hand should be and how large, given where the others are.

The measured anatomy makes the 29 centroids one Gaussian: a bone varies within its parent's frame and carries its
children along. Given all bones but one, the Gaussian says where that one should lie and how surely; a label that
lies far off is misplaced, and two labels whose exchange makes the hand much likelier are swapped.

Dimension key: N bones of the anatomy. Points are (x, y up) in hands of unit length (Capitate to finger-11) with the
thumb on the left, unless they are called pixels. Distances are in standard deviations unless they have a unit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from carpus import labels as label_map
from carpus.labels import BONES, Classes, LabelMap
from carpus.phantom import anatomy
from carpus.phantom.anatomy import Points, Wrist

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Pairs = tuple[tuple[int, int], ...]

FAR = 5.0
"""Standard deviations from its place at which a bone is no longer believed to be drawn there."""

SWAP_GAIN = 16.0
"""How much an exchange of labels must lessen the squared Mahalanobis distance of the hand to be believed.

Odds of 3,000 to 1, against some 400 exchanges that are tried. Only Triquetrum and Pisiform, which lie on each other
and differ by outline alone, come near it.
"""

MIN_BONES = 10
"""Fewer bones than these do not fix a hand's frame and wrist."""

_FLOOR = 0.035
"""What the model does not know of any centroid: bending beyond first order, the drawing of the label."""

_AREA_FLOOR = 0.1
"""The same of the logarithm of an area."""

_ELONGATION_FLOOR = 0.08
"""The same of the logarithm of an elongation."""

_FOREARM_SHOWN = 0.35
"""The centroid of Radius and Ulna moves along the forearm with how much of it an image shows."""

_DIGITS = (range(3, 7), range(7, 11), range(11, 15), range(15, 19))


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
        return _whitened(self.whiten, self.residual)

    @property
    def distance(self) -> Floats:
        """(N,) standard deviations of every bone from its place; NaN for an absent bone."""
        return np.linalg.norm(self.white, axis=1)


@dataclass(frozen=True)
class _Outlines:
    """What the outlines of a hand show besides their places: (N,) or (..., N), NaN where it is not known."""

    log_area: Floats
    elongation: Floats


def fit(pixels: Points, areas_px: Floats, elongations: Floats) -> Fit | None:
    """Fit hands of either side and wrist to the bones in the order of `labels.BONES`; the likeliest wins.

    Args:
        pixels: (29, 2) centroids as (x, y down) pixels; NaN for an absent bone.
        areas_px: (29,) pixels; NaN for a bone that is absent or that the image cuts off.
        elongations: (29,) see `elongation`; NaN as in `areas_px`.

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
            points, scale = _lay(upright, present, _model(wrist).mean)
            off = np.linalg.norm(points - _model(wrist).mean, axis=1)[present]
            trials.append((float(np.minimum(off, 1.0).sum()), thumb_left, wrist, points, scale))
    # What lies half as well is not worth the search for misplaced bones, which is long in a wrong hand.
    best = min(trial[0] for trial in trials)
    hands = [
        _explain(
            thumb_left, wrist, points, scale, _Outlines(np.log(areas_px) + 2 * np.log(scale), elongations), present
        )
        for off, thumb_left, wrist, points, scale in trials
        if off <= 2 * best + 1
    ]
    return min(hands, key=lambda hand: hand.cost)


def thumb_left(pixels: Points) -> dict[str, bool]:
    """Whether fingers, carpals and forearm, each by itself, run from a thumb on the image's left.

    Args:
        pixels: (29, 2) centroids as (x, y down) pixels; NaN for an absent bone.

    Returns:
        {group: thumb on the left}, without groups that do not tell.
    """
    expected = anatomy.expected("straight").position[:, 0]
    fingers = np.isin(BONES.names, BONES.groups["fingers"])
    present = ~np.isnan(pixels).any(axis=1)
    if min((present & fingers).sum(), (present & ~fingers).sum()) < 2:
        return {}
    along = pixels[present & fingers].mean(axis=0) - pixels[present & ~fingers].mean(axis=0)
    across = pixels @ (-along[1], along[0])
    decided: dict[str, bool] = {}
    for group, names in BONES.groups.items():
        known = present & np.isin(BONES.names, names)
        if known.sum() > 1 and np.ptp(across[known]) > 0:
            vote = np.corrcoef(expected[known], across[known])[0, 1]
            if abs(vote) > 0.5:
                decided[group] = bool(vote > 0)
    return decided


def elongation(moments: Any) -> float:
    """Logarithm of the ratio of a shape's long to its short axis, from OpenCV's moments."""
    xx, yy, xy = (moments[key] / max(moments["m00"], 1e-12) for key in ("mu20", "mu02", "mu11"))
    mean, half = (xx + yy) / 2, float(np.hypot((xx - yy) / 2, xy))
    return float(np.log((mean + half) / (mean - half)) / 2) if mean > half else 0.0


@dataclass(frozen=True)
class Outlines:
    """The bones of an image in the order of `labels.BONES`, as `fit` takes them; NaN for an absent bone.

    A bone that the image's border cuts has a centroid alone.

    Attributes:
        centroids: (N, 2) as (x, y down) pixels.
        areas: (N,) pixels.
        elongations: (N,) see `elongation`.
    """

    centroids: Points
    areas: Floats
    elongations: Floats


def outlines(labels: LabelMap, classes: Classes) -> Outlines:
    """Place, area and elongation of every bone in a label map (H, W), whatever other classes it has."""
    found = Outlines(*(np.full((len(BONES), *columns), np.nan) for columns in ((2,), (), ())))
    for name, box in zip(classes, label_map.boxes(labels, len(classes)), strict=True):
        if box is None or name not in BONES:
            continue
        n, mask = BONES.index(name), label_map.has(labels[box], classes.index(name))
        moments, (top, left) = cv2.moments(mask.astype(np.uint8), binaryImage=True), (box[0].start, box[1].start)
        found.centroids[n] = left + moments["m10"] / moments["m00"], top + moments["m01"] / moments["m00"]
        cut = top == 0 or left == 0 or box[0].stop == labels.shape[0] or box[1].stop == labels.shape[1]
        if not cut:
            found.areas[n], found.elongations[n] = moments["m00"], elongation(moments)
    return found


@lru_cache(maxsize=1)
def elongations() -> tuple[Floats, Floats]:
    """Mean and standard deviation (N,) of every bone's `elongation`."""
    means, sds = [], []
    for bone in anatomy.bones("straight").values():
        each = np.eye(len(bone.mode_sd))
        shapes = [bone.shape(one).astype(np.float32)[:, None] for one in (each[0] * 0, *each, *-each)]
        found = np.array([elongation(cv2.moments(shape)) for shape in shapes])
        means.append(found[0])
        plus, minus = np.split(found[1:], 2)
        sds.append(np.hypot(np.linalg.norm(plus - minus) / 2, _ELONGATION_FLOOR))
    return np.array(means), np.array(sds)


@dataclass(frozen=True)
class _Model:
    mean: Points
    covariance: Floats
    log_area: Floats
    log_area_sd: Floats
    elongation: Floats
    elongation_sd: Floats


@lru_cache(maxsize=2)
def _model(wrist: Wrist) -> _Model:
    """Mean (N, 2) and covariance (2N, 2N) of the centroids, linear in every bone's angle and offset.

    The frame is free: shift, turn and scale of the whole hand are given a spread that no image exceeds, so that a
    distance does not depend on any single bone being right.
    """
    known, pose, expected = anatomy.bones(wrist), anatomy.mean_pose(wrist), anatomy.expected(wrist)
    names = list(BONES)
    mean = expected.position
    effects: list[Floats] = []

    def cause(members: Sequence[int], shift: Floats) -> None:
        effect = np.zeros_like(mean)
        effect[members] = shift
        effects.append(effect.ravel())

    for name, bone in known.items():
        carried = [n for n, other in enumerate(names) if name in _line(other, known)]
        frame = anatomy.rotation(pose[bone.parent][1] if bone.parent else 0.0)
        for axis in range(2):
            cause(carried, frame[:, axis] * bone.offset_sd[axis])
        if name in BONES.groups["forearm"]:
            along = anatomy.rotation(pose["Radius"][1])[:, 1]
            cause(carried, along * (_FOREARM_SHOWN if name == "Radius" else _FOREARM_SHOWN / 2))
        # The frames of carpals are set by round shapes; the offsets of their children already hold that spread.
        if name not in BONES.groups["carpals"]:
            cause(carried, _turned(mean[carried] - pose[name][0]) * np.deg2rad(bone.angle_sd_deg))
    everything = range(len(names))
    cause(everything, np.array([10.0, 0.0]))
    cause(everything, np.array([0.0, 10.0]))
    cause(everything, _turned(mean))
    cause(everything, mean)
    stacked = np.stack(effects)
    log_area_sd = np.hypot(expected.area_sd / expected.area, _AREA_FLOOR)
    covariance = stacked.T @ stacked + _FLOOR**2 * np.eye(2 * len(names))
    return _Model(mean, covariance, np.log(expected.area), log_area_sd, *elongations())


def _line(name: str, known: dict[str, anatomy.Bone]) -> Iterator[str]:
    """`name`, its parent, its parent's parent, ..."""
    current: str | None = name
    while current:
        yield current
        current = known[current].parent


def _turned(points: Points) -> Points:
    """`points` a quarter turn counter-clockwise."""
    return points[:, ::-1] * (-1.0, 1.0)


def _lay(upright: Points, present: Bools, mean: Points) -> tuple[Points, float]:
    """The bones turned, scaled and shifted onto the mean hand, those that do not fit counting little; and the scale."""
    weight = present.astype(np.float64)
    points, scale = _align(upright, mean, weight)
    for _ in range(8):
        off = np.linalg.norm(points - mean, axis=1)
        points, scale = _align(upright, mean, weight / (1 + (off / 0.3) ** 2))
    return points, scale


def _explain(thumb_left: bool, wrist: Wrist, points: Points, scale: float, outlines: _Outlines, present: Bools) -> Fit:
    model = _model(wrist)
    swapped = _swaps(points, outlines, present, model)
    order = np.arange(len(points))
    for pairs, _ in swapped:
        order = _exchanged(order, pairs)
    points = points[order]
    believed = _believe(points, present, model)
    residual, whiten = _conditional(points, believed, model)
    y = (points - model.mean)[believed].ravel()
    cost = float(y @ _precision(believed, model) @ y) + SWAP_GAIN * len(swapped)
    # A misplaced bone explains less than an exchange does, and so must cost more.
    cost += 2 * FAR**2 * float(np.count_nonzero(present & ~believed))
    residual[~present] = np.nan
    size, shape = _oddity(outlines, order, model)
    return Fit(thumb_left, wrist, 1 / scale, residual, whiten, size, shape, believed, swapped, cost)


def _oddity(outlines: _Outlines, order: NDArray[np.int64], model: _Model) -> tuple[Floats, Floats]:
    """Areas and elongations in standard deviations from what is expected, the bones in `order` (..., N)."""
    size = (outlines.log_area[order] - model.log_area) / model.log_area_sd
    return size, (outlines.elongation[order] - model.elongation) / model.elongation_sd


def _align(points: Points, target: Points, weight: Floats) -> tuple[Points, float]:
    """`points` turned, scaled and shifted onto `target` by weighted least squares, and the scale."""
    # As complex numbers, a turn and a scale are one factor.
    z, goal = points @ (1, 1j), target @ (1, 1j)
    z = z - np.average(z, weights=weight)
    centre = np.average(goal, weights=weight)
    factor = np.sum(weight * z.conj() * (goal - centre)) / np.sum(weight * abs(z) ** 2)
    placed = factor * z + centre
    return np.stack([placed.real, placed.imag], axis=1), float(abs(factor))


def _precision(bones: Bools, model: _Model) -> Floats:
    both = np.repeat(bones, 2)
    return np.linalg.inv(model.covariance[np.ix_(both, both)]).astype(np.float64)


def _conditional(points: Points, believed: Bools, model: _Model) -> tuple[Points, Floats]:
    """Every bone's residual given all other believed ones, and the (N, 2, 2) that makes standard deviations of it."""
    count, n, both = len(points), int(believed.sum()), np.repeat(believed, 2)
    y = points - model.mean
    precision = _precision(believed, model)
    weighted = precision @ y[believed].ravel()
    residual, inverse = np.zeros((count, 2)), np.zeros((count, 2, 2))
    blocks = np.einsum("nxny->nxy", precision.reshape(n, 2, n, 2))
    inverse[believed] = blocks
    residual[believed] = np.linalg.solve(blocks, weighted.reshape(n, 2, 1))[..., 0]
    for k in np.flatnonzero(~believed):
        own = slice(2 * k, 2 * k + 2)
        to_others = model.covariance[own][:, both]
        residual[k] = y[k] - to_others @ weighted
        inverse[k] = np.linalg.inv(model.covariance[own, own] - to_others @ precision @ to_others.T)
    return residual, np.linalg.cholesky(inverse).transpose(0, 2, 1).astype(np.float64)


def _whitened(whiten: Floats, residual: Points) -> Floats:
    return np.einsum("nij,nj->ni", whiten, residual)


def _distance(points: Points, believed: Bools, model: _Model) -> Floats:
    residual, whiten = _conditional(points, believed, model)
    return np.linalg.norm(_whitened(whiten, residual), axis=1)


def _believe(points: Points, present: Bools, model: _Model) -> Bools:
    """The bones that agree: the worst is dropped until none is far, because it makes its neighbours look wrong too."""
    believed = present.copy()
    while believed.sum() > MIN_BONES // 2:
        distance = np.where(believed, _distance(points, believed, model), 0.0)
        if distance.max() <= FAR:
            break
        believed[distance.argmax()] = False
    while (present & ~believed).any():
        distance = np.where(present & ~believed, _distance(points, believed, model), np.inf)
        if distance.min() > FAR:
            break
        believed[distance.argmin()] = True
    return believed


def _swaps(points: Points, outlines: _Outlines, present: Bools, model: _Model) -> list[tuple[Pairs, float]]:
    """Exchange labels while that makes the hand much likelier and leaves none of them far from its place."""
    swapped: list[tuple[Pairs, float]] = []
    both, precision = np.repeat(present, 2), _precision(present, model)
    candidates, exchanges = _candidates(present.tobytes())
    order = exchanges[0]
    while len(swapped) < len(points) // 2:
        # Row 0 is the hand as it is, every other row the hand after one exchange.
        orders = order[exchanges]
        y = (points[orders] - model.mean).reshape(len(orders), -1)[:, both]
        size, shape = np.nan_to_num(_oddity(outlines, orders, model))
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


def _fits(points: Points, pairs: Pairs, present: Bools, model: _Model) -> bool:
    """Whether all bones of `pairs` lie near their places, as the others see it."""
    members = np.array(pairs).ravel()
    others = present.copy()
    others[members] = False
    return bool(_distance(points, _believe(points, others, model), model)[members].max() < FAR)


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
    return candidates, np.stack([still, *(_exchanged(still, pairs) for pairs in candidates)])


def _exchanged(values: NDArray, pairs: Pairs) -> NDArray:
    moved = values.copy()
    for i, j in pairs:
        moved[[i, j]] = values[[j, i]]
    return moved
