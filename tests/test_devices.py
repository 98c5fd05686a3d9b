"""Several processes and parts of a batch come to what one process comes to with the whole batch."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pandas
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from carpus import capacity, config, devices, models, run, state, train
from carpus.errors import ConfigError, DataWarning
from carpus.formats import files

TOGETHER = str(Path(__file__).with_name("together.py"))
TOLERANCE = 3e-12
"""Of float64 weights after four steps. Sums in another order differ by 1e-16; Adam's quotient makes more of it."""


def start(dataset: Path, out: Path, *settings: str, torchrun: Sequence[str] = ()) -> subprocess.Popen[str]:
    several = ["-m", "torch.distributed.run", *torchrun] if torchrun else []
    command = [sys.executable, *several, TOGETHER, str(dataset), str(out), *settings]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)


def end(*processes: subprocess.Popen[str]) -> None:
    try:
        for process in processes:
            said = process.communicate(timeout=250)[1]
            assert process.returncode == 0, said[-3000:]
    finally:
        for process in processes:
            process.terminate()


def launch(dataset: Path, out: Path, *settings: str, processes: int = 0) -> Path:
    torchrun = ["--standalone", f"--nproc-per-node={processes}"] if processes else []
    end(start(dataset, out, *settings, torchrun=torchrun))
    return out


@pytest.fixture(scope="module")
def alone(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return launch(dataset, tmp_path_factory.mktemp("alone") / "run", "train.steps=4")


@pytest.fixture(scope="module")
def two(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return launch(dataset, tmp_path_factory.mktemp("two") / "run", "train.steps=4", processes=2)


def apart(first: Path, second: Path) -> float:
    """Largest difference of a weight, in units of the largest weight of its tensor."""
    one, other = (load_file(out / run.WEIGHTS) for out in (first, second))
    return max(float((one[name] - other[name]).abs().max() / one[name].abs().max().clamp_min(1e-3)) for name in one)


def test_two_processes_come_to_the_weights_of_one(alone: Path, two: Path) -> None:
    assert apart(alone, two) < TOLERANCE
    curves = [pandas.read_csv(of / run.METRICS) for of in (alone, two)]
    assert curves[0]["loss"].to_list() == pytest.approx(curves[1]["loss"].to_list(), rel=1e-6)
    assert curves[0]["val_dice"].to_list() == pytest.approx(curves[1]["val_dice"].to_list(), abs=1e-3)
    assert run.read(two).manifest["processes"] == 2
    assert not list(two.rglob(".*"))  # one wrote, none left anything half-done


def test_two_machines_come_to_the_weights_of_two_processes(two: Path, dataset: Path, tmp_path: Path) -> None:
    """Each machine's launcher on this one, as they find each other by host and port."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    line = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{port}"]
    end(*(start(dataset, tmp_path / "run", "train.steps=4", torchrun=line) for _ in range(2)))
    assert files.sha256(tmp_path / "run" / run.WEIGHTS) == files.sha256(two / run.WEIGHTS)
    assert run.read(tmp_path / "run").manifest["identity"] == run.read(two).manifest["identity"]


def test_parts_one_after_the_other_come_to_the_weights_of_the_whole(alone: Path, dataset: Path, tmp_path: Path) -> None:
    out = launch(dataset, tmp_path / "run", "train.steps=4", "train.accumulate=4")
    assert apart(alone, out) < TOLERANCE


def test_dropout_is_drawn_anew_in_every_part(dataset: Path, tmp_path: Path) -> None:
    """What docs/training.md excepts from equality; without an auxiliary head this network has none."""
    settings = ("train.steps=1", "model.aux=[{stage: 4}]")
    whole = launch(dataset, tmp_path / "whole", *settings)
    parts = launch(dataset, tmp_path / "parts", *settings, "train.accumulate=2")
    assert apart(whole, parts) > 1e3 * TOLERANCE


def test_a_step_is_far_more_than_the_tolerance(alone: Path) -> None:
    tensors = load_file(state.saved(alone / run.STATE)[0])
    moments = [tensor for name, tensor in tensors.items() if name.endswith(".exp_avg")]
    assert min(float(moment.abs().max()) for moment in moments) > 1e3 * TOLERANCE


def test_a_batch_that_cannot_be_shared_equally_is_a_config_error(dataset: Path, tmp_path: Path) -> None:
    settings = config.load(["demo"], ["train.batch_size=4", "train.accumulate=3", "data.folds=2"])
    with pytest.raises(
        ConfigError, match=r"4 images cannot be cut into equal parts for 1 devices and train\.accumulate 3"
    ):
        train.train(settings, dataset, tmp_path / "run")


def test_a_loss_over_the_batch_is_not_cut_into_parts(dataset: Path, tmp_path: Path) -> None:
    settings = config.load(["demo"], ["train.loss_over=batch", "train.accumulate=2", "data.folds=2"])
    with pytest.raises(ConfigError, match=r"train\.loss_over: batch .* 1 devices and .*accumulate 2 .* Take image"):
        train.train(settings, dataset, tmp_path / "run")
    assert "train.accumulate" not in capacity.advice(config.load(["demo"], ["train.loss_over=batch"]))


def test_what_torchrun_or_slurm_started_is_what_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices.launched(3, 2) == (3, 2)
    monkeypatch.setenv("SLURM_NTASKS", "8")
    monkeypatch.setenv("SLURM_NNODES", "2")
    monkeypatch.setenv("SLURM_JOB_NAME", "train")
    assert devices.launched(1, 1) == (4, 2)
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert devices.launched(1, 1) == (2, 3)


class Several:
    """What two devices tell of themselves."""

    def __init__(self, kind: str) -> None:
        self.world_size, self.device, self.is_global_zero = 2, torch.device(kind), True


def test_batchnorm_of_several_gpus_is_over_all_of_them() -> None:
    model = config.load(["demo"]).model
    built = models.build(model, 29)
    names, weight = list(built.state_dict()), next(built.parameters())
    made = devices.normalised_together(built, cast(Fabric, Several("cuda")))
    norms = [module for module in made.modules() if isinstance(module, _BatchNorm)]
    assert norms
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
    assert list(made.state_dict()) == names
    assert next(made.parameters()) is weight
    alone = models.build(model, 29)
    assert devices.normalised_together(alone, devices.fabric("cpu")) is alone
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in alone.modules())


def test_batchnorm_of_several_processors_is_said_to_be_of_one() -> None:
    built = {norm: models.build(config.load(["demo"], [f"model.norm={norm}"]).model, 29) for norm in ("batch", "sync")}
    two = cast(Fabric, Several("cpu"))
    with pytest.warns(DataWarning, match=r"model\.norm: on processors .* 2 of them come to another result than one"):
        devices.normalised_together(built["batch"], two)
    with pytest.raises(ConfigError, match=r"model\.norm: sync is for GPUs"):
        devices.normalised_together(built["sync"], two)
    plain = nn.Sequential(nn.GroupNorm(1, 1))
    assert devices.normalised_together(plain, two) is plain


def test_one_of_several_processes_reports_and_none_trains_again(dataset: Path, tmp_path: Path) -> None:
    small = ["model.norm=group", "data.image_size=64", "data.folds=2", "train.batch_size=2", "train.steps=2"]
    out, settings = str(tmp_path / "run"), [f"--set={setting}" for setting in small]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "carpus.cli"]
    command = [sys.executable, *launcher, "train", "demo", "--data", str(dataset), "--out", out, *settings]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("mean Dice of the validation patients") == 1
    assert done.stdout.count("next: carpus") == 1
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)
    assert again.returncode == 0, again.stderr[-3000:]
    assert again.stderr.count("is finished, and is what this command asks for") == 1
    assert again.stdout == done.stdout
    other = subprocess.run(
        [*command, "--set=train.seed=5"], env=environment, capture_output=True, text=True, timeout=250
    )
    assert other.returncode != 0
    assert "already holds a finished run" in other.stderr
    assert "lost another" not in other.stderr


@pytest.mark.parametrize(("device", "message"), [("tpu", "expected auto, cpu or cuda"), ("cuda", "sees no CUDA")])
def test_a_device_that_is_not_there_is_a_config_error(device: str, message: str) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ConfigError, match=message):
        devices.fabric(device)
