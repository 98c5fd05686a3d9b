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
