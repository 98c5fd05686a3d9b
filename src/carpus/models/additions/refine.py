"""A correction of the logits from the logits, and a scale and bias for every class.

Dimension key: B batch, K classes, h w logits, D size of a query, G side of the grid a class is summed up on.

``pointwise`` is a 1x1 convolution, the identity at first. After a linear classifier it adds no capacity: W2 (W1 f + b1)
+ b2 is (W2 W1) f + (W2 b1 + b2), one linear classifier (`fold`). It changes how training moves, not what can be said.

To say more it takes a nonlinearity or a neighbourhood. The others are z + last(inner(tanh(z))), `last` zero at first:
tanh because a logit of -20 says no more than one of -4. ``local``: a 3x3. ``depthwise``: a 7x7 for every class, then a
1x1. ``attention``: the classes as tokens, summed up on a grid, decide which other classes' maps each one mixes in.
"""

import torch
from torch import Tensor, nn

from carpus import config


class Residual(nn.Module):
    """z + last(inner(tanh(z))), begun at z because `last` begins at zero.

    Args:
        inner: (B, K, h, w) to (B, M, h, w).
        last: a convolution (B, M, h, w) to (B, K, h, w).
    """

    def __init__(self, inner: nn.Module, last: nn.Conv2d) -> None:
        super().__init__()
        self.inner, self.last = inner, last

    def forward(self, logits: Tensor) -> Tensor:
        """Logits (B, K, h, w) to logits of the same shape."""
        return logits + self.last(self.inner(torch.tanh(logits)))


class Attention(nn.Module):
    """Every class becomes a mixture of the maps of all classes, chosen by where they are (B, K, h, w).

    A class is a token: its map's means on a G x G grid.

    Args:
        grid: G.
        size: D.
    """

    def __init__(self, grid: int = 16, size: int = 32) -> None:
        super().__init__()
        self.grid = grid
        self.query, self.key = nn.Linear(grid**2, size, bias=False), nn.Linear(grid**2, size, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, K, h, w) to mixtures of the same shape."""
        rows, columns = (_means(side, self.grid, maps) for side in maps.shape[2:])
        tokens = (rows @ maps @ columns.transpose(0, 1)).flatten(2)  # (B, K, G*G)
        agreement = self.query(tokens) @ self.key(tokens).transpose(1, 2)  # (B, K, K)
        shares = torch.softmax(agreement * self.query.out_features**-0.5, dim=-1)
        return torch.einsum("bkj,bjhw->bkhw", shares, maps)


def _means(side: int, cells: int, like: Tensor) -> Tensor:
    """A matrix (cells, side) of means, those of adaptive pooling, which an ONNX file cannot have at a dynamic size."""
    cell = torch.arange(cells, device=like.device)[:, None]
    pixel = torch.arange(side, device=like.device)
    inside = (pixel >= cell * side // cells) & (pixel < ((cell + 1) * side + cells - 1) // cells)
    return (inside / inside.sum(1, keepdim=True)).to(like.dtype)


class Calibration(nn.Module):
    """scale * z + bias with one of each for every class: learned temperatures and thresholds.

    They too could be folded into a linear classifier; what they add is a learning rate of their own.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.ones(classes)), nn.Parameter(torch.zeros(classes))

    def forward(self, logits: Tensor) -> Tensor:
        """Logits (B, K, h, w) to logits of the same shape."""
        return logits * self.scale[:, None, None] + self.bias[:, None, None]


def build(settings: config.Refine, classes: int) -> nn.Module:
    """A refinement: logits (B, K, h, w) to logits of the same shape."""
    if settings.kind == "pointwise":
        pointwise = nn.Conv2d(classes, classes, 1)
        if settings.init == "noop":
            nn.init.dirac_(pointwise.weight)
            nn.init.zeros_(pointwise.bias)  # pyright: ignore[reportArgumentType]
        return pointwise
    refinement = _residual(settings.kind, classes)
    if settings.control:
        refinement = _control(sum(parameter.numel() for parameter in refinement.parameters()), classes)
    if settings.init == "noop":
        nn.init.zeros_(refinement.last.weight)
        nn.init.zeros_(refinement.last.bias)  # pyright: ignore[reportArgumentType]
    return refinement


def fold(head: nn.Conv2d, pointwise: nn.Conv2d) -> nn.Conv2d:
    """The one 1x1 convolution that does what `head` and then `pointwise` do."""
    first, second = head.weight[:, :, 0, 0], pointwise.weight[:, :, 0, 0]  # (K, C), (K, K)
    assert head.bias is not None
    assert pointwise.bias is not None
    folded = nn.Conv2d(head.in_channels, pointwise.out_channels, 1)
    with torch.no_grad():
        folded.weight.copy_((second @ first)[:, :, None, None])
        assert folded.bias is not None
        folded.bias.copy_(second @ head.bias + pointwise.bias)
    return folded


def _residual(kind: str, classes: int) -> Residual:
    if kind == "local":
        return Residual(nn.Identity(), nn.Conv2d(classes, classes, 3, padding=1))
    if kind == "depthwise":
        by_class = nn.Conv2d(classes, classes, 7, padding=3, groups=classes)
        return Residual(nn.Sequential(by_class, nn.GELU()), nn.Conv2d(classes, classes, 1))
    return Residual(Attention(), nn.Conv2d(classes, classes, 1))


def _control(parameters: int, classes: int) -> Residual:
    """A per-pixel network of nearly as many parameters: K to M to K with h (2 K + 1) + K in all."""
    hidden = max(1, round((parameters - classes) / (2 * classes + 1)))
    inner = nn.Sequential(nn.Conv2d(classes, hidden, 1), nn.GELU())
    return Residual(inner, nn.Conv2d(hidden, classes, 1))
