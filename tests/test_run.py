"""The run folder: hashes, unfinished runs, and one process a folder."""

import contextlib
import fcntl
import json
import shutil
from pathlib import Path

import pytest

from carpus import run
from carpus.errors import DataError


@pytest.mark.parametrize("name", ["weights.safetensors", "config.yaml"])
def test_a_flipped_bit_is_noticed(trained: Path, tmp_path: Path, name: str) -> None:
    for item in trained.iterdir():
        (tmp_path / item.name).write_bytes(item.read_bytes())
    content = bytearray((tmp_path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: differs from what was saved"):
        run.read(tmp_path)


def test_an_unfinished_or_mistyped_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothere: no finished run"):
        run.read(tmp_path / "nothere")
    (tmp_path / "manifest.json").write_text(json.dumps({"classes": []}))
    with pytest.raises(DataError, match=r"manifest\.json: not a manifest"):
        run.read(tmp_path)


def test_a_missing_file_is_named(trained: Path, tmp_path: Path) -> None:
    for item in trained.iterdir():
        (tmp_path / item.name).write_bytes(item.read_bytes())
    (tmp_path / "weights.safetensors").unlink()
    with pytest.raises(DataError, match=r"weights\.safetensors: is missing"):
        run.read(tmp_path)


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    with (tmp_path / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process"), run.claim(tmp_path):
            pass


def test_the_lock_is_gone_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), run.claim(tmp_path):
        1 / 0  # noqa: B018
    with run.claim(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    assert not list(tmp_path.iterdir())


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_replaced_run_comes_back_when_the_new_one_fails(copied: Path) -> None:
    before = contents(copied)
    with contextlib.suppress(ZeroDivisionError), run.claim(copied, overwrite=True):
        assert not (copied / "manifest.json").exists()
        (copied / "weights.safetensors").write_text("new")
        raise ZeroDivisionError
    assert contents(copied) == before


def test_a_replaced_run_is_gone_when_the_new_one_is_finished(copied: Path) -> None:
    with run.claim(copied, overwrite=True):
        (copied / "weights.safetensors").write_text("new")
    assert contents(copied) == {"weights.safetensors": b"new"}


@pytest.mark.parametrize("moment", ["training", "putting aside", "bringing back"])
def test_a_replaced_run_survives_a_killed_process(copied: Path, moment: str) -> None:
    before = contents(copied)
    with contextlib.suppress(InterruptedError), run.claim(copied, overwrite=True):
        (copied / "weights.safetensors").write_text("new")
        killed = Path(shutil.copytree(copied, copied.with_name("killed")))
        raise InterruptedError
    if moment == "putting aside":  # all is copied, the manifest still there
        shutil.copy2(killed / run.EARLIER / "manifest.json", killed)
        for name in ("config.yaml", "weights.safetensors"):
            shutil.copy2(killed / run.EARLIER / name, killed)
    if moment == "bringing back":
        shutil.copy2(killed / run.EARLIER / "config.yaml", killed)
    with pytest.raises(DataError, match="already holds"), run.claim(killed):
        pass
    if moment != "putting aside":
        assert contents(killed) == before
    assert run.read(killed)
