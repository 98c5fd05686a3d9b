"""`build(config, classes)` -> network; a network turns images (B, 1, S, S) into `Output`.

A file an architecture; the builder only wires them.
"""

from collections.abc import Callable

from torch import nn

from carpus import config
from carpus.errors import ConfigError
from carpus.models import unet
from carpus.models.output import Output

__all__ = ["Output", "build", "parameters"]

_BUILDERS: dict[str, Callable[[config.Model, int], nn.Module]] = {"unet": unet.build}


def build(settings: config.Model, classes: int) -> nn.Module:
    """Build the network that `settings` describe.

    Args:
        settings: the `model` section of a config.
        classes: K, the channels of the logits.

    Returns:
        A module: images (B, 1, S, S) float, S a multiple of 32 -> `Output`.

    Raises:
        ConfigError: an unknown encoder, or weights that cannot be had.
    """
    try:
        return _BUILDERS[settings.name](settings, classes)
    except KeyError as error:
        raise ConfigError(f"model.encoder: {error}") from error


def parameters(network: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
