"""A learned enlargement of the logits by a factor s.

Dimension key: B batch, K classes, C channels of the decoder's map, h w its size.

``shuffle``: bilinear(z) + shuffle(conv(f)), f the decoder's map, the convolution zero at first.

``transposed``: a transposed convolution of the logits, kernel 2 s, stride s, on logits padded by repeating the border.
With the bilinear kernel in every class and nothing between classes that *is* bilinear enlargement, borders included.

ICNR (Aitken et al. 2017) begins with s*s equal kernels: the shuffled part begins as a *nearest* enlargement of
something random, not as bilinear, and so it is no no-op.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from carpus import config


def enlarge(logits: Tensor, factor: int) -> Tensor:
    """Bilinear enlargement (B, K, h, w) to (B, K, s h, s w), as the loss and the predictor do it."""
    return functional.interpolate(logits, scale_factor=float(factor), mode="bilinear", align_corners=False)


class Bilinear(nn.Module):
    """What an up layer of factor `factor` begins as."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, decoded: Tensor, logits: Tensor) -> Tensor:
        """Logits (B, K, h, w) to (B, K, s h, s w); the decoder's map is not looked at."""
        return enlarge(logits, self.factor)


class Shuffle(nn.Module):
    """Bilinear enlargement and a correction from the decoder's map.

    Args:
        width: C.
        classes: K.
        factor: s.
    """

    def __init__(self, width: int, classes: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.convolution = nn.Conv2d(width, classes * factor**2, 3, padding=1)

    def forward(self, decoded: Tensor, logits: Tensor) -> Tensor:
        """The decoder's map (B, C, h, w) and logits (B, K, h, w) to logits (B, K, s h, s w)."""
        return enlarge(logits, self.factor) + functional.pixel_shuffle(self.convolution(decoded), self.factor)


class Transposed(nn.Module):
    """A transposed convolution of the logits.

    Args:
        classes: K.
        factor: s.
    """

    def __init__(self, classes: int, factor: int) -> None:
        super().__init__()
        # Padding by a pixel adds s to each side, and half of a kernel of 2 s hangs over: 3 s / 2 are cut off.
        self.convolution = nn.ConvTranspose2d(classes, classes, 2 * factor, stride=factor, padding=factor + factor // 2)

    def forward(self, decoded: Tensor, logits: Tensor) -> Tensor:
        """Logits (B, K, h, w) to (B, K, s h, s w); the decoder's map is not looked at."""
        return self.convolution(functional.pad(logits, (1, 1, 1, 1), mode="replicate"))


def build(settings: config.Up, width: int, classes: int) -> nn.Module:
    """An up layer: the decoder's map (B, C, h, w) and logits (B, K, h, w) to logits (B, K, s h, s w)."""
    factor = settings.factor
    if settings.kind == "transposed":
        transposed = Transposed(classes, factor)
        if settings.init == "noop":
            _bilinear(transposed.convolution, factor)
        return transposed
    shuffle = Shuffle(width, classes, factor)
    convolution = shuffle.convolution
    if settings.init == "noop":
        nn.init.zeros_(convolution.weight)
        nn.init.zeros_(convolution.bias)  # pyright: ignore[reportArgumentType]
    elif settings.init == "icnr":
        with torch.no_grad():
            for parameter in (convolution.weight, convolution.bias):
                assert parameter is not None
                parameter.copy_(parameter[:: factor**2].repeat_interleave(factor**2, dim=0))
    return shuffle


@torch.no_grad()
def _bilinear(convolution: nn.ConvTranspose2d, factor: int) -> None:
    tent = 1 - (torch.arange(2 * factor) + 0.5 - factor).abs() / factor
    convolution.weight.zero_()
    for k in range(convolution.in_channels):
        convolution.weight[k, k] = tent[:, None] * tent[None, :]
    assert convolution.bias is not None
    convolution.bias.zero_()
