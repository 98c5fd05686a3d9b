"""Logits to label maps or to run lengths at label resolution, without a plane of probabilities.

sigmoid(z) > t is z > log(t / (1 - t)). Bilinear interpolation is a convex combination: a pixel can only be set next
to a logit above the cut. So the logits are scanned once (29 x 512 x 512 floats, 30 MB, memory bound), and only
the columns between the first and the last candidate of two neighbouring rows are interpolated. Bones cover a
sixth of a radiograph; where every logit is a candidate (noise) everything is interpolated.

The arithmetic is that of torch on a CPU, operation by operation in float32: the weights of `axis.taps`, along the row
first, each step fma(weight of the first, first, weight of the second * second). Results are equal bit for bit to
``F.interpolate(...) > cut``, wherever NaN and infinite logits are too. (Outputs of up to 128 rows and columns together,
and more than three classes in channels_last, torch computes with the same weights in another order.)
"""

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray
from torch import Tensor

from carpus.kernels.axis import taps
from carpus.kernels.cpu.elementary import fused, lowest_bit, set_bits
from carpus.kernels.cpu.threads import follow_torch

BAND = 64
"""Rows of a label map worked on together: they stay in the cache while the classes are added."""


def threshold(logits: Tensor, thresholds: Tensor, size: tuple[int, int]) -> Tensor:
    """`kernels.threshold` for CPU tensors."""
    x, cuts = _prepare(logits, thresholds)
    rows, columns = taps(x.shape[2], size[0]), taps(x.shape[3], size[1])
    result = np.empty((len(x), *size), np.int32)
    _threshold(x, cuts, rows.table, columns.table, columns.reach, result)
    return torch.from_numpy(result)


def run_lengths(logits: Tensor, thresholds: Tensor, size: tuple[int, int]) -> list[list[NDArray[np.int64]]]:
    """`kernels.run_lengths` for CPU tensors."""
    x, cuts = _prepare(logits, thresholds)
    rows, columns = taps(x.shape[2], size[0]), taps(x.shape[3], size[1])
    batch, classes = x.shape[:2]
    planes = x.reshape(batch * classes, *x.shape[2:])
    found: list[NDArray[np.int64]] = [np.empty((0, 2), np.int64)] * len(planes)
    # A mask rarely has more than a few runs a row; where it has, the rows done so far tell how many to expect.
    waiting, capacity = np.arange(len(planes)), 4 * size[0]
    while len(waiting):
        runs, counts, done = _run_lengths(planes, waiting, cuts, rows.table, columns.table, columns.reach, capacity)
        for plane, of_plane, count in zip(waiting, runs, counts, strict=True):
            # A copy lets go of memory that was reserved for more.
            found[plane] = of_plane[:count] if 4 * count > capacity else of_plane[:count].copy()
        full = done < size[0]
        waiting = waiting[full]
        capacity = int(2 * capacity * size[0] / (done[full].min(initial=size[0]) + 1)) + size[1]
    return [found[b * classes : (b + 1) * classes] for b in range(batch)]


def _prepare(logits: Tensor, thresholds: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    follow_torch()
    cuts = torch.logit(thresholds.detach().double()).float().contiguous()
    return logits.detach().float().contiguous().numpy(), cuts.numpy()


@njit(nogil=True)
def _candidates(row, cut):
    """First and last column of a value that could lift a pixel above `cut`; (width, -1) if there is none."""
    # Weights add up to 1 but for rounding, which could lift a pixel above a cut that none of its logits exceeds.
    floor = cut - np.float32(1e-6) * abs(cut)
    above = 0
    for j in range(len(row)):
        above += row[j] > floor
    first, last = len(row), -1
    if above > 0:
        first = 0
        while not row[first] > floor:
            first += 1
        last = len(row) - 1
        while not row[last] > floor:
            last -= 1
    return first, last


# Loops run from 0 over slices: an index that could be negative, for all the compiler knows, forbids vectors.
@njit(nogil=True)
def _interpolate(row, table, start, stop, out):
    first, second = table[0][start:stop], table[1][start:stop]
    before, after, span = table[2][start:stop], table[3][start:stop], out[start:stop]
    for x in range(len(span)):
        span[x] = fused(before[x], row[np.uint32(first[x])], after[x] * row[np.uint32(second[x])])


@njit(nogil=True)
def _set_bits(upper, lower, before, after, cut, bit, row):
    for x in range(len(row)):
        row[x] |= bit if fused(before, upper[x], after * lower[x]) > cut else np.int32(0)


@njit(nogil=True)
def _set_flags(upper, lower, before, after, cut, flags):
    for x in range(len(flags)):
        flags[x] = np.uint8(1) if fused(before, upper[x], after * lower[x]) > cut else np.uint8(0)


@njit(nogil=True)
def _pixels(first, last, reach):
    """The pixels that logits first..last of a row reach: half open, empty when there are none."""
    if last < 0:
        return 0, 0
    return reach[0][first], reach[1][last]


@njit(nogil=True)
def _row_pair(plane, i0, i1, across, start, stop, upper, lower, held):
    """Both rows of logits along their pixels start..stop; `held` is what `lower` holds (row, start, stop).

    Going down, the lower row of one pair is the upper row of the next, and the buffers change places.
    """
    if i0 == held[0] and start >= held[1] and stop <= held[2]:
        upper, lower = lower, upper
    else:
        _interpolate(plane[i0], across, start, stop, upper)
    _interpolate(plane[i1], across, start, stop, lower)
    return upper, lower, (i1, start, stop)


@njit(cache=True, parallel=True, nogil=True)
def _threshold(logits, cuts, down, across, reach, result):
    batch, height, width = result.shape
    bands = (height + BAND - 1) // BAND
    for work in prange(batch * bands):
        b, top = work // bands, work % bands * BAND
        bottom = min(top + BAND, height)
        upper, lower = np.empty(width, np.float32), np.empty(width, np.float32)
        result[b, top:bottom] = 0
        for k in range(logits.shape[1]):
            bit, cut, plane = np.int32(1 << k), cuts[k], logits[b, k]
            candidates, held = (np.int64(-1), 0, 0), (np.int64(-1), 0, 0)
            y = top
            while y < bottom:
                i0, i1 = np.int64(down[0][y]), np.int64(down[1][y])
                start, stop, candidates = _span(plane, i0, i1, cut, reach, candidates)
                if start < stop:
                    upper, lower, held = _row_pair(plane, i0, i1, across, start, stop, upper, lower, held)
                while y < bottom and down[0][y] == i0:
                    row = result[b, y, start:stop]
                    _set_bits(upper[start:stop], lower[start:stop], down[2][y], down[3][y], cut, bit, row)
                    y += 1


@njit(nogil=True)
def _span(plane, i0, i1, cut, reach, known):
    """The pixels that could be set between two rows of logits; `known` holds a row and its first and last candidate."""
    if known[0] == i0:
        first, last = known[1], known[2]
    else:
        first, last = _candidates(plane[i0], cut)
    other_first, other_last = _candidates(plane[i1], cut)
    start, stop = _pixels(min(first, other_first), max(last, other_last), reach)
    return start, stop, (i1, other_first, other_last)


@njit(cache=True, parallel=True, nogil=True)
def _run_lengths(planes, chosen, cuts, down, across, reach, capacity):
    """Runs of the chosen planes, (planes, capacity, 2), how many there are, and how many rows were done.

    A plane is given up when a row might not fit any more.
    """
    height, width = len(down[0]), len(across[0])
    found = np.empty((len(chosen), capacity + width // 2 + 8, 2), np.int64)
    counts, done = np.zeros(len(chosen), np.int64), np.zeros(len(chosen), np.int64)
    for work in prange(len(chosen)):
        plane, cut = planes[chosen[work]], cuts[chosen[work] % len(cuts)]
        upper, lower = np.empty(width, np.float32), np.empty(width, np.float32)
        flags = np.zeros(width // 8 * 8 + 16, np.uint8)
        eights = flags.view(np.uint64)
        edges, count = found[work].reshape(-1), 0
        candidates, held = (np.int64(-1), 0, 0), (np.int64(-1), 0, 0)
        y = 0
        while y < height and count <= 2 * capacity:
            i0, i1 = np.int64(down[0][y]), np.int64(down[1][y])
            start, stop, candidates = _span(plane, i0, i1, cut, reach, candidates)
            if start < stop:
                upper, lower, held = _row_pair(plane, i0, i1, across, start, stop, upper, lower, held)
            while y < height and down[0][y] == i0 and count <= 2 * capacity:
                if start < stop:
                    row = flags[start:stop]
                    _set_flags(upper[start:stop], lower[start:stop], down[2][y], down[3][y], cut, row)
                    count = _collect(eights[start // 8 : stop // 8 + 1], y * width + start // 8 * 8, edges, count)
                y += 1
            flags[start:stop] = 0
        runs = found[work]
        for r in range(count // 2):
            runs[r, 1] -= runs[r, 0]
        counts[work], done[work] = count // 2, y
    return found, counts, done


@njit(nogil=True)
def _collect(eights, offset, edges, count):
    """Append the starts and ends of the runs of a row of flags, eight to a word, which ends with a flag of 0.

    A word that differs from itself shifted by one flag holds a change for every byte that is then set. Two edges are
    always written: branches that follow the pixels cannot be predicted.
    """
    carry, begin = np.uint64(0), count
    for eight in range(len(eights)):
        word = eights[eight]
        changes = word ^ ((word << np.uint64(8)) | carry)
        carry = word >> np.uint64(56)
        position = offset + 8 * eight
        many = np.int64(set_bits(changes))
        place = count
        while True:
            edges[place] = position + np.int64(lowest_bit(changes) >> np.uint64(3))
            changes &= changes - np.uint64(1)
            edges[place + 1] = position + np.int64(lowest_bit(changes) >> np.uint64(3))
            changes &= changes - np.uint64(1)
            place += 2
            if place >= count + many:
                break
        count += many
    # A run that reaches the right edge goes on in the next row.
    if begin > 0 and count > begin and edges[begin] == edges[begin - 1]:
        for place in range(begin + 1, count):
            edges[place - 2] = edges[place]
        count -= 2
    return count
