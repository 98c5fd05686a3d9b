"""Decoders that join maps of several strides at stride 4: DeepLabV3+, UPerNet, SegFormer, HRNet."""

from collections.abc import Sequence

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional

from carpus import config
from carpus.errors import ConfigError
from carpus.models import encoders
from carpus.models.network import Parts

HRNETS = ("hrnet_w18_small", "hrnet_w18_small_v2", "hrnet_w18", "hrnet_w30", "hrnet_w32", "hrnet_w48")


def deeplabv3plus(settings: config.Model, classes: int) -> Parts:
    """DeepLabV3+ (Chen et al. 2018), encoder at stride 16, as in segmentation-models-pytorch."""
    if settings.encoder.startswith(("mit_", "tu-swin", "tu-convnext", "tu-hrnet")):
        raise ConfigError(f"model.encoder: {settings.encoder} cannot be dilated to stride 16; a ResNet can")
    width = _width(settings, 256)
    made = encoders.whole(smp.DeepLabV3Plus, settings.encoder, classes, decoder_channels=width)
    return Parts(made.encoder, made.decoder, encoders.channels(made.encoder), width, 4)


def upernet(settings: config.Model, classes: int) -> Parts:
    """UPerNet (Xiao et al. 2018), as in segmentation-models-pytorch."""
    width = _width(settings, 256)
    made = encoders.whole(smp.UPerNet, settings.encoder, classes, decoder_channels=width)
    return Parts(made.encoder, made.decoder, encoders.channels(made.encoder), width, 4)


def segformer(settings: config.Model, classes: int) -> Parts:
    """SegFormer (Xie et al. 2021): MiT and an all-MLP decoder, as in segmentation-models-pytorch."""
    if not settings.encoder.startswith("mit_"):
        raise ConfigError(f"model.encoder: segformer has mit_b0 to mit_b5, got {settings.encoder}")
    width = _width(settings, 256)
    made = encoders.whole(smp.Segformer, settings.encoder, classes, decoder_segmentation_channels=width)
    return Parts(made.encoder, made.decoder, encoders.channels(made.encoder), width, 4)


def hrnet(settings: config.Model, classes: int) -> Parts:
    """HRNetV2 (Sun et al. 2019): the four branches of timm's HRNet, joined at stride 4."""
    if settings.encoder not in HRNETS:
        raise ConfigError(f"model.encoder: hrnet has {', '.join(HRNETS)}, got {settings.encoder}")
    encoder = smp.encoders.get_encoder(
        f"tu-{settings.encoder}", in_channels=1, **encoders.options(f"tu-{settings.encoder}")
    )
    channels = encoders.channels(encoder)
    joined = sum(channels[2:])
    width = _width(settings, joined)
    return Parts(encoder, Join(joined, width), channels, width, 4)


class Join(nn.Module):
    """HRNetV2's decoder: maps of strides 4 to 32 enlarged to 4, concatenated, mixed by a 1x1.

    Args:
        channels: of the four maps together.
        width: of the result.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        nn.init.kaiming_normal_(self.mix[0].weight, mode="fan_out", nonlinearity="relu")  # pyright: ignore

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Six maps of an encoder to one (B, width, h, w) of stride 4."""
        size = features[2].shape[-2:]
        coarse = [
            functional.interpolate(map_, size=size, mode="bilinear", align_corners=False) for map_ in features[3:]
        ]
        return self.mix(torch.cat([features[2], *coarse], dim=1))


def _width(settings: config.Model, default: int) -> int:
    widths = settings.decoder_channels or (default,)
    if len(widths) != 1:
        raise ConfigError(f"model.decoder_channels: {settings.name} has one width, got {len(widths)}")
    return widths[0]
