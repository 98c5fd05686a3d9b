"""Run lengths and overlaps: one pass over the words of a label map, with work only where a word differs from the last.

A radiograph's label map has some 13,000 such changes in 4 million words. Neighbours are compared sixteen at a time,
and at a change only the bits that changed are looked at. Bytes read: 4 a pixel and map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from carpus.kernels import Runs
from carpus.kernels.cpu.elementary import lowest_bit
from carpus.kernels.cpu.threads import follow_torch
from carpus.labels import LabelMap

if TYPE_CHECKING:
    from torch import Tensor

BITS = np.int32(0x7FFFFFFF)
"""The bits of classes. The sign is none, and widened to 64 bits it would be 33 of them, beyond every table here."""

CHUNK = 4096
"""Words compared before the changes among them are looked for: what the nearest cache holds easily."""


def encode(labels: LabelMap, classes: int) -> list[Runs]:
    """`kernels.encode`."""
    runs, ends = _encode(np.ascontiguousarray(labels).reshape(-1), classes)
    return [runs[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def decode(runs: Sequence[Runs], size: tuple[int, int]) -> LabelMap:
    """`kernels.decode`; the runs are within the map."""
    labels = np.zeros(size, np.int32)
    if runs:
        together = np.concatenate(runs).astype(np.int64, copy=False)
        _decode(together, np.cumsum([len(of_class) for of_class in runs]), labels.reshape(-1))
    return labels


def overlap(a: LabelMap | Tensor, b: LabelMap | Tensor, classes: int) -> NDArray[np.int64]:
    """`kernels.overlap`."""
    threads = follow_torch()
    a, b = (np.ascontiguousarray(labels).reshape(-1) for labels in (a, b))
    return _overlap(a, b, classes, threads)


def overlap_runs(a: Runs, b: Runs) -> tuple[int, int, int]:
    """`kernels.overlap_runs`."""
    return _overlap_runs(np.ascontiguousarray(a, np.int64), np.ascontiguousarray(b, np.int64))


def text(runs: Runs) -> str:
    """`kernels.text`."""
    return _text(np.ascontiguousarray(runs, np.int64)).tobytes().decode("ascii")


@njit(cache=True, nogil=True)
def _text(runs):
    found, count = np.empty(len(runs) * 2 * 20, np.uint8), 0  # 19 digits of an int64 and a blank
    for r in range(len(runs)):
        for number in (runs[r, 0] + 1, runs[r, 1]):
            digits, rest = 1, number // 10
            while rest:
                digits, rest = digits + 1, rest // 10
            for place in range(count + digits - 1, count - 1, -1):
                found[place] = 48 + number % 10
                number //= 10
            found[count + digits] = 32
            count += digits + 1
    return found[: max(count - 1, 0)]


@njit(nogil=True)
def enlarged(array):
    """A copy with room for twice as many rows."""
    larger = np.empty((2 * len(array), array.shape[1]), array.dtype)
    larger[: len(array)] = array
    return larger


@njit(nogil=True)
def mark(words, before, flags):
    """Flag every word that differs from the one before it; `before` stands before the first."""
    flags[0] |= np.uint8(words[0] != before)
    earlier, later, rest = words[:-1], words[1:], flags[1 : len(words)]
    for x in range(len(rest)):
        rest[x] |= np.uint8(1) if later[x] != earlier[x] else np.uint8(0)


@njit(nogil=True)
def places(flags, found):
    """The indices of the set flags into `found`, and how many there are. Eight flags are skipped at once."""
    eights, count = flags.view(np.uint64), 0
    for eight in range(len(eights)):
        marks = eights[eight]
        while marks:
            found[count] = 8 * eight + np.int64(lowest_bit(marks) >> np.uint64(3))
            marks &= marks - np.uint64(1)
            count += 1
    return count


@njit(cache=True, nogil=True)
def _encode(words, classes):
    """Runs of all classes, class after class, and where each class ends."""
    found = np.empty((4096, 3), np.int64)
    count, before = 0, np.int32(0)
    starts, ends = np.zeros(32, np.int64), np.zeros(classes, np.int64)
    flags, at = np.zeros(CHUNK, np.uint8), np.empty(CHUNK, np.int64)
    # The end of the map closes every run.
    for begin in range(0, len(words) + CHUNK, CHUNK):
        part = words[begin : begin + CHUNK] if begin < len(words) else np.zeros(1, np.int32)
        flags[:] = 0
        mark(part, before, flags)
        for n in range(places(flags, at)):
            x = at[n]
            word, position = part[x], min(begin + x, len(words))
            changed, before = (word ^ before) & BITS, word
            while changed:
                k = lowest_bit(changed)
                changed &= changed - np.int32(1)
                if (word >> k) & 1:
                    starts[k] = position
                elif k < classes:
                    if count == len(found):
                        found = enlarged(found)
                    found[count, 0], found[count, 1], found[count, 2] = k, starts[k], position - starts[k]
                    ends[k] += 1
                    count += 1
    ends[:] = np.cumsum(ends)
    place = np.zeros(classes, np.int64)
    place[1:] = ends[:-1]
    runs = np.empty((count, 2), np.int64)
    for r in range(count):
        k = found[r, 0]
        runs[place[k]] = found[r, 1:]
        place[k] += 1
    return runs, ends


@njit(cache=True, nogil=True)
def _decode(runs, ends, words):
    r = 0
    for k in range(len(ends)):
        bit = np.int32(1 << k)
        while r < ends[k]:
            part = words[runs[r, 0] : runs[r, 0] + runs[r, 1]]
            for x in range(len(part)):
                part[x] |= bit
            r += 1


@njit(nogil=True)
def _tally(counts, column, before, after, position):
    """Runs have length end - start: add the position where a bit falls, subtract it where it rises."""
    changed = (before ^ after) & BITS
    while changed:
        k = lowest_bit(changed)
        changed &= changed - np.int32(1)
        counts[k, column] += -position if (after >> k) & 1 else position


@njit(cache=True, parallel=True, nogil=True)
def _overlap(a, b, classes, strips):
    """The words are shared out in strips; at its end a strip closes the runs that the next one opens again."""
    size = -(-len(a) // (strips * CHUNK)) * CHUNK
    counts = np.zeros((strips, 32, 3), np.int64)
    for strip in prange(strips):
        first, last = strip * size, min((strip + 1) * size, len(a))
        of_strip = np.zeros((32, 3), np.int64)
        last_a, last_b = np.int32(0), np.int32(0)
        flags, at = np.zeros(CHUNK, np.uint8), np.empty(CHUNK, np.int64)
        for begin in range(first, last, CHUNK):
            part_a, part_b = a[begin : min(begin + CHUNK, last)], b[begin : min(begin + CHUNK, last)]
            flags[:] = 0
            mark(part_a, last_a, flags)
            mark(part_b, last_b, flags)
            for n in range(places(flags, at)):
                x = at[n]
                _tally(of_strip, 0, last_a & last_b, part_a[x] & part_b[x], begin + x)
                _tally(of_strip, 1, last_a, part_a[x], begin + x)
                _tally(of_strip, 2, last_b, part_b[x], begin + x)
                last_a, last_b = part_a[x], part_b[x]
        _tally(of_strip, 0, last_a & last_b, np.int32(0), last)
        _tally(of_strip, 1, last_a, np.int32(0), last)
        _tally(of_strip, 2, last_b, np.int32(0), last)
        counts[strip] = of_strip
    return counts.sum(axis=0)[:classes]


@njit(cache=True, nogil=True)
def _overlap_runs(a, b):
    both, in_a, in_b, j = 0, 0, 0, 0
    for j in range(len(b)):
        in_b += b[j, 1]
    j = 0
    for i in range(len(a)):
        start, stop = a[i, 0], a[i, 0] + a[i, 1]
        in_a += a[i, 1]
        while j < len(b) and b[j, 0] + b[j, 1] <= start:
            j += 1
        at = j
        while at < len(b) and b[at, 0] < stop:
            both += min(stop, b[at, 0] + b[at, 1]) - max(start, b[at, 0])
            at += 1
    return both, in_a, in_b
