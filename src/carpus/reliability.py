"""Whether a probability says how often it is right: negative log-likelihood and expected calibration error.

Both are taken near each bone, because most of a radiograph is far from it and there every network is right: in the box
of the truth and of what has a probability above 0.1, and four pixels around it, at the logits' resolution. The truth of
such a pixel is the label at its centre. Dimension key: K classes, H W image, h w logits, B bins.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from carpus import kernels
from carpus import labels as label_map
from carpus.labels import LabelMap

BINS = 15
"""Of equal width, as in Guo et al. 2017, On calibration of modern neural networks."""

_AROUND = 4
_NEAR = 0.1

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Region:
    """The pixels near one bone: rows and columns of the logits, and (rows, columns) float32 of truth, 0 or 1."""

    box: tuple[slice, slice]
    truth: Tensor


def regions(logits: Tensor, truth: LabelMap) -> list[Region | None]:
    """The pixels near every class; None for a class that is neither there nor found.

    Args:
        logits: (1, K, h, w) over the square of the image's longer side.
        truth: (H, W).
    """
    classes, grid = logits.shape[1], (logits.shape[2], logits.shape[3])
    side = max(truth.shape)
    rows, columns = (
        places[places < length]
        for places, length in zip(
            (((np.arange(count) + 0.5) * side / count).astype(np.intp) for count in grid), truth.shape, strict=True
        )
    )
    known = np.ascontiguousarray(truth[np.ix_(rows, columns)])
    found = kernels.threshold(logits, torch.full((classes,), _NEAR), grid)[0].cpu().numpy()[: len(rows), : len(columns)]
    made: list[Region | None] = []
    for k, box in enumerate(label_map.boxes(known | found, classes)):
        if box is None:
            made.append(None)
            continue
        grown = (
            slice(max(box[0].start - _AROUND, 0), min(box[0].stop + _AROUND, len(rows))),
            slice(max(box[1].start - _AROUND, 0), min(box[1].stop + _AROUND, len(columns))),
        )
        mask = torch.from_numpy(label_map.has(known[grown], k)).to(logits)
        made.append(Region(grown, mask))
    return made


def loss(logits: Tensor, near: Sequence[Region | None]) -> Floats:
    """(K,) mean binary cross-entropy of a pixel near the class, in nats; 0 where there is none."""
    return np.array(
        [
            0.0
            if region is None
            else float(functional.binary_cross_entropy_with_logits(logits[0, k][region.box], region.truth))
            for k, region in enumerate(near)
        ]
    )


def bins(logits: Tensor, near: Sequence[Region | None]) -> Floats:
    """(K, B, 3): of the pixels near a class, how many have a probability in the bin, the sum of it and of the truth."""
    counted = np.zeros((len(near), BINS, 3))
    for k, region in enumerate(near):
        if region is not None:
            probability = torch.sigmoid(logits[0, k][region.box]).double().cpu().numpy().ravel()
            which = np.minimum((probability * BINS).astype(np.intp), BINS - 1)
            for column, values in enumerate((None, probability, region.truth.double().cpu().numpy().ravel())):
                counted[k, :, column] = np.bincount(which, values, minlength=BINS)
    return counted


def calibration_error(counted: Floats) -> float:
    """Expected calibration error: the distance of probability and frequency in a bin, over its pixels, then classes.

    Args:
        counted: (K, B, 3), the sum of `bins` over images.

    Returns:
        0 to 1; a class without pixels does not count, and without any it is 0.
    """
    pixels = counted[..., 0].sum(axis=1)
    off = np.abs(counted[..., 1] - counted[..., 2]).sum(axis=1)
    return float((off[pixels > 0] / pixels[pixels > 0]).mean()) if pixels.any() else 0.0
