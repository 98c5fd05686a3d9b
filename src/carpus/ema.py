"""An exponential moving average of a network's weights (Polyak & Juditsky 1992): calmer than any single step's."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn


class Average:
    """The average of everything in a network that learns or is measured: parameters and floating-point buffers.

    Args:
        network: what is averaged; the average starts at its present weights.
        decay: how much of the average a step keeps, below 1. Early on it keeps less, (1 + step) / (10 + step), so
            that the random first weights are soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._live, self._decay = _floating(network), decay
        self.tensors = {name: tensor.clone() for name, tensor in self._live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after `step`, counted from 1."""
        keep = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
            list(self.tensors.values()), list(self._live.values()), 1 - keep
        )

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the network has the average for its weights; after it, its own again, bit for bit."""
        own = {name: tensor.clone() for name, tensor in self._live.items()}
        try:
            _copy(self.tensors, self._live)
            yield
        finally:
            _copy(own, self._live)


def _floating(network: nn.Module) -> dict[str, Tensor]:
    # Detached tensors share their memory with the network's own.
    state = cast(dict[str, Tensor], network.state_dict())
    return {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}


@torch.no_grad()
def _copy(source: dict[str, Tensor], target: dict[str, Tensor]) -> None:
    for name, tensor in target.items():
        tensor.copy_(source[name])
