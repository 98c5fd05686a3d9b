"""Loss, forward and backward: interpolate to label resolution, then BCE and Dice, or focal loss, on 29 planes.

BCE and Dice as a few lines of torch, and as the classes of segmentation_models_pytorch (Dice over the batch); focal
loss as torchvision's function.
"""

from collections.abc import Callable, Iterator
from functools import partial

import segmentation_models_pytorch as smp
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from benchmarks import inputs
from benchmarks.measure import Comparison, require
from carpus import losses


def planes(labels: Tensor, classes: int) -> Tensor:
    """Label maps (B, H, W) as the float targets (B, K, H, W) that the usual loss takes; a data loader makes them."""
    bits = torch.arange(classes, dtype=torch.int32, device=labels.device).view(1, -1, 1, 1)
    return ((labels[:, None] >> bits) & 1).float()


def plain(z: Tensor, targets: Tensor) -> Tensor:
    p = torch.sigmoid(z)
    dice = 1 - 2 * (p * targets).sum((2, 3)) / (p.sum((2, 3)) + targets.sum((2, 3)))
    return 0.5 * functional.binary_cross_entropy_with_logits(z, targets) + 0.5 * dice.mean()


def metric(z: Tensor, targets: Tensor) -> Tensor:
    """With the Dice of soft labels (Wang et al. 2023): |p + t| - |p - t| = 2 min(p, t)."""
    p = torch.sigmoid(z)
    dice = 1 - 2 * torch.minimum(p, targets).sum((2, 3)) / (p.sum((2, 3)) + targets.sum((2, 3)))
    return 0.5 * functional.binary_cross_entropy_with_logits(z, targets) + 0.5 * dice.mean()


def library(z: Tensor, targets: Tensor) -> Tensor:
    bce, dice = smp.losses.SoftBCEWithLogitsLoss(), smp.losses.DiceLoss("multilabel")
    return 0.5 * bce(z, targets) + 0.5 * dice(z, targets)


def focal(z: Tensor, targets: Tensor) -> Tensor:
    return sigmoid_focal_loss(z, targets, alpha=-1, gamma=2, reduction="mean")


PLAIN = losses.build({"bce": 0.5, "dice": 0.5})


def usual(
    logits: Tensor, targets: Tensor, criterion: Callable[[Tensor, Tensor], Tensor] = plain
) -> tuple[Tensor, Tensor]:
    """Targets are given, as to a training step: their making counts neither as time nor as memory."""
    leaf = logits.clone().requires_grad_()
    z = functional.interpolate(leaf, targets.shape[2:], mode="bilinear", align_corners=False)
    loss = criterion(z, targets)
    loss.backward()
    assert leaf.grad is not None
    return loss.detach(), leaf.grad


def ours(
    logits: Tensor, labels: Tensor, formula: losses.Loss = PLAIN, soft: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    leaf = logits.clone().requires_grad_()
    loss = formula(leaf, labels, soft=soft)
    loss.backward()
    assert leaf.grad is not None
    return loss.detach(), leaf.grad


def equal(theirs: tuple[Tensor, Tensor], mine: tuple[Tensor, Tensor], most: float = 1e-5) -> str:
    """Within `most` in the loss, ten times that in the largest entry of the gradient."""
    value = float((theirs[0] - mine[0]).abs() / theirs[0])
    gradient = float((theirs[1] - mine[1]).abs().max() / theirs[1].abs().max())
    return require(value < most and gradient < 10 * most, f"relative error {value:.0e}, of the gradient {gradient:.0e}")


def comparisons(quick: bool) -> Iterator[Comparison]:
    batch, stride = (1, 4) if quick else (2, 1)
    logits = torch.cat([inputs.logits(seed) for seed in range(batch)])[..., ::stride, ::stride].contiguous()
    labels = torch.stack([torch.from_numpy(inputs.hand(seed).labels) for seed in range(batch)])
    labels = labels[:, ::stride, ::stride].contiguous()
    targets = planes(labels, logits.shape[1])
    what = f"forward and backward, {batch} image{'s' * (batch > 1)}{' of 512' if quick else ''}"
    over_batch = losses.build({"bce": 0.5, "dice": 0.5}, batch=True)
    # The library adds 8 million pixels in float32: its Dice of a class is up to 3e-3 off what float64 gives, ours 1e-8.
    for name, criterion, formula, most in (
        (f"loss, {what}", plain, PLAIN, 1e-5),
        (f"loss of segmentation_models_pytorch, {what}", library, over_batch, 5e-3),
        (f"focal loss of torchvision, {what}", focal, losses.build({"focal": {"gamma": 2}}), 1e-5),
    ):
        yield Comparison(
            name,
            lambda criterion=criterion: usual(logits, targets, criterion),
            lambda formula=formula: ours(logits, labels, formula),
            partial(equal, most=most),
        )
    soft = torch.sigmoid(logits / 2)
    upsampled = functional.interpolate(soft, labels.shape[1:], mode="bilinear", align_corners=False)
    yield Comparison(
        f"loss against soft labels, {what}",
        lambda: usual(logits, upsampled, metric),
        lambda: ours(logits, labels, soft=soft),
        equal,
    )
