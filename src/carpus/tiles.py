"""Sliding windows: a network shown a canvas part by part, its logits blended by a Gaussian (as in nnU-Net).

Dimension key: B batch, K classes, N side of the canvas, T side of a tile, h w logit resolution of the canvas.

Where no logit of a tile depends on anything outside it, blending gives what the whole canvas would: pixels within
`margin` of a tile's inner edges count nothing, so a margin of the network's reach (half its receptive field) makes the
two equal. Deep networks reach farther than any tile, and then the two differ.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from carpus.errors import ConfigError

GRID = 32
"""Tiles begin at multiples of the largest stride of an encoder: its pooling falls on the same pixels in every tile."""

_SIGMA = 1 / 8


@dataclass(frozen=True)
class Tiles:
    """How a canvas is cut.

    Args:
        size: T in pixels, a multiple of 32.
        overlap: the least share of a tile that it has in common with its neighbour, 0 up to 0.9.
        margin: pixels along a tile's inner edges that count nothing.

    Raises:
        ConfigError: a number out of its range, or margins that would leave pixels between the tiles.
    """

    size: int
    overlap: float = 0.5
    margin: int = 0

    def __post_init__(self) -> None:
        if self.size < GRID or self.size % GRID:
            raise ConfigError(f"tile: expected a multiple of {GRID} pixels, got {self.size}")
        if not 0 <= self.overlap <= 0.9:
            raise ConfigError(f"overlap: expected 0 to 0.9, got {self.overlap}")
        if self.margin < 0 or self.step > self.size - 2 * self.margin:
            raise ConfigError(
                f"margin: {self.margin} pixels leave gaps between tiles of {self.size}; overlap them more"
            )

    @property
    def step(self) -> int:
        """The largest distance of two tiles in pixels."""
        return max(int(self.size * (1 - self.overlap)) // GRID * GRID, GRID)

    def starts(self, side: int) -> list[int]:
        """Where the tiles of a canvas of `side` pixels begin, evenly and on the grid; one tile if it covers it."""
        last = side - self.size
        if last <= 0:
            return [0]
        count = -(-last // self.step) + 1
        return [n * (last // GRID) // (count - 1) * GRID for n in range(count)]


def blended(network: Callable[[Tensor], Tensor], canvas: Tensor, tiles: Tiles | None, batch: int = 1) -> Tensor:
    """The logits of a canvas, seen whole or tile by tile.

    Args:
        network: (B, 1, T, T) to logits (B, K, t, t), t dividing T; also what it is shown whole.
        canvas: (1, 1, N, N), N a multiple of 32.
        tiles: None, or a tile that covers the canvas, shows it whole.
        batch: tiles seen at once.

    Returns:
        (1, K, h, w) float32.

    Raises:
        ConfigError: the network's stride is no whole number.
    """
    side = canvas.shape[-1]
    if tiles is None or tiles.size >= side:
        return network(canvas).float()
    starts = tiles.starts(side)
    corners = [(top, left) for top in starts for left in starts]
    total, weights = torch.empty(0), torch.empty(0)
    for first in range(0, len(corners), batch):
        chosen = corners[first : first + batch]
        seen = torch.cat([canvas[..., y : y + tiles.size, x : x + tiles.size] for y, x in chosen])
        logits = network(seen).float()
        stride, odd = divmod(tiles.size, logits.shape[-1])
        if odd:
            raise ConfigError(f"tile: {tiles.size} pixels give {logits.shape[-1]} logits; expected a whole stride")
        if not total.numel():
            total = logits.new_zeros(logits.shape[1], side // stride, side // stride)
            weights = logits.new_zeros(side // stride, side // stride)
        for (y, x), of_tile in zip(chosen, logits, strict=True):
            down, across = (_weight(tiles, start, side, stride, logits.device) for start in (y, x))
            weight = down[:, None] * across
            part = (slice(y // stride, (y + tiles.size) // stride), slice(x // stride, (x + tiles.size) // stride))
            total[:, *part].addcmul_(of_tile, weight)
            weights[part] += weight
    return total.div_(weights)[None]


def _weight(tiles: Tiles, start: int, side: int, stride: int, device: torch.device) -> Tensor:
    """What a tile's logits count along one axis, (T / stride,)."""
    # Centres of logits, in pixels of the tile.
    place = (torch.arange(tiles.size // stride, device=device) + 0.5) * stride
    weight = torch.exp(-0.5 * ((place / tiles.size - 0.5) / _SIGMA) ** 2)
    if start > 0:
        weight[place < tiles.margin] = 0
    if start + tiles.size < side:
        weight[place > tiles.size - tiles.margin] = 0
    return weight
