"""Which bones are believed to be where they are drawn.

Dimension key and units: see `pose`.
"""

import numpy as np

from carpus.phantom.anatomy import Points
from carpus.pose.gaussian import Bools, Gaussian

FAR = 5.0
"""Standard deviations from its place at which a bone is no longer believed to be drawn there."""

MIN_BONES = 10
"""Fewer bones than these do not fix a hand's frame and wrist."""


def believe(points: Points, present: Bools, model: Gaussian) -> Bools:
    """The bones that agree: the worst is dropped until none is far, because it makes its neighbours look wrong too."""
    believed = present.copy()
    while believed.sum() > MIN_BONES // 2:
        distance = np.where(believed, model.distance(points, believed), 0.0)
        if distance.max() <= FAR:
            break
        believed[distance.argmax()] = False
    while (present & ~believed).any():
        distance = np.where(present & ~believed, model.distance(points, believed), np.inf)
        if distance.min() > FAR:
            break
        believed[distance.argmin()] = True
    return believed
