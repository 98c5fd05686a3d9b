"""Several processes and parts of a batch come to what one process comes to with the whole batch."""

import os
import subprocess
import sys
from pathlib import Path

import pandas
import pytest
import torch
from safetensors.torch import load_file

from carpus import config, devices, run, state
from carpus.errors import ConfigError

TOGETHER = str(Path(__file__).with_name("together.py"))
TOLERANCE = 1e-12
"""Of float64 weights after four steps. Sums in another order differ by 1e-16; Adam's quotient makes more of it."""


def launch(dataset: Path, out: Path, *settings: str, processes: int = 0) -> Path:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes else []
    command = [sys.executable, *several, TOGETHER, str(dataset), str(out), *settings]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.fixture(scope="module")
def alone(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return launch(dataset, tmp_path_factory.mktemp("alone") / "run", "train.steps=4")


def apart(first: Path, second: Path) -> float:
    """Largest difference of a weight, in units of the largest weight of its tensor."""
    one, other = (load_file(out / run.WEIGHTS) for out in (first, second))
    return max(float((one[name] - other[name]).abs().max() / one[name].abs().max().clamp_min(1e-3)) for name in one)


def test_two_processes_come_to_the_weights_of_one(alone: Path, dataset: Path, tmp_path: Path) -> None:
    out = launch(dataset, tmp_path / "run", "train.steps=4", processes=2)
    assert apart(alone, out) < TOLERANCE
    curves = [pandas.read_csv(of / run.METRICS) for of in (alone, out)]
    assert curves[0]["loss"].to_list() == pytest.approx(curves[1]["loss"].to_list(), rel=1e-6)
    assert curves[0]["val_dice"].to_list() == pytest.approx(curves[1]["val_dice"].to_list(), abs=1e-3)
    assert run.read(out).manifest["processes"] == 2
    assert not list(out.rglob(".*"))  # one wrote, none left anything half-done


def test_parts_one_after_the_other_come_to_the_weights_of_the_whole(alone: Path, dataset: Path, tmp_path: Path) -> None:
    out = launch(dataset, tmp_path / "run", "train.steps=4", "train.accumulate=4")
    assert apart(alone, out) < TOLERANCE


def test_a_step_is_far_more_than_the_tolerance(alone: Path) -> None:
    tensors = load_file(state.saved(alone / run.STATE)[0])
    moments = [tensor for name, tensor in tensors.items() if name.endswith(".exp_avg")]
    assert min(float(moment.abs().max()) for moment in moments) > 1e3 * TOLERANCE


def test_a_batch_that_cannot_be_shared_equally_is_a_config_error(dataset: Path, tmp_path: Path) -> None:
    from carpus import train

    settings = config.load(["demo"], ["train.batch_size=4", "train.accumulate=3", "data.folds=2"])
    with pytest.raises(
        ConfigError, match=r"4 images cannot be cut into equal parts for 1 devices and train\.accumulate 3"
    ):
        train.train(settings, dataset, tmp_path / "run")


def test_what_torchrun_or_slurm_started_is_what_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices.launched(3, 2) == (3, 2)
    monkeypatch.setenv("SLURM_NTASKS", "8")
    monkeypatch.setenv("SLURM_NNODES", "2")
    monkeypatch.setenv("SLURM_JOB_NAME", "train")
    assert devices.launched(1, 1) == (4, 2)
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert devices.launched(1, 1) == (2, 3)


@pytest.mark.parametrize(("device", "message"), [("tpu", "expected auto, cpu or cuda"), ("cuda", "sees no CUDA")])
def test_a_device_that_is_not_there_is_a_config_error(device: str, message: str) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ConfigError, match=message):
        devices.fabric(device)
