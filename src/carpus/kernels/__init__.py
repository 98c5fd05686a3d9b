"""The verbs that touch every pixel: loss, prediction, score and the geometry of label files.

Dimension key: B batch, K classes, H W label resolution, h w logit resolution, S sums, R runs, N points.

One signature a verb, whatever computes it: `reference` is the meaning, in plain torch, NumPy and OpenCV; `cpu` is
numba, `gpu` Triton. Importing this package loads none of them: a verb does when it is first called.
`docs/kernels.md` has the maths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from carpus.errors import DataError
from carpus.labels import MAX_CLASSES, LabelMap

if TYPE_CHECKING:
    from torch import Tensor

Polygon = NDArray[np.int32]
"""(N, 2) points as (x, y) pixel centres, N >= 1; the outline belongs to the shape, as in cv2.fillPoly."""

Runs = NDArray[np.int64]
"""(R, 2) runs of one mask as (start, length), starts counted from 0 row by row, sorted and apart."""

SUMS = ("pt", "p", "t", "bce")
"""Columns of `sums`: sum min(p, t), sum p, sum t, sum of the binary cross-entropy, with p = sigmoid(logit).

For labels of 0 and 1, min(p, t) is p t. For soft labels it is what makes Dice and Jaccard losses 0 at p = t and nowhere
else (Wang et al. 2023, Jaccard and Dice metric losses: |p + t| - |p - t| = 2 min(p, t)).
"""


def sums(
    logits: Tensor,
    labels: Tensor,
    *,
    gamma: float | None = None,
    weight: Tensor | None = None,
    ignore: int | None = None,
    soft: Tensor | None = None,
) -> Tensor:
    """The sums over pixels that every loss is a formula of, at the labels' resolution.

    Args:
        logits: (B, K, h, w) of any floating point type; upsampled bilinearly (align_corners=False) to (H, W).
        labels: (B, H, W) int32 label maps.
        gamma: exponent, >= 0 and finite; adds a fifth column, the focal loss sum |p - t|**gamma bce.
        weight: (B, H, W) floating point, >= 0 (not checked): every pixel counts this much in every sum. Not
            differentiable.
        ignore: a bit of the label map, 0 to 30; pixels that carry it count nothing.
        soft: (B, K, any height, any width) probabilities (not checked), floating point or uint8 `codes`, upsampled as
            the logits are, which are the labels instead of those in `labels`; these still give the size and the pixels
            to ignore. Not differentiable.

    Returns:
        (B, K, S) float64, the columns named by `SUMS`, differentiable once in the logits. An absent class has
        zeros for sum p t and sum t, and all its false positives in the others. One logit that is NaN or infinite
        makes all sums of its image and class NaN but sum t: absent or not, ignored or not, at every factor.

    Raises:
        DataError: the shapes or types do not fit together, `gamma` or `ignore` is out of range.

    Example:
        >>> logits, labels = torch.zeros(2, 29, 512, 512), torch.zeros(2, 2048, 2048, dtype=torch.int32)
        >>> sums(logits, labels).shape
        torch.Size([2, 29, 4])
    """
    _check_logits(logits)
    weight = pixel_weight(labels, weight, ignore)
    if len(labels) != len(logits):
        raise DataError(f"labels: expected {len(logits)} label maps, one for each image, has {len(labels)}")
    if not logits.numel() or not labels.numel():
        raise DataError(f"logits {tuple(logits.shape)}, labels {tuple(labels.shape)}: no pixel to sum over")
    if gamma is not None and not 0 <= gamma < math.inf:
        raise DataError(f"gamma: expected a finite number of at least 0, got {gamma}")
    if soft is not None:
        number = soft.is_floating_point() or str(soft.dtype) == "torch.uint8"
        if soft.ndim != 4 or soft.shape[:2] != logits.shape[:2] or not soft.numel() or not number:
            expected = f"({len(logits)}, {logits.shape[1]}, h, w) floating point or uint8"
            raise DataError(f"soft: expected {expected}, has {tuple(soft.shape)} {soft.dtype}")
    if soft is None:
        found = _implementation(logits).sums(logits, labels, gamma, weight)
    else:
        module = _implementation(logits) if logits.device.type == "cpu" else import_module("carpus.kernels.by_class")
        found = module.sums(logits, labels, gamma, weight, soft)
    return found + _not_finite(logits, found)


def _not_finite(logits: Tensor, found: Tensor) -> Tensor:
    """What makes sums NaN where a logit is not finite, else 0: (B, K, S), 0 in the column of sum t.

    Implementations skip pixels that cannot matter, each its own. So it is said once, for all of them.
    """
    import torch

    logits = logits.detach()
    # On a CPU the sum is four times as fast; float16 cannot hold it, and of logits beyond 1e33 nothing can.
    total = logits.sum((2, 3), dtype=torch.promote_types(logits.dtype, torch.float32))
    if logits.device.type != "cpu" or not total.isfinite().all():
        total = 0 * logits.amax((2, 3)) + 0 * logits.amin((2, 3))
    poison = (0 * total)[..., None].repeat(1, 1, found.shape[2])
    poison[..., SUMS.index("t")] = 0
    return poison


def pixel_weight(labels: Tensor, weight: Tensor | None = None, ignore: int | None = None) -> Tensor | None:
    """How much every pixel counts (B, H, W), None for 1: `weight`, and 0 where `labels` carry the bit `ignore`.

    Raises:
        DataError: labels that are not (B, H, W) int32, a weight of another shape or type, `ignore` out of range.
    """
    if labels.ndim != 3 or str(labels.dtype) != "torch.int32":
        raise DataError(f"labels: expected (B, H, W) torch.int32, has {tuple(labels.shape)} {labels.dtype}")
    if weight is not None and (weight.shape != labels.shape or not weight.is_floating_point()):
        expected = f"{tuple(labels.shape)} floating point, as the labels"
        raise DataError(f"weight: expected {expected}, has {tuple(weight.shape)} {weight.dtype}")
    if ignore is None:
        return weight
    if not 0 <= ignore < MAX_CLASSES:
        raise DataError(f"ignore: expected a bit from 0 to {MAX_CLASSES - 1}, got {ignore}")
    seen = ((labels >> ignore) & 1 == 0).float()
    return seen if weight is None else seen * weight


def threshold(logits: Tensor, thresholds: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits to label maps: bit k is set where sigmoid(upsampled logit of class k) > thresholds[k].

    Args:
        logits: (B, K, h, w) floating point; computed in float32.
        thresholds: (K,) probabilities in (0, 1); compared as logits.
        size: (H, W) of the label maps.

    Returns:
        (B, H, W) int32 on the logits' device. A pixel whose upsampled logit is NaN sets no bit; NaN and infinity reach
        the pixels they reach in F.interpolate, at factor 1 none but their own.

    Raises:
        DataError: the shapes do not fit together, a threshold is not between 0 and 1.
    """
    _check_thresholds(logits, thresholds, size)
    return _implementation(logits).threshold(logits, thresholds, size)


def run_lengths(logits: Tensor, thresholds: Tensor, size: tuple[int, int]) -> list[list[Runs]]:
    """The runs of every image and class, as `encode` of `threshold` gives them, without the label map between.

    Args and raises as `threshold`.

    Returns:
        B lists of K runs; an absent class has (0, 2).
    """
    _check_thresholds(logits, thresholds, size)
    if logits.device.type == "cpu":
        from carpus.kernels.cpu import of_tensors as cpu

        return cpu.run_lengths(logits, thresholds, size)
    return [encode(labels, logits.shape[1]) for labels in threshold(logits, thresholds, size).cpu().numpy()]


def overlap(a: LabelMap | Tensor, b: LabelMap | Tensor, classes: int) -> NDArray[np.int64]:
    """Pixels of every class in both maps, in `a` and in `b`: (K, 3) int64; zeros for an absent class.

    Args:
        a: (H, W) int32, an array or a tensor.
        b: the same, of the same size and on the same device.
        classes: K.
    """
    _check_maps(classes, a, b)
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        from carpus.kernels.cpu import runs as cpu

        return cpu.overlap(np.asarray(a), np.asarray(b), classes)
    return _implementation(a).overlap(a, b, classes)


def overlap_runs(a: Runs, b: Runs) -> tuple[int, int, int]:
    """`overlap` of two masks given as runs: pixels in both, in `a`, in `b`, without decoding either."""
    from carpus.kernels.cpu import runs as cpu

    return cpu.overlap_runs(a, b)


def encode(labels: LabelMap, classes: int) -> list[Runs]:
    """The runs of every class of a label map (H, W) int32, row by row from 0; an absent class has (0, 2) runs."""
    _check_maps(classes, labels)
    from carpus.kernels.cpu import runs as cpu

    return cpu.encode(labels, classes)


def text(runs: Runs) -> str:
    """Runs as the competition writes them: "start length start length ...", the first pixel numbered 1; "" for none.

    Example:
        >>> text(np.array([[0, 3], [7, 1]]))
        '1 3 8 1'
    """
    _check_integers("runs", runs, "R", np.iinfo(np.int64))
    from carpus.kernels.cpu import runs as cpu

    return cpu.text(runs)


def decode(runs: Sequence[Runs], size: tuple[int, int]) -> LabelMap:
    """A label map of `size` (H, W) from the runs of class 0, 1, ...; the inverse of `encode`.

    Raises:
        DataError: more classes than a label map holds, or a run that is not within the map.
    """
    _check_classes("runs", len(runs))
    pixels = size[0] * size[1]
    for k, of_class in enumerate(runs):
        _check_integers(f"runs of class {k}", of_class, "R", np.iinfo(np.int64))
        # Each number alone first: the sum of two that fit cannot overflow.
        within = of_class.min(initial=0) >= 0 and of_class.max(initial=0) <= pixels
        if not within or of_class.sum(axis=1).max(initial=0) > pixels:
            raise DataError(f"runs of class {k}: a run is not within the map of {size[0]} x {size[1]} pixels")
    from carpus.kernels.cpu import runs as cpu

    return cpu.decode(runs, size)


def rasterise(shapes: Sequence[Sequence[Polygon]], size: tuple[int, int]) -> LabelMap:
    """A label map of `size` (H, W) from the polygons of class 0, 1, ...

    Each polygon is filled even-odd, its outline included, exactly as ``cv2.fillPoly`` does; the polygons of a
    class are united. Points outside the image are allowed: what is outside is cut off. A class without polygons
    is nowhere.

    Raises:
        DataError: more classes than a label map holds, or a polygon that is not (N, 2) integers with N >= 1.
    """
    _check_classes("shapes", len(shapes))
    for k, of_class in enumerate(shapes):
        for n, polygon in enumerate(of_class):
            if not len(polygon):
                raise DataError(f"shapes[{k}][{n}]: expected at least one point, has none")
            _check_integers(f"shapes[{k}][{n}]", np.asarray(polygon), "N", np.iinfo(np.int32))
    from carpus.kernels.cpu import shapes as cpu

    return cpu.rasterise(shapes, size)


def polygons(labels: LabelMap, classes: int) -> list[list[Polygon]]:
    """The polygons of every class: `rasterise` gives the label map back, pixel for pixel.

    One polygon for each 8-connected component, its holes bridged into the outline; an absent class has none.
    """
    _check_maps(classes, labels)
    from carpus.kernels.cpu import shapes as cpu

    return cpu.polygons(labels, classes)


def surface_distances(a: LabelMap, b: LabelMap, classes: int) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Exact distances between the borders of every class in two label maps, for NSD and HD95.

    The border of a mask are its pixels with one of the four neighbours outside the mask or the image.

    Args:
        a: (H, W) int32.
        b: (H, W) int32, of the same size.
        classes: K.

    Returns:
        For every class the distances in pixels of each border pixel of `a` to the nearest of `b`, and of each of
        `b` to the nearest of `a`, float64, row by row. A class absent in one map gives infinite distances for the
        border of the other; absent in both, two empty arrays.
    """
    _check_maps(classes, a, b)
    from carpus.kernels.cpu import surface as cpu

    return cpu.surface_distances(a, b, classes)


def _implementation(tensor: Tensor) -> ModuleType:
    """The module that computes where `tensor` is. Triton has no float64 here, and some systems have no Triton."""
    device = tensor.device.type
    if device == "cpu":
        name = "cpu.of_tensors"
    elif device == "cuda" and str(tensor.dtype) != "torch.float64" and find_spec("triton") is not None:
        name = "gpu"
    else:
        name = "reference"
    return import_module(f"carpus.kernels.{name}")


def _check_logits(logits: Tensor) -> None:
    if logits.ndim != 4 or not logits.is_floating_point():
        raise DataError(f"logits: expected (B, K, h, w) floating point, has {tuple(logits.shape)} {logits.dtype}")
    _check_classes("logits", logits.shape[1])


def _check_classes(name: str, classes: int) -> None:
    if classes > MAX_CLASSES:
        raise DataError(f"{name}: at most {MAX_CLASSES} classes fit a label map, has {classes}")


def _check_thresholds(logits: Tensor, thresholds: Tensor, size: tuple[int, int]) -> None:
    _check_logits(logits)
    if thresholds.shape != logits.shape[1:2]:
        raise DataError(f"thresholds: expected ({logits.shape[1]},), one a class, has {tuple(thresholds.shape)}")
    if not ((thresholds > 0) & (thresholds < 1)).all():
        raise DataError(f"thresholds: expected probabilities above 0 and below 1, has {thresholds.tolist()}")
    if not logits.numel() or min(size) < 1:
        raise DataError(f"logits {tuple(logits.shape)}, size {tuple(size)}: no pixel to predict")


def _check_maps(classes: int, *maps: LabelMap | Tensor) -> None:
    if classes < 1:
        raise DataError(f"classes: expected at least 1, got {classes}")
    _check_classes("classes", classes)
    for labels in maps:
        if labels.ndim != 2:
            raise DataError(f"label map: expected (H, W), got {tuple(labels.shape)}")
        if str(labels.dtype).removeprefix("torch.") != "int32":
            raise DataError(f"label map: expected int32, got {labels.dtype}")
        if labels.shape != maps[0].shape:
            raise DataError(f"label maps: expected one size, got {tuple(maps[0].shape)} and {tuple(labels.shape)}")


def _check_integers(name: str, values: NDArray[np.integer], columns: str, limits: np.iinfo) -> None:
    """Raises for what is not (N, 2) integers that `limits` hold: a conversion would cut or wrap them in silence."""
    if values.ndim != 2 or values.shape[1] != 2:
        raise DataError(f"{name}: expected ({columns}, 2), has {values.shape}")
    if values.dtype.kind not in "iu" or values.max(initial=0) > limits.max or values.min(initial=0) < limits.min:
        raise DataError(f"{name}: expected integers that {limits.dtype} holds, has {values.dtype}")
