"""On which side of an image the thumb is, by groups of bones."""

import numpy as np

from carpus.labels import BONES
from carpus.phantom import anatomy
from carpus.phantom.anatomy import Points


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
