"""The picture of docs/phantom.md: ``python -m carpus.phantom.picture docs/phantom.png``."""

import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from carpus.formats import images
from carpus.labels import BONES, has
from carpus.phantom.hands import Hand, hand

_SIDE = 512
_PALE = ((94, 60, 153), (230, 97, 1), (26, 133, 255), (212, 17, 89), (0, 158, 115), (253, 184, 99), (240, 228, 66))


def panels() -> NDArray[np.uint8]:
    """Four panels (_SIDE, 4 _SIDE, 3) RGB: a straight hand, its labels, a bent wrist, and its carpals enlarged."""
    straight = hand(np.random.default_rng(31), wrist="straight", side="right")
    bent = hand(np.random.default_rng(12), wrist="bent", side="left")
    grey = [_shrunk(straight.image), _shrunk(bent.image), _shrunk(_carpals(bent))]
    coloured = [np.repeat(panel[..., None], 3, axis=2) for panel in grey]
    return np.concatenate([coloured[0], _painted(straight), *coloured[1:]], axis=1)


def _shrunk(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def _carpals(one: Hand) -> NDArray[np.uint8]:
    points = np.concatenate([one.polygons[BONES.index(name)] for name in BONES.groups["carpals"]])
    x, y = ((points.min(axis=0) + points.max(axis=0)) // 2).tolist()
    reach = int(np.ptp(points, axis=0).max() * 0.62)
    return one.image[y - reach : y + reach, x - reach : x + reach]


def _painted(one: Hand) -> NDArray[np.uint8]:
    """Half the brightness of the image and, added, a colour for every class, so that overlaps are brighter."""
    colour = np.repeat(one.image[..., None].astype(np.float32) * 0.5, 3, axis=2)
    for k in range(len(BONES)):
        colour[has(one.labels, k)] += 0.55 * np.array(_PALE[k * 3 % len(_PALE)], np.float32)
    return _shrunk(np.clip(colour, 0, 255).astype(np.uint8))


if __name__ == "__main__":
    images.write(Path(sys.argv[1]), panels())
