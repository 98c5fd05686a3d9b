"""One pass over the pixels of every class: what `sums` adds up, class by class, each by one thread.

Layout: along either axis the pixels fall into the gaps between neighbouring logits. `Axis` gives every gap the same
number of slots (the factor, rounded up), with a weight, and a mask that is 0 in unused slots. A loop over gaps at one
slot reads and writes contiguous memory whatever the factor, so the compiler can vectorise it.

Dimension key: B batch, K classes, H W label resolution, h w logit resolution, S sums.
"""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from carpus.kernels import codes
from carpus.kernels.axis import VECTOR
from carpus.kernels.cpu.elementary import decay, log, log1p

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

Teacher = tuple[NDArray, NDArray, NDArray, NDArray, NDArray]
"""Soft labels: (B, K, any height, any width) probabilities or uint8 `codes`, and `gap` and `position` of the rows' and
of the columns' `Axis` from them to the pixels."""


@njit(cache=True, parallel=True, nogil=True)
def forward(logits, labels, span, scale, down, across, gamma, soft, maps, inside, boxes, offsets, results):
    """Fill sums and maps of all classes: B K times the arguments of `_plane`, whose maps `inside` lie end to end."""
    batch, classes = logits.shape[:2]
    for plane in prange(batch * classes):
        b, k = plane // classes, plane % classes
        top, bottom, left, right = boxes[plane]
        part = inside[offsets[plane] : offsets[plane + 1]].reshape((bottom - top, right - left))
        _plane(
            logits[b, k], labels[b], span[b, :, k], b, k, scale, down, across, gamma, soft,
            maps[:, b, k], part, (top, left), results[b, k],
        )  # fmt: skip


@njit(nogil=True)
def _plane(logits, words, span, image, bit, scale, down, across, gamma, soft, maps, inside, corner, result):
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
        soft: see `Teacher`, or None.
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
                if soft is not None:
                    _taught(soft, image, bit, y, column_gap, first, truth)
                else:
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
                    if labelled and soft is not None:
                        _soft_slot(z_row[at:], weight[m, at:end], seen, truth[m, at:end], gamma, tile, count)
                    elif labelled:
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


@njit(nogil=True)
def _taught(soft, image, bit, y, column_gap, first, truth):
    """Upsample one row of the soft labels of one class, into slots."""
    planes, gap, position, across, after = soft
    plane = planes[image, bit]
    height, width = plane.shape
    upper, lower = plane[max(gap[y] - 1, 0)], plane[min(gap[y], height - 1)]
    dtype = truth.dtype
    fraction = dtype.type(position[y])
    row = np.empty(width + 2, dtype)
    for j in range(width):
        row[j + 1] = dtype.type(upper[j]) + fraction * (dtype.type(lower[j]) - dtype.type(upper[j]))
    row[0], row[width + 1] = row[1], row[width]
    for x in range(len(column_gap)):
        s, g = across[x], column_gap[x]
        truth[x - first[g], g] = row[s] + after[x] * (row[s + 1] - row[s])
    if planes.itemsize == 1:  # codes
        for m in range(len(truth)):
            _probabilities(truth[m])


@njit(fastmath={"contract"}, error_model="numpy", nogil=True)
def _probabilities(row):
    """`codes.decoded`, in place."""
    one, half = row.dtype.type(1), row.dtype.type(0.5)
    scale, bend = row.dtype.type(2 * codes.LIMIT / 255), row.dtype.type(1 / codes.BEND)
    limit = row.dtype.type(codes.LIMIT)
    for g in range(len(row)):
        x = row[g] * scale - limit
        e = decay(abs(x))
        r = one / (one + e)
        row[g] = ((r if x >= row.dtype.type(0) else e * r) - half) * bend + half


@njit(fastmath={"contract"}, error_model="numpy", nogil=True)
def _soft_slot(z_row, weight, mask, truth, gamma, rows, count):
    """Add one slot of gaps whose pixels have the probabilities `truth`.

    p - t = p (1 - t) - (1 - p) t and l = (1 - t) z or - t z, plus log(1 + e), lose nothing where t is 0 or 1.
    """
    one, zero = z_row.dtype.type(1), z_row.dtype.type(0)
    least = z_row.dtype.type(1e-12)
    for g in range(count):
        z = z_row[g] + weight[g] * (z_row[g + 1] - z_row[g])
        share = weight[g] * mask[g]
        t = truth[g]
        e = decay(abs(z))
        r = one / (one + e)
        p, rest = (r, e * r) if z >= zero else (e * r, r)
        slope = e * r * r
        loss = ((one - t) * z if z >= zero else -t * z) + log1p(e)
        off = p * (one - t) - rest * t
        below = slope if off < zero else zero
        rows[BCE_SUM * TILE + g] += loss * mask[g]
        rows[BCE_ROW * TILE + g] += off * mask[g]
        rows[(BCE_ROW + 1) * TILE + g] += off * share
        rows[P_ROW * TILE + g] += slope * mask[g]
        rows[(P_ROW + 1) * TILE + g] += slope * share
        rows[PT_ROW * TILE + g] += below * mask[g]
        rows[(PT_ROW + 1) * TILE + g] += below * share
        rows[PT_SUM * TILE + g] += (p if off < zero else t) * mask[g]
        rows[T_SUM * TILE + g] += t * mask[g]
        if gamma is not None:
            q = max(abs(off), least)
            power = decay(-gamma * log(q))
            pull = power * (gamma * slope * loss * (off / q / q) + off)
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
