"""Several answers to one image made one: weighted means of probabilities or of logits.

Dimension key: M members, K classes, h w logit resolution.
"""

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Kind = Literal["probabilities", "logits"]


class Mean:
    """A weighted mean of logits (1, K, h, w), added up one at a time, at the resolution of the first.

    It lies between the least and the largest answer that counts, whatever rounds: equal answers come back bit for bit.

    Args:
        kind: what is averaged; the result is logits either way.
    """

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        # The mean is over / under: of logits their sum and the weights', of probabilities, as odds, the sum for the
        # class and the sum against it. One minus the sum for it would know a sure class by its rounding only.
        self._over = self._under = self._least = self._most = torch.empty(0)

    def add(self, logits: Tensor, weight: Tensor | None = None, seen: Tensor | None = None) -> None:
        """Add one answer.

        Args:
            logits: (1, K, h, w) float32; of another resolution than the first they are resized bilinearly.
            weight: (K,) what every class of it counts, 1 by default.
            seen: (h, w) bool, where it says anything; everywhere by default.
        """
        first = not self._over.numel()
        worth = torch.ones_like(logits[:, :, :1, :1]) if weight is None else weight.to(logits)[None, :, None, None]
        if seen is not None:
            worth = worth * seen
        if not first and logits.shape[-2:] != (grid := self._over.shape[-2:]):
            logits = functional.interpolate(logits, grid, mode="bilinear", align_corners=False)
            if seen is not None:
                worth = functional.interpolate(worth, grid, mode="nearest-exact")
        over, under = logits * worth, worth
        if self._kind == "probabilities":
            over, under = torch.sigmoid(logits).mul_(worth), torch.neg(logits).sigmoid_().mul_(worth)
        least = most = logits
        if not (counts := worth > 0).all():
            least, most = logits.where(counts, math.inf), logits.where(counts, -math.inf)
        if first:
            self._over, self._under, self._least, self._most = over, under, least, most
        else:
            self._over, self._under = self._over + over, self._under + under
            self._least, self._most = torch.minimum(self._least, least), torch.maximum(self._most, most)

    def logits(self) -> Tensor:
        """The mean as logits (1, K, h, w) float32. Every pixel needs an answer that has seen it."""
        mean = self._over / self._under
        if self._kind == "probabilities":
            mean.log_()
        return mean.clamp_(self._least, self._most)


def weighted(answers: Iterable[Tensor], weights: NDArray[np.float64], kind: Kind) -> Tensor:
    """The mean (1, K, h, w) of M answers as logits, each weighted class by class: `weights` (M, K)."""
    mean = Mean(kind)
    for logits, weight in zip(answers, weights, strict=True):
        mean.add(logits, torch.from_numpy(weight).float())
    return mean.logits()
