"""The sums that losses are formulas of, and their gradient, in one pass over the pixels.

With z = U x the upsampled logit (U is bilinear), p = sigmoid(z), s = p (1 - p) and the loss l = softplus(z) - t z::

    sum p t   sum p   sum t   sum l   and on demand   sum |p - t|**gamma l

The gradient of any formula on them is linear in a few maps at the logits' own resolution,

    U^T(t s)   U^T(s)   U^T(p - t)   U^T(focal')

where focal' = (1 - 2 t) q**gamma (gamma (1 - q) l + q) with q = |p - t|. They are accumulated on the way forward and
combined with one scalar per class on the way back. U^T(t s) is kept for the bounding box of the class only.

Soft labels have the same sums and maps, but for sum min(p, t) and U^T(s where p < t) in place of sum p t and U^T(t s),
and focal' = q**(gamma - 1) (gamma s l sign(p - t) + q (p - t)). Every pixel has one, so the box is the whole image.

Memory: two maps of the size of the logits (three with gamma, one more for soft labels), and at label resolution
nothing but a weight, where one is given. Read: the logits (30 MB for 29 x 512 x 512 floats), the label map once, and
again where a class is; written: the maps. Maps are float32 for float32 logits (a cell adds up a few dozen pixels); sums
are added in float64.

Dimension key: B batch, K classes, H W label resolution, h w logit resolution, S sums.
"""

from typing import Any

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from carpus.kernels.axis import Axis, axis
from carpus.kernels.cpu.planes import BCE, BCE_MAP, FOCAL, FOCAL_MAP, P_MAP, PT, P, Teacher, forward
from carpus.kernels.cpu.threads import follow_torch


def sums(
    logits: Tensor, labels: Tensor, gamma: float | None, weight: Tensor | None, soft: Tensor | None = None
) -> Tensor:
    """`kernels.sums` for CPU tensors: float64 (B, K, 4), with `gamma` (B, K, 5)."""
    return _Sums.apply(logits, labels, gamma, weight, soft)  # pyright: ignore[reportReturnType]


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, gamma: float | None, weight: Tensor | None, soft: Tensor | None
    ) -> Tensor:
        follow_torch()
        x = logits.detach().contiguous()
        x = (x if x.dtype == torch.float64 else x.float()).numpy()
        words = labels.contiguous().numpy()
        (batch, classes, height, width), needs_gradient = x.shape, ctx.needs_input_grad[0]
        rows, columns = axis(height, words.shape[1], x.dtype.name), axis(width, words.shape[2], x.dtype.name)
        span = _spans(words, classes) if soft is None else _everywhere(words.shape, classes)
        boxes = np.zeros((batch * classes, 4), np.int64)
        if needs_gradient:
            boxes = _boxes(span, rows, columns, (height, width))
        offsets = np.concatenate([[0], np.cumsum((boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2]))])
        maps = np.empty(((2 if gamma is None else 3) if needs_gradient else 0, *x.shape), x.dtype)
        inside = np.empty(offsets[-1], x.dtype)
        results = np.empty((batch, classes, 4 if gamma is None else 5))
        forward(
            x,
            words,
            span,
            np.empty((0, 0, 0, 0), x.dtype) if weight is None else _by_slot(weight, columns),
            (rows.gap, rows.position),
            (columns.weight, columns.mask, columns.gap, columns.first),
            None if gamma is None else x.dtype.type(gamma),
            None if soft is None else _teacher(soft, words.shape, x.dtype),
            maps,
            inside,
            boxes,
            offsets,
            results,
        )
        # Saved as tensors, which autograd lets go after the backward, however long the result is kept.
        ctx.save_for_backward(*map(torch.from_numpy, (maps, inside, boxes, offsets)))
        ctx.dtype = logits.dtype
        return torch.from_numpy(results)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:  # pyright: ignore
        maps, inside, boxes, offsets = (saved.numpy() for saved in ctx.saved_tensors)
        result = np.empty_like(maps[0])
        _backward(gradient.contiguous().numpy(), maps, inside, boxes, offsets, result)
        return torch.from_numpy(result).to(ctx.dtype), None, None, None, None


def _boxes(span: NDArray[np.int32], rows: Axis, columns: Axis, size: tuple[int, int]) -> NDArray[np.int64]:
    """The logits that the pixels of every class touch: (B K, 4) as top, bottom, left, right, half open."""
    batch, _, classes, _ = span.shape
    present = span[..., 1] >= 0
    boxes = np.zeros((batch * classes, 4), np.int64)
    for plane, (b, k) in enumerate(np.ndindex(batch, classes)):
        y = np.flatnonzero(present[b, :, k])
        if len(y):
            x0, x1 = span[b, y, k, 0].min(), span[b, y, k, 1].max()
            boxes[plane] = (
                max(rows.gap[y[0]] - 1, 0),
                min(rows.gap[y[-1]], size[0] - 1) + 1,
                max(columns.gap[x0] - 1, 0),
                min(columns.gap[x1], size[1] - 1) + 1,
            )
    return boxes


def _everywhere(size: tuple[int, ...], classes: int) -> NDArray[np.int32]:
    """The `_spans` of classes that are in every pixel."""
    return np.broadcast_to(np.array([0, size[2] - 1], np.int32), (*size[:2], classes, 2))


def _teacher(soft: Tensor, size: tuple[int, ...], dtype: np.dtype) -> Teacher:
    """Soft labels (B, K, any height, any width) and where the pixels of a label map (B, H, W) lie between them."""
    rows, columns = (axis(*sides, dtype.name) for sides in zip(soft.shape[2:], size[1:], strict=True))
    planes = soft.detach().contiguous()
    planes = planes if planes.dtype == torch.uint8 else planes.to(getattr(torch, dtype.name))
    return planes.numpy(), rows.gap, rows.position, columns.gap, columns.position


def _by_slot(weight: Tensor, columns: Axis) -> NDArray[np.floating]:
    """A (B, H, W) weight map in the layout of `Axis`: (B, H, slots, padded gaps)."""
    result = np.zeros((*weight.shape[:2], *columns.weight.shape), columns.weight.dtype)
    result[:, :, np.arange(len(columns.gap)) - columns.first[columns.gap], columns.gap] = weight.to(
        torch.float64 if weight.dtype == torch.float64 else torch.float32
    ).numpy()
    return result


@njit(cache=True, parallel=True, nogil=True)
def _spans(labels, classes):
    """First and last column of every class in every row of (B, H, W) label maps: (B, H, K, 2), (W, -1) if absent."""
    batch, height, width = labels.shape
    found = np.empty((batch, height, classes, 2), np.int32)
    for row in prange(batch * height):
        b, y = row // height, row % height
        for k in range(classes):
            found[b, y, k, 0], found[b, y, k, 1] = width, -1
        before = np.int32(0)
        for x in range(width + 1):
            word = labels[b, y, x] if x < width else np.int32(0)
            if word != before:
                started, ended = word & ~before, before & ~word
                for k in range(classes):
                    if (started >> k) & 1:
                        found[b, y, k, 0] = min(found[b, y, k, 0], x)
                    if (ended >> k) & 1:
                        found[b, y, k, 1] = x - 1
                before = word
    return found


@njit(cache=True, parallel=True, nogil=True)
def _backward(gradient, maps, inside, boxes, offsets, logits):
    """Gradient (B, K, S) of the sums to gradient of the logits, from the maps."""
    batch, classes, height, width = logits.shape
    dtype = logits.dtype
    for plane in prange(batch * classes):
        b, k = plane // classes, plane % classes
        top, bottom, left, right = boxes[plane]
        part = inside[offsets[plane] : offsets[plane + 1]].reshape((bottom - top, right - left))
        of_pt, of_p = dtype.type(gradient[b, k, PT]), dtype.type(gradient[b, k, P])
        of_bce = dtype.type(gradient[b, k, BCE])
        for i in range(height):
            row = logits[b, k, i]
            for j in range(width):
                row[j] = of_bce * maps[BCE_MAP, b, k, i, j] + of_p * maps[P_MAP, b, k, i, j]
            if len(maps) > FOCAL_MAP:
                of_focal = dtype.type(gradient[b, k, FOCAL])
                for j in range(width):
                    row[j] += of_focal * maps[FOCAL_MAP, b, k, i, j]
            if top <= i < bottom:
                for j in range(left, right):
                    row[j] += of_pt * part[i - top, j - left]
