"""Loss, forward and backward: interpolate to label resolution, BCE and Dice on 29 planes."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks import inputs
from benchmarks.measure import Comparison, require
from carpus import losses


def planes(labels: Tensor, classes: int) -> Tensor:
    """Label maps (B, H, W) as the float targets (B, K, H, W) that the usual loss takes; a data loader makes them."""
    bits = torch.arange(classes, dtype=torch.int32, device=labels.device).view(1, -1, 1, 1)
    return ((labels[:, None] >> bits) & 1).float()


def usual(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Targets are given, as to a training step: their making counts neither as time nor as memory."""
    leaf = logits.clone().requires_grad_()
    z = functional.interpolate(leaf, targets.shape[2:], mode="bilinear", align_corners=False)
    p = torch.sigmoid(z)
    dice = 1 - 2 * (p * targets).sum((2, 3)) / (p.sum((2, 3)) + targets.sum((2, 3)))
    loss = 0.5 * functional.binary_cross_entropy_with_logits(z, targets) + 0.5 * dice.mean()
    loss.backward()
    assert leaf.grad is not None
    return loss.detach(), leaf.grad


def ours(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.clone().requires_grad_()
    loss = losses.build({"bce": 0.5, "dice": 0.5})(leaf, labels)
    loss.backward()
    assert leaf.grad is not None
    return loss.detach(), leaf.grad


def equal(theirs: tuple[Tensor, Tensor], mine: tuple[Tensor, Tensor]) -> str:
    value = float((theirs[0] - mine[0]).abs() / theirs[0])
    gradient = float((theirs[1] - mine[1]).abs().max() / theirs[1].abs().max())
    return require(value < 1e-5 and gradient < 1e-4, f"relative error {value:.0e}, of the gradient {gradient:.0e}")


def comparisons(quick: bool) -> Iterator[Comparison]:
    batch = 1 if quick else 2
    logits = torch.cat([inputs.logits(seed) for seed in range(batch)])
    labels = torch.stack([torch.from_numpy(inputs.hand(seed).labels) for seed in range(batch)])
    targets = planes(labels, logits.shape[1])
    name = f"loss, forward and backward, {batch} image{'s' * (batch > 1)}"
    yield Comparison(name, lambda: usual(logits, targets), lambda: ours(logits, labels), equal)
