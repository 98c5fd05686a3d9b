"""The sums that losses are formulas of, and their gradient, in one pass over the pixels.

With z = U x the upsampled logit (U is bilinear), p = sigmoid(z), s = p (1 - p) and the loss l = softplus(z) - t z::

    sum p t   sum p   sum t   sum l   and on demand   sum |p - t|**gamma l

The gradient of any formula on them is linear in a few maps at the logits' own resolution,

    U^T(t s)   U^T(s)   U^T(p - t)   U^T(focal')

where focal' = (1 - 2 t) q**gamma (gamma (1 - q) l + q) with q = |p - t|. They are accumulated on the way forward and
combined with one scalar per class on the way back. U^T(t s) is kept for the bounding box of the class only.

Memory: two maps of the size of the logits (three with gamma), and at label resolution nothing but a weight, where one
is given. Read: the logits (30 MB for 29 x 512 x 512 floats), the label map once, and again where a class is; written:
the maps. Maps are float32 for float32 logits (a cell adds up a few dozen pixels); sums are added in float64.

Layout: along either axis the pixels fall into the gaps between neighbouring logits. `Axis` gives every gap the same
number of slots (the factor, rounded up), with a weight, and a mask that is 0 in unused slots. A loop over gaps at one
slot reads and writes contiguous memory whatever the factor, so the compiler can vectorise it.

Dimension key: B batch, K classes, H W label resolution, h w logit resolution, S sums.
"""

from typing import Any

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from carpus.kernels.axis import VECTOR, Axis, axis
from carpus.kernels.cpu.elementary import decay, log1p
from carpus.kernels.cpu.threads import follow_torch

TILE = 544
"""Gaps handled together: a constant, so that rows of scratch memory are a constant distance apart (no alias checks)."""

PT, P, T, BCE, FOCAL = range(5)
"""Columns of the sums."""

BCE_MAP, P_MAP, FOCAL_MAP, PT_MAP, MAPS = range(5)

# Rows of the scratch memory of a tile. A map has two, the total of a gap and the share of the logit after it; the rows
# that every tile fills come first.
BCE_SUM, FOCAL_SUM, PT_SUM, T_SUM, ROWS = 0, 9, 10, 11, 12
BCE_ROW, P_ROW, FOCAL_ROW, PT_ROW = (1 + 2 * number for number in range(MAPS))
ALWAYS = 5


def sums(logits: Tensor, labels: Tensor, gamma: float | None, weight: Tensor | None) -> Tensor:
    """`kernels.sums` for CPU tensors: float64 (B, K, 4), with `gamma` (B, K, 5)."""
    return _Sums.apply(logits, labels, gamma, weight)  # pyright: ignore[reportReturnType]


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, gamma: float | None, weight: Tensor | None) -> Tensor:
        follow_torch()
        x = logits.detach().contiguous()
        x = (x if x.dtype == torch.float64 else x.float()).numpy()
        words = labels.contiguous().numpy()
        (batch, classes, height, width), needs_gradient = x.shape, ctx.needs_input_grad[0]
        rows, columns = axis(height, words.shape[1], x.dtype.name), axis(width, words.shape[2], x.dtype.name)
        span = _spans(words, classes)
        boxes = np.zeros((batch * classes, 4), np.int64)
        if needs_gradient:
            boxes = _boxes(span, rows, columns, (height, width))
        offsets = np.concatenate([[0], np.cumsum((boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2]))])
        maps = np.empty(((2 if gamma is None else 3) if needs_gradient else 0, *x.shape), x.dtype)
        inside = np.empty(offsets[-1], x.dtype)
        results = np.empty((batch, classes, 4 if gamma is None else 5))
        _forward(
            x,
            words,
            span,
            np.empty((0, 0, 0, 0), x.dtype) if weight is None else _by_slot(weight, columns),
            (rows.gap, rows.position),
            (columns.weight, columns.mask, columns.gap, columns.first),
            None if gamma is None else x.dtype.type(gamma),
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
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # pyright: ignore
        maps, inside, boxes, offsets = (saved.numpy() for saved in ctx.saved_tensors)
        result = np.empty_like(maps[0])
        _backward(gradient.contiguous().numpy(), maps, inside, boxes, offsets, result)
        return torch.from_numpy(result).to(ctx.dtype), None, None, None


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
def _forward(logits, labels, span, scale, down, across, gamma, maps, inside, boxes, offsets, results):
    batch, classes = logits.shape[:2]
    for plane in prange(batch * classes):
        b, k = plane // classes, plane % classes
        top, bottom, left, right = boxes[plane]
        part = inside[offsets[plane] : offsets[plane + 1]].reshape((bottom - top, right - left))
        _plane(
            logits[b, k], labels[b], span[b, :, k], b, k, scale, down, across, gamma,
            maps[:, b, k], part, (top, left), results[b, k],
        )  # fmt: skip


@njit(nogil=True)
def _plane(logits, words, span, image, bit, scale, down, across, gamma, maps, inside, corner, result):
    """Sums and maps of one class of one image.

    Args:
        logits: (h, w).
        words: (H, W) label map.
        span: (H, 2) first and last column of the class in every row.
        image, bit: b and k.
        scale: (B, H, slots, padded gaps) weight of the pixels, or empty.
        down: `gap` and `position` of the rows' `Axis`.
        across: `weight`, `mask`, `gap` and `first` of the columns' `Axis`.
        gamma: a number of the logits' type, or None.
        maps: (2 or 3, h, w) to fill, none without a gradient.
        inside: (box h, box w) to fill with U^T(t s), whose upper left logit is `corner`.
        result: (S,) to fill.
    """
    height, width = logits.shape
    gap, position = down
    weight, mask, column_gap, first = across
    slots, padded = weight.shape
    dtype = logits.dtype
    above, below, z_row = np.empty(padded + 1, dtype), np.empty(padded + 1, dtype), np.empty(padded + 1, dtype)
    truth = np.zeros((slots, padded), dtype)
    tile = np.zeros(ROWS * TILE, dtype)
    rows = np.zeros((MAPS, 4, padded), dtype)
    dense, weighted = len(maps), scale.size > 0
    pt, t, bce, focal, excess = 0.0, 0.0, 0.0, 0.0, 0.0  # excess: sum p - t
    maps[:] = 0
    inside[:] = 0
    y = 0
    while y < len(gap):
        i = gap[y]
        upper, lower = max(i - 1, 0), min(i, height - 1)
        for g in range(padded + 1):
            j = min(max(g - 1, 0), width - 1)
            above[g], below[g] = logits[upper, j], logits[lower, j]
        rows[:] = 0
        any_label = False
        while y < len(gap) and gap[y] == i:
            fraction = dtype.type(position[y])
            for g in range(padded + 1):
                z_row[g] = above[g] + fraction * (below[g] - above[g])
            start, stop = padded, padded
            if span[y, 1] >= 0:
                any_label = True
                start = column_gap[span[y, 0]] // VECTOR * VECTOR
                stop = (column_gap[span[y, 1]] // VECTOR + 1) * VECTOR
                truth[:, start:stop] = 0
                for x in range(span[y, 0], span[y, 1] + 1):
                    g = column_gap[x]
                    truth[x - first[g], g] = (words[y, x] >> bit) & 1
            at = 0
            while at < padded:
                labelled = start <= at < stop
                end = min(at + TILE, stop if labelled else (start if at < start else padded))
                count = end - at
                for m in range(slots):
                    seen = scale[image, y, m, at:end] if weighted else mask[m, at:end]
                    if labelled:
                        _slot(z_row[at:], weight[m, at:end], seen, truth[m, at:end], gamma, tile, count)
                    else:
                        _slot(z_row[at:], weight[m, at:end], seen, None, gamma, tile, count)
                bce += _total(tile[BCE_SUM * TILE :], count)
                excess += _total(tile[BCE_ROW * TILE :], count)
                if gamma is not None:
                    focal += _total(tile[FOCAL_SUM * TILE :], count)
                if labelled:
                    pt += _total(tile[PT_SUM * TILE :], count)
                    t += _total(tile[T_SUM * TILE :], count)
                for c in range(MAPS):
                    if c < dense or (c == PT_MAP and labelled):
                        for part in range(2):
                            source = tile[(BCE_ROW + 2 * c + part) * TILE :]
                            _share(source, fraction, rows[c, part, at:], rows[c, 2 + part, at:], count)
                for row in range(ROWS if labelled or gamma is not None else ALWAYS):
                    tile[row * TILE : row * TILE + count] = 0
                at = end
            y += 1
        for c in range(dense):
            _spread(rows[c, :2], maps[c], upper, 0, width, width)
            _spread(rows[c, 2:], maps[c], lower, 0, width, width)
        if any_label and inside.size > 0:
            top, left = corner
            right = left + inside.shape[1]
            _spread(rows[PT_MAP, :2], inside, upper - top, left, right, width)
            _spread(rows[PT_MAP, 2:], inside, lower - top, left, right, width)
    result[PT], result[P], result[T], result[BCE] = pt, excess + t, t, bce
    if gamma is not None:
        result[FOCAL] = focal


@njit(fastmath={"contract"}, error_model="numpy", nogil=True)
def _slot(z_row, weight, mask, truth, gamma, rows, count):
    """Add one slot of gaps; `truth` is 1 where the pixel has the class, None where no pixel has it.

    Everything is computed from sigmoid(wrong), the probability of the mistake, with wrong = z or -z: p - t and
    softplus(z) - t z would lose a confident hit to cancellation.
    """
    one, zero = z_row.dtype.type(1), z_row.dtype.type(0)
    for g in range(count):
        z = z_row[g] + weight[g] * (z_row[g + 1] - z_row[g])
        share = weight[g] * mask[g]
        side = one if truth is None else one - truth[g] - truth[g]
        wrong = side * z
        e = decay(abs(wrong))
        r = one / (one + e)
        miss = r if wrong >= zero else e * r
        slope = e * r * r
        tail = log1p(e)
        loss = (wrong if wrong > zero else zero) + tail
        rows[BCE_SUM * TILE + g] += loss * mask[g]
        rows[BCE_ROW * TILE + g] += side * miss * mask[g]
        rows[(BCE_ROW + 1) * TILE + g] += side * miss * share
        rows[P_ROW * TILE + g] += slope * mask[g]
        rows[(P_ROW + 1) * TILE + g] += slope * share
        if truth is not None:
            rows[PT_ROW * TILE + g] += truth[g] * slope * mask[g]
            rows[(PT_ROW + 1) * TILE + g] += truth[g] * slope * share
            rows[PT_SUM * TILE + g] += truth[g] * (one - miss) * mask[g]
            rows[T_SUM * TILE + g] += truth[g] * mask[g]
        if gamma is not None:
            # miss ** gamma, through the logarithm of the sigmoid.
            power = decay(gamma * (tail - (wrong if wrong < zero else zero)))
            pull = side * power * (gamma * (one - miss) * loss + miss)
            rows[FOCAL_SUM * TILE + g] += power * loss * mask[g]
            rows[FOCAL_ROW * TILE + g] += pull * mask[g]
            rows[(FOCAL_ROW + 1) * TILE + g] += pull * share


@njit(fastmath={"contract", "reassoc"}, nogil=True)
def _total(row, count):
    total = 0.0
    for g in range(count):
        total += np.float64(row[g])
    return total


@njit(fastmath={"contract"}, error_model="numpy", nogil=True)
def _share(source, fraction, above, below, count):
    """Divide a row of gaps between the logits above and below it."""
    rest = source.dtype.type(1) - fraction
    for g in range(count):
        above[g] += rest * source[g]
        below[g] += fraction * source[g]


@njit(nogil=True)
def _spread(rows, target, row, left, right, width):
    """Add gap rows (total, share of the logit after) to logits left..right of one row of a map, starting at `left`."""
    total, after = rows[0], rows[1]
    for j in range(left, right):
        target[row, j - left] += after[j] + (total[j + 1] - after[j + 1])
    if left == 0:
        target[row, 0] += total[0] - after[0]
    if right == width:
        target[row, width - 1 - left] += after[width]


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
