"""What every network returns."""

from typing import NamedTuple

from torch import Tensor


class Output(NamedTuple):
    """Logits (B, K, h, w) at the network's own stride, and those of auxiliary heads, at theirs."""

    logits: Tensor
    aux: tuple[Tensor, ...] = ()
