"""The meaning of every verb, in plain torch, NumPy and OpenCV: short before fast. Documented in `kernels`.

Dimension key: B batch, K classes, H W label resolution, h w logit resolution, S sums, R runs, N points.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from carpus import labels as label_map
from carpus.kernels import Polygon, Runs, codes
from carpus.labels import LabelMap


def sums(
    logits: Tensor,
    labels: Tensor,
    gamma: float | None = None,
    weight: Tensor | None = None,
    soft: Tensor | None = None,
) -> Tensor:
    """`kernels.sums`, with all K planes at label resolution."""
    z = _upsampled(logits, labels.shape[-2:])
    p = torch.sigmoid(z)
    if soft is None:
        bits = torch.arange(logits.shape[1], dtype=torch.int32, device=labels.device).view(1, -1, 1, 1)
        t = ((labels[:, None] >> bits) & 1).to(z.dtype)
    else:
        t = _upsampled(soft, labels.shape[-2:]).to(z.dtype)
        t = t if soft.is_floating_point() else codes.decoded(t)
    bce = functional.binary_cross_entropy_with_logits(z, t, reduction="none")
    columns = [torch.minimum(p, t), p, t, bce]
    if gamma is not None and soft is None:
        # |p - t| ** gamma through its logarithm: a power of 0 has no gradient.
        columns.append(torch.exp(gamma * functional.logsigmoid(z * (1 - 2 * t))) * bce)
    elif gamma is not None:
        columns.append((p - t).abs().clamp_min(1e-12) ** gamma * bce)
    if weight is not None:
        columns = [column * weight[:, None].to(z.dtype) for column in columns]
    return torch.stack([column.sum((2, 3), dtype=torch.float64) for column in columns], dim=2)


def _upsampled(x: Tensor, size: Sequence[int]) -> Tensor:
    wide = x if x.dtype == torch.float64 else x.float()
    return functional.interpolate(wide, size=tuple(size), mode="bilinear", align_corners=False)


def threshold(logits: Tensor, thresholds: Tensor, size: tuple[int, int]) -> Tensor:
    """`kernels.threshold`, one plane at a time."""
    cut = torch.logit(thresholds.double()).to(logits.device, torch.float32)
    result = torch.zeros(len(logits), *size, dtype=torch.int32, device=logits.device)
    for k in range(logits.shape[1]):
        z = functional.interpolate(logits[:, k : k + 1].float(), size=size, mode="bilinear", align_corners=False)
        result |= (z[:, 0] > cut[k]).int() << k
    return result


def run_lengths(logits: Tensor, thresholds: Tensor, size: tuple[int, int]) -> list[list[Runs]]:
    """`kernels.run_lengths`, through the label map."""
    maps = threshold(logits, thresholds, size).cpu().numpy()
    return [encode(labels, logits.shape[1]) for labels in maps]


def overlap(a: LabelMap | Tensor, b: LabelMap | Tensor, classes: int) -> NDArray[np.int64]:
    """`kernels.overlap`."""
    a, b = (x.cpu().numpy() if isinstance(x, Tensor) else x for x in (a, b))
    return np.stack([label_map.area(a & b, classes), label_map.area(a, classes), label_map.area(b, classes)], axis=1)


def overlap_runs(a: Runs, b: Runs) -> tuple[int, int, int]:
    """`kernels.overlap_runs`."""
    both = 0
    if len(a) and len(b):
        # Runs within a mask are sorted and apart, so every run of `a` meets a contiguous range of runs of `b`:
        # the pixels of `b` before a position are a piecewise linear function, evaluated at both ends of each run.
        starts, before = b[:, 0], np.concatenate([[0], np.cumsum(b[:, 1])])

        def covered(position: NDArray[np.int64]) -> NDArray[np.int64]:
            index = np.searchsorted(starts, position, side="right") - 1
            inside = np.minimum(position - starts[index], b[index, 1])
            return np.where(index < 0, 0, before[index] + inside)

        both = int((covered(a.sum(axis=1)) - covered(a[:, 0])).sum())
    return both, int(a[:, 1].sum()), int(b[:, 1].sum())


def encode(labels: LabelMap, classes: int) -> list[Runs]:
    """`kernels.encode`."""
    width = labels.shape[1]
    result: list[Runs] = []
    for k, box in enumerate(label_map.boxes(labels, classes)):
        if box is None:
            result.append(np.zeros((0, 2), np.int64))
            continue
        rows, columns = box
        # A whole band of rows, because a run that reaches the right edge goes on in the next row.
        band = labels[rows] if columns == slice(0, width) else labels[rows, columns]
        step = width if band.shape[1] == width else band.shape[1] + 1
        flat = np.zeros((band.shape[0], step), np.int8)
        flat[:, : band.shape[1]] = label_map.has(band, k)
        edges = np.flatnonzero(np.diff(flat.ravel(), prepend=0, append=0))
        row, column = np.divmod(edges[0::2], step)
        starts = (row + rows.start) * width + column + columns.start
        result.append(np.stack([starts, edges[1::2] - edges[0::2]], axis=1).astype(np.int64))
    return result


def text(runs: Runs) -> str:
    """`kernels.text`."""
    return " ".join(map(str, (runs + np.array([1, 0])).ravel().tolist()))


def decode(runs: Sequence[Runs], size: tuple[int, int]) -> LabelMap:
    """`kernels.decode`, slice by slice."""
    labels = label_map.empty(size)
    flat = labels.reshape(-1)
    for k, of_class in enumerate(runs):
        bit = np.int32(1 << k)
        for start, length in of_class.tolist():
            flat[start : start + length] |= bit
    return labels


def rasterise(shapes: Sequence[Sequence[Polygon]], size: tuple[int, int]) -> LabelMap:
    """`kernels.rasterise`, through cv2.fillPoly."""
    labels = label_map.empty(size)
    for k, of_class in enumerate(shapes):
        for polygon in of_class:
            points = np.asarray(polygon, np.int32)
            left, top = np.maximum(points.min(axis=0), 0).tolist()
            right, bottom = np.minimum(points.max(axis=0), (size[1] - 1, size[0] - 1)).tolist()
            if right < left or bottom < top:
                continue
            mask = np.zeros((bottom - top + 1, right - left + 1), np.uint8)
            cv2.fillPoly(mask, [points], (1,), offset=(-left, -top))
            label_map.paint(labels, k, mask.astype(bool), top, left)
    return labels


def polygons(labels: LabelMap, classes: int) -> list[list[Polygon]]:
    """`kernels.polygons`."""
    result: list[list[Polygon]] = []
    for k, box in enumerate(label_map.boxes(labels, classes)):
        mask = None if box is None else label_map.has(labels[box], k).astype(np.uint8)
        result.append([] if mask is None or box is None else polygons_of(mask, box[1].start, box[0].start))
    return result


def polygons_of(mask: NDArray[np.uint8], left: int, top: int) -> list[Polygon]:
    """The polygons of one mask (h, w) of 0 and 1 that lies at (`left`, `top`)."""
    contours, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    found: list[Polygon] = []
    for outer, (_, _, child, parent) in enumerate(hierarchy[0].tolist() if len(contours) else []):
        if parent >= 0:
            continue
        outline = contours[outer][:, 0].astype(np.int32)
        holes = []
        while child >= 0:
            holes.append(contours[child][:, 0].astype(np.int32))
            child = hierarchy[0][child][0]
        found.append(_bridge(mask, outline, holes) + np.array([left, top], np.int32))
    return found


def _bridge(mask: NDArray[np.uint8], outline: Polygon, holes: list[Polygon]) -> Polygon:
    """One outline that walks into every hole and back.

    From a leftmost point of a hole the bridge goes left, inside the mask, to the first border it meets: the
    outline or a hole further left, joined before. It is horizontal, so it takes no part in an even-odd fill,
    and it runs over pixels of the mask, so that drawing it as part of the outline adds none.
    """
    for hole in sorted(holes, key=lambda points: int(points[:, 0].min())):
        first = int(hole[:, 0].argmin())
        x, y = hole[first].tolist()
        row = mask[y, : x + 1]
        gaps = np.flatnonzero(row == 0)
        end = int(gaps[-1]) + 1 if len(gaps) else 0
        loop = np.concatenate([hole[first:], hole[: first + 1]])
        outline = _insert(outline, np.array([end, y], np.int32), loop)
    return outline


def _insert(outline: Polygon, point: NDArray[np.int32], loop: Polygon) -> Polygon:
    """`outline` with a detour at `point`, which lies on it, around `loop` and back."""
    following = np.roll(outline, -1, axis=0)
    along, to = following - outline, point - outline
    on_line = along[:, 0] * to[:, 1] == along[:, 1] * to[:, 0]
    within = ((np.minimum(outline, following) <= point) & (point <= np.maximum(outline, following))).all(axis=1)
    after = int(np.flatnonzero(on_line & within)[0]) + 1
    return np.concatenate([outline[:after], [point], loop, [point], outline[after:]])


def surface_distances(a: LabelMap, b: LabelMap, classes: int) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """`kernels.surface_distances`, every border pixel against every other: for small maps."""
    result = []
    for k in range(classes):
        first, second = _border(label_map.has(a, k)), _border(label_map.has(b, k))
        squared = ((first[:, None] - second[None]) ** 2).sum(axis=2).astype(np.float64)
        result.append((np.sqrt(squared.min(axis=1, initial=np.inf)), np.sqrt(squared.min(axis=0, initial=np.inf))))
    return result


def _border(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.argwhere(mask & ~inner)
