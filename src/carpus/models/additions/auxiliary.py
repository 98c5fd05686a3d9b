"""Auxiliary heads: a small FCN head on a map of the encoder, whose loss is added while training.

Source: PSPNet (Zhao et al. 2017), section 3.3; the layers are those of torchvision's FCN head.
"""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from carpus import config
from carpus.errors import ConfigError


def build(settings: config.Aux, channels: Sequence[int], classes: int, prior: float) -> nn.Sequential:
    """A head: a map (B, C, h, w) of the encoder to logits (B, K, h, w).

    Args:
        settings: stage and width.
        channels: of the encoder's six maps.
        classes: K.
        prior: bias of the classifier.

    Raises:
        ConfigError: the encoder has no map at that stage.
    """
    incoming = channels[settings.stage]
    if not incoming:
        there = ", ".join(str(stage) for stage, count in enumerate(channels) if stage and count)
        raise ConfigError(f"model.aux: the encoder has no map at stage {settings.stage}, but at {there}")
    width = settings.channels or max(incoming // 4, 8)
    classifier = nn.Conv2d(width, classes, 1)
    nn.init.constant_(cast(Tensor, classifier.bias), prior)
    convolution = nn.Conv2d(incoming, width, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.1), classifier)


def loss_weights(settings: Sequence[config.Aux], progress: float) -> tuple[float, ...]:
    """Weights of the main loss, 1, and of the auxiliary ones, at `progress` 0..1 of the training.

    Example:
        >>> loss_weights([config.Aux(weight=0.4, final_weight=0)], 0.5)
        (1.0, 0.2)
    """
    final = [aux.weight if aux.final_weight is None else aux.final_weight for aux in settings]
    moved = (aux.weight + progress * (end - aux.weight) for aux, end in zip(settings, final, strict=True))
    return 1.0, *moved
