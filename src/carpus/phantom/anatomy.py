"""The measured anatomy: mean outlines, shape modes and pose of the 29 bones, and what they lead one to expect.

The hand's frame: origin at the Capitate's centroid, y towards the centroid of finger-11 (the third metacarpal),
whose distance is the unit of length; x to the right, y up, thumb on the left.

Dimension key: K bones in the order of `labels.BONES`, N outline points, M shape modes, H rows, W columns.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from carpus import labels as label_map
from carpus.labels import BONES, Classes, LabelMap

Wrist = Literal["straight", "bent"]
Side = Literal["right", "left"]
Points = NDArray[np.float64]

BENT_DEG = 15.0
"""A hand whose axis leans by more than this from the vertical counts as bent."""

SCALE_PX = 301.5
"""Pixels of an image 2048 wide to the unit of length, on average."""

FULL_SIZE = 2048
"""The size at which lengths in pixels are measured."""

_CARPALS = frozenset(BONES.groups["carpals"])


@dataclass(frozen=True)
class Bone:
    """One bone's mean outline and variation, in its own frame, and its mean place in its parent's frame.

    Attributes:
        outline: (48, 2) counter-clockwise points about the centroid, y along the bone.
        modes: (M, 48, 2) shape modes of `mode_sd` (M,).
        parent: the bone in whose frame the pose is given; None for the Capitate.
        angle_deg, angle_sd_deg: counter-clockwise.
        offset, offset_sd: (2,) of the centroid.
    """

    name: str
    outline: Points
    modes: NDArray[np.float64]
    mode_sd: NDArray[np.float64]
    parent: str | None
    angle_deg: float
    angle_sd_deg: float
    offset: Points
    offset_sd: Points

    def shape(self, coefficients: NDArray[np.float64]) -> Points:
        """(48, 2) outline with the modes weighted by `coefficients` (M,), in units of each mode's sd."""
        return self.outline + np.tensordot(coefficients * self.mode_sd, self.modes, axes=1)


@dataclass(frozen=True)
class Expected:
    """Where every bone's centroid is expected in the hand's frame, and how large the bone is: mean and sd.

    Attributes:
        position, position_sd: (K, 2) in units of the Capitate to finger-11 distance.
        area, area_sd: (K,) in units squared; Radius and Ulna as far as images usually show them.
        angle_deg: (K,) of each bone's own axis against the hand's, counter-clockwise.
    """

    position: Points
    position_sd: Points
    area: NDArray[np.float64]
    area_sd: NDArray[np.float64]
    angle_deg: NDArray[np.float64]


def rotation(angle_deg: float) -> NDArray[np.float64]:
    """(2, 2) counter-clockwise rotation in a frame whose y points up."""
    angle = np.deg2rad(angle_deg)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def polygon_area(points: Points) -> float:
    """The area within a closed polygon (N, 2), in its units squared."""
    x, y = points.T
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)


@lru_cache(maxsize=1)
def _content() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("anatomy.json").read_text(encoding="utf-8"))


@lru_cache(maxsize=2)
def bones(wrist: Wrist) -> dict[str, Bone]:
    """The 29 bones by name, in the order of `labels.BONES`, with the pose of a straight or a bent wrist."""
    content = _content()
    posed = content["wrist"][wrist]
    found: dict[str, Bone] = {}
    for name in BONES:
        bone = content["bones"][name]
        pose = posed.get(name, bone)
        if name == "Radius":
            pose = {"angle_deg": posed["radius_angle_deg"], "offset": posed["radius_offset"]}
        angle = pose.get("angle_deg", {"mean": 0.0, "sd": 0.0})
        offset = pose.get("offset", {"mean": [0.0, 0.0], "sd": [0.0, 0.0]})
        found[name] = Bone(
            name,
            np.array(bone["outline"]),
            np.array([mode["vector"] for mode in bone["modes"]]),
            np.array([mode["sd"] for mode in bone["modes"]]),
            bone.get("parent"),
            angle["mean"],
            angle["sd"],
            np.array(offset["mean"]),
            np.array(offset["sd"]),
        )
    return found


def scale_sd_px() -> float:
    """The spread of `SCALE_PX` between hands."""
    return _content()["scale_px"]["sd"]


def axis_deg(wrist: Wrist) -> tuple[float, float]:
    """Mean and sd of the hand axis in an image that shows the thumb on its left, counter-clockwise."""
    axis = _content()["hand_axis_deg_in_image"][wrist]
    return axis["mean"], axis["sd"]


@lru_cache(maxsize=2)
def mean_pose(wrist: Wrist) -> dict[str, tuple[Points, float]]:
    """Every bone's mean centroid (2,) and angle in degrees, in the hand's frame."""
    known = bones(wrist)
    found: dict[str, tuple[Points, float]] = {}

    def place(name: str) -> tuple[Points, float]:
        if name not in found:
            bone = known[name]
            centre, angle = place(bone.parent) if bone.parent else (np.zeros(2), 0.0)
            found[name] = (centre + rotation(angle) @ bone.offset, angle + bone.angle_deg)
        return found[name]

    for name in BONES:
        place(name)
    return found


@lru_cache(maxsize=2)
def expected(wrist: Wrist) -> Expected:
    """What the measured hands lead one to expect of `wrist`, to tell a mirrored, swapped or misplaced label.

    The spread of a position adds up along the chain of parents: the parent's own, the offset's, and the parent's
    turn times the lever. A carpal's turn is left out of it, because its frame is set by a round shape and the
    offsets of its children already contain that uncertainty. The sd is therefore an upper one at the finger tips.
    The sd of an area is that of the shape modes, to first order.

    Returns:
        Expected, for a hand with the thumb on the left; mirror x for the other.
    """
    known, pose = bones(wrist), mean_pose(wrist)
    spread: dict[str, tuple[NDArray[np.float64], float]] = {}

    def covariance(name: str) -> tuple[NDArray[np.float64], float]:
        if name not in spread:
            bone = known[name]
            inherited, turn = covariance(bone.parent) if bone.parent else (np.zeros((2, 2)), 0.0)
            frame = rotation(pose[bone.parent][1] if bone.parent else 0.0)
            across = np.deg2rad(turn) * (frame @ np.array([-bone.offset[1], bone.offset[0]]))
            own = frame @ np.diag(bone.offset_sd**2) @ frame.T
            angle = 0.0 if name in _CARPALS else float(np.hypot(turn, bone.angle_sd_deg))
            spread[name] = (inherited + own + np.outer(across, across), angle)
        return spread[name]

    area_sd = []
    for bone in known.values():
        step = [polygon_area(bone.shape(one)) - polygon_area(bone.shape(-one)) for one in np.eye(len(bone.mode_sd))]
        area_sd.append(float(np.linalg.norm(step)) / 2)
    return Expected(
        np.stack([pose[name][0] for name in BONES]),
        np.stack([np.sqrt(np.diag(covariance(name)[0])) for name in BONES]),
        np.array([polygon_area(bone.outline) for bone in known.values()]),
        np.array(area_sd),
        np.array([pose[name][1] for name in BONES]),
    )


def centroids(labels: LabelMap, classes: Classes) -> Points:
    """(K, 2) centroid of every class as (x, y) pixels; NaN for an absent class."""
    found = np.full((len(classes), 2), np.nan)
    for k, box in enumerate(label_map.boxes(labels, len(classes))):
        if box is not None:
            rows, columns = np.nonzero(label_map.has(labels[box], k))
            found[k] = columns.mean() + box[1].start, rows.mean() + box[0].start
    return found


def hand_axis_deg(labels: LabelMap, classes: Classes = BONES) -> float:
    """The angle of the line from the Capitate's to finger-11's centroid against the image's vertical.

    Args:
        labels: (H, W) int32 label map.
        classes: the class list of `labels`.

    Returns:
        Degrees, counter-clockwise positive (the finger tips lean to the image's left); NaN when a bone is missing
        or the class list lacks it. More than `BENT_DEG` in absolute value is a bent wrist.
    """
    if "Capitate" not in classes or "finger-11" not in classes:
        return float("nan")
    (x0, y0), (x1, y1) = centroids(labels, classes)[[classes.index("Capitate"), classes.index("finger-11")]]
    return float(np.rad2deg(np.arctan2(x0 - x1, y0 - y1)))
