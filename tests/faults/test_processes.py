"""One of several processes is killed, or all are asked to stop: the training is interrupted, and goes on."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from carpus import config, run, state
from carpus.cli import shell

Tiny = Callable[..., config.Config]

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds its processes in /proc")


def workers(torchrun: int) -> list[int]:
    """Process ids of what torchrun started, by rank."""
    ranks: dict[int, int] = {}
    for child in map(int, Path(f"/proc/{torchrun}/task/{torchrun}/children").read_text().split()):
        words = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        ranks |= {int(word[5:]): child for word in words if word.startswith(b"RANK=")}
    return [ranks[rank] for rank in sorted(ranks)]


def latest(out: Path) -> int:
    return max((int(path.name[:8]) for path in state.saved(out / run.STATE)), default=0)


def started(command: list[str]) -> subprocess.Popen[str]:
    """Two processes of `carpus`, started by torchrun."""
    several = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "carpus.cli"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*several, *command], env=environment, stderr=subprocess.PIPE, text=True)


def torchrun(command: list[str], out: Path, harm: Callable[[list[int]], object]) -> str:
    """Start two processes, do `harm` to them when both have begun to train; what they said."""
    process = started(command)
    begun, end = time.time(), time.monotonic() + 250
    try:
        while not any(path.stat().st_mtime > begun for path in state.saved(out / run.STATE)):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < end
            time.sleep(0.05)
        harm(workers(process.pid))
        return process.communicate(timeout=250)[1]
    finally:
        process.terminate()


def test_a_lost_process_and_a_signal_to_all_interrupt(trained: Path, dataset: Path, tiny: Tiny, tmp_path: Path) -> None:
    out, recipe = Path(shutil.copytree(trained, tmp_path / "run")), tmp_path / "recipe.yaml"
    (out / run.STATE).rename(tmp_path / "state")  # so that what is saved is the new run's
    settings = ("model.norm=group", "train.steps=100000", "train.validate_every=100000", "train.save_every=2")
    recipe.write_text(config.dump(tiny(*settings)))
    command = ["train", str(recipe), "--data", str(dataset), "--out", str(out), "--overwrite"]

    said = torchrun(command, out, lambda ranks: os.kill(ranks[1], signal.SIGKILL))
    assert "error: lost another of the 2 processes of this training; the same command goes on" in said
    assert "fault" not in said
    before = latest(out)
    assert before
    assert run.read(out / run.EARLIER).manifest == run.read(trained).manifest

    said = torchrun(command, out, lambda ranks: [os.kill(rank, signal.SIGTERM) for rank in ranks])
    assert "of 100000; the same command goes on" in said
    assert latest(out) > before
    assert f"exitcode  : {128 + signal.SIGTERM} " in said
    assert "exitcode  : 158" not in said


def test_what_all_processes_are_refused_is_said_once(tmp_path: Path) -> None:
    out, data = (f"--{name}={tmp_path / name}" for name in ("out", "data"))
    said = started(["train", "demo", out, data, "--set=train.device=cpu"]).communicate(timeout=250)[1]
    assert said.count("error: ") == 1, said
    assert "no such folder" in said


def test_what_one_process_alone_is_refused_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setenv("LOCAL_RANK", "1")
    begun = time.monotonic()
    shown = CliRunner().invoke(shell.app, ["train", "demo", "--data=.", "--out=run", "--set=train.stepz=3"])
    assert (shown.exit_code, "train.stepz" in shown.stderr) == (2, True)
    assert time.monotonic() - begun > 0.5
