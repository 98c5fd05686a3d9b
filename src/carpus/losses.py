"""Losses as formulas on sums: each is a few lines on (B, K) tensors, differentiated by autograd.

Dimension key: B batch, K classes, H W label resolution, h w logit resolution.

With p = sigmoid of the upsampled logit and t the label, the kernel gives sum p t, sum p, sum t, sum of the binary
cross-entropy and, on demand, of the focal loss, for every image and class. Losses are averaged over images and
classes, so that a small bone weighs as much as a large one.

Soft labels (probabilities of a teacher) need no formulas of their own: the kernel then gives sum min(p, t) for
sum p t, which turns Dice and Jaccard into the metric losses DML and JML (Wang et al. 2023), 0 at p = t and only there.

An absent class (sum t = 0) has no overlap to speak of. Dropping it would let its false positives go free, and a
constant of one pixel would make them cost 1 at once, without a gradient. Its Tversky loss, whatever alpha and beta, and
so its Dice and Jaccard loss, is

    sum p / (sum p + ABSENT * pixels)

which is 0 without false positives, 1/2 when they are as large as the smallest bones, and always has a gradient. Soft
labels need not be 0 exactly to mean that a class is absent. So the usual formula turns into this one steadily, as
sum t falls from FADE * pixels, four pixels of a radiograph, to 0; a class with more is not touched. At every sum t the
loss is 0 where p = t, and where all pixels are ignored.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from carpus import kernels
from carpus.errors import ConfigError

ABSENT = 1e-3
"""Part of an image: about 4,000 of the 4 million pixels of a radiograph, the smallest finger bones."""

FADE = 1e-6
"""Part of an image: a class with less begins to count as absent."""


@dataclass(frozen=True)
class Sums:
    """The sums of `kernels.sums` by name, each (B, K) float64, and `pixels` (B, 1 or K), their number or weight."""

    pt: Tensor
    p: Tensor
    t: Tensor
    bce: Tensor
    pixels: Tensor
    focal: Tensor | None = None

    def times(self, factor: Tensor) -> "Sums":
        """Every sum times a factor (B, K)."""
        weighed = {name: value * factor for name, value in vars(self).items() if value is not None}
        return replace(self, **weighed | {"pixels": weighed["pixels"].clamp_min(1e-12)})

    def over_batch(self) -> "Sums":
        """The batch as one large image: B = 1."""
        together = {name: value.sum(0, keepdim=True) for name, value in vars(self).items() if value is not None}
        return replace(self, **together)


def bce(sums: Sums) -> Tensor:
    """Binary cross-entropy per pixel."""
    return sums.bce / sums.pixels


def focal(sums: Sums) -> Tensor:
    """Focal loss per pixel, |p - t|**gamma times the cross-entropy (Lin et al. 2017, without alpha)."""
    assert sums.focal is not None
    return sums.focal / sums.pixels


def tversky(sums: Sums, alpha: float = 0.3, beta: float = 0.7) -> Tensor:
    """1 - Tversky index, 1 - pt / (pt + alpha (p - pt) + beta (t - pt)) (Salehi et al. 2017).

    `alpha` weighs false positives, `beta` false negatives; those of an absent class weigh 1.
    """
    absent = (1 - sums.t / (FADE * sums.pixels)).clamp_min(0)
    wrong = (alpha + (1 - alpha) * absent) * (sums.p - sums.pt) + beta * (sums.t - sums.pt)
    right = sums.pt + absent * ABSENT * sums.pixels
    return wrong / (wrong + right).clamp_min(1e-12)


def dice(sums: Sums) -> Tensor:
    """1 - soft Dice (Milletari et al. 2016, without squares)."""
    return tversky(sums, 0.5, 0.5)


def jaccard(sums: Sums) -> Tensor:
    """1 - soft Jaccard index."""
    return tversky(sums, 1.0, 1.0)


def focal_tversky(sums: Sums, alpha: float = 0.3, beta: float = 0.7, exponent: float = 0.75) -> Tensor:
    """(1 - Tversky index)**exponent (Abraham & Khan 2019, whose gamma is 1 / exponent, 4/3).

    An exponent below 1 lifts classes that are nearly right.
    """
    loss = tversky(sums, alpha, beta)
    # At 0 the slope of x**exponent is infinite: below 1e-6 the curve is a straight line to 0.
    return loss * loss.clamp_min(1e-6) ** (exponent - 1)


def log_cosh_dice(sums: Sums) -> Tensor:
    """log cosh of the Dice loss (Jadon 2020): quadratic where it is small."""
    return torch.log(torch.cosh(dice(sums)))


FORMULAS: dict[str, Callable[..., Tensor]] = {
    "bce": bce,
    "focal": focal,
    "dice": dice,
    "jaccard": jaccard,
    "tversky": tversky,
    "focal_tversky": focal_tversky,
    "log_cosh_dice": log_cosh_dice,
}


@dataclass(frozen=True)
class Loss:
    """A weighted sum of formulas, called as ``loss(logits, labels)``.

    Args:
        terms: (weight, formula) pairs.
        gamma: the focal exponent, None when no term needs it.
        batch: treat the batch as one large image (sums over B before the formula).
    """

    terms: tuple[tuple[float, Callable[[Sums], Tensor]], ...]
    gamma: float | None = None
    batch: bool = False

    def __call__(self, logits: Tensor, labels: Tensor, **options: Any) -> Tensor:
        """The mean over images and classes: a float32 scalar.

        Options are `weight` and `ignore` of `sums`; `soft`, of every image (K, h, w) as `sums` takes them, or None
        where its labels count; and `counted` (B, K), what every image and class counts besides. What counts less than 1
        lessens the mean: the loss of a batch stays the mean of those of its parts.
        """
        return self.per_class(logits, labels, **options).mean().float()

    def per_class(self, logits: Tensor, labels: Tensor, *, counted: Tensor | None = None, **options: Any) -> Tensor:
        """The loss of every image and class: (B, K) float64, (1, K) when `batch`. Options as in a call."""
        sums = _measure(logits, labels, self.gamma, **options)
        if self.batch:
            # The batch is one image, of which so much of every image is a part.
            sums = (sums if counted is None else sums.times(counted)).over_batch()
        found = torch.stack([share * formula(sums) for share, formula in self.terms]).sum(0)
        return found if counted is None or self.batch else found * counted

    def of_outputs(self, outputs: Sequence[Tensor], labels: Tensor, weights: Sequence[float], **options: Any) -> Tensor:
        """Several outputs against the same labels: the main logits first, then auxiliary ones of any size.

        Args:
            outputs: (B, K, h, w) each.
            labels: (B, H, W) int32.
            weights: one for each output, not all 0; divided by their sum, so that adding an auxiliary output does
                not raise the learning rate as well.
            options: as in a call.

        Raises:
            ConfigError: weights that do not fit the outputs.
            DataError: as `kernels.sums`.
        """
        if (
            len(weights) != len(outputs)
            or not all(share >= 0 for share in weights)
            or not 0 < sum(weights) < float("inf")
        ):
            raise ConfigError(f"loss weights: expected {len(outputs)} of at least 0, not all zero, got {list(weights)}")
        losses = [share * self(logits, labels, **options) for logits, share in zip(outputs, weights, strict=True)]
        return torch.stack(losses).sum() / sum(weights)


def build(weights: Mapping[str, float | Mapping[str, float]], *, batch: bool = False) -> Loss:
    """A `Loss` from the names of formulas and their weights.

    Args:
        weights: ``{"bce": 0.5, "dice": 0.5}``; a formula with parameters takes a mapping instead of a number:
            ``{"tversky": {"weight": 1, "alpha": 0.3, "beta": 0.7}}``, ``{"focal": {"weight": 1, "gamma": 2}}``.
        batch: treat the batch as one large image.

    Raises:
        ConfigError: unknown formula or parameter, no formula, a weight or parameter below 0, no weight above it.
    """
    if not isinstance(weights, Mapping) or not weights:
        raise ConfigError(f"loss: expected weights of {', '.join(FORMULAS)} by name, got {weights!r}")
    terms, gamma = [], None
    for name, setting in weights.items():
        if name not in FORMULAS:
            raise ConfigError(f"loss: unknown formula {name!r}, expected one of {', '.join(FORMULAS)}")
        options = dict(setting) if isinstance(setting, Mapping) else {"weight": setting}
        for option, value in options.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
                raise ConfigError(f"loss.{name}.{option}: expected a number of at least 0, got {value!r}")
        share = options.pop("weight", 1.0)
        if name == "focal":
            gamma = float(options.pop("gamma", 2.0))
        known = list(inspect.signature(FORMULAS[name]).parameters)[1:]
        unknown = sorted(set(options) - set(known))
        if unknown:
            known = ["weight", *(["gamma"] if name == "focal" else []), *known]
            raise ConfigError(f"loss.{name}: unknown parameter {unknown[0]!r}, expected {', '.join(known)}")
        terms.append((share, partial(FORMULAS[name], **options)))
    if not any(share for share, _ in terms):
        raise ConfigError(f"loss: every weight is 0 in {dict(weights)}")
    return Loss(tuple(terms), gamma, batch)


def _measure(
    logits: Tensor,
    labels: Tensor,
    gamma: float | None,
    *,
    weight: Tensor | None = None,
    ignore: int | None = None,
    soft: Sequence[Tensor | None] | Tensor | None = None,
) -> Sums:
    weight = kernels.pixel_weight(labels, weight, ignore)
    if soft is None:
        found = kernels.sums(logits, labels, gamma=gamma, weight=weight)
    else:
        # One by one, so that the labels of an image without stay whole, and with their fast kernel.
        weights = [None] * len(soft) if weight is None else weight.split(1)
        parts = zip(logits.split(1), labels.split(1), weights, soft, strict=True)
        found = torch.cat(
            [
                kernels.sums(z, hard, gamma=gamma, weight=worth, soft=None if t is None else t[None])
                for z, hard, worth, t in parts
            ]
        )
    if weight is None:
        pixels = torch.full((len(labels), 1), labels[0].numel(), dtype=found.dtype, device=found.device)
    else:
        # An image that is ignored altogether has sums of 0 and a loss of 0.
        pixels = weight.sum((1, 2), dtype=torch.float64).clamp_min(1e-12)[:, None]
    return Sums(**dict(zip((*kernels.SUMS, "focal"), found.unbind(2), strict=False)), pixels=pixels)
