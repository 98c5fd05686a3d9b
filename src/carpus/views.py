"""Test-time augmentation: an image looked at mirrored, turned and larger or smaller, and the answers laid back.

Dimension key: B batch, K classes, S side of the canvas, h w logit resolution.

The bones' names do not tell left from right, so a mirrored hand needs no exchange of channels. Mirrors and quarter
turns move whole pixels and are undone exactly; any other turn is undone by one bilinear warp of the logits.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from carpus.errors import ConfigError


@dataclass(frozen=True)
class View:
    """One way to look at a square canvas.

    Args:
        flip: mirror it left to right, first of all.
        turn_deg: then turn it, degrees counterclockwise.
        scale: side of the network's input, as a multiple of the usual one; no part of the image is lost by it.
    """

    flip: bool = False
    turn_deg: float = 0.0
    scale: float = 1.0

    def see(self, canvas: Tensor) -> Tensor:
        """The canvas (B, C, S, S) as this view shows it; what a turn brings in from outside is 0."""
        return _turned(canvas.flip(-1) if self.flip else canvas, self.turn_deg)

    def back(self, logits: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits (B, K, h, w) of what `see` gave, laid back on the canvas, h = w where it is turned.

        Returns:
            The logits, and where the view saw anything (h, w) bool; None for everywhere. Outside it the logits say
            nothing: a turn cuts the corners off.
        """
        laid, seen = _turned(logits, -self.turn_deg), None
        if self.turn_deg % 90:
            whole = torch.ones((1, 1, *logits.shape[-2:]), device=logits.device)
            seen = _turned(_turned(whole, self.turn_deg), -self.turn_deg)[0, 0] > 0.999
        if self.flip:
            laid = laid.flip(-1)
            seen = None if seen is None else seen.flip(-1)
        return laid, seen


PLAIN = View()
"""The image as it is."""


def views(*, flip: bool = False, turns_deg: Sequence[float] = (), scales: Sequence[float] = ()) -> tuple[View, ...]:
    """Every combination of the image as it is with what is asked for; the plain view comes first.

    Args:
        flip: mirrored left to right, too.
        turns_deg: turned by so many degrees counterclockwise, too.
        scales: at so many times the usual side, too.

    Raises:
        ConfigError: a turn that is no finite number, or a scale that is not between 1/4 and 4.

    Example:
        >>> len(views(flip=True, turns_deg=[90], scales=[1.25]))
        8
    """
    for turn in turns_deg:
        if not math.isfinite(turn):
            raise ConfigError(f"turn: expected degrees, got {turn}")
    for scale in scales:
        if not 0.25 <= scale <= 4:
            raise ConfigError(f"scale: expected 0.25 to 4, got {scale}")
    turns = dict.fromkeys((0.0, *(turn % 360 for turn in turns_deg)))
    sizes = dict.fromkeys((1.0, *map(float, scales)))
    return tuple(
        View(mirrored, turn, scale)
        for scale in sizes
        for turn in turns
        for mirrored in ((False, True) if flip else (False,))
    )


def _turned(planes: Tensor, degrees: float) -> Tensor:
    quarters, rest = divmod(degrees, 90)
    if not rest:
        return torch.rot90(planes, int(quarters) % 4, (-2, -1))
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = torch.tensor([[[cosine, -sine, 0], [sine, cosine, 0]]], device=planes.device)
    grid = functional.affine_grid(matrix, [1, 1, *planes.shape[-2:]], align_corners=False)
    grid = grid.expand(len(planes), -1, -1, -1)
    return functional.grid_sample(planes.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
