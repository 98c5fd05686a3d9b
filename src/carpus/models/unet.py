"""U-Net and U-Net++: the decoders of segmentation-models-pytorch, logits at a stride of choice."""

import segmentation_models_pytorch as smp

from carpus import config
from carpus.errors import ConfigError
from carpus.models import encoders
from carpus.models.network import Parts

WIDTHS = (256, 128, 64, 32, 16)
"""Channels of the five decoder blocks, coarse to fine."""


def unet(settings: config.Model, classes: int) -> Parts:
    """U-Net (Ronneberger et al. 2015). Fewer decoder blocks give coarser logits."""
    widths = _widths(settings)
    made = encoders.whole(smp.Unet, settings.encoder, classes, decoder_channels=list(widths))
    kept, _ = left_out(settings)
    made.decoder.blocks = made.decoder.blocks[:kept]
    return Parts(made.encoder, made.decoder, encoders.channels(made.encoder), widths[kept - 1], settings.stride or 1)


def left_out(settings: config.Model) -> tuple[int, int]:
    """The first block of the decoder that `model.stride` does without, and one past the last."""
    return len(WIDTHS) - ((settings.stride or 1).bit_length() - 1), len(WIDTHS)


def unetplusplus(settings: config.Model, classes: int) -> Parts:
    """U-Net++ (Zhou et al. 2018), without deep supervision; see `Aux` for that."""
    widths = _widths(settings)
    if (settings.stride or 1) != 1:
        raise ConfigError(
            f"model.stride: the nodes of U-Net++ all lead to stride 1, got {settings.stride}; unet has 1, 2, 4, 8"
        )
    if settings.encoder.startswith(("mit_", "tu-swin", "tu-convnext")):
        raise ConfigError(f"model.encoder: {settings.encoder} has no map of stride 2, which unetplusplus needs")
    made = encoders.whole(smp.UnetPlusPlus, settings.encoder, classes, decoder_channels=list(widths))
    return Parts(made.encoder, made.decoder, encoders.channels(made.encoder), widths[-1], 1)


def _widths(settings: config.Model) -> tuple[int, ...]:
    widths = settings.decoder_channels or WIDTHS
    if len(widths) != len(WIDTHS):
        raise ConfigError(f"model.decoder_channels: a U-Net has five decoder blocks, got {len(widths)}")
    return widths
