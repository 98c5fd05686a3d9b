"""A whole training step against a plain PyTorch script: same network, batch, resolution, loss and optimizer.

The plain script upsamples the logits to the labels' resolution and takes BCE and Dice on float planes, as tutorials and
the competition's baseline do; its planes are made beforehand, as by a data loader. Ours is what `train` does in a
step. The loss of the first step is compared first; then both train on.
"""

from collections.abc import Iterator

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import inputs
from benchmarks.measure import Comparison, require
from carpus import config, devices, losses, models
from carpus.predict import network_input


def network(image_size: int) -> nn.Module:
    torch.manual_seed(0)
    settings = config.load(["unet"], ["model.weights=null", f"data.image_size={image_size}"])
    return models.build(settings.model, inputs.CLASSES)


class Usual:
    """What one finds in a notebook."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.network = network(images.shape[-1])
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4, weight_decay=1e-2)
        self.images = (images - 0.124) / 0.168
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


def comparisons(quick: bool) -> Iterator[Comparison]:
    for image_size, label_size in [(256, 2048)] if quick else [(512, 512), (512, 2048), (1024, 2048)]:
        batch = 1 if quick else 2
        hands = [inputs.hand(seed) for seed in range(batch)]
        images = torch.stack([torch.from_numpy(hand.image)[None] for hand in hands]).float() / 255
        images = functional.interpolate(images, (image_size, image_size), mode="area")
        stride = inputs.SIZE // label_size
        labels = torch.stack([torch.from_numpy(hand.labels)[::stride, ::stride] for hand in hands]).contiguous()
        first = {kind: kind(images, labels).step() for kind in (Usual, Ours)}
        apart = abs(first[Usual] - first[Ours]) / first[Usual]
        account = require(apart < 1e-4, f"loss of the first step within {apart:.0e}")
        usual, ours = Usual(images, labels), Ours(images, labels)
        name = f"a training step, {batch} of {image_size} to {label_size}"
        yield Comparison(name, usual.step, ours.step, lambda theirs, mine, account=account: account)
