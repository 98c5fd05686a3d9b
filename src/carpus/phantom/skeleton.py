"""A patient and the pose of a hand: 29 outlines that hang together.

Bones are placed as chains about their joints, so that a longer or a turned bone takes the rest of its finger along;
what varies, varies together. The Radius is placed by its overlap with the Lunate, because the place of its
visible part's centroid says more about the image's lower edge than about the joint.

Dimension key: K bones in the order of `labels.BONES`, N outline points.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from carpus.labels import BONES
from carpus.phantom import anatomy
from carpus.phantom.anatomy import Points, Side, Wrist, rotation

Sex = Literal["female", "male"]

FINGERS: tuple[tuple[str, ...], ...] = (
    ("finger-3", "finger-2", "finger-1"),
    ("finger-7", "finger-6", "finger-5", "finger-4"),
    ("finger-11", "finger-10", "finger-9", "finger-8"),
    ("finger-15", "finger-14", "finger-13", "finger-12"),
    ("finger-19", "finger-18", "finger-17", "finger-16"),
)
"""From the wrist to the tip, thumb first."""

Places = dict[str, tuple[Points, float]]
"""Every bone's centroid and angle in degrees, in the hand's frame."""

_UPSAMPLED = 240
_SHAFT_REACH = 6.0
_WIDTH, _ABOVE_TIPS, _LOWEST_CARPAL = 1928.0, 70.0, 1720.0
_LUNATE_ON_RADIUS = 1770 / anatomy.SCALE_PX**2


@dataclass(frozen=True)
class Patient:
    """What both hands of a patient share.

    Attributes:
        sex, height_cm, weight_kg, age: as in the table of patients.
        scale_px: pixels of an image 2048 wide to the Capitate to finger-11 distance.
        coefficients: (K, 4) of the shape modes, in units of their sd, at most 2 in absolute value.
        build: thickness of the soft tissue, 1 on average.
        cortex: thickness of the cortical bone, 1 on average.
        ring: 0 for none, else 1 + the index in `FINGERS` of the finger that wears one.
        metal: a plate and screws on the Radius of one hand.
    """

    sex: Sex
    height_cm: float
    weight_kg: float
    age: int
    scale_px: float
    coefficients: NDArray[np.float64]
    build: float
    cortex: float
    ring: int
    metal: bool


@dataclass(frozen=True)
class Frame:
    """Where a bone lies in the image: pixel (x, y) = matrix @ (point in the bone's frame) + centre."""

    centre: Points
    matrix: NDArray[np.float64]


@dataclass(frozen=True)
class Skeleton:
    """The 29 bones of one hand in an image.

    Attributes:
        outlines: for every class the closed outline (N, 2) as (x, y) pixels, not cut at the image's edges.
        frames: for every class the frame of the bone, y along it; units are the hand's.
        hand: the hand's frame.
        unit_px: pixels to the unit of length.
    """

    outlines: tuple[Points, ...]
    frames: tuple[Frame, ...]
    hand: Frame
    unit_px: float

    def doubled(self) -> "Skeleton":
        """The same hand in an image of twice the size: pixel 0 becomes pixels 0 and 1."""
        frames = [Frame(2 * frame.centre + 0.5, 2 * frame.matrix) for frame in (*self.frames, self.hand)]
        return Skeleton(
            tuple(2 * outline + 0.5 for outline in self.outlines), tuple(frames[:-1]), frames[-1], 2 * self.unit_px
        )


def patient(rng: np.random.Generator, *, height_cm: float | None = None, sex: Sex | None = None) -> Patient:
    """Draw a patient: the size follows height and sex, the shape the measured modes.

    Args:
        rng: every draw comes from it.
        height_cm: body height; drawn by sex when None.
        sex: drawn when None.
    """
    drawn_sex: Sex = "female" if rng.random() < 0.5 else "male"
    sex = sex or drawn_sex
    mean, sd = (161.0, 5.5) if sex == "female" else (173.5, 6.0)
    drawn_height = float(np.clip(rng.normal(mean, sd), mean - 2.5 * sd, mean + 2.5 * sd))
    height_cm = drawn_height if height_cm is None else float(height_cm)
    mass_index = float(np.clip(rng.normal(22.5 if sex == "female" else 24.0, 2.8), 17.5, 33.0))
    # The part of the measured spread that body height does not explain.
    scale = 298.0 + 1.55 * (height_cm - 167.0) + (3.0 if sex == "male" else -3.0) + rng.normal(0, 7.0)
    ring = int(rng.choice([1, 2, 3, 4, 5], p=[0.02, 0.08, 0.2, 0.6, 0.1])) if rng.random() < 0.04 else 0
    return Patient(
        sex,
        round(height_cm, 1),
        round(mass_index * (height_cm / 100) ** 2, 1),
        int(np.clip(rng.normal(31, 10), 19, 70)),
        float(np.clip(scale, 240.0, 360.0)),
        _coefficients(rng),
        float(np.clip(1 + 0.028 * (mass_index - 22.5), 0.85, 1.3)),
        float(np.clip(rng.normal(1.0, 0.12), 0.72, 1.28)),
        ring,
        bool(rng.random() < 0.02),
    )


def pose(rng: np.random.Generator, who: Patient, *, wrist: Wrist, side: Side, size: int) -> Skeleton:
    """Draw one hand of a patient and place it in an image.

    Args:
        rng: every draw comes from it; the draws do not depend on `size`.
        who: the patient.
        wrist: "straight", or "bent" with the hand leaning to the little finger's side.
        side: "right" shows the thumb on the image's left, "left" on its right.
        size: width and height of the image in pixels.
    """
    shapes = _shapes(who.coefficients + 0.3 * rng.standard_normal(who.coefficients.shape))
    local = _wrist(rng, wrist)
    _fingers(rng, wrist, shapes, local)
    forearm_deg = 2.0 * _normal(rng, 2.5)
    mean, sd = anatomy.axis_deg(wrist)
    axis = mean + 0.8 * sd * _normal(rng, 2.0)
    _forearm(rng, wrist, forearm_deg - axis, shapes, local)
    return _in_image(rng, who, shapes, local, axis, side, size, wrist)


def _coefficients(rng: np.random.Generator) -> NDArray[np.float64]:
    """(K, 4) mode coefficients whose lengthening part is shared by all bones of a hand."""
    drawn = rng.standard_normal((len(BONES), 4))
    longer = rng.standard_normal()
    for k, bone in enumerate(anatomy.bones("straight").values()):
        gain = bone.modes[:, :, 1].take(bone.outline[:, 1].argmax(), axis=1)
        gain = gain - bone.modes[:, :, 1].take(bone.outline[:, 1].argmin(), axis=1)
        shared = np.sign(gain) * np.sqrt(0.35) * (np.abs(gain) > 0.15)
        drawn[k] = shared * longer + np.sqrt(1 - shared**2) * drawn[k]
    # The first mode of Radius and Ulna is how much of the forearm an image shows.
    drawn[[BONES.index("Radius"), BONES.index("Ulna")], 0] = 0.0
    drawn[[BONES.index("Radius"), BONES.index("Ulna")], 1:] *= 0.6
    return np.clip(drawn, -2, 2)


def _shapes(coefficients: NDArray[np.float64]) -> dict[str, Points]:
    coefficients = np.clip(coefficients, -2, 2)
    shapes = {name: bone.shape(coefficients[k]) for k, (name, bone) in enumerate(anatomy.bones("straight").items())}
    shapes["Radius"] = _extended(anatomy.bones("straight")["Radius"].shape(coefficients[-2] * [0, 1, 1, 1]))
    shapes["Ulna"] = _extended(anatomy.bones("straight")["Ulna"].shape(coefficients[-1] * [0, 1, 1, 1]))
    return shapes


def _extended(outline: Points) -> Points:
    """A forearm bone whose shaft goes on straight, 48 points still: the cut end replaced by a far one."""
    first = int(outline[:, 1].argmax())
    outline = np.roll(outline, -first, axis=0)
    keep = outline[:, 1] > outline[:, 1].min() + 0.16
    left, right = outline[: int(keep.argmin())], outline[len(keep) - int(keep[::-1].argmin()) :]
    ends = []
    for shaft, end in ((left, left[-1]), (right, right[0])):
        lower = shaft[shaft[:, 1] < end[1] + 0.5]
        slope = 0.4 * np.polyfit(lower[:, 1], lower[:, 0], 1)[0]
        steps = np.linspace(0.3, _SHAFT_REACH, 12)
        # The slope dies away, else the shafts of the two bones would cross far below.
        ends.append(np.stack([end[0] - slope * (1 - np.exp(-steps)), end[1] - steps], axis=1))
    return np.concatenate([left, ends[0], ends[1][::-1], right])


def _normal(rng: np.random.Generator, limit: float = 1.8) -> float:
    """A standard normal number cut off at `limit`."""
    return float(np.clip(rng.standard_normal(), -limit, limit))


def _ends(outline: Points) -> tuple[float, float]:
    return float(outline[:, 1].min()), float(outline[:, 1].max())


def _wrist(rng: np.random.Generator, wrist: Wrist) -> Places:
    """Place the carpals: between the straight and the bent pose by one draw, with a little of their own."""
    straight, bent = anatomy.mean_pose("straight"), anatomy.mean_pose("bent")
    along = (0.0 if wrist == "straight" else 1.0) + 0.12 * _normal(rng, 1.5)
    local: Places = {}
    for name in BONES.groups["carpals"]:
        bone = anatomy.bones(wrist)[name]
        own = np.array([_normal(rng, 1.5) for _ in range(3)])
        centre = (1 - along) * straight[name][0] + along * bent[name][0]
        angle = (1 - along) * straight[name][1] + along * bent[name][1]
        if name == "Pisiform":
            # Mean outlines are rounder than any one bone, and lose some of the measured overlap.
            centre = centre - 0.2 * (rotation(local["Triquetrum"][1]) @ bone.offset)
        local[name] = (centre + 0.25 * bone.offset_sd * own[:2], angle + 0.25 * bone.angle_sd_deg * own[2])
    return local


def _fingers(rng: np.random.Generator, wrist: Wrist, shapes: dict[str, Points], local: Places) -> None:
    """Place each metacarpal on its carpal and the phalanges on it, each turned about the head of the one before.

    The fingers lean to one side together and spread evenly; what each does beside that is small, so that no two
    cross.
    """
    known, mean = anatomy.bones(wrist), anatomy.mean_pose(wrist)
    lean, spread = 2.0 * _normal(rng), 1.5 * _normal(rng)
    for finger, (first, *rest) in enumerate(FINGERS):
        thumb = finger == 0
        turn = 4.0 * _normal(rng) if thumb else 0.8 * _normal(rng)
        curl = _normal(rng)
        centre, angle = mean[first]
        base = known[first].parent or "Capitate"
        foot = centre + rotation(angle) @ np.array([0.0, _ends(known[first].outline)[0]])
        foot = foot + local[base][0] - mean[base][0]
        angle += turn
        local[first] = (foot - rotation(angle) @ np.array([0.0, _ends(shapes[first])[0]]), angle)
        parent = first
        for name in rest:
            bone = known[name]
            head = _ends(known[parent].outline)[1]
            bend = (0.4 if thumb else 0.25) * bone.angle_sd_deg * (0.6 * curl + 0.8 * _normal(rng))
            if parent == first and not thumb:
                bend += lean + spread * (2.5 - finger) / 1.5
            # The pivot is the middle of the parent's head, so that a turned bone keeps the width of the joint's gap.
            pivot = np.array([0.0, head - (0.13 if parent == first else 0.09)])
            longer = np.array([0.0, _ends(shapes[parent])[1] - head])
            stretch = np.array([0.0, _ends(bone.outline)[0] - _ends(shapes[name])[0]])
            lever = bone.offset - pivot + rotation(bone.angle_deg) @ stretch
            centre, angle = local[parent]
            place = pivot + longer + rotation(bend) @ lever
            local[name] = (centre + rotation(angle) @ place, angle + bone.angle_deg + bend)
            parent = name


def _forearm(
    rng: np.random.Generator,
    wrist: Wrist,
    angle: float,
    shapes: dict[str, Points],
    local: Places,
) -> None:
    """Place the Radius along its axis where it covers the wanted part of the Lunate, and the Ulna beside it."""
    mean = anatomy.mean_pose(wrist)
    wanted = _LUNATE_ON_RADIUS * float(np.exp(0.25 * _normal(rng, 2.0)))
    ulna = anatomy.bones(wrist)["Ulna"]
    jitter = [_normal(rng, 1.5) for _ in range(4)]
    turn = rotation(angle)
    # The wrist's centre keeps its place relative to the Radius when the forearm turns: about the Lunate.
    lunate = local["Lunate"][0]
    lever = rotation(angle - mean["Radius"][1]) @ (mean["Radius"][0] - mean["Lunate"][0])
    # A straight wrist's Radius has to reach further under the Lunate than under the Scaphoid.
    beneath = 0.11 if wrist == "straight" else 0.0
    start = lunate + lever + turn @ np.array([beneath + 0.025 * jitter[0], 0.0])
    outline = smooth(shapes["Lunate"]) @ rotation(local["Lunate"][1]).T + lunate
    radius = smooth(shapes["Radius"]) @ turn.T + start
    low, high = -0.6, 0.6
    for _ in range(9):
        middle = (low + high) / 2
        covered = _common_area(outline, radius + turn @ np.array([0.0, middle]))
        low, high = (middle, high) if covered < wanted else (low, middle)
    shift = turn @ np.array([0.0, (low + high) / 2])
    local["Radius"] = (start + shift, angle)
    beside = ulna.offset + 0.3 * ulna.offset_sd * np.array(jitter[1:3])
    local["Ulna"] = (local["Radius"][0] + turn @ beside, angle + ulna.angle_deg + 0.4 * ulna.angle_sd_deg * jitter[3])


def _common_area(first: Points, second: Points, grid: float = 150.0) -> float:
    """The area common to two polygons, on a grid of `grid` cells to the unit."""
    corner = first.min(axis=0) - 0.02
    width, height = np.ceil((first.max(axis=0) + 0.02 - corner) * grid).astype(int).tolist()
    masks = np.zeros((2, height, width), np.uint8)
    for mask, polygon in zip(masks, (first, second), strict=True):
        cv2.fillPoly(mask, [np.round((polygon - corner) * grid * 16).astype(np.int32)], 1, shift=4)
    return float(np.count_nonzero(masks[0] & masks[1])) / grid**2


def _in_image(
    rng: np.random.Generator,
    who: Patient,
    shapes: dict[str, Points],
    local: Places,
    axis: float,
    side: Side,
    size: int,
    wrist: Wrist,
) -> Skeleton:
    """Turn, scale and shift the hand so that it lies whole in the image, the forearm through its lower edge."""
    # Exactly the definition of the hand's frame: the Capitate at 0, finger-11 at distance 1 straight above.
    third = local["finger-11"][0] - local["Capitate"][0]
    upright = float(np.rad2deg(np.arctan2(third[1], third[0]))) - 90.0
    turn = rotation(axis - upright) / np.linalg.norm(third)
    centres = {name: turn @ (local[name][0] - local["Capitate"][0]) for name in BONES}
    matrices = {name: turn @ rotation(local[name][1]) for name in BONES}
    drawn = [shapes[name] @ matrices[name].T + centres[name] for name in BONES if name not in BONES.groups["forearm"]]
    hand = np.concatenate(drawn) * who.scale_px
    (left, bottom), (right, top) = hand.min(axis=0), hand.max(axis=0)
    room = _WIDTH / 2 - (right - left) / 2
    x = float(np.clip(rng.normal(0.0, 22.0), -room, room)) - (left + right) / 2
    y = float(rng.normal(1428.0 if wrist == "straight" else 1415.0, 38.0))
    # The finger tips stay in the image, and where they can so does a piece of the forearm.
    y = max(min(y, _LOWEST_CARPAL + bottom), top + _ABOVE_TIPS)
    factor = size / anatomy.FULL_SIZE
    mirror = np.array([1.0 if side == "right" else -1.0, -1.0])
    origin = (np.array([anatomy.FULL_SIZE / 2 + mirror[0] * x, y]) - 0.5) * factor
    unit = who.scale_px * factor
    frames = [Frame(origin + unit * mirror * centres[name], unit * mirror[:, None] * matrices[name]) for name in BONES]
    outlines = tuple(
        smooth(shapes[name]) @ frame.matrix.T + frame.centre for name, frame in zip(BONES, frames, strict=True)
    )
    return Skeleton(outlines, tuple(frames), Frame(origin, unit * mirror[:, None] * rotation(axis)), unit)


@lru_cache(maxsize=4)
def _spline(points: int, upsampled: int) -> NDArray[np.float64]:
    """(upsampled, points) weights of the closed cubic B-spline that passes through its points."""
    t = np.arange(upsampled) * points / upsampled
    distance = np.abs((t[:, None] - np.arange(points)[None] + points / 2) % points - points / 2)

    def kernel(x: NDArray[np.float64]) -> NDArray[np.float64]:
        near = 2 / 3 - x**2 + x**3 / 2
        return np.where(x < 1, near, np.where(x < 2, (2 - x) ** 3 / 6, 0.0))

    knots = np.abs((np.arange(points)[:, None] - np.arange(points)[None] + points / 2) % points - points / 2)
    return kernel(distance) @ np.linalg.inv(kernel(knots))


def smooth(outline: Points, points: int = _UPSAMPLED) -> Points:
    """A closed smooth curve of `points` points through the outline (N, 2)."""
    return _spline(len(outline), points) @ outline
