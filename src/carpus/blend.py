"""Several answers to one image made one: weighted means of probabilities or of logits.

Dimension key: M members, K classes, h w logit resolution.
"""

from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Kind = Literal["probabilities", "logits"]

_SURE = 1e-7
"""A mean probability stays this far from 0 and 1, where its logit would be infinite."""


class Mean:
    """A weighted mean of logits (1, K, h, w), added up one at a time, at the resolution of the first.

    Args:
        kind: what is averaged; the result is logits either way.
    """

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._total = self._weights = torch.empty(0)

    def add(self, logits: Tensor, weight: Tensor | None = None, seen: Tensor | None = None) -> None:
        """Add one answer.

        Args:
            logits: (1, K, h, w) float32; of another resolution than the first they are resized bilinearly.
            weight: (K,) what every class of it counts, 1 by default.
            seen: (h, w) bool, where it says anything; everywhere by default.
        """
        worth = torch.ones_like(logits[:, :, :1, :1]) if weight is None else weight.to(logits)[None, :, None, None]
        if seen is not None:
            worth = worth * seen
        values = torch.sigmoid(logits) if self._kind == "probabilities" else logits
        if not self._total.numel():
            self._total, self._weights = values * worth, worth
            return
        grid = self._total.shape[-2:]
        if values.shape[-2:] != grid:
            values = functional.interpolate(values, grid, mode="bilinear", align_corners=False)
            if seen is not None:
                worth = functional.interpolate(worth, grid, mode="nearest-exact")
        self._total = self._total + values * worth
        self._weights = self._weights + worth

    def logits(self) -> Tensor:
        """The mean as logits (1, K, h, w) float32. Every pixel needs an answer that has seen it."""
        mean = self._total / self._weights
        return torch.logit(mean, _SURE) if self._kind == "probabilities" else mean


def weighted(answers: Iterable[Tensor], weights: NDArray[np.float64], kind: Kind) -> Tensor:
    """The mean (1, K, h, w) of M answers as logits, each weighted class by class: `weights` (M, K)."""
    mean = Mean(kind)
    for logits, weight in zip(answers, weights, strict=True):
        mean.add(logits, torch.from_numpy(weight).float())
    return mean.logits()
