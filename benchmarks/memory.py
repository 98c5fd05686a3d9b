"""Peak memory of a training step, computed: ``python -m benchmarks.memory [--side 2048]``. It needs no GPU.

Every tensor of a step is made without content, and its bytes are counted from its making to its end: weights,
gradients, AdamW's two moments, activations, and what is only there for a moment. Arithmetic is bf16 by autocast, as in
training on a GPU, where GroupNorm and LayerNorm are in float32. Not counted: cuDNN's workspace, fragments, and CUDA
itself, about 1 GB; attention is counted as the processor's kernels keep it.

``sums`` is a loss that keeps what the kernel keeps, logits and label map. ``usual`` enlarges the logits to the labels,
takes sigmoid, and holds the labels as one plane a class.
"""

import argparse
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from carpus import config, models
from carpus.models.weightless import Weightless

CLASSES = 29

NETWORKS = {
    "DeepLabV3+ R101": {"name": "deeplabv3plus", "encoder": "resnet101", "norm": "group"},
    "SegFormer-B1": {"name": "segformer", "encoder": "mit_b1", "norm": "group"},
}


class Counter(TorchDispatchMode):
    """Counts the bytes that tensors made within it hold; `peak` is the most at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self.count(tensor)
        return made

    def count(self, tensor: Tensor) -> None:
        """Count the storage of `tensor` until it is gone."""
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        size = storage.nbytes()
        self._known[storage] = size
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, size)

    def _gone(self, size: int) -> None:
        self.now -= size


class Kept(torch.autograd.Function):
    """In place of `kernels.sums`: keeps logits and label map, gives (B, K, 4) sums, and a gradient of the logits."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        ctx.save_for_backward(logits, labels)
        return logits.new_zeros(*logits.shape[:2], 4, dtype=torch.float64)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore
        logits, _ = ctx.saved_tensors
        return torch.zeros_like(logits), None


def by_sums(logits: Tensor, labels: Tensor) -> Tensor:
    return Kept.apply(logits.contiguous(), labels).mean().float()  # pyright: ignore


def usual(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy and soft Dice on full planes, in float32."""
    bits = torch.arange(logits.shape[1], dtype=torch.int32)[:, None, None]
    truth = ((labels[:, None] >> bits) & 1).float()  # (B, K, H, W)
    large = functional.interpolate(logits.float(), size=labels.shape[1:], mode="bilinear", align_corners=False)
    probability = torch.sigmoid(large)
    overlap = (probability * truth).sum((2, 3))
    dice = 1 - (2 * overlap / (probability.sum((2, 3)) + truth.sum((2, 3)) + 1)).mean()
    return functional.binary_cross_entropy_with_logits(large, truth) + dice


def peak_gib(chosen: config.Model, batch: int, side: int, loss: Callable[[Tensor, Tensor], Tensor]) -> float:
    """Peak of the second training step in GiB, when AdamW's moments are there."""
    with Weightless():
        network = models.build(chosen, CLASSES).train()
    with FakeTensorMode(), Counter() as counter:
        for module in network.modules():
            for name, weight in module.named_parameters(recurse=False):
                setattr(module, name, nn.Parameter(torch.empty(weight.shape)))
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype))
            if isinstance(module, nn.GroupNorm | nn.LayerNorm):
                module.register_forward_pre_hook(_in_float32)
        optimizer = torch.optim.AdamW(network.parameters(), foreach=False)
        images, labels = torch.empty(batch, 1, side, side), torch.empty(batch, side, side, dtype=torch.int32)
        for _ in range(2):
            counter.peak = counter.now
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(images).logits
            with torch.autocast("cpu", enabled=False):
                value = loss(logits, labels)
            value.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            del logits, value
        return counter.peak / 2**30


def _in_float32(module: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """Autocast on a GPU computes these norms in float32; that of the processor, used here, does not."""
    return inputs[0].float()


def main() -> None:
    """Print the table, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=2048)
    side = parser.parse_args().side
    print(f"| GiB at {side} x {side} | loss | batch 1 | batch 1, checkpointing | batch 2 | batch 2, checkpointing |")
    print("|---|---|---|---|---|---|")
    for name, settings in NETWORKS.items():
        for loss in (by_sums, usual):
            cells = [
                f"{peak_gib(config.Model.model_validate({**settings, 'checkpointing': twice}), batch, side, loss):.1f}"
                for batch in (1, 2)
                for twice in (False, True)
            ]
            print(f"| {name} | {loss.__name__.replace('by_', '')} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
