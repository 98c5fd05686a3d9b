"""Faults 52 to 56: killed, stopped, out of disk, mistyped, two at once. What was begun is gone on with, exactly."""

import errno
import json
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

from carpus import config, run, state, train
from carpus.cli import app
from carpus.errors import DataError, DataWarning, StoppedError
from carpus.formats import files
from carpus.progress import Step

Identical = Callable[[Path], bool]


class Killed(BaseException):
    """As sudden as a process's end gets without ending the test."""


def at(step: int, error: BaseException | None = None) -> Callable[[Step], None]:
    def watch(now: Step) -> None:
        if now.step == step:
            if error:
                raise error
            os.kill(os.getpid(), signal.SIGTERM)

    return watch


@pytest.fixture(scope="module")
def once_interrupted(dataset: Path, settings: config.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("interrupted") / "run"
    with pytest.raises(KeyboardInterrupt):
        train.train(settings, dataset, out, watch=at(5, KeyboardInterrupt()))
    assert [path.name[:8] for path in state.saved(out / run.STATE)] == ["00000004", "00000003"]
    return out


@pytest.fixture
def interrupted(once_interrupted: Path, tmp_path: Path) -> Path:
    """A run that ended after step 5; states of steps 3 and 4 are there."""
    return Path(shutil.copytree(once_interrupted, tmp_path / "run"))


def resume(settings: config.Config, dataset: Path, out: Path, first: int) -> None:
    steps: list[int] = []
    train.train(settings, dataset, out, watch=lambda now: steps.append(now.step))
    assert steps == list(range(first, 7))


def test_an_interrupted_run_goes_on_to_the_same_weights(
    interrupted: Path, dataset: Path, settings: config.Config, identical: Identical
) -> None:
    resume(settings, dataset, interrupted, 5)
    assert identical(interrupted)
    assert run.read(interrupted).manifest["seconds_by_phase"].keys() == {"prepare", "train", "validate", "save"}
    assert len(state.saved(interrupted / run.STATE)) == 1


def test_a_damaged_latest_state_is_passed_over_and_said(
    interrupted: Path, dataset: Path, settings: config.Config, identical: Identical
) -> None:
    latest = state.saved(interrupted / run.STATE)[0]
    content = bytearray(latest.read_bytes())
    content[len(content) // 2] ^= 1
    latest.write_bytes(content)
    with pytest.warns(DataWarning, match=r"00000004-.*is damaged .*; 00000003-.* is used"):
        resume(settings, dataset, interrupted, 4)
    assert identical(interrupted)


def test_a_half_written_latest_state_is_passed_over_and_swept_away(
    interrupted: Path, dataset: Path, settings: config.Config, identical: Identical
) -> None:
    latest = state.saved(interrupted / run.STATE)[0]
    latest.with_name(".00000006-ab.0123456789ab.safetensors").write_bytes(b"half")
    latest.write_bytes(latest.read_bytes()[:1000])
    with pytest.warns(DataWarning, match=r"is damaged .* is used"):
        resume(settings, dataset, interrupted, 4)
    assert identical(interrupted)
    assert len(list((interrupted / run.STATE).iterdir())) == 1


def test_no_whole_state_is_an_error_and_not_a_fresh_start(
    interrupted: Path, dataset: Path, settings: config.Config
) -> None:
    for path in state.saved(interrupted / run.STATE):
        path.write_bytes(b"")
    # Warnings are errors here: none may say that another state is used.
    with pytest.raises(
        DataError, match=r"00000004-.* is damaged .*; so is every saved state: remove .*state to begin the run anew"
    ):
        train.train(settings, dataset, interrupted)


def spoil(*paths: Path) -> None:
    for path in paths:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0x40
        path.write_bytes(content)


def copies(out: Path, name: str) -> list[Path]:
    return sorted((out / run.STATE).glob(f"*.{name}"))


@pytest.fixture(scope="module")
def best_at_3(dataset: Path, settings: config.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that learns next to nothing, so that its first validation stays the best: finished, and stopped after 4."""
    folder = tmp_path_factory.mktemp("best")
    settings = config.changed(settings, "train.learning_rate=1e-9")
    (folder / "recipe.yaml").write_text(config.dump(settings))
    train.train(settings, dataset, folder / "straight")
    assert run.read(folder / "straight").manifest["weights"]["step"] == 3
    with pytest.raises(KeyboardInterrupt):
        train.train(settings, dataset, folder / "run", watch=at(4, KeyboardInterrupt()))
    assert [path.name[:8] for path in state.saved(folder / "run" / run.STATE)] == ["00000003", "00000002"]
    return folder


@pytest.fixture
def stopped(best_at_3: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(best_at_3 / "run", tmp_path / "run"))


def go_on(best_at_3: Path, dataset: Path, out: Path, watch: Callable[[Step], object] | None = None) -> None:
    """Go on with `out`, and expect the weights and scores of the run in one go."""
    train.train(config.load([best_at_3 / "recipe.yaml"]), dataset, out, watch=watch)
    for name in (run.WEIGHTS, run.SCORES):
        assert (out / name).read_bytes() == (best_at_3 / "straight" / name).read_bytes()
    assert [path.name[:8] for path in (out / run.STATE).iterdir()] == ["00000006"]


@pytest.mark.parametrize("name", [run.WEIGHTS, run.SCORES])
@pytest.mark.parametrize("harm", [spoil, Path.unlink])
def test_best_weights_that_are_damaged_or_lost_come_back(
    best_at_3: Path, stopped: Path, dataset: Path, name: str, harm: Callable[[Path], None]
) -> None:
    harm(stopped / name)
    with pytest.warns(DataWarning, match=f"{name}: is not what was kept at the validation; its copy is put back"):
        go_on(best_at_3, dataset, stopped)


def test_a_damaged_copy_of_the_best_weights_is_not_needed(best_at_3: Path, stopped: Path, dataset: Path) -> None:
    spoil(*copies(stopped, run.WEIGHTS))
    go_on(best_at_3, dataset, stopped)


def test_best_weights_without_a_whole_copy_are_measured_again(best_at_3: Path, stopped: Path, dataset: Path) -> None:
    spoil(stopped / run.WEIGHTS, *copies(stopped, run.WEIGHTS))
    with pytest.warns(DataWarning, match=r"weights\.safetensors: is missing or damaged, .*; 00000002-.* is used"):
        go_on(best_at_3, dataset, stopped)


def test_best_weights_that_no_state_comes_before_are_an_error(best_at_3: Path, stopped: Path, dataset: Path) -> None:
    state.saved(stopped / run.STATE)[1].unlink()
    spoil(stopped / run.WEIGHTS, *copies(stopped, run.WEIGHTS))
    with pytest.raises(
        DataError, match=r"weights\.safetensors: is missing or damaged, and so is its copy; so is every"
    ):
        go_on(best_at_3, dataset, stopped)


def test_best_weights_that_are_damaged_on_the_way_get_no_manifest(
    best_at_3: Path, stopped: Path, dataset: Path
) -> None:
    def watch(now: Step) -> None:
        if now.step == 5:
            spoil(stopped / run.WEIGHTS, *copies(stopped, run.WEIGHTS))

    with pytest.raises(DataError, match=r"weights\.safetensors: is missing or damaged, and so is its copy in "):
        go_on(best_at_3, dataset, stopped, watch)
    assert not (stopped / run.MANIFEST).exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.learning_rate=0.5", r"another train\.learning_rate \(0\.007, now 0\.5\)"),
        ("augment.flip=false", r"another augment\.flip"),
        ("train.steps=7", r"another train\.steps \(6, now 7\)"),
    ],
)
def test_other_settings_do_not_go_on(
    interrupted: Path, dataset: Path, settings: config.Config, change: str, message: str
) -> None:
    (interrupted.parent / "recipe.yaml").write_text(config.dump(settings))
    other = config.load([interrupted.parent / "recipe.yaml"], [change])
    with pytest.raises(DataError, match=message):
        train.train(other, dataset, interrupted)
    assert state.saved(interrupted / run.STATE)


def test_settings_that_change_no_weight_may_differ(
    interrupted: Path, dataset: Path, settings: config.Config, identical: Identical
) -> None:
    fewer = settings.model_copy(update={"data": settings.data.model_copy(update={"workers": 1, "cache_gib": 0.001})})
    train.train(fewer, dataset, interrupted, resume=True)
    assert identical(interrupted)


def test_other_data_does_not_go_on(interrupted: Path, dataset: Path, settings: config.Config, tmp_path: Path) -> None:
    root = Path(shutil.copytree(dataset, tmp_path / "data"))
    annotation = next((root / "train" / "outputs_json").rglob("*.json"))
    annotation.write_text(annotation.read_text() + " ")
    with pytest.raises(DataError, match=r"another data\.all\.annotations"):
        train.train(settings, root, interrupted)


def test_a_mistyped_folder_is_not_resumed_and_not_made(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "nothere"
    shown = CliRunner().invoke(
        app, ["train", "demo", "--data", str(dataset), "--out", str(out), "--resume", "--set=data.folds=2"]
    )
    assert shown.exit_code == 2
    assert "holds no saved state to go on with" in shown.stderr
    assert not out.exists()


def test_other_versions_are_said(
    interrupted: Path, dataset: Path, settings: config.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = run.versions()
    monkeypatch.setattr(run, "versions", lambda: versions | {"torch": "9.9"})
    with pytest.warns(DataWarning, match=r"going on with torch .*, now 9\.9: the weights may differ"):
        train.train(settings, dataset, interrupted)


def test_sigterm_saves_the_step_and_ends(
    dataset: Path, settings: config.Config, tmp_path: Path, identical: Identical
) -> None:
    out, before = tmp_path / "run", signal.getsignal(signal.SIGTERM)
    with pytest.raises(StoppedError, match="stopped after step 5 of 6; the same command goes on") as caught:
        train.train(settings, dataset, out, watch=at(4))
    assert caught.value.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
    resume(settings, dataset, out, 6)
    assert identical(out)


def test_sigterm_in_the_middle_of_a_save(
    dataset: Path, settings: config.Config, tmp_path: Path, identical: Identical, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Path.write_bytes

    def write(self: Path, content: bytes) -> int:
        if self.name.startswith(".00000002"):
            os.kill(os.getpid(), signal.SIGTERM)
        return written(self, content)

    monkeypatch.setattr(Path, "write_bytes", write)
    with pytest.raises(StoppedError, match="stopped after step 3"):
        train.train(settings, dataset, tmp_path / "run")
    resume(settings, dataset, tmp_path / "run", 4)
    assert identical(tmp_path / "run")


def test_a_full_disk_in_a_save_keeps_the_states_before(
    dataset: Path, settings: config.Config, tmp_path: Path, identical: Identical, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, written = tmp_path / "run", Path.write_bytes

    def full(self: Path, content: bytes) -> int:
        if self.name.startswith(".00000004"):
            written(self, content[:1000])
            raise OSError(errno.ENOSPC, "No space left on device")
        return written(self, content)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match=r"No space left on device: '.*00000004-.*safetensors'"):
            train.train(settings, dataset, out)
    assert sorted(path.name[:8] for path in (out / run.STATE).glob("0000*.safetensors")) == ["00000002", "00000003"]
    assert not list((out / run.STATE).glob(".*"))
    resume(settings, dataset, out, 4)
    assert identical(out)


def test_a_disk_that_is_really_full(
    dataset: Path, settings: config.Config, straight: Path, tmp_path: Path, identical: Identical
) -> None:
    """In a small file system of its own, which grows before the same command goes on."""
    disk, recipe, train_it = tmp_path / "disk", tmp_path / "recipe.yaml", f"{sys.executable} -m carpus.cli train"
    disk.mkdir()
    recipe.write_text(config.dump(settings))
    mount = f"mount -t tmpfs -o size=1m tmpfs {disk}"
    if (
        shutil.which("unshare") is None
        or subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode
    ):
        pytest.skip("no file system may be mounted here")
    script = f"""
        {mount} && mount -o remount,size=$1 {disk}
        {train_it} {recipe} --data {dataset} --out {disk}/run; echo status $?
        ls {disk}/run/state
        mount -o remount,size=400m {disk}
        {train_it} {recipe} --data {dataset} --out {disk}/run --resume && cp -r {disk}/run {tmp_path}/run
    """
    state_bytes = state.saved(straight / run.STATE)[0].stat().st_size
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", str(int(2.5 * state_bytes))], capture_output=True, text=True
    )
    assert "error: [Errno 28] No space left on device" in done.stderr
    assert "status 1" in done.stdout
    assert "safetensors" in done.stdout
    assert done.returncode == 0, done.stderr
    assert identical(tmp_path / "run")


def test_a_run_replaces_another_across_an_interruption(
    trained: Path, dataset: Path, settings: config.Config, tmp_path: Path, identical: Identical
) -> None:
    out = Path(shutil.copytree(trained, tmp_path / "run"))
    with pytest.raises(KeyboardInterrupt):
        train.train(settings, dataset, out, overwrite=True, watch=at(4, KeyboardInterrupt()))
    assert run.read(out / run.EARLIER).manifest == run.read(trained).manifest
    train.train(settings, dataset, out)
    assert identical(out)
    assert not (out / run.EARLIER).exists()


@pytest.mark.timeout(900)
def test_the_command_is_stopped_and_goes_on(
    dataset: Path, settings: config.Config, tmp_path: Path, identical: Identical
) -> None:
    """Another process in earnest: locked while it runs, stopped by SIGTERM, killed, and gone on with."""
    out, recipe = tmp_path / "run", tmp_path / "recipe.yaml"
    recipe.write_text(config.dump(settings))
    command = [sys.executable, "-m", "carpus.cli", "train", str(recipe), "--data", str(dataset), "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    until(lambda: bool(state.saved(out / run.STATE)))
    # Held still, it cannot finish before it was seen to lock the folder.
    process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(DataError, match="another process is training into this folder"):
            train.train(settings, dataset, out)
    finally:
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        said = process.communicate(timeout=250)[1]
    assert process.returncode == 128 + signal.SIGTERM, said
    assert "the same command goes on" in said
    process = subprocess.Popen(command)
    before = len(list(out.rglob("*")))
    until(lambda: (out / ".lock").exists() and len(list(out.rglob("*"))) >= before)
    process.kill()
    process.wait()
    if not (out / run.MANIFEST).exists():
        finished = subprocess.run([*command, "--resume"], check=False, capture_output=True, text=True)
        assert finished.returncode == 0, finished.stderr
    assert identical(out)


def until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 250
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_kill_9_at_random_moments_changes_nothing() -> None:
    """A short version of `python tests/faults/kill.py`, in a process of its own because it forks."""
    code = "import json, sys, tempfile; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import kill\n"
    code += "with tempfile.TemporaryDirectory() as folder: print(kill.trial(3, 7, Path(folder))[0])"
    told = subprocess.run([sys.executable, "-c", code, str(Path(__file__).parent)], capture_output=True, text=True)
    assert told.stdout.split() == ["3"], told.stderr[-2000:]


def test_a_crash_at_any_file_operation_leaves_a_whole_state_and_a_whole_run() -> None:
    told = subprocess.run([sys.executable, Path(__file__).with_name("crash.py")], capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr
    counts = json.loads(told.stdout)
    assert counts["save"] >= 4
    assert counts["replace"] >= 20


def test_what_is_written_is_on_disk_before_its_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    synced, renamed = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (order.append("fsync"), synced(handle))[1])
    monkeypatch.setattr(Path, "replace", lambda self, to: (order.append("rename"), renamed(self, to))[1])
    files.write_text(tmp_path / "a.txt", "text")
    assert order == ["fsync", "rename", "fsync"]
