"""BEiT with a UPerNet head: the parts of transformers, called directly.

Dimension key: B batch, H W image, N patches, C channels of a token.

transformers' own network gives no auxiliary logits, and it reads its four maps so early that the last blocks of the
encoder are left without a gradient. Here the maps come after the blocks that the paper's code names.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import BeitConfig, BeitModel
from transformers.models.beit.modeling_beit import BeitFPNNeck, BeitRelativePositionBias, BeitUperHead

from carpus import config
from carpus.errors import ConfigError
from carpus.models.network import Parts

PATCH_PX = 16
TABLE_PX = 640
"""Image size whose relative positions are stored; those of other sizes are interpolated from them."""


@dataclass(frozen=True)
class Size:
    """Width of a token, blocks, heads of a block, and the blocks, from 0, after which a map is read."""

    width: int
    blocks: int
    heads: int
    read: tuple[int, int, int, int]


SIZES = {
    "beit_tiny": Size(192, 12, 3, (3, 5, 7, 11)),
    "beit_base": Size(768, 12, 12, (3, 5, 7, 11)),
    "beit_large": Size(1024, 24, 16, (7, 11, 15, 23)),
}
"""`beit_tiny` has no published weights; it is there for small machines."""


def beit(settings: config.Model, classes: int) -> Parts:
    """BEiT (Bao et al. 2022) and UPerNet. Attention is over all patches, so memory grows with the fourth power of the
    side: 1024 is the practical limit.
    """
    if settings.encoder not in SIZES:
        raise ConfigError(f"model.encoder: beit has {', '.join(SIZES)}, got {settings.encoder}")
    if settings.decoder_channels:
        raise ConfigError("model.decoder_channels: the decoder of beit is as wide as its encoder; leave it null")
    if settings.norm == "frozen":
        raise ConfigError(
            f"model.norm: frozen keeps BatchNorm as it is, and {settings.encoder} has none but in the pyramid after "
            "it; take batch"
        )
    size = SIZES[settings.encoder]
    options = configuration(size, classes)
    encoder = Encoder(BeitModel(options, add_pooling_layer=False), BeitFPNNeck(options), size.read)
    return Parts(encoder, Decoder(options), encoder.out_channels, size.width, 4)


def configuration(size: Size, classes: int) -> BeitConfig:
    """The settings of transformers' networks."""
    return BeitConfig(
        hidden_size=size.width,
        num_hidden_layers=size.blocks,
        num_attention_heads=size.heads,
        intermediate_size=4 * size.width,
        image_size=TABLE_PX,
        patch_size=PATCH_PX,
        num_channels=1,
        num_labels=classes,  # pyright: ignore[reportCallIssue]
        use_relative_position_bias=True,
        layer_scale_init_value=1e-5 if size.blocks > 12 else 0.1,
        out_indices=list(size.read),  # pyright: ignore[reportCallIssue]
    )


class Encoder(nn.Module):
    """Patches through the blocks of BEiT; four of their states become maps of strides 4, 8, 16, 32.

    Args:
        beit: transformers' BEiT, of which embedding and blocks are used.
        fpn: four maps of stride 16 to strides 4, 8, 16, 32.
        read: the blocks, from 0, after which a map is read.
    """

    def __init__(self, beit: BeitModel, fpn: nn.Module, read: tuple[int, ...]) -> None:
        super().__init__()
        # What follows the blocks serves classification and would never see a gradient.
        beit.layernorm = nn.Identity()
        self.beit, self.fpn, self.read = beit, fpn, read
        width = int(beit.config.hidden_size)
        self.out_channels = (1, 0, width, width, width, width)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, 1, H, W), H and W multiples of 32, to six maps; that of stride 2 is empty."""
        batch, _, height, width = images.shape
        rows, columns = height // PATCH_PX, width // PATCH_PX
        patches = self.beit.embeddings.patch_embeddings.projection(images).flatten(2).transpose(1, 2)  # (B, N, C)
        tokens = torch.cat([self.beit.embeddings.cls_token.expand(batch, -1, -1), patches], dim=1)
        maps = []
        exporting = torch.compiler.is_exporting()
        if exporting:  # to ONNX, whose exporter loses the strides of what torch's fused attention gives
            self.beit.set_attn_implementation("eager")
        elif not torch.compiler.is_compiling():
            # transformers keeps these for every network of the process: made while predicting, none could train.
            with torch.inference_mode(False):
                BeitRelativePositionBias.generate_relative_position_index((rows, columns))
        for number, block in enumerate(self.beit.layers):
            tokens = block(tokens, resolution=(height, width))
            if number in self.read:
                maps.append(tokens[:, 1:].transpose(1, 2).reshape(batch, -1, rows, columns))
        if exporting:
            self.beit.set_attn_implementation("sdpa")
        return [images, images.new_empty((batch, 0, height // 2, width // 2)), *self.fpn(tuple(maps))]


class Decoder(BeitUperHead):
    """transformers' UPerNet without its classifier, which every network here has as its own head."""

    def __init__(self, options: BeitConfig) -> None:
        super().__init__(options)
        self.classifier = nn.Identity()

    def forward(self, features: Sequence[Tensor]) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Six maps of an encoder to one (B, C, H / 4, W / 4)."""
        return super().forward(list(features[2:]))
