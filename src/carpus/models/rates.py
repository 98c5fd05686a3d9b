"""Groups of parameters for the optimiser: encoder, rest of the base, each addition; with and without weight decay."""

from typing import Any

from torch import nn

from carpus import config
from carpus.models.network import ADDITIONS, Network

TABLES = ("relative_position_bias_table", "cls_token", "position_embeddings", "pos_embed")
"""Names of learned positions: matrices, but for them too 0 is no goal."""


def groups(network: nn.Module, options: config.Train) -> list[dict[str, Any]]:
    """Parameter groups of `network`, each with its weight decay and `factor`, its share of the learning rate.

    Decay pulls weights towards 0. For biases, scales of a norm and tables of positions 0 is no goal; nor is it for an
    addition, which begins as an identity or a mean, and which decay would pull away from doing nothing. The projection
    that a down layer widened is half new, and goes with it.

    Args:
        network: a `Network`, or any module, which is then all base.
        options: the `train` section of a config.
    """
    rate = options.additions_rate
    additions = rate if isinstance(rate, dict) else dict.fromkeys(ADDITIONS, rate)
    factors = {"encoder": options.encoder_rate, **additions}
    widened = network.widened if isinstance(network, Network) else ()
    members: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            place = ("down", False) if name in widened else _place(name, parameter)
            members.setdefault(place, []).append(parameter)
    return [
        {"params": found, "weight_decay": options.weight_decay if decays else 0.0, "factor": factors.get(part, 1.0)}
        for (part, decays), found in members.items()
    ]


def _place(name: str, parameter: nn.Parameter) -> tuple[str, bool]:
    first = name.split(".", 1)[0]
    if first in ADDITIONS:
        return first, False
    decays = parameter.ndim > 1 and not name.endswith(TABLES)
    return "encoder" if first == "encoder" else "base", decays
