"""A learned halving of the image before the encoder.

Dimension key: B batch, H W image.

``shuffle``: mean2x2(x) + conv(unshuffle(x)), the convolution zero at first. One channel, the encoder is untouched.

``strided``: a strided convolution to eight channels, the encoder's first projection widened to see them. As a no-op
channel 0 is the 2x2 mean, and the projection has its weights there and zeros for the others; at random both are anew,
the pretrained projection is lost, and with it what every later layer was trained to expect.
"""

from torch import Tensor, nn
from torch.nn import functional

from carpus import config

CHANNELS = 8
"""Channels of a strided down layer."""


class Shuffle(nn.Module):
    """(B, 1, H, W) to (B, 1, H/2, W/2): the 2x2 mean and a correction from those pixels and the next."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Halve images (B, 1, H, W), H and W even."""
        return functional.avg_pool2d(images, 2) + self.convolution(functional.pixel_unshuffle(images, 2))


def build(settings: config.Down) -> nn.Module:
    """A down layer: images (B, 1, H, W) to (B, 1 or 8, H/2, W/2)."""
    if settings.kind == "strided":
        strided = nn.Conv2d(1, CHANNELS, 2, stride=2)
        if settings.init == "noop":
            nn.init.constant_(strided.weight[0], 0.25)
            nn.init.zeros_(strided.bias[:1])  # pyright: ignore[reportOptionalSubscript]
        return strided
    shuffle = Shuffle()
    if settings.init == "noop":
        nn.init.zeros_(shuffle.convolution.weight)
        nn.init.zeros_(shuffle.convolution.bias)  # pyright: ignore[reportArgumentType]
    return shuffle


def first_projections(encoder: nn.Module) -> dict[str, nn.Conv2d]:
    """The convolutions that see the grey image, by name: one, or several side by side, or none."""
    return {
        name: module
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Conv2d) and module.in_channels == 1
    }


def widen(projection: nn.Conv2d, init: str) -> None:
    """Give a projection of one channel as many as a strided down layer has.

    Args:
        projection: changed in place.
        init: noop: the new channels begin at zero; random: all begin anew.
    """
    old = projection.weight.detach()  # (C, 1, k, k)
    projection.in_channels = CHANNELS
    projection.weight = nn.Parameter(old.new_zeros(old.shape[0], CHANNELS, *old.shape[2:]))
    if init == "noop":
        projection.weight.data[:, :1] = old
    else:
        projection.reset_parameters()


def halve(images: Tensor) -> Tensor:
    """What a network without a down layer sees in its place: the 2x2 mean, which is also bilinear halving."""
    return functional.avg_pool2d(images, 2)
