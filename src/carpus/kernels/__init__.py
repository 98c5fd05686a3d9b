"""The verbs that touch every pixel: loss, prediction, score and the geometry of label files.

Dimension key: B batch, K classes, H W label resolution, h w logit resolution, S sums.

One signature a verb, whatever computes it. `reference` is the meaning, in plain torch, NumPy and OpenCV.
"""

from carpus.kernels.reference import (
    SUMS,
    Polygon,
    Runs,
    decode,
    encode,
    overlap,
    overlap_runs,
    polygons,
    rasterise,
    sums,
    threshold,
)

__all__ = [
    "SUMS",
    "Polygon",
    "Runs",
    "decode",
    "encode",
    "overlap",
    "overlap_runs",
    "polygons",
    "rasterise",
    "sums",
    "threshold",
]
