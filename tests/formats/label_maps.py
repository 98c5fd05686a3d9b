"""Label maps that formats find hard: holes, necks, borders, overlaps, noise, single pixels, nothing at all."""

import cv2
import numpy as np
from hypothesis import strategies as st

from carpus import labels
from carpus.labels import Classes, LabelMap

CLASSES = Classes(("Radius", "finger-1", "Lunate"))

_KINDS = ("empty", "full", "noise", "blobs", "pixel", "frame", "necks", "checker", "line")


@st.composite
def label_maps(draw: st.DrawFn, largest: int = 24) -> LabelMap:
    height, width = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    kinds = [draw(st.sampled_from(_KINDS)) for _ in CLASSES]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return labels.pack(np.stack([_plane(kind, height, width, rng) for kind in kinds]))


def bones(size: int = 2048, seed: int = 0) -> LabelMap:
    """A map of 29 classes, one of them empty: overlapping outlines of the size of bones, with holes and splinters."""
    rng = np.random.default_rng(seed)
    result = labels.empty((size, size))
    turn = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    for k, area in enumerate(np.geomspace(4000, 75000, 29)):
        if k == 7:
            continue
        stretch, radius = rng.uniform(1, 1.6), np.sqrt(area / np.pi) * size / 2048
        wave = 1 + 0.1 * np.sin(3 * turn + rng.uniform(0, 6)) + 0.03 * np.sin(11 * turn)
        x, y = rng.uniform(0.1, 0.9, 2) * size
        outline = np.stack([x + radius / stretch * np.cos(turn) * wave, y + radius * stretch * np.sin(turn) * wave], 1)
        mask = np.zeros((size, size), np.uint8)
        cv2.fillPoly(mask, [outline.astype(np.int32)], (1,))
        cv2.circle(mask, (int(x), int(y)), int(radius / 6), (0,), -1)
        mask[rng.integers(0, size, 20), rng.integers(0, size, 20)] = 1
        labels.paint(result, k, mask.astype(bool))
    return result


def _plane(kind: str, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    plane = np.zeros((height, width), np.uint8)
    if kind == "full":
        plane[:] = 1
    elif kind == "noise":
        plane[:] = rng.random((height, width)) < rng.random()
    elif kind == "blobs":
        plane[:] = cv2.GaussianBlur(rng.random((height, width)), (0, 0), 1.5) > 0.5
    elif kind == "pixel":
        plane[rng.integers(height), rng.integers(width)] = 1
    elif kind == "frame":
        plane[:] = 1
        plane[1:-1, 1:-1] = 0
    elif kind == "necks":
        plane[::3], plane[:, :: int(rng.integers(2, 6))] = 1, 1
    elif kind == "checker":
        plane[:] = np.add.outer(np.arange(height), np.arange(width)) % 2
    elif kind == "line":
        ends = [(int(rng.integers(width)), int(rng.integers(height))) for _ in range(2)]
        cv2.line(plane, *ends, (1,))
    return plane.astype(bool)
