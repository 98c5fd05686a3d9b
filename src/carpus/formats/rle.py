"""Run lengths as text: the submission's (row by row, from 1) and COCO's (column by column, alternating).

Dimension key: H rows, W columns, R runs, N counts.

Both come in and go out as `Runs`: (R, 2) rows of (start, length), starts from 0, sorted and apart::

    mask       submission     as Runs            COCO counts (zeros first)    as Runs of the transposed map
    0 1 1      "2 2 6 1"      [[1, 2], [5, 1]]   [2, 1, 1, 2]                 [[2, 1], [4, 2]]
    0 0 1
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from carpus.errors import DataError
from carpus.kernels import Runs

_DIGITS = b"0123456789 \t\r\n"


def no_runs() -> Runs:
    """The runs of an empty mask."""
    return np.zeros((0, 2), np.int64)


def parse(text: object, size: tuple[int, int], source: str) -> Runs:
    """Read "start length start length ..." of one mask, row by row with the first pixel numbered 1.

    Args:
        text: the run lengths; "", None and NaN (what pandas makes of an empty cell) are the empty mask.
        size: (H, W) of the mask.
        source: the file and row, for the error.

    Returns:
        (R, 2) int64 runs from 0, sorted and apart (runs that touch are merged); (0, 2) for an empty mask.

    Raises:
        DataError: not digits, an odd number of them, a run of no pixels, past the image, unsorted or overlapping.
    """
    if text is None or (isinstance(text, float) and text != text):
        return no_runs()
    if not isinstance(text, str):
        raise DataError(f"{source}: expected text of run lengths, has {type(text).__name__} {text!r:.40}")
    data = text.encode("utf-8", "replace")
    if data.translate(None, _DIGITS):
        bad = re.search(r"[^ \t\r\n]*[^0-9 \t\r\n][^ \t\r\n]*", text)
        raise DataError(f"{source}: run lengths are whole numbers, has {bad and bad.group()!r:.40}")
    if not data.strip():
        return no_runs()
    # Only digits and blanks are left, which leaves fromstring nothing to misread; past 2**63 - 1 it saturates.
    values = np.fromstring(data, np.int64, sep=" ")
    if len(values) % 2:
        raise DataError(f"{source}: expected pairs of start and length, has an odd number of values ({len(values)})")
    runs = values.reshape(-1, 2)
    starts, lengths = runs[:, 0], runs[:, 1]
    pixels = size[0] * size[1]
    if values.min() < 1:
        row = int(np.flatnonzero((runs < 1).any(axis=1))[0])
        raise DataError(f"{source}: run {row}: start and length count from 1, has {_pair(runs, row)}")
    # Both are compared with the size before they are added, so that the sum cannot wrap.
    if values.max() > pixels or (starts + lengths).max() > pixels + 1:
        beyond = (runs > pixels).any(axis=1)
        row = int(np.flatnonzero(beyond | (np.where(beyond, 0, starts + lengths) > pixels + 1))[0])
        raise DataError(
            f"{source}: run {row}: {_pair(runs, row)} ends beyond the {size[0]} x {size[1]} image of {pixels} pixels"
        )
    gaps = starts[1:] - starts[:-1] - lengths[:-1]
    least = gaps.min() if len(gaps) else 1
    if least < 0:
        row = int(np.flatnonzero(gaps < 0)[0]) + 1
        fault = "overlaps" if starts[row] >= starts[row - 1] else "starts before"
        raise DataError(f"{source}: run {row}: {_pair(runs, row)} {fault} the run before it, {_pair(runs, row - 1)}")
    starts -= 1
    return runs if least else _merge(starts, starts + lengths, gaps > 0)


def unite(parts: Sequence[Runs]) -> Runs:
    """The runs of the union of several masks of one size, each given as runs."""
    if len(parts) == 1:
        return parts[0]
    runs = np.concatenate(parts) if parts else no_runs()
    if not len(runs):
        return no_runs()
    runs = runs[np.argsort(runs[:, 0], kind="stable")]
    ends = np.maximum.accumulate(runs.sum(axis=1))
    apart = runs[1:, 0] > ends[:-1]
    return _merge(runs[:, 0], ends, apart)


def from_counts(counts: object, size: tuple[int, int], source: str) -> Runs:
    """Read COCO's uncompressed counts: runs of zeros and ones in turn, zeros first.

    Args:
        counts: a list of whole numbers that add up to H x W.
        size: (H, W) of the mask.
        source: the file and field, for the error.

    Returns:
        (R, 2) int64 runs, counted column by column: the runs of the transposed mask.

    Raises:
        DataError: not a list of whole numbers, one below 0, or another sum.
    """
    if not isinstance(counts, list) or any(type(count) is not int for count in counts):
        raise DataError(f"{source}: expected a list of whole numbers")
    pixels = size[0] * size[1]
    if any(not 0 <= count <= pixels for count in counts):
        bad = next(count for count in counts if not 0 <= count <= pixels)
        raise DataError(f"{source}: expected counts from 0 to {pixels} ({size[0]} x {size[1]}), has {bad!s:.40}")
    return _runs_of(np.array(counts, np.int64), size, source)


def to_counts(runs: Runs, size: tuple[int, int]) -> list[int]:
    """Write runs of the transposed mask as COCO's uncompressed counts; an empty mask is one count of H x W."""
    return _counts_of(runs, size).tolist()


def from_compressed(text: object, size: tuple[int, int], source: str) -> Runs:
    """Read COCO's compressed counts: characters of 6 bits from "0", as pycocotools writes them.

    Args, returns and raises are those of `from_counts`; `text` is a str.
    """
    if not isinstance(text, str):
        raise DataError(f"{source}: expected compressed counts as text, has {type(text).__name__}")
    data = np.frombuffer(text.encode("utf-8", "replace"), np.uint8).astype(np.int64) - 48
    if not len(data):
        raise DataError(f"{source}: compressed counts are empty")
    if data.min() < 0 or data.max() > 63:
        raise DataError(f"{source}: compressed counts use the characters '0' to 'o' only")
    last = np.flatnonzero(data < 32)
    if not len(last) or last[-1] != len(data) - 1:
        raise DataError(f"{source}: compressed counts stop in the middle of a number")
    first = np.concatenate([[0], last[:-1] + 1])
    width = last - first + 1
    if width.max() > 7:
        raise DataError(f"{source}: compressed counts hold a number of more than 35 bits")
    place = np.arange(len(data)) - np.repeat(first, width)
    values = np.add.reduceat((data & 31) << (5 * place), first)
    values -= ((data[last] & 16) != 0).astype(np.int64) << (5 * width)
    # From the fourth on, a count is written as its difference from the one two before.
    values[2::2] = np.cumsum(values[2::2])
    values[1::2] = np.cumsum(values[1::2])
    return _runs_of(values, size, source)


def to_compressed(runs: Runs, size: tuple[int, int]) -> str:
    """Write runs of the transposed mask as COCO's compressed counts, byte for byte as pycocotools does."""
    values = _counts_of(runs, size)
    values[3:] -= values[1:-2].copy()
    # A number takes as many groups of 5 bits as its magnitude and one sign bit need.
    magnitude = np.where(values < 0, ~values, values)
    width = np.ones(len(values), np.int64)
    for groups in range(1, 7):
        width += magnitude >= 1 << (5 * groups - 1)
    first = np.cumsum(width) - width
    place = np.arange(int(width.sum())) - np.repeat(first, width)
    groups_of = (np.repeat(values, width) >> (5 * place)) & 31
    groups_of += np.where(place < np.repeat(width, width) - 1, 32, 0)
    return (groups_of + 48).astype(np.uint8).tobytes().decode("ascii")


def _pair(runs: Runs, row: int) -> str:
    return f"{runs[row, 0]} {runs[row, 1]}"


def _merge(starts: NDArray[np.int64], ends: NDArray[np.int64], apart: NDArray[np.bool_]) -> Runs:
    """Runs from sorted intervals; `apart` says where one does not touch the next."""
    begin, end = starts[np.concatenate([[True], apart])], ends[np.concatenate([apart, [True]])]
    return np.stack([begin, end - begin], axis=1)


def _runs_of(counts: NDArray[np.int64], size: tuple[int, int], source: str) -> Runs:
    pixels = size[0] * size[1]
    if len(counts) and (counts.min() < 0 or counts.max() > pixels):
        raise DataError(f"{source}: counts lie outside 0 to {pixels} ({size[0]} x {size[1]})")
    if int(counts.sum()) != pixels:
        raise DataError(f"{source}: counts add up to {int(counts.sum())}, expected {pixels} ({size[0]} x {size[1]})")
    ends = np.cumsum(counts)[1::2]
    lengths = counts[1::2]
    filled = lengths > 0
    if not filled.any():
        return no_runs()
    ends = ends[filled]
    starts = ends - lengths[filled]
    return _merge(starts, ends, starts[1:] > ends[:-1])


def _counts_of(runs: Runs, size: tuple[int, int]) -> NDArray[np.int64]:
    pixels = size[0] * size[1]
    # Where values change from 0 to 1 and back; the last run may reach the end, and then no zeros follow.
    edges = np.concatenate([[0], np.stack([runs[:, 0], runs.sum(axis=1)], axis=1).ravel(), [pixels]])
    counts = np.diff(edges)
    return counts[:-1] if len(runs) and counts[-1] == 0 else counts
