"""What is checked before every training, in seconds: that nothing makes it hopeless from the start.

Dimension key: B batch, K classes.

- weights: every key of a source was used or left out for a reason (`models.pretrained` raises otherwise);
- step 0: the logits are those of the network without its additions, built again from the same seed;
- loss: a number;
- gradients: reach every parameter that shall learn, and wake every addition.

The network is left as it was: no statistics, no gradients and no random numbers are spent.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from carpus import config, kernels, losses, metrics, models
from carpus.data import Batch
from carpus.errors import ConfigError, DivergedError
from carpus.models import rates
from carpus.models.additions import down, up
from carpus.predict import network_input

TOLERANCE = 1e-4
"""Largest difference of step-0 logits, as a share of the largest logit: what float32 in another order makes."""


@dataclass(frozen=True)
class Overfitting:
    """What came of learning one batch by heart: mean Dice of the batch after `steps`."""

    dice: float
    steps: int
    goal: float

    @property
    def reached(self) -> bool:
        """Whether the goal was reached."""
        return self.dice >= self.goal


def check(
    network: models.Network,
    settings: config.Config,
    classes: int,
    batch: Batch,
    loss_of: losses.Loss,
    launcher: Fabric,
    *,
    tell: Callable[[str], object] | None = None,
) -> list[str]:
    """Run the gates on `network`, which is on the launcher's device and not yet trained.

    Args:
        network: built from `settings.model` after seeding with `settings.train.seed`.
        settings: the complete config.
        classes: K.
        batch: the first batch.
        loss_of: the loss.
        launcher: device and precision.
        tell: called with a line for every gate passed.

    Returns:
        The lines.

    Raises:
        ConfigError: an image size that does not fit the network, or logits or gradients that are not as they should.
        DivergedError: a loss that is no number.
    """
    multiple = models.multiple(settings.model)
    if settings.data.image_size % multiple:
        raise ConfigError(
            f"data.image_size: {settings.data.image_size} is not a multiple of {multiple}, which a network with a down "
            "layer needs"
        )
    if settings.train.batch_size == 1 and settings.model.norm in ("batch", "sync"):
        pooled = next((name for name, norm in _pooled_norms(network)), None)
        if pooled:
            raise ConfigError(
                f"train.batch_size: 1 leaves BatchNorm a single number to normalise in image pooling ({pooled}); "
                "model.norm: group does without a batch"
            )
    lines: list[str] = []

    def passed(line: str) -> None:
        lines.append(line)
        if tell:
            tell(line)

    passed(f"weights: {network.origin}")
    with _untouched(network, launcher):
        if any(True for _ in network.additions()):
            passed(f"step 0: {_same_as_control(network, settings, classes, batch, launcher)}")
        _without_chance(network)
        loss = _loss(network, batch, loss_of, launcher)
        if not math.isfinite(loss.item()):
            raise DivergedError(f"gate: the loss of the first batch is {loss.item():.4g} before any step")
        passed(f"loss: {loss.item():.4f} at step 0")
        launcher.backward(loss)
        passed(f"gradients: {_gradients(network)}")
    return lines


def overfit(
    network: models.Network,
    batch: Batch,
    loss_of: losses.Loss,
    launcher: Fabric,
    options: config.Train,
    *,
    steps: int = 200,
    goal: float = 0.9,
) -> Overfitting:
    """Learn one batch by heart: a network that cannot will not learn a data set.

    Args:
        network: on the launcher's device; it is trained in place.
        batch: what to learn.
        loss_of: the loss.
        launcher: device and precision.
        options: learning rate, weight decay, limit of the gradient.
        steps: when to give up.
        goal: mean Dice of the batch at which to stop.

    Returns:
        Dice as of the last look, every 20 steps; statistics of norms are those of the batch.
    """
    optimizer = torch.optim.AdamW(rates.groups(network, options), lr=options.learning_rate)
    for group in optimizer.param_groups:
        group["lr"] = options.learning_rate * group["factor"]
    network.train()
    score = 0.0
    for step in range(1, steps + 1):
        loss = _loss(network, batch, loss_of, launcher)
        launcher.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), options.clip)
        optimizer.step()
        optimizer.zero_grad()
        if step % 20 == 0 or step == steps:
            score = dice(network, batch, launcher)
            if score >= goal:
                return Overfitting(score, step, goal)
    return Overfitting(score, steps, goal)


@torch.no_grad()
def dice(network: nn.Module, batch: Batch, launcher: Fabric) -> float:
    """Mean Dice of a batch at the labels' resolution, in the mode that `network` is in."""
    with launcher.autocast():
        logits = network(network_input(batch.images, launcher)).logits.float()
    found = kernels.threshold(logits, torch.full((logits.shape[1],), 0.5), tuple(batch.labels.shape[1:]))  # pyright: ignore
    pairs = zip(found.cpu().numpy(), batch.labels.numpy(), strict=True)
    return float(np.mean([metrics.dice(kernels.overlap(a, b, logits.shape[1])) for a, b in pairs]))


def _loss(network: models.Network, batch: Batch, loss_of: losses.Loss, launcher: Fabric) -> Tensor:
    with launcher.autocast():
        logits, aux = network(network_input(batch.images, launcher))
    return loss_of.of_outputs((logits, *aux), launcher.to_device(batch.labels), network.loss_weights(0.0))


@torch.no_grad()
def _same_as_control(
    network: models.Network, settings: config.Config, classes: int, batch: Batch, launcher: Fabric
) -> str:
    names = ", ".join(name for name, _ in network.additions())
    if network.continued:
        return f"{names} go on from trained weights, so that there is nothing to compare with"
    torch.manual_seed(settings.train.seed)
    control = models.build(models.control(settings.model), classes).to(launcher.device).eval()
    network.eval()
    image = network_input(batch.images[:1], launcher)
    expected = control(down.halve(image) if network.down else image).logits
    if settings.model.up:
        expected = up.enlarge(expected, settings.model.up.factor)
    logits = network(image).logits
    difference = (logits - expected).abs().max().item()
    random = [
        name for name in ("down", "up", "refine") if getattr(getattr(settings.model, name), "init", "noop") != "noop"
    ]
    if random:
        return f"{', '.join(random)} not begun as no-op, as asked for: logits differ by up to {difference:.3g}"
    if not difference <= TOLERANCE * max(1.0, expected.abs().max().item()):
        raise ConfigError(f"gate: with {names} the first logits differ by {difference:.3g} from those without")
    return f"logits as without {names} (largest difference {difference:.1g})"


def _gradients(network: models.Network) -> str:
    learning = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    unreached = [name for name, parameter in learning if parameter.grad is None]
    if unreached:
        raise ConfigError(f"gate: no gradient reaches {unreached[0]} ({len(unreached)} such parameters)")
    # Within an addition zeros are right at step 0: what stands before the factor that is zero waits for it.
    still = [
        name
        for name, parameter in learning
        if name.split(".", 1)[0] not in models.ADDITIONS and parameter.grad is not None and not parameter.grad.any()
    ]
    if still:
        raise ConfigError(f"gate: the gradient of {still[0]} is zero ({len(still)} such parameters)")
    for name, addition in network.additions():
        if not any(parameter.grad is not None and parameter.grad.any() for parameter in addition.parameters()):
            raise ConfigError(f"gate: the gradient of all of {name} is zero; it would never move")
    frozen = sum(1 for parameter in network.parameters() if not parameter.requires_grad)
    return f"reach all {len(learning)} tensors that learn" + (f"; {frozen} are frozen" if frozen else "")


def _pooled_norms(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """BatchNorms that see a map of 1 x 1: those in a row behind a pooling to one pixel."""
    for name, module in network.named_modules():
        parts = list(module.modules())
        pools = any(
            isinstance(part, nn.AdaptiveAvgPool2d) and part.output_size in (1, (1, 1)) for part in module.children()
        )
        if pools and any(isinstance(part, nn.BatchNorm2d) for part in parts):
            yield name, module


def _without_chance(network: nn.Module) -> None:
    """Training mode, but nothing is dropped: a block that is skipped by chance would have no gradient."""
    network.train()
    for module in network.modules():
        if "drop" in type(module).__name__.lower():
            module.eval()


@contextmanager
def _untouched(network: models.Network, launcher: Fabric) -> Iterator[None]:
    """Put mode, statistics, gradients and random numbers back after the block."""
    mode = network.training
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    devices = [launcher.device] if launcher.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            network.zero_grad(set_to_none=True)
            network.train(mode)
            with torch.no_grad():
                for name, buffer in network.named_buffers():
                    buffer.copy_(buffers[name])
