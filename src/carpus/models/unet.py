"""U-Net: encoder and decoder of segmentation-models-pytorch, logits at a stride of choice."""

from pathlib import Path
from typing import cast

import segmentation_models_pytorch as smp
from torch import Tensor, nn

from carpus import config
from carpus.errors import ConfigError
from carpus.models.output import Output
from carpus.models.weights import load_encoder

PRIOR_LOGIT = -4.0
"""Bias of an untrained classifier: probability 0.018 (Lin et al. 2017, focal loss, section 4.1)."""


class UNet(nn.Module):
    """Encoder, decoder and a 1x1 classifier.

    Args:
        encoder: gives features from stride 1 to 32, fine to coarse.
        decoder: turns them into one map (B, C, h, w).
        head: C channels to K logits.
    """

    def __init__(self, *, encoder: nn.Module, decoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder, self.head = encoder, decoder, head

    def forward(self, images: Tensor) -> Output:
        """Images (B, 1, S, S) to logits (B, K, S / stride, S / stride)."""
        return Output(self.head(self.decoder(self.encoder(images))))


def build(settings: config.Model, classes: int) -> UNet:
    """Build a `UNet`; fewer decoder blocks give coarser logits, which the loss and the predictor upsample."""
    blocks = len(settings.decoder_channels)
    if blocks != 5:
        raise ConfigError(f"model.decoder_channels: a U-Net has five decoder blocks, got {blocks}")
    local = settings.weights is not None and Path(settings.weights).is_file()
    try:
        whole = smp.Unet(
            settings.encoder,
            encoder_weights=None if local else settings.weights,
            decoder_channels=list(settings.decoder_channels),
            in_channels=1,
            classes=classes,
        )
    except OSError as error:
        raise ConfigError(
            f"model.weights: {settings.weights} could not be fetched ({error.__class__.__name__}); without a network, "
            "give the path of a local .safetensors file"
        ) from error
    if local:
        load_encoder(whole.encoder, Path(str(settings.weights)))
    dropped = {1: 0, 2: 1, 4: 2, 8: 3}[settings.stride]
    whole.decoder.blocks = whole.decoder.blocks[: blocks - dropped]
    head = nn.Conv2d(settings.decoder_channels[blocks - dropped - 1], classes, kernel_size=1)
    # A bone covers less than a hundredth of the image: begun at that, training need not first unlearn one half.
    nn.init.constant_(cast(Tensor, head.bias), PRIOR_LOGIT)
    return UNet(encoder=whole.encoder, decoder=whole.decoder, head=head)
