"""`build(config, classes)` -> network; a network turns images (B, 1, H, W) into `Output`.

A file a source of architectures, a file an addition (`additions`); the builder only wires them.
"""

from collections.abc import Callable, Collection
from typing import cast

import torch
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, nn

from carpus import config
from carpus.errors import ConfigError
from carpus.models import dilated, pretrained, pyramid, unet
from carpus.models.additions import auxiliary, down, norm, recompute, refine, up
from carpus.models.network import ADDITIONS, Network, Parts
from carpus.models.output import Output

__all__ = ["ADDITIONS", "NAMES", "Network", "Output", "build", "control", "multiple", "parameters"]

PRIOR_LOGIT = -4.0
"""Bias of an untrained classifier: probability 0.018 (Lin et al. 2017, focal loss, section 4.1)."""


def _beit(settings: config.Model, classes: int) -> Parts:
    # Two seconds that no other network should wait for.
    from carpus.models import beit

    return beit.beit(settings, classes)


_BUILDERS: dict[str, Callable[[config.Model, int], Parts]] = {
    "unet": unet.unet,
    "unetplusplus": unet.unetplusplus,
    "fcn": dilated.fcn,
    "deeplabv3": dilated.deeplabv3,
    "deeplabv3plus": pyramid.deeplabv3plus,
    "upernet": pyramid.upernet,
    "segformer": pyramid.segformer,
    "hrnet": pyramid.hrnet,
    "beit": _beit,
}

NAMES = tuple(_BUILDERS)
"""The architectures."""


def build(settings: config.Model, classes: int) -> Network:
    """Build the network that `settings` describe.

    The base is made first, and the additions from random numbers of their own: with the same seed it has the same
    weights, and training the same dropout, whatever is added.

    Args:
        settings: the `model` section of a config.
        classes: K, the channels of the logits.

    Returns:
        A module: images (B, 1, H, W) float, H and W multiples of `multiple`, to `Output`.

    Raises:
        ConfigError: an unknown encoder, settings that contradict each other, or weights that cannot be fetched.
        DataError: weights that cannot be read or do not fit.
    """
    _check(settings)
    parts = _BUILDERS[settings.name](settings, classes)
    head = nn.Conv2d(parts.width, classes, kernel_size=1)
    # A bone covers less than a hundredth of the image: begun at that, training need not first unlearn one half.
    nn.init.constant_(cast(Tensor, head.bias), PRIOR_LOGIT)
    network = Network(encoder=parts.encoder, decoder=parts.decoder, head=head, stride=parts.stride)
    with torch.random.fork_rng(devices=[]):
        _add(network, settings, parts, classes)
    if settings.norm == "group":
        norm.group(network)
    if settings.norm == "frozen":
        if not norm.freeze(network.encoder):
            raise ConfigError(
                f"model.norm: frozen keeps BatchNorm as it is, and {settings.encoder} has none; take batch"
            )
        network.frozen_norms = True
    pretrained.load(network, settings)
    if settings.norm == "sync":
        network = cast(Network, convert_sync_batchnorm(network))
    if settings.checkpointing:
        _checkpoint(network, settings)
    return network


def control(settings: config.Model, *, keep: Collection[str] = ()) -> config.Model:
    """The same network without its additions, except those in `keep`: what the others are compared with."""
    without = {"down": None, "up": None, "refine": None, "calibration": False, "aux": ()}
    return settings.model_copy(update={name: value for name, value in without.items() if name not in keep})


def multiple(settings: config.Model) -> int:
    """What the sides of an image must be multiples of."""
    return 64 if settings.down else 32


def parameters(network: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def _check(settings: config.Model) -> None:
    if settings.stride is not None and settings.name not in ("unet", "unetplusplus"):
        raise ConfigError(f"model.stride: {settings.name} has its own; null leaves it, and model.up divides it")
    if settings.norm == "frozen" and settings.weights is None:
        raise ConfigError("model.norm: frozen keeps statistics of pretrained weights, but model.weights is null")
    if settings.up and settings.up.init == "icnr" and settings.up.kind != "shuffle":
        raise ConfigError("model.up.init: icnr is for pixel shuffle; a transposed convolution has noop and random")
    if settings.refine and settings.refine.control and settings.refine.kind == "pointwise":
        raise ConfigError("model.refine.control: pointwise sees no neighbourhood; it is a control itself")
    stages = [aux.stage for aux in settings.aux]
    if len(set(stages)) < len(stages):
        raise ConfigError(f"model.aux: two heads at one stage learn the same, got stages {stages}")
    idle = [aux.stage for aux in settings.aux if not (aux.weight or aux.final_weight)]
    if idle:
        raise ConfigError(f"model.aux: the head at stage {idle[0]} has weight 0 from first to last; leave it out")


def _add(network: Network, settings: config.Model, parts: Parts, classes: int) -> None:
    if settings.down:
        network.down = down.build(settings.down)
        if settings.down.kind == "strided":
            projections = down.first_projections(network.encoder)
            if not projections:
                raise ConfigError(
                    f"model.down.kind: strided widens the convolution that sees the image, and {settings.encoder} has "
                    "none; shuffle leaves the encoder as it is"
                )
            for projection in projections.values():
                down.widen(projection, settings.down.init)
            network.widened = tuple(f"encoder.{name}.weight" for name in projections)
    if settings.up:
        stride = parts.stride * (2 if settings.down else 1)
        if stride < settings.up.factor:
            raise ConfigError(
                f"model.up.factor: {settings.name} gives logits at stride {stride}; {settings.up.factor} would make "
                "them finer than the image; a U-Net can give coarser ones, see model.stride"
            )
        network.up = up.build(settings.up, parts.width, classes)
    if settings.refine:
        network.refine = refine.build(settings.refine, classes)
    if settings.calibration:
        network.calibration = refine.Calibration(classes)
    for one in settings.aux:
        network.aux[str(one.stage)] = auxiliary.build(one, parts.channels, classes, PRIOR_LOGIT)
    network.aux_settings = settings.aux


def _checkpoint(network: Network, settings: config.Model) -> None:
    found = [*recompute.blocks(network.encoder)]
    if not found:
        raise ConfigError(f"model.checkpointing: {settings.encoder} has no blocks that could be computed twice")
    for block in (*found, *recompute.blocks(network.decoder)):
        recompute.recompute(block)
