"""What is expected: all centroids as one Gaussian, and every bone's area and elongation.

Dimension key and units: see `pose`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from carpus.labels import BONES
from carpus.phantom import anatomy
from carpus.phantom.anatomy import Points, Wrist
from carpus.pose.drawn import Floats, elongation

Bools = NDArray[np.bool_]

_FLOOR = 0.035
"""What the model does not know of any centroid: bending beyond first order, the drawing of the label."""

_AREA_FLOOR = 0.1
"""The same of the logarithm of an area."""

_ELONGATION_FLOOR = 0.08
"""The same of the logarithm of an elongation."""

_FOREARM_SHOWN = 0.35
"""The centroid of Radius and Ulna moves along the forearm with how much of it an image shows."""


@dataclass(frozen=True)
class Shapes:
    """What the outlines of a hand show besides their places: (N,), NaN where it is not known."""

    log_area: Floats
    elongation: Floats


@dataclass(frozen=True)
class Gaussian:
    """What is expected of a hand's centroids together, and of every bone's area and elongation by itself.

    Attributes:
        mean: (N, 2) places.
        covariance: (2N, 2N) of all their coordinates.
        log_area, log_area_sd: (N,) of the logarithm of an area, and its standard deviation.
        elongation, elongation_sd: (N,) see `drawn.elongation`.
    """

    mean: Points
    covariance: Floats
    log_area: Floats
    log_area_sd: Floats
    elongation: Floats
    elongation_sd: Floats

    def precision(self, bones: Bools) -> Floats:
        """The inverse covariance of the coordinates of these bones (N,) alone."""
        both = np.repeat(bones, 2)
        return np.linalg.inv(self.covariance[np.ix_(both, both)]).astype(np.float64)

    def conditional(self, points: Points, believed: Bools) -> tuple[Points, Floats]:
        """Every bone's residual given all other believed ones, and what (N, 2, 2) makes standard deviations of it."""
        count, n, both = len(points), int(believed.sum()), np.repeat(believed, 2)
        y = points - self.mean
        precision = self.precision(believed)
        weighted = precision @ y[believed].ravel()
        residual, inverse = np.zeros((count, 2)), np.zeros((count, 2, 2))
        blocks = np.einsum("nxny->nxy", precision.reshape(n, 2, n, 2))
        inverse[believed] = blocks
        residual[believed] = np.linalg.solve(blocks, weighted.reshape(n, 2, 1))[..., 0]
        for k in np.flatnonzero(~believed):
            own = slice(2 * k, 2 * k + 2)
            to_others = self.covariance[own][:, both]
            residual[k] = y[k] - to_others @ weighted
            inverse[k] = np.linalg.inv(self.covariance[own, own] - to_others @ precision @ to_others.T)
        return residual, np.linalg.cholesky(inverse).transpose(0, 2, 1).astype(np.float64)

    def distance(self, points: Points, believed: Bools) -> Floats:
        """(N,) standard deviations of every bone from its place, given all other believed ones."""
        residual, whiten = self.conditional(points, believed)
        return np.linalg.norm(whitened(whiten, residual), axis=1)

    def oddity(self, shapes: Shapes, order: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Areas and elongations in standard deviations from what is expected, the bones in `order` (..., N)."""
        size = (shapes.log_area[order] - self.log_area) / self.log_area_sd
        return size, (shapes.elongation[order] - self.elongation) / self.elongation_sd


def whitened(whiten: Floats, residual: Points) -> Floats:
    """(N, 2) residuals in standard deviations, see `Gaussian.conditional`."""
    return np.einsum("nij,nj->ni", whiten, residual)


@lru_cache(maxsize=2)
def gaussian(wrist: Wrist) -> Gaussian:
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
        carried = [n for n, other in enumerate(names) if name in line(other, known)]
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
    return Gaussian(mean, covariance, np.log(expected.area), log_area_sd, *elongations())


def line(name: str, known: dict[str, anatomy.Bone]) -> Iterator[str]:
    """`name`, its parent, its parent's parent, ..."""
    current: str | None = name
    while current:
        yield current
        current = known[current].parent


def _turned(points: Points) -> Points:
    """`points` a quarter turn counter-clockwise."""
    return points[:, ::-1] * (-1.0, 1.0)


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
