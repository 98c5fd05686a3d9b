"""Gradient checkpointing (Chen et al. 2016) for every network: blocks keep their input and compute twice.

Gradients are those without it, and so are BatchNorm's statistics: the second pass does not count.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The blocks of an encoder or decoder: what stands in a row or list and has parts with weights of their own."""
    for child in module.children():
        row = isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict)
        inner = isinstance(child, nn.Sequential | nn.ModuleList) and any(_composite(part) for part in child.children())
        if row and _composite(child) and not inner:
            yield child
        else:
            yield from blocks(child)


def recompute(block: nn.Module) -> None:
    """Make `block` keep only its input while training; its names and weights stay.

    Its class becomes a subclass of itself, as fully_shard of torch does it, because a wrapper around it would change
    the names of its weights.
    """
    block.__class__ = _recomputing(type(block))


@cache
def _recomputing(kind: type[nn.Module]) -> type[nn.Module]:
    def forward(self: nn.Module, *arguments: Any, **options: Any) -> Any:
        if not (self.training and torch.is_grad_enabled()):
            return kind.forward(self, *arguments, **options)

        def run(*arguments: Any) -> Any:
            return kind.forward(self, *_copies(arguments), **options)

        if torch.compiler.is_compiling():  # counts once by itself: what a graph changes is written at its end
            return checkpoint(run, *_copies(arguments), use_reentrant=False)
        return checkpoint(
            run, *_copies(arguments), use_reentrant=False, context_fn=lambda: (nullcontext(), _uncounted(self))
        )

    return type(f"Recomputing{kind.__name__}", (kind,), {"forward": forward})


@contextmanager
def _uncounted(block: nn.Module) -> Iterator[None]:
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm) and module.training]
    before = [(norm, norm.momentum, cast(Tensor, norm.num_batches_tracked).clone()) for norm in norms]
    # Without statistics at all BatchNorm would keep fewer tensors than in the first pass, which torch refuses.
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, counted in before:
            norm.momentum = momentum
            cast(Tensor, norm.num_batches_tracked).copy_(counted)


def _copies(arguments: tuple[Any, ...]) -> list[Any]:
    """The arguments, lists copied: HRNet's blocks write their results into the list of their inputs."""
    return [list(one) if isinstance(one, list) else one for one in arguments]


def _composite(module: nn.Module) -> bool:
    return sum(any(True for _ in part.parameters()) for part in module.children()) > 1
