"""`kernels.sums` against soft labels on a GPU, or whatever is no CPU: the reference, one class at a time.

Forward keeps nothing but the sums; backward computes a class again and differentiates it. So a few planes (B, H, W) are
alive at once, instead of K times as many, at about the time of the usual way. Soft labels are for a part of a training
(pseudo-labels, distillation).

Dimension key: B batch, K classes, H W label resolution, h w logit resolution, S sums.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from carpus.kernels import reference


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, gamma: float | None, weight: Tensor | None, soft: Tensor
    ) -> Tensor:
        ctx.save_for_backward(logits, labels, weight, soft)
        ctx.gamma = gamma
        pairs = zip(logits.split(1, dim=1), soft.split(1, dim=1), strict=True)
        return torch.cat([reference.sums(of_class, labels, gamma, weight, truth) for of_class, truth in pairs], dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:  # pyright: ignore
        logits, labels, weight, soft = ctx.saved_tensors
        result = torch.empty_like(logits)
        for k in range(logits.shape[1]):
            with torch.enable_grad():
                leaf = logits[:, k : k + 1].detach().requires_grad_()
                found = reference.sums(leaf, labels, ctx.gamma, weight, soft[:, k : k + 1])
            (result[:, k : k + 1],) = torch.autograd.grad(found, leaf, gradient[:, k : k + 1])
        return result, None, None, None, None


def sums(logits: Tensor, labels: Tensor, gamma: float | None, weight: Tensor | None, soft: Tensor) -> Tensor:
    """`kernels.sums` with `soft`: float64 (B, K, 4), with `gamma` (B, K, 5)."""
    return _Sums.apply(logits, labels, gamma, weight, soft)  # pyright: ignore[reportReturnType]
