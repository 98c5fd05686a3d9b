"""Probabilities in a byte, spaced as logits are: what soft labels are kept, warped and upsampled as.

Labels are where upsampled logits are above zero, and so are soft ones. Probabilities upsampled as such move borders and
make small bones larger, which a network at the same resolution could not follow. With a = tanh(LIMIT / 2)

    code = 255 (1 + x / LIMIT) / 2,  x = 2 atanh(a (2 p - 1)),   so that   p = (1 + tanh(x / 2) / a) / 2

x is the logit, bent so that 0 and 1 have codes, 0 and 255. A code is at most `ERROR` off, near one half; below 0.01
and above 0.99 at most a tenth of that.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

LIMIT = 6.0
"""Of the logits that are told apart: beyond is a probability within 0.0025 of 0 or 1."""

BEND = math.tanh(LIMIT / 2)
"""a."""

ERROR = LIMIT / 255 / 4 / BEND
"""0.0059: half a code times the steepest slope, but for terms of third order."""


def encoded(probabilities: NDArray[np.floating]) -> NDArray[np.uint8]:
    """The codes of probabilities of any shape, which must lie in 0..1."""
    x = 2 * np.arctanh((2 * probabilities.astype(np.float64) - 1) * BEND)
    return np.rint((x / LIMIT + 1) * 127.5).astype(np.uint8)


def decoded(codes: Tensor) -> Tensor:
    """The probabilities of codes of any shape and floating point type, also between two whole ones."""
    return ((codes / 255 - 0.5) * LIMIT).tanh() / (2 * BEND) + 0.5
