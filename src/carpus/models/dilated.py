"""FCN and DeepLabV3 on a dilated encoder, logits at stride 8: the heads of torchvision."""

from torchvision.models.segmentation.deeplabv3 import DeepLabHead
from torchvision.models.segmentation.fcn import FCNHead

from carpus import config
from carpus.errors import ConfigError
from carpus.models import encoders
from carpus.models.network import Last, Parts

TORCHVISION = ("resnet50", "resnet101", "resnet152")
"""Encoders that torchvision dilates; its smaller ResNets have blocks that it cannot."""


def fcn(settings: config.Model, classes: int) -> Parts:
    """FCN (Long et al. 2015) as in torchvision: a 3x3 convolution on the coarsest map."""
    if settings.decoder_channels:
        raise ConfigError("model.decoder_channels: fcn has a quarter of its encoder's channels; leave it null")
    encoder = _encoder(settings)
    channels = encoders.channels(encoder)
    decoder = Last(*list(FCNHead(channels[-1], classes))[:-1])
    return Parts(encoder, decoder, channels, channels[-1] // 4, 8)


def deeplabv3(settings: config.Model, classes: int) -> Parts:
    """DeepLabV3 (Chen et al. 2017) as in torchvision: convolutions of several dilations side by side."""
    if settings.decoder_channels:
        raise ConfigError("model.decoder_channels: deeplabv3 always has 256; leave it null")
    encoder = _encoder(settings)
    channels = encoders.channels(encoder)
    return Parts(encoder, Last(*list(DeepLabHead(channels[-1], classes))[:-1]), channels, 256, 8)


def _encoder(settings: config.Model):
    if settings.encoder.startswith(("mit_", "tu-swin", "tu-convnext", "tu-hrnet")):
        raise ConfigError(f"model.encoder: {settings.encoder} cannot be dilated to stride 8; a ResNet can")
    return encoders.dilated(settings.encoder, torchvision=settings.encoder in TORCHVISION)
