"""A whole training step against a plain PyTorch script: same network, batch, resolution, loss and optimizer.

The plain script upsamples the logits to the labels' resolution and takes BCE and Dice on float planes, as tutorials and
the competition's baseline do; its planes are made beforehand, as by a data loader. Ours is what `train` does in a
step, with int32 label maps in place of planes. Before anything is timed both take `STEPS` steps from the same weights,
and the loss of each, the gradients of the first and what all of them changed in the weights are compared.
"""

from collections.abc import Iterable, Iterator

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import inputs
from benchmarks.measure import Comparison, require
from carpus import config, devices, losses, models
from carpus.predict import network_input

STEPS = 3
LOSS_APART, GRADIENT_APART, CHANGE_APART = 1e-4, 1e-3, 0.1
"""Largest differences, relative: of the losses, and of all gradients and all changes of weights, by their length.
AdamW divides a gradient by its size and makes a whole step of what is only rounding, so that changes agree less.

Both sides are compared in our memory layout, channels last. At random weights the layouts alone differ by up to 5e-2
in float32, against the same step in float64 also; the plain script that is timed has torch's own layout.
"""


def network(image_size: int) -> nn.Module:
    torch.manual_seed(0)
    settings = config.load(["unet"], ["model.weights=null", f"data.image_size={image_size}"])
    return models.build(settings.model, inputs.CLASSES)


class Usual:
    """What one finds in a notebook."""

    def __init__(self, images: Tensor, labels: Tensor, layout: torch.memory_format = torch.contiguous_format) -> None:
        self.network = network(images.shape[-1]).to(memory_format=layout)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4, weight_decay=1e-2)
        self.images = ((images - 0.124) / 0.168).contiguous(memory_format=layout)
        bits = torch.arange(inputs.CLASSES, dtype=torch.int32).view(1, -1, 1, 1)
        self.targets = ((labels[:, None] >> bits) & 1).float()

    def step(self) -> float:
        self.optimizer.zero_grad()
        logits = self.network(self.images).logits
        z = functional.interpolate(logits, self.targets.shape[2:], mode="bilinear", align_corners=False)
        bce = functional.binary_cross_entropy_with_logits(z, self.targets)
        p = torch.sigmoid(z)
        dice = 1 - 2 * (p * self.targets).sum((2, 3)) / (p.sum((2, 3)) + self.targets.sum((2, 3)))
        loss = 0.5 * bce + 0.5 * dice.mean()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        return loss.item()


class Ours:
    """The step of `loop.fit`."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.launcher: Fabric = devices.fabric("cpu", "32")
        self.network = network(images.shape[-1]).to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4, weight_decay=1e-2, fused=True)
        self.model, self.optimizer = self.launcher.setup(self.network, optimizer)
        self.images, self.labels = images, labels
        self.loss = losses.build({"bce": 0.5, "dice": 0.5})

    def step(self) -> float:
        logits = self.model(network_input(self.images, self.launcher)).logits
        loss = self.loss(logits, self.labels)
        self.launcher.backward(loss)
        norm = self.launcher.clip_gradients(self.model, self.optimizer, max_norm=1.0, error_if_nonfinite=False)
        value, _, _ = devices.agree(self.launcher, loss.detach(), norm, 0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return value


def vector(tensors: Iterable[Tensor | None]) -> Tensor:
    return torch.cat([tensor.detach().double().flatten() for tensor in tensors if tensor is not None])


def learnt(side: Usual | Ours) -> tuple[list[float], Tensor, Tensor]:
    """Losses, gradient of the first step, and change of the weights after all."""
    parameters = [*side.network.parameters()]
    before, gradients, values = vector(parameters), list[Tensor](), list[float]()
    side.optimizer.register_step_pre_hook(
        lambda *_: gradients.append(vector(parameter.grad for parameter in parameters))
    )
    values.extend(side.step() for _ in range(STEPS))
    return values, gradients[0], vector(parameters) - before


def account(images: Tensor, labels: Tensor, kind: type[Ours] = Ours) -> str:
    """How alike both sides learn; raises where they do not."""
    usual, their_gradient, their_change = learnt(Usual(images, labels, torch.channels_last))
    ours, gradient, change = learnt(kind(images, labels))
    loss = max(abs(a - b) / a for a, b in zip(usual, ours, strict=True))
    apart = float((gradient - their_gradient).norm() / their_gradient.norm())
    moved = float((change - their_change).norm() / their_change.norm())
    return require(
        loss < LOSS_APART and apart < GRADIENT_APART and moved < CHANGE_APART,
        f"{STEPS} losses within {loss:.0e}, gradients within {apart:.0e}, changes of weights within {moved:.0e}",
    )


def comparisons(quick: bool) -> Iterator[Comparison]:
    for image_size, label_size in [(256, 512)] if quick else [(512, 512), (512, 2048), (1024, 2048)]:
        batch = 1 if quick else 2
        hands = [inputs.hand(seed) for seed in range(batch)]
        images = torch.stack([torch.from_numpy(hand.image)[None] for hand in hands]).float() / 255
        images = functional.interpolate(images, (image_size, image_size), mode="area")
        stride = inputs.SIZE // label_size
        labels = torch.stack([torch.from_numpy(hand.labels)[::stride, ::stride] for hand in hands]).contiguous()
        found = account(images, labels)
        usual, ours = Usual(images, labels), Ours(images, labels)
        name = f"a training step, {batch} of {image_size} to {label_size}"
        yield Comparison(name, usual.step, ours.step, lambda theirs, mine, found=found: found, images=batch)
