"""A run without a fault, which every run with one must come to."""

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from carpus import config, run, train

SETTINGS = ("train.steps=6", "train.validate_every=3", "train.save_every=2", "train.ema=0.9", "train.keep=best")


@pytest.fixture(scope="session")
def settings(tiny: Callable[..., config.Config]) -> config.Config:
    return tiny(*SETTINGS)


@pytest.fixture(scope="session")
def straight(dataset: Path, settings: config.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("straight") / "run"
    train.train(settings, dataset, out)
    return out


@pytest.fixture(scope="session")
def identical(straight: Path) -> Callable[[Path], bool]:
    """Whether a finished run has the weights of `straight`, bit for bit, and its learning curve but for the times."""
    import pandas

    def check(out: Path) -> bool:
        curves = [pandas.read_csv(of / run.METRICS).drop(columns="images_per_second") for of in (straight, out)]
        first, second = (load_file(of / run.WEIGHTS) for of in (straight, out))
        kept = [run.read(of).manifest["weights"] for of in (straight, out)]
        return (
            all(first[name].equal(second[name]) for name in first)
            and curves[0].equals(curves[1])
            and kept[0] == kept[1]
        )

    return check
