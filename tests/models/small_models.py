"""Every architecture at its smallest, and every addition."""

from typing import Any

import torch
from torch import nn

from carpus import config, models

SMALL: dict[str, dict[str, Any]] = {
    "unet": {"name": "unet", "decoder_channels": (16, 16, 16, 8, 8), "stride": 4},
    "unetplusplus": {"name": "unetplusplus", "decoder_channels": (16, 16, 16, 8, 8)},
    "fcn": {"name": "fcn"},
    "deeplabv3": {"name": "deeplabv3"},
    "deeplabv3plus": {"name": "deeplabv3plus", "decoder_channels": (32,)},
    "upernet": {"name": "upernet", "decoder_channels": (32,)},
    "upernet-convnext": {"name": "upernet", "encoder": "tu-convnext_atto", "decoder_channels": (32,)},
    "upernet-swin": {"name": "upernet", "encoder": "tu-swin_tiny_patch4_window7_224", "decoder_channels": (32,)},
    "segformer": {"name": "segformer", "encoder": "mit_b0", "decoder_channels": (32,)},
    "hrnet": {"name": "hrnet", "encoder": "hrnet_w18_small"},
    "beit": {"name": "beit", "encoder": "beit_tiny"},
}

STRIDES = {"unet": 4, "unetplusplus": 1, "fcn": 8, "deeplabv3": 8}
"""Of the logits of `SMALL`; 4 where nothing is said."""

NOOPS: dict[str, dict[str, Any]] = {
    "down-shuffle": {"down": {}},
    "down-strided": {"down": {"kind": "strided"}},
    "up-shuffle": {"up": {}},
    "up-transposed": {"up": {"kind": "transposed", "factor": 4}},
    "down-and-up": {"down": {}, "up": {}},
    "pointwise": {"refine": {"kind": "pointwise"}},
    "local": {"refine": {"kind": "local"}},
    "depthwise": {"refine": {"kind": "depthwise"}},
    "attention": {"refine": {"kind": "attention"}},
    "control": {"refine": {"kind": "local", "control": True}},
    "calibration": {"calibration": True},
    "aux": {"aux": [{"stage": 4}, {"stage": 3, "weight": 0.1}]},
}
"""Settings of every addition, begun as a no-op."""

CLASSES = 5


def settings(name: str, **more: Any) -> config.Model:
    return config.Model.model_validate({**SMALL[name], **more})


def build(chosen: config.Model, seed: int = 0) -> models.Network:
    torch.manual_seed(seed)
    return models.build(chosen, CLASSES)


def pictures(side: int = 64, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 1, side, side, generator=torch.Generator().manual_seed(3))


def spread(network: nn.Module) -> nn.Module:
    """Give BatchNorm statistics and biases that are not those of the first day, so that equality means something."""
    chance = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1, generator=chance)
                module.running_var.uniform_(0.8, 1.25, generator=chance)
    return network
