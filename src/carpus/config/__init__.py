"""Every setting of a training run, and how recipes, `--set` and run folders make a config.

A recipe is a YAML file that names only what differs from the defaults; later files and then ``--set a.b=c`` win::

    model: {encoder: resnet34}
    train: {steps: 2000, loss: {bce: 0.5, dice: 0.5}}
"""

from carpus.config.layers import RECIPES, RUN_WEIGHTS, Layer, changed, decisive, dump, load, stacked, weights_path
from carpus.config.schema import fields
from carpus.config.settings import (
    Addition,
    Augment,
    Aux,
    Config,
    Data,
    Down,
    LossName,
    Model,
    Precision,
    Pseudo,
    Refine,
    Track,
    Train,
    Up,
)
from carpus.config.strict_yaml import read_yaml

__all__ = [
    "RECIPES",
    "RUN_WEIGHTS",
    "Addition",
    "Augment",
    "Aux",
    "Config",
    "Data",
    "Down",
    "Layer",
    "LossName",
    "Model",
    "Precision",
    "Pseudo",
    "Refine",
    "Track",
    "Train",
    "Up",
    "changed",
    "decisive",
    "dump",
    "fields",
    "load",
    "read_yaml",
    "stacked",
    "weights_path",
]
