"""Why an addition to a pretrained network begins as a no-op: the report's SegFormer at Dice 0, and its cure.

A network that has learnt four phantom images by heart stands for a pretrained one.
"""

from collections.abc import Callable

import pytest
import torch

from carpus import augment, config, data, gates, losses, models, phantom
from carpus.batches import Batches
from carpus.labels import BONES
from carpus.models import weights
from carpus.predict import fabric

SIDE = 96
LOSS = losses.build({"bce": 1, "dice": 1})
BASE = config.Model(name="segformer", encoder="mit_b0", decoder_channels=(64,))

STRIDED, TRANSPOSED, RANDOM = {"kind": "strided"}, {"kind": "transposed"}, {"init": "random"}

Start = Callable[..., list[float]]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[int, data.Batch]:
    """Four images of `SIDE` and of twice that, labels of `SIDE`."""
    root = tmp_path_factory.mktemp("four") / "data"
    phantom.write(root, patients=2, test_patients=0, size=2 * SIDE, seed=1)
    still = augment.Settings(
        rotation_deg=0, scale=0, shift=0, flip=False, gamma=0, contrast=0, brightness=0, noise=0, blur=0
    )
    cases = data.read(root).train
    return {
        side: Batches(cases, data.Cache(BONES, side, SIDE, 2**28), still, batch_size=4, seed=0)(0)
        for side in (SIDE, 2 * SIDE)
    }


@pytest.fixture(scope="module")
def start(images: dict[int, data.Batch], tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Dice of the trained base with additions: at once, and after every 20 of more steps."""
    launcher = fabric("cpu", "32")
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    torch.manual_seed(0)
    base = models.build(BASE, 29)
    learnt = gates.overfit(base, images[SIDE], LOSS, launcher, config.Train(learning_rate=3e-3), steps=300, goal=0.87)
    assert learnt.reached
    weights.save(base, path)

    def begin(learning_rate: float, steps: int = 20, **additions: dict[str, str]) -> list[float]:
        torch.manual_seed(0)
        settings = config.Model.model_validate({**BASE.model_dump(), **additions, "weights": str(path)})
        network, batch = models.build(settings, 29), images[2 * SIDE if "down" in additions else SIDE]
        options, seen = config.Train(learning_rate=learning_rate), [gates.dice(network.train(), batch, launcher)]
        for _ in range(steps // 20):
            seen.append(gates.overfit(network, batch, LOSS, launcher, options, steps=20, goal=2.0).dice)
        return seen

    return begin


@pytest.mark.slow
def test_a_random_start_stays_at_0_while_a_noop_start_passes_09(start: Start) -> None:
    rate = 6e-5  # SegFormer's own
    noop = start(rate, 60, down=STRIDED, up=TRANSPOSED)
    random = start(rate, 60, down=STRIDED | RANDOM, up=TRANSPOSED | RANDOM)
    assert max(noop) > 0.9, noop
    assert max(random) < 0.05, random


@pytest.mark.slow
@pytest.mark.parametrize("additions", [{"down": STRIDED}, {"up": TRANSPOSED}, {"down": {}, "up": {}}])
def test_a_noop_start_keeps_what_was_learnt(start: Start, additions: dict[str, dict[str, str]]) -> None:
    at_once, after = start(3e-4, **additions)
    assert at_once > 0.8
    assert after > 0.85


@pytest.mark.slow
@pytest.mark.parametrize("additions", [{"down": STRIDED | RANDOM}, {"up": TRANSPOSED | RANDOM}])
def test_a_random_start_loses_what_was_learnt(start: Start, additions: dict[str, dict[str, str]]) -> None:
    at_once, after = start(3e-4, **additions)
    assert at_once < 0.1
    assert after < 0.6
