"""Faults 57 to 59 and 49 to 51: what goes wrong in the middle, and what must not be gone on with."""

import contextlib
import os
import pickle
import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from typer.testing import CliRunner

from carpus import capacity, config, data, devices, losses, run, state, train
from carpus.batches import Batches
from carpus.cli import app
from carpus.errors import CapacityError, DataError, DivergedError
from carpus.state import Parts, State, Store

Tiny = Callable[..., config.Config]


@pytest.mark.parametrize(
    ("broken", "message"),
    [([1], "of 2 images it comes from {1}, by itself"), ([0, 1], "at the images {0}, {1}, each by itself no number")],
)
@pytest.mark.parametrize(
    "settings",
    [(), ("model.aux=[{stage: 4}]", "model.name=deeplabv3", "model.decoder_channels=null", "model.stride=null")],
)
def test_a_loss_that_is_no_number_stops_and_names_step_and_images(
    dataset: Path,
    tiny: Tiny,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    broken: list[int],
    message: str,
    settings: tuple[str, ...],
) -> None:
    drawn = Batches.__call__
    names: list[str] = []

    def batch(self: Batches, step: int) -> data.Batch:
        made = drawn(self, step)
        if step == 2:
            made.images[broken] = float("nan")
            names[:] = [case.name for case in made.cases]
        return made

    monkeypatch.setattr(Batches, "__call__", batch)
    with pytest.raises(DivergedError, match="step 3: the loss is nan and the gradient's norm nan") as caught:
        train.train(tiny(*settings), dataset, tmp_path / "run")
    assert message.format(*names) in str(caught.value)
    assert load_file(tmp_path / "run" / "weights.safetensors")  # of the validation after step 2
    with pytest.raises(DataError, match="an unfinished run"):
        run.read(tmp_path / "run")


def test_an_infinite_gradient_stops_too(
    dataset: Path, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Steep(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, loss: torch.Tensor) -> torch.Tensor:
            return loss.clone()

        @staticmethod
        def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
            return gradient * float("inf")

    monkeypatch.setattr(losses.Loss, "__call__", lambda loss, logits, labels, **_: Steep.apply(logits.mean()))
    expected = r"step 1: the loss is .* the gradient's norm (nan|inf), at the images ID.*, each by itself a number"
    with pytest.raises(DivergedError, match=expected):
        train.train(tiny(), dataset, tmp_path / "run")


def test_fp16_skips_a_step_that_overflows_and_counts_it(
    dataset: Path, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = losses.Loss.__call__
    # With the first scale of 65536 more than a half can hold.
    monkeypatch.setattr(losses.Loss, "__call__", lambda loss, logits, labels, **_: plain(loss, logits, labels) * 1024)
    settings = tiny("train.precision=fp16", "train.device=cpu", "train.steps=8", "train.validate_every=8")
    train.train(settings, dataset, tmp_path / "run")
    assert 0 < run.read(tmp_path / "run").manifest["skipped_steps"] < 8
    _, tensors = state._read(state.saved(tmp_path / "run" / run.STATE)[0])
    done = {float(tensor) for name, tensor in tensors.items() if name.endswith(".step")}
    assert done == {8 - run.read(tmp_path / "run").manifest["skipped_steps"]}


def test_fp16_resumes_exactly(dataset: Path, tiny: Tiny, tmp_path: Path) -> None:
    settings = tiny("train.precision=fp16", "train.device=cpu", "train.save_every=1")
    train.train(settings, dataset, tmp_path / "straight")

    def watch(now: object) -> None:
        if getattr(now, "step", 0) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.train(settings, dataset, tmp_path / "run", watch=watch)
    train.train(settings, dataset, tmp_path / "run", resume=True)
    first, second = (load_file(tmp_path / name / run.WEIGHTS) for name in ("straight", "run"))
    assert all(first[name].equal(second[name]) for name in first)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError("no room for the image"), "error: out of memory; what takes less: .* says what fits"),
        (OSError(5, "Input/output error"), r"error: \[Errno 5\] Input/output error"),
        (IndexError("x"), "fault: IndexError: x"),
    ],
)
def test_a_worker_that_dies_ends_the_training_and_names_the_image(
    dataset: Path, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(config.dump(tiny("train.steps=40", "train.save_every=1")))
    drawn = data.Cache.__call__

    def fail(self: data.Cache, case: data.Case) -> tuple[np.ndarray, np.ndarray]:
        if len(state.saved(tmp_path / "run" / run.STATE)):
            raise type(error)(*error.args)
        return drawn(self, case)

    monkeypatch.setattr(data.Cache, "__call__", fail)
    shown = CliRunner().invoke(app, ["train", str(recipe), "--data", str(dataset), "--out", str(tmp_path / "run")])
    assert shown.exit_code == 1
    assert re.search(rf"{message} \(while preparing \S+\.png\)", shown.stderr), shown.stderr
    assert state.saved(tmp_path / "run" / run.STATE)


def test_out_of_memory_says_what_takes_less(
    dataset: Path, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses.Loss, "__call__", lambda *_, **__: torch.empty(1 << 55).sum())  # 128 PiB
    with pytest.raises(CapacityError, match=r"out of memory; what takes less: train\.accumulate=2 .*--plan"):
        train.train(tiny(), dataset, tmp_path / "run")


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("can't allocate memory: 1 B")]
)
def test_memory_that_is_not_there_is_known_by_all_its_names(error: Exception) -> None:
    assert capacity.lacking(error)
    assert not capacity.lacking(RuntimeError("shapes do not fit"))


class Trap:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch trapped",)


def test_a_pickle_is_never_loaded_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps(Trap())
    (tmp_path / f"00000009-{sha256(content).hexdigest()}.safetensors").write_bytes(content)
    with pytest.raises(DataError, match="not the state of a training"):
        Store(tmp_path).load(parts(2))
    assert not (tmp_path / "trapped").exists()


def parts(width: int) -> Parts:
    network = nn.Linear(width, width)
    return Parts(network, torch.optim.AdamW(network.parameters()))


def test_the_state_of_another_architecture_does_not_fit(tmp_path: Path) -> None:
    Store(tmp_path).save(State(1), parts(2))
    with pytest.raises(DataError, match=r"00000001-.*does not fit this network: network\.bias"):
        Store(tmp_path).load(parts(3))


def test_another_order_of_the_classes_does_not_go_on(dataset: Path, tiny: Tiny, tmp_path: Path) -> None:
    from carpus.labels import BONES

    settings = tiny()
    job_classes = list(BONES.names)
    launcher = devices.training(settings.train)
    from carpus.job import prepare

    identity = prepare(settings, dataset, launcher).identity()
    assert identity["classes"] == job_classes
    with contextlib.suppress(KeyboardInterrupt), run.claim(tmp_path / "run", identity):
        (tmp_path / "run" / run.STATE / "00000001-hash.safetensors").touch()
        raise KeyboardInterrupt
    swapped = identity | {"classes": [job_classes[1], job_classes[0], *job_classes[2:]]}
    with pytest.raises(DataError, match="another classes"), run.claim(tmp_path / "run", swapped):
        pass
