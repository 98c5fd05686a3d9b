"""The run folder: hashes, unfinished runs, and one process a folder."""

import contextlib
import fcntl
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from carpus import run
from carpus.errors import CapacityError, ConfigError, DataError, DivergedError, StoppedError
from carpus.formats import files

THIS: dict[str, Any] = {"settings": {"train": {"steps": 3}}, "data": {"all": "a"}}
OTHER: dict[str, Any] = {"settings": {"train": {"steps": 4}}, "data": {"all": "a"}}


@pytest.mark.parametrize("name", ["weights.safetensors", "config.yaml"])
def test_a_flipped_bit_is_noticed(trained: Path, tmp_path: Path, name: str) -> None:
    out = Path(shutil.copytree(trained, tmp_path / "run"))
    content = bytearray((out / name).read_bytes())
    content[len(content) // 2] ^= 1
    (out / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: differs from what was saved"):
        run.read(out)


def test_an_unfinished_or_mistyped_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothere: no finished run"):
        run.read(tmp_path / "nothere")
    (tmp_path / "manifest.json").write_text(json.dumps({"classes": []}))
    with pytest.raises(DataError, match=r"manifest\.json: not a manifest"):
        run.read(tmp_path)


def test_a_missing_file_is_named(trained: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(trained, tmp_path / "run"))
    (out / "weights.safetensors").unlink()
    with pytest.raises(DataError, match=r"weights\.safetensors: is missing"):
        run.read(out)


def test_the_machine_and_the_code_are_in_the_manifest(trained: Path) -> None:
    found = run.read(trained).manifest["environment"]
    assert found["threads"] >= 1
    assert found["processor"]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    assert run.environment()["threads"] == 1
    torch.set_num_threads(before)
    assert len(found["git"]["commit"]) == 40 if "git" in found else not (Path(__file__).parents[1] / ".git").exists()


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    with (tmp_path / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process"), run.claim(tmp_path, THIS):
            pass


def test_a_lock_that_was_removed_meanwhile_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = fcntl.flock

    def late(handle: Any, how: int) -> None:
        locked(handle, how)
        (tmp_path / ".lock").unlink()  # as the process does that held the folder until now

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(DataError, match="another process"), run.claim(tmp_path, THIS):
        pass


def test_the_lock_is_gone_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), run.claim(tmp_path, THIS):
        1 / 0  # noqa: B018
    with run.claim(tmp_path, THIS) as resumed:
        assert resumed
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def tell_tensorboard(folder: Path, what: str) -> None:
    (folder / run.TENSORBOARD).mkdir()
    (folder / run.TENSORBOARD / "events").write_text(what)


@pytest.mark.parametrize("error", [ConfigError, DataError, DivergedError, CapacityError])
def test_a_replaced_run_comes_back_when_the_new_one_fails(copied: Path, error: type[Exception]) -> None:
    tell_tensorboard(copied, "earlier")
    before = contents(copied)
    with contextlib.suppress(error), run.claim(copied, THIS, overwrite=True):
        assert not (copied / "manifest.json").exists()
        tell_tensorboard(copied, "new")
        (copied / "weights.safetensors").write_text("new")
        raise error
    assert contents(copied) == before


def test_files_of_the_same_names_that_no_run_made_are_kept(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("# my notes")
    with pytest.raises(DataError, match=r"already holds config\.yaml"), run.claim(tmp_path, THIS):
        pass
    assert (tmp_path / "config.yaml").read_text() == "# my notes"


def test_a_failed_run_without_a_state_makes_room(tmp_path: Path) -> None:
    with contextlib.suppress(DataError), run.claim(tmp_path, THIS):
        (tmp_path / "config.yaml").write_text("new")
        tell_tensorboard(tmp_path, "new")
        raise DataError
    with run.claim(tmp_path, OTHER) as resumed:
        assert not resumed
        assert set(contents(tmp_path)) == {".lock", "state/begun.json"}


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), StoppedError("stopped", 15), OSError(28, "full"), RuntimeError()]
)
def test_an_interrupted_run_keeps_its_place_and_the_replaced_one_waits(copied: Path, error: BaseException) -> None:
    before = contents(copied)
    with contextlib.suppress(type(error)), run.claim(copied, THIS, overwrite=True):
        (copied / "weights.safetensors").write_text("new")
        raise error
    with pytest.raises(DataError, match=r"another train\.steps \(3, now 4\)"), run.claim(copied, OTHER):
        pass
    with contextlib.suppress(DataError), run.claim(copied, THIS) as resumed:
        assert resumed
        assert (copied / "weights.safetensors").read_text() == "new"
        raise DataError
    assert contents(copied) == before


def test_other_settings_give_up_the_interrupted_run_but_not_the_replaced_one(copied: Path) -> None:
    before = contents(copied)
    with pytest.raises(KeyboardInterrupt), run.claim(copied, THIS, overwrite=True):
        raise KeyboardInterrupt
    with contextlib.suppress(DataError), run.claim(copied, OTHER, overwrite=True) as resumed:
        assert not resumed
        raise DataError
    assert contents(copied) == before


def test_a_replaced_run_is_gone_when_the_new_one_is_finished(copied: Path) -> None:
    with run.claim(copied, THIS, overwrite=True):
        (copied / "weights.safetensors").write_text("new")
    assert set(contents(copied)) == {"weights.safetensors", "state/begun.json"}


@pytest.mark.parametrize("moment", ["putting aside", "before the first file", "bringing back"])
def test_a_replaced_run_survives_a_killed_process(copied: Path, moment: str) -> None:
    before = contents(copied)
    with contextlib.suppress(DataError), run.claim(copied, THIS, overwrite=True):
        killed = Path(shutil.copytree(copied, copied.with_name("killed")))
        raise DataError
    (killed / run.BEGUN).unlink()
    if moment == "putting aside":  # all is copied, the manifest still there
        shutil.copytree(killed / run.EARLIER, killed, dirs_exist_ok=True)
    if moment == "bringing back":
        shutil.copy2(killed / run.EARLIER / "config.yaml", killed)
    with pytest.raises(DataError, match="already holds"), run.claim(killed, THIS):
        pass
    shutil.rmtree(killed / run.EARLIER, ignore_errors=True)
    assert contents(killed) == before
    assert run.read(killed)


def test_what_a_killed_process_left_half_written_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / ".weights.0123456789ab.safetensors").write_text("half")
    with run.claim(tmp_path, THIS) as resumed:
        assert not resumed
    assert not (tmp_path / ".weights.0123456789ab.safetensors").exists()


def test_a_finished_run_is_not_resumed(copied: Path) -> None:
    (copied / run.BEGUN).write_text(json.dumps(THIS))  # killed between manifest and clearing up
    with (
        pytest.raises(DataError, match="is finished; to train it for longer, --continue"),
        run.claim(copied, THIS, resume=True),
    ):
        pass


def test_a_finished_run_is_known_by_its_identity(copied: Path, tmp_path: Path) -> None:
    with run.claim(tmp_path / "begun", THIS):
        assert files.sha256(tmp_path / "begun" / run.BEGUN) == run.digest(THIS)
    manifest = json.loads((copied / run.MANIFEST).read_text())
    (copied / run.MANIFEST).write_text(json.dumps(manifest | {"identity": run.digest(THIS)}))
    assert run.finished(copied, dict(reversed(THIS.items()))) == run.read(copied)
    assert run.finished(copied, OTHER) is None
    assert run.finished(tmp_path / "nothere", THIS) is None
    with pytest.raises(DataError, match=r"already holds a finished run; .* --continue"), run.claim(copied, OTHER):
        pass


def test_resuming_without_a_saved_state_is_an_error(tmp_path: Path) -> None:
    with contextlib.suppress(KeyboardInterrupt), run.claim(tmp_path, THIS):
        raise KeyboardInterrupt
    with pytest.raises(DataError, match="holds no saved state to go on with"), run.claim(tmp_path, THIS, resume=True):
        pass


def test_a_damaged_record_of_what_was_begun_can_be_overwritten(tmp_path: Path) -> None:
    (tmp_path / run.STATE).mkdir()
    (tmp_path / run.BEGUN).write_text('{"settings": ')
    (tmp_path / run.STATE / "00000001-hash.safetensors").touch()
    with pytest.raises(DataError, match="pass --overwrite to begin anew"), run.claim(tmp_path, THIS):
        pass
    with run.claim(tmp_path, THIS, overwrite=True) as resumed:
        assert not resumed
