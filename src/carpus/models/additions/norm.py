"""BatchNorm exchanged for another norm, scale and shift kept.

GroupNorm is no no-op: it normalises by the image at hand, BatchNorm in evaluation by what it has seen. It is a method
of its own, for batches too small for BatchNorm, and the control of an addition has it too.
"""

from typing import cast

from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

GROUPS, CHANNELS_OF_GROUP = 32, 8
"""Wu & He 2018 take 32 groups; no group is so narrow that a 1x1 map, as of image pooling, would vanish in it."""


class _Activated(nn.GroupNorm):
    """GroupNorm in place of timm's BatchNorm, which has dropout and activation within."""

    def __init__(self, groups: int, channels: int, drop: nn.Module, activation: nn.Module) -> None:
        super().__init__(groups, channels)
        self.drop, self.act = drop, activation

    def forward(self, input: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(input)))


def group(network: nn.Module) -> None:
    """Exchange every BatchNorm in `network` for a GroupNorm of the same scale, shift and name."""
    for parent in list(network.modules()):
        for name, norm in list(parent.named_children()):
            if isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, _grouped(norm))


def _grouped(norm: nn.BatchNorm2d) -> nn.GroupNorm:
    channels = norm.num_features
    groups = next(
        count for count in range(min(GROUPS, max(1, channels // CHANNELS_OF_GROUP)), 0, -1) if channels % count == 0
    )
    if isinstance(norm, BatchNormAct2d):
        made = _Activated(groups, channels, cast(nn.Module, norm.drop), cast(nn.Module, norm.act))
    else:
        made = nn.GroupNorm(groups, channels)
    made.load_state_dict({"weight": norm.weight.detach(), "bias": norm.bias.detach()}, strict=False)
    return made.to(norm.weight.device)


def freeze(encoder: nn.Module) -> int:
    """Let scale and shift of every BatchNorm in `encoder` learn no more; `Network.train` keeps its statistics.

    Returns:
        How many there are.
    """
    norms = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in norms:
        module.requires_grad_(False)
    return len(norms)
