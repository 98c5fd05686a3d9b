"""What is no bone: rings, a plate with screws, lead letters.

Dimension key: H rows, W columns of the image.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from carpus.labels import BONES
from carpus.phantom.anatomy import Points, Side
from carpus.phantom.skeleton import FINGERS, Frame, Patient, Skeleton

Map = NDArray[np.float32]

_STEEL = 3.2
_MARKER_SHARE = 0.04


def add(
    thickness: Map, skeleton: Skeleton, who: Patient, rng: np.random.Generator, *, side: Side, empty: NDArray[np.bool_]
) -> None:
    """Add what a patient wears or carries, and the marker, to the attenuation (H, W), in place.

    Args:
        empty: (64, 64), where the picture shows neither bone nor soft tissue; the marker goes there.
        side: the ring is worn on the left hand, the plate is in the right.
    """
    marked, corner, tilt = rng.random() < _MARKER_SHARE, rng.permutation(4), rng.normal(0, 6)
    if who.ring and side == "left":
        _ring(thickness, skeleton, who.ring - 1, float(rng.uniform(0.06, 0.12)))
    if who.metal and side == "right":
        _plate(thickness, skeleton.frames[BONES.index("Radius")], skeleton.outlines[BONES.index("Radius")], rng)
    if marked:
        _marker(thickness, "R" if side == "right" else "L", corner, float(tilt), empty)


def _fill(thickness: Map, polygons: list[Points], amount: float) -> None:
    """Add `amount` within the union of polygons (N, 2) of pixels, antialiased."""
    points = np.concatenate(polygons)
    low = np.maximum(np.floor(points.min(axis=0)).astype(int) - 2, 0)
    high = np.minimum(np.ceil(points.max(axis=0)).astype(int) + 3, thickness.shape[::-1])
    if (high <= low).any():
        return
    mask = np.zeros((high - low)[::-1], np.uint8)
    for polygon in polygons:
        cv2.fillPoly(mask, [np.round((polygon - low) * 256).astype(np.int32)], 255, cv2.LINE_AA, shift=8)
    thickness[low[1] : high[1], low[0] : high[0]] += mask * np.float32(amount / 255)


def _ring(thickness: Map, skeleton: Skeleton, finger: int, band: float) -> None:
    """A ring about the first phalanx, seen a little from above: a band whose edges bow."""
    k = BONES.index(FINGERS[finger][1])
    frame = skeleton.frames[k]
    across = np.linspace(-1, 1, 25)
    bow = 0.035 * np.sqrt(np.clip(1 - across**2, 0, 1))
    lower = np.stack([0.225 * across, -0.12 - bow], axis=1)
    upper = np.stack([0.225 * across, band - 0.12 - bow], axis=1)
    front = np.concatenate([lower, upper[::-1]])
    back = front.copy()
    back[:, 1] += 2 * np.concatenate([bow, bow[::-1]])
    for outline in (front, back):
        _fill(thickness, [outline @ frame.matrix.T + frame.centre], 0.6 * _STEEL)


def _plate(thickness: Map, frame: Frame, outline: Points, rng: np.random.Generator) -> None:
    """A T-plate on the distal Radius and its screws, seen from the front."""
    tip = float(((outline - frame.centre) @ np.linalg.inv(frame.matrix).T)[:, 1].max())
    start = np.array([rng.normal(0, 0.02), tip - 0.06])
    half = np.array(
        [[0.06, -1.30], [0.07, -1.27], [0.07, -0.52], [0.12, -0.42], [0.22, -0.36], [0.23, -0.28], [0.2, -0.25]]
    )
    plate = np.concatenate([half * [-1, 1], half[::-1]])
    _fill(thickness, [(plate + start) @ frame.matrix.T + frame.centre], 1.2)
    turn = np.linspace(0, 2 * np.pi, 25)[:-1]
    head = np.stack([0.042 * np.cos(turn), 0.042 * np.sin(turn)], axis=1)
    solids = []
    for x, y, reach, lean in (
        (0, -0.62, 0.05, 0),
        (0, -0.84, 0.06, 0),
        (0, -1.08, 0.04, 0),
        (-0.14, -0.31, 0.13, 0.3),
        (0, -0.31, 0.14, 0.05),
        (0.14, -0.31, 0.12, -0.25),
    ):
        stem = np.array([[-0.02, 0.0], [0.02, 0.0], [0.016 + lean * reach, reach], [-0.016 + lean * reach, reach]])
        solids += [head + np.array([x, y]), stem + np.array([x, y])]
    _fill(thickness, [(solid + start) @ frame.matrix.T + frame.centre for solid in solids], _STEEL)


def _marker(thickness: Map, letter: str, corners: NDArray[np.int64], tilt: float, empty: NDArray[np.bool_]) -> None:
    """A lead letter in the first corner where it covers nothing of the hand."""
    size = thickness.shape[0]
    for corner in corners.tolist():
        x, y = (0.10 if corner % 2 == 0 else 0.90), (0.16 if corner < 2 else 0.80)
        column, row = int(x * 64), int(y * 64)
        if empty[max(row - 5, 0) : row + 5, max(column - 4, 0) : column + 4].all():
            break
    else:
        return
    side = round(0.1 * size)
    drawn = np.zeros((4 * side, 4 * side), np.uint8)
    scale = side * 4 / 42
    (width, height), _ = cv2.getTextSize(letter, cv2.FONT_HERSHEY_DUPLEX, scale, max(1, side * 4 // 10))
    start = ((4 * side - width) // 2, (4 * side + height) // 2)
    cv2.putText(drawn, letter, start, cv2.FONT_HERSHEY_DUPLEX, scale * 0.9, 255, max(1, side * 4 // 10), cv2.LINE_AA)
    turned = cv2.warpAffine(drawn, cv2.getRotationMatrix2D((2 * side, 2 * side), tilt, 1.0), (4 * side, 4 * side))
    small = cv2.resize(turned, (side, side), interpolation=cv2.INTER_AREA)
    top, left = int(y * size) - side // 2, int(x * size) - side // 2
    thickness[top : top + side, left : left + side] += small * np.float32(4.0 / 255)
