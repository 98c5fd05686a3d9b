"""Encoders of segmentation-models-pytorch and, named ``tu-...``, of timm: images to six maps."""

from collections.abc import Callable
from typing import Any

import segmentation_models_pytorch as smp
from segmentation_models_pytorch.encoders.mix_transformer import Attention as MixTransformerAttention
from torch import Tensor, nn
from torch.nn import functional

from carpus.errors import ConfigError

STRIDES = (1, 2, 4, 8, 16, 32)
"""Nominal strides of the six maps."""

Whole = Callable[..., Any]
"""A class of segmentation-models-pytorch, of which encoder and decoder are used."""


def options(encoder: str) -> dict[str, Any]:
    """Arguments that a timm model needs to be an encoder for images of any size."""
    if encoder.startswith("tu-swin"):
        return {"strict_img_size": False}
    # The branches themselves, without the layers that widen them for a classifier.
    return {"feature_location": ""} if encoder.startswith("tu-hrnet") else {}


def whole(kind: Whole, encoder: str, classes: int, **arguments: Any) -> Any:
    """A network of segmentation-models-pytorch for grey images, with random weights.

    Raises:
        ConfigError: an unknown encoder, or one that this architecture cannot use.
    """
    try:
        made = kind(encoder, encoder_weights=None, in_channels=1, classes=classes, **options(encoder), **arguments)
    except (KeyError, ValueError, TypeError, RuntimeError, NotImplementedError) as error:
        raise ConfigError(f"model.encoder: {encoder} with {kind.__name__}: {_first_line(error)}") from error
    _fuse_attention(made.encoder)
    return made


def dilated(encoder: str, *, torchvision: bool) -> Any:
    """An encoder whose last two stages keep stride 8 by dilation, with random weights.

    Args:
        encoder: its name.
        torchvision: dilate as torchvision does, whose first block of a stage keeps the dilation of the stage before.

    Raises:
        ConfigError: an unknown encoder, or one that cannot be dilated.
    """
    try:
        if not torchvision:
            return smp.encoders.get_encoder(encoder, in_channels=1, output_stride=8, **options(encoder))
        entry = smp.encoders.encoders[encoder]
        made = entry["encoder"](**entry["params"], replace_stride_with_dilation=[False, True, True])
        made.set_in_channels(1, pretrained=False)
        return made
    except (KeyError, ValueError, TypeError, RuntimeError, NotImplementedError) as error:
        raise ConfigError(f"model.encoder: {encoder} with stride 8: {_first_line(error)}") from error


def channels(encoder: nn.Module) -> tuple[int, ...]:
    """Channels of the six maps; 0 where there is none."""
    return tuple(int(count) for count in encoder.out_channels)  # pyright: ignore


def _first_line(error: Exception) -> str:
    return str(error).strip("'\"").splitlines()[0][:300]


class _Attention(MixTransformerAttention):
    """MiT's attention by torch's kernel, which never holds queries x keys: at 2048 these are 10**9 numbers a head."""

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        batch, count, channels = x.shape
        shape = (batch, -1, self.num_heads, channels // self.num_heads)
        query = self.q(x).reshape(shape).transpose(1, 2)
        if self.sr_ratio > 1:
            x = x.transpose(1, 2).view(batch, channels, height, width)
            x = self.norm(self.sr(x).reshape(batch, channels, -1).transpose(1, 2))
        key, value = self.kv(x).reshape(batch, -1, 2, *shape[2:]).permute(2, 0, 3, 1, 4)
        dropout = self.attn_drop.p if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout, scale=self.scale)
        return self.proj_drop(self.proj(mixed.transpose(1, 2).reshape(batch, count, channels)))


def _fuse_attention(encoder: nn.Module) -> None:
    for module in encoder.modules():
        if type(module) is MixTransformerAttention:
            module.__class__ = _Attention
