"""The verbs that touch every pixel: loss, prediction, score and the geometry of label files.

Dimension key: B batch, K classes, H W label resolution, h w logit resolution, S sums.

One signature a verb, whatever computes it: `reference` is the meaning, in plain torch, NumPy and OpenCV; `cpu` is
numba. Importing this package imports neither: a compiler is loaded by the first verb that needs it.
"""

from torch import Tensor

from carpus.errors import DataError
from carpus.kernels import reference
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


def sums(
    logits: Tensor,
    labels: Tensor,
    *,
    gamma: float | None = None,
    weight: Tensor | None = None,
    ignore: int | None = None,
) -> Tensor:
    """The sums over pixels that every loss is a formula of, at the labels' resolution.

    Args:
        logits: (B, K, h, w) of any floating point type; upsampled bilinearly (align_corners=False) to (H, W).
        labels: (B, H, W) int32 label maps.
        gamma: exponent, >= 0; adds a fifth column, the focal loss sum |p - t|**gamma bce.
        weight: (B, H, W) floating point, >= 0: every pixel counts this much in every sum. Not differentiable.
        ignore: a bit of the label map; pixels that carry it count nothing.

    Returns:
        (B, K, S) float64, the columns named by `SUMS`, differentiable once in the logits. An absent class has
        zeros for sum p t and sum t, and all its false positives in the others.

    Raises:
        DataError: the shapes or types do not fit together.

    Example:
        >>> logits, labels = torch.zeros(2, 29, 512, 512), torch.zeros(2, 2048, 2048, dtype=torch.int32)
        >>> sums(logits, labels).shape
        torch.Size([2, 29, 4])
    """
    _check(logits, labels, weight)
    if ignore is not None:
        seen = ((labels >> ignore) & 1 == 0).to(logits.dtype)
        weight = seen if weight is None else seen * weight
    if logits.device.type == "cpu":
        from carpus.kernels import cpu

        return cpu.sums(logits, labels, gamma, weight)
    return reference.sums(logits, labels, gamma, weight)


def _check(logits: Tensor, labels: Tensor, weight: Tensor | None) -> None:
    if logits.ndim != 4 or not logits.is_floating_point():
        raise DataError(f"logits: expected (B, K, h, w) floating point, has {tuple(logits.shape)} {logits.dtype}")
    if labels.ndim != 3 or str(labels.dtype) != "torch.int32" or len(labels) != len(logits):
        expected = f"({len(logits)}, H, W) torch.int32"
        raise DataError(f"labels: expected {expected}, has {tuple(labels.shape)} {labels.dtype}")
    if not logits.numel() or not labels.numel():
        raise DataError(f"logits {tuple(logits.shape)}, labels {tuple(labels.shape)}: no pixel to sum over")
    if weight is not None and weight.shape != labels.shape:
        raise DataError(f"weight: expected the shape of labels {tuple(labels.shape)}, has {tuple(weight.shape)}")
