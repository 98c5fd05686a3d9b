"""Where the pixels of an upsampled axis lie between the logits it is computed from."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

VECTOR = 16


@dataclass(frozen=True, eq=False)
class Axis:
    """Where the `wide` pixels of one axis lie between its `narrow` logits.

    Gap g is between logits g - 1 and g, with the first and the last logit repeated outside: gaps 0..narrow.
    Columns are padded to a multiple of `VECTOR`.
    """

    gap: NDArray[np.int32]
    """(wide,) the gap of every pixel."""
    position: NDArray[np.floating]
    """(wide,) the weight of the logit after the gap."""
    first: NDArray[np.int32]
    """(gaps + 1,) the first pixel of every gap."""
    weight: NDArray[np.floating]
    """(slots, padded gaps) `position` by slot."""
    mask: NDArray[np.floating]
    """(slots, padded gaps) 1 where the slot holds a pixel."""


@lru_cache(maxsize=64)
def axis(narrow: int, wide: int, dtype: str) -> Axis:
    """The `Axis` of an upsampling from `narrow` to `wide` (align_corners=False), tables in `dtype`."""
    source = (np.arange(wide) + 0.5) * (narrow / wide) - 0.5
    gap = np.floor(source).astype(np.int32) + 1
    first = np.searchsorted(gap, np.arange(narrow + 2)).astype(np.int32)
    slots = int(np.diff(first).max())
    padded = -(-(narrow + 1) // VECTOR) * VECTOR
    weight, mask = np.zeros((slots, padded), dtype), np.zeros((slots, padded), dtype)
    slot = np.arange(wide) - first[gap]
    weight[slot, gap], mask[slot, gap] = source - np.floor(source), 1
    return Axis(gap, source - np.floor(source), first, weight, mask)


@dataclass(frozen=True, eq=False)
class Taps:
    """The two logits of every pixel along one axis and their weights, the numbers torch computes with."""

    table: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]
    """(wide,) each: the first logit, the second, the weight of the first, that of the second."""
    reach: tuple[NDArray[np.int32], NDArray[np.int32]]
    """(narrow,) each: the pixels that every logit takes part in, half open."""


@lru_cache(maxsize=64)
def taps(narrow: int, wide: int) -> Taps:
    """`Taps` of an upsampling from `narrow` to `wide`, bit for bit those of F.interpolate in float32."""
    index = np.arange(narrow)
    pixel = np.arange(wide)
    if narrow == wide:
        # torch copies: with a neighbour of weight 0, one that is not finite would spread.
        first, second, after = pixel, pixel, np.zeros(wide, np.float32)
    else:
        # A fused multiply-add of float32, as torch is compiled: the product is exact in float64.
        scale = np.float64(np.float32(narrow) / np.float32(wide))
        source = np.maximum(scale * (pixel + 0.5) - 0.5, 0).astype(np.float32)
        first = np.minimum(source.astype(np.int64), narrow - 1)
        second = np.minimum(first + 1, narrow - 1)
        after = np.clip(source - first.astype(np.float32), 0, 1)
    begin, end = np.searchsorted(second, index), np.searchsorted(first, index, side="right")
    indices = [array.astype(np.int32) for array in (first, second, begin, end)]
    return Taps((indices[0], indices[1], np.float32(1) - after, after), (indices[2], indices[3]))
