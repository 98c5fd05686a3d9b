"""What is checked before every training, in seconds: that nothing makes it hopeless from the start.

Dimension key: B batch, K classes.

- weights: every key of a source was used or left out for a reason (`models.pretrained` raises otherwise);
- step 0: the logits are those of the network without its new additions, built again from the same seed;
- loss: a number;
- gradients: reach every parameter that shall learn, at once or within `ROUNDS` steps.

The network is left as it was: no weights, statistics, gradients or random numbers are spent. Only what an encoder never
uses learns no more.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from carpus import config, devices, kernels, losses, metrics, models
from carpus.data import Batch
from carpus.errors import ConfigError, DivergedError
from carpus.models import rates
from carpus.models.additions import up
from carpus.predict import network_input

TOLERANCE = 1e-4
"""Largest difference of step-0 logits, as a share of the largest logit: what float32 in another order makes."""

ROUNDS, FIRST_STEP = 4, 1e-3
"""Steps within which a gradient must arrive, and their size: Adam's first, which only looks at a gradient's sign.

What stands before a factor that is zero at first, as in the last norm of many residual blocks, gets its gradient a step
later; two such factors in a row, two steps later; two that multiply each other, never.
"""


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
    lines: list[str] = []

    def passed(line: str) -> None:
        lines.append(line)
        if tell:
            tell(line)

    passed(f"weights: {network.origin}")
    with _untouched(network, launcher), sizes_refused(settings):
        if any(True for _ in network.additions()):
            passed(f"step 0: {_same_as_control(network, settings, classes, batch, launcher)}")
        _without_chance(network)
        with _enough_to_normalise(network, settings, launcher):
            loss = _loss(network, batch, loss_of, launcher).detach()
        if not math.isfinite(loss.item()):
            raise DivergedError(f"gate: the loss of the first batch is {loss.item():.4g} before any step")
        passed(f"loss: {loss.item():.4f} at step 0")
        # Half way, because the weight of an auxiliary loss may begin or end at 0.
        passed(f"gradients: {_gradients(network, lambda: _loss(network, batch, loss_of, launcher, 0.5), launcher)}")
    return lines


@contextmanager
def sizes_refused(settings: config.Config) -> Iterator[None]:
    """Turn the assertion by which an encoder of a library refuses a size into a `ConfigError`."""
    try:
        yield
    except AssertionError as error:
        size = settings.data.crop or settings.data.image_size
        raise ConfigError(f"model.encoder: {settings.model.encoder} does not take {size} pixels: {error}") from error


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
        options: learning rate, weight decay, limit of the gradient, parts of a batch.
        steps: when to give up.
        goal: mean Dice of the batch at which to stop.

    Returns:
        Dice as of the last look, every 20 steps; statistics of norms are those of the batch.

    Raises:
        DivergedError: a loss or gradient that is no number, but for fp16's, whose step is skipped as in training.
    """
    parts, scaler = batch.parts(options.accumulate), devices.scaler(launcher)
    optimizer = torch.optim.AdamW(rates.groups(network, options), lr=options.learning_rate)
    model, stepper = launcher.setup(network, optimizer)
    for group in optimizer.param_groups:
        group["lr"] = options.learning_rate * group["factor"]
    network.train()
    score = 0.0
    for step in range(1, steps + 1):
        found = []
        for part in parts:
            loss = _loss(network, part, loss_of, launcher) / len(parts)
            launcher.backward(loss)
            found.append(loss.detach())
        norm = launcher.clip_gradients(model, stepper, max_norm=options.clip, error_if_nonfinite=False)
        value, steepness, _ = devices.agree(launcher, torch.stack(found).sum(), norm, 0)
        finite = math.isfinite(value) and math.isfinite(steepness)
        if not finite and not devices.overflowed(scaler, value, steepness):
            raise DivergedError(
                f"gate: step {step} on one batch: the loss is {value:.4g} and the gradient's norm {steepness:.4g}; a "
                "lower train.learning_rate may help"
            )
        stepper.step()
        stepper.zero_grad()
        if step % 20 == 0 or step == steps:
            score = statistics.fmean(dice(network, part, launcher) for part in parts)
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


def _loss(
    network: models.Network, batch: Batch, loss_of: losses.Loss, launcher: Fabric, progress: float = 0.0
) -> Tensor:
    with launcher.autocast():
        logits, aux = network(network_input(batch.images, launcher))
    labels, counting = launcher.to_device((batch.labels, batch.counting))
    return loss_of.of_outputs((logits, *aux), labels, network.loss_weights(progress), **counting)


@torch.no_grad()
def _same_as_control(
    network: models.Network, settings: config.Config, classes: int, batch: Batch, launcher: Fabric
) -> str:
    there = [name for name, _ in network.additions()]
    asked = {"down": settings.model.down, "up": settings.model.up, "refine": settings.model.refine}
    random = [
        name for name in there if name not in network.continued and getattr(asked.get(name), "init", "noop") != "noop"
    ]
    kept = [*network.continued, *random]
    notes = [f"{', '.join(network.continued)} go on from trained weights"] if network.continued else []
    notes += [f"{', '.join(random)} not begun as no-op, as asked for"] if random else []
    new = ", ".join(name for name in there if name not in kept)
    if not new:
        return "; ".join([*notes, "nothing to compare with"])
    torch.manual_seed(settings.train.seed)
    control = models.build(models.control(settings.model, keep=network.continued), classes)
    # In the same layout, or convolutions add up in another order.
    control = control.to(launcher.device).to(memory_format=torch.channels_last)
    # New additions against nothing, the others as they are on both sides.
    if network.down:
        control.down = network.down if "down" in kept else nn.AvgPool2d(2)
    if "down" in kept:
        control.encoder = network.encoder  # whose first projection is the other half of it
    if settings.model.up:
        control.up = network.up if "up" in kept else up.Bilinear(settings.model.up.factor)
    if "refine" in kept:
        control.refine = network.refine
    image = network_input(batch.images[:1], launcher)
    expected, logits = control.eval()(image).logits, network.eval()(image).logits
    difference = (logits - expected).abs().max().item()
    if not difference <= TOLERANCE * max(1.0, expected.abs().max().item()):
        raise ConfigError(f"gate: with {new} the first logits differ by {difference:.3g} from those without")
    return "; ".join([f"logits as without {new} (largest difference {difference:.1g})", *notes])


def _gradients(network: models.Network, loss: Callable[[], Tensor], launcher: Fabric) -> str:
    learning = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    waiting, unused = dict(learning), []
    for number in range(ROUNDS):
        network.zero_grad(set_to_none=True)
        launcher.backward(loss())
        if number == 0:
            unused = _unused(learning)
            waiting = {name: parameter for name, parameter in waiting.items() if name not in unused}
        waiting = {name: parameter for name, parameter in waiting.items() if not _moves(parameter)}
        # All processes go on while one waits, because SyncBN lets none compute alone.
        if not launcher.all_reduce(launcher.to_device(torch.tensor(float(len(waiting)))), reduce_op="sum"):
            break
        _step(learning.values())
    # A shift that the next norm takes out again has no gradient but for rounding; libraries have such biases.
    shifts = [name for name in waiting if name.startswith(("encoder.", "decoder.")) and name.endswith(".bias")]
    still = [name for name in waiting if name not in shifts]
    if still:
        raise ConfigError(f"gate: the gradient of {still[0]} stays zero ({len(still)} such parameters)")
    frozen = sum(1 for parameter in network.parameters() if not parameter.requires_grad) - len(unused)
    notes = [f"{frozen} are frozen"] if frozen else []
    notes += [f"the encoder has no use for {', '.join(unused)}"] if unused else []
    notes += [f"but for rounding zero at {', '.join(shifts)}"] if shifts else []
    return "; ".join([f"reach all {len(learning) - len(unused)} tensors that learn", *notes])


def _unused(learning: Mapping[str, nn.Parameter]) -> list[str]:
    """Parameters that no logit depends on: a leftover in the encoder of a library, a fault anywhere else."""
    unused = [name for name, parameter in learning.items() if parameter.grad is None]
    faults = [name for name in unused if not name.startswith("encoder.")]
    if faults:
        raise ConfigError(f"gate: no gradient reaches {faults[0]} ({len(faults)} such parameters)")
    for name in unused:
        learning[name].requires_grad_(False)  # several devices would wait for its gradient
    return unused


def _moves(parameter: nn.Parameter) -> bool:
    return parameter.grad is not None and bool(parameter.grad.any())


@torch.no_grad()
def _step(parameters: Iterable[nn.Parameter]) -> None:
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.sub_(FIRST_STEP * parameter.grad.sign().nan_to_num())


@contextmanager
def _enough_to_normalise(network: nn.Module, settings: config.Config, launcher: Fabric) -> Iterator[None]:
    """Within this, a BatchNorm that has a single number to normalise is a `ConfigError` with its name."""
    names: dict[nn.Module, str] = {
        module: name for name, module in network.named_modules() if isinstance(module, _BatchNorm)
    }

    def look(norm: nn.Module, arguments: tuple[Tensor]) -> None:
        numbers = arguments[0].numel() // arguments[0].shape[1]
        numbers *= launcher.world_size if isinstance(norm, nn.SyncBatchNorm) else 1
        if norm.training and numbers == 1:
            options = settings.train
            raise ConfigError(
                f"train.batch_size: {options.batch_size} over {launcher.world_size} devices and train.accumulate "
                f"{options.accumulate} leaves BatchNorm a single number to normalise ({names[norm]}); model.norm: "
                "group does without a batch"
            )

    hooks = [norm.register_forward_pre_hook(look) for norm in names]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _without_chance(network: nn.Module) -> None:
    """Training mode, but nothing is dropped: a block that is skipped by chance would have no gradient."""
    network.train()
    for module in network.modules():
        if "drop" in type(module).__name__.lower():
            module.eval()


@contextmanager
def _untouched(network: models.Network, launcher: Fabric) -> Iterator[None]:
    """Put mode, weights, statistics, gradients and random numbers back after the block."""
    mode = network.training
    before = {name: tensor.detach().clone() for name, tensor in _tensors(network)}
    gpus = [launcher.device] if launcher.device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        try:
            yield
        finally:
            network.zero_grad(set_to_none=True)
            network.train(mode)
            with torch.no_grad():
                for name, tensor in _tensors(network):
                    tensor.copy_(before[name])


def _tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from network.named_parameters()
    yield from network.named_buffers()
