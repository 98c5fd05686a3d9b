"""The run folder: hashes, unfinished runs, and one process a folder."""

import fcntl
import json
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
