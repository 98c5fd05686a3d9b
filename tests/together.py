"""A training for `torch.distributed.run`: ``together.py DATA OUT [SETTING ...]``.

GroupNorm in place of BatchNorm, which normalises by what one process holds and so by another batch. The network
computes in float64: Adam divides a gradient by its size, and would make a step of the rounding of a float32 gradient
that is 0.
"""

import sys
from pathlib import Path

import torch
from torch import nn

from carpus import config, models, train

CONFIG = (
    "model.encoder=tu-tf_mobilenetv3_small_minimal_100",
    "model.decoder_channels=[16, 16, 16, 8, 8]",
    "data.image_size=64",
    "data.label_size=96",
    "data.folds=2",
    "train.batch_size=4",
    "train.validate_every=2",
    "train.save_every=2",
    "train.learning_rate=1e-3",
    "train.ema=0.9",
    "train.precision=32",
)


def grouped(network: nn.Module) -> nn.Module:
    """The network with every BatchNorm replaced by a GroupNorm, in float64."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                # timm's BatchNorm holds its activation.
                setattr(parent, name, nn.Sequential(nn.GroupNorm(4, child.num_features), *child.children()))
    network.register_forward_pre_hook(lambda module, images: images[0].double())
    return network.double()


def main(root: str, out: str, *settings: str) -> None:
    torch.set_num_threads(1)
    built = models.build
    models.build = lambda options, classes: grouped(built(options, classes))
    train.train(config.load(["demo"], [*CONFIG, *settings]), Path(root), Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
