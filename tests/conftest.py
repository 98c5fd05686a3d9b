"""A small data set and a run trained on it, made once for all tests."""

import os
from collections.abc import Callable
from pathlib import Path

# Before torch and numba are imported: their threads would wait for each other by spinning.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest

from carpus import config, phantom, train

TINY = [
    "data.image_size=64",
    "data.label_size=96",
    "data.folds=2",
    "model.encoder=tu-tf_mobilenetv3_small_minimal_100",
    "model.decoder_channels=[16, 16, 16, 8, 8]",
    "train.steps=3",
    "train.batch_size=2",
    "train.validate_every=2",
]
"""Settings of a run that takes seconds and learns nothing worth scoring."""


@pytest.fixture(scope="session")
def tiny() -> Callable[..., config.Config]:
    """The settings of a tiny run, and more `NAME=VALUE` where a test wants them."""
    return lambda *more: config.load(["demo"], [*TINY, *more])


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom") / "data"
    phantom.write(root, patients=4, test_patients=2, size=96, seed=1)
    return root


@pytest.fixture(scope="session")
def trained(dataset: Path, tiny: Callable[..., config.Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    train.train(tiny(), dataset, out)
    return out
