"""On machines that have nothing in common but a store a study goes on: nothing is repeated, nothing half taken."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import fsspec
import pytest
from fsspec.registry import known_implementations
from small_study import ARMS, BROKEN, study
from typer.testing import CliRunner

from carpus.cli import app
from carpus.errors import ConfigError, DataError
from carpus.study import conduct, gather, spec, tasks
from carpus.study.perform import perform
from carpus.study.results import Arm
from carpus.study.store import Store
from carpus.study.tasks import Task


class Here:
    """An executor without processes, so that all have the same memory:// for a store."""

    capacity = 1

    def __init__(self, root: Path, out: Path, store: Store, ends_after: int = 1 << 30) -> None:
        self._given, self._ended, self._left = (root, out, store), list[tuple[str, str | None]](), ends_after

    def submit(self, task: Task) -> None:
        if self._left == 0:
            raise KeyboardInterrupt
        self._left -= 1
        perform(task, *self._given)
        self._ended.append((task.key, None))

    def wait(self, seconds: float) -> list[tuple[str, str | None]]:
        ended, self._ended = self._ended, []
        return ended

    def __enter__(self) -> "Here":
        return self

    def __exit__(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("studies") / "tiny.yaml"
    path.write_text(study(ARMS))
    return path


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    yield f"memory://{tmp_path.name}"
    fsspec.filesystem("memory").store.clear()


def work_of(path: Path, *, seeds: int = 1) -> tasks.Work:
    return tasks.work(spec.load(path), path, "quick", seeds=seeds, folds=[0])


def run_here(path: Path, root: Path, out: Path, url: str, ends_after: int = 1 << 30) -> list[str]:
    """What `carpus study run` does, in this process; the tasks that were submitted."""
    work, store, submitted = work_of(path), Store(url), list[str]()
    conduct.begin(out, path, "quick", root, work.rows, store)
    store.exchange(out, work.tasks)

    def watch(now: conduct.Standing) -> None:
        submitted.extend(now.running)

    conduct.conduct(work, out, lambda: Here(root, out, store, ends_after), watch)
    return submitted


def finished(root: Path, out: Path, key: str = "0123") -> Path:
    """A task's folder as it is after training, with a state that need not travel."""
    folder = tasks.folder(out, key)
    for name in ("weights.safetensors", "train/outputs_json/a.json", "state/9.safetensors"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / tasks.DONE).write_text(json.dumps({"key": key}))
    return folder


def content(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and "state" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.parametrize("kind", ["memory", "file", "path"])
def test_a_finished_folder_comes_back_as_it_was_but_for_its_state(kind: str, url: str, tmp_path: Path) -> None:
    url = {"memory": url, "file": f"file://{tmp_path}/new/store/", "path": f"{tmp_path}/new/store"}[kind]
    first, second = tmp_path / "first", tmp_path / "second"
    folder = finished(tmp_path, first)
    store = Store(url)
    assert not store.done("0123")
    store.pull(second, "0123")
    assert not second.exists()
    store.push(first, "0123")
    assert store.done("0123")
    begun = tasks.folder(second, "0123") / "state"
    begun.mkdir(parents=True)
    (begun / "3.safetensors").write_text("begun here, finished elsewhere")
    tasks.fail(second, "0123", "earlier")
    Store(url).pull(second, "0123")
    assert content(tasks.folder(second, "0123")) == content(folder)
    assert not begun.exists()
    assert tasks.state(second, "0123") == "done"
    assert not tasks.note(second, "0123").exists()
    assert [each.name for each in (second / tasks.RUNS).iterdir()] == ["0123"]


def test_half_an_upload_is_not_done_and_is_made_whole(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, memory = tmp_path / "first", tmp_path / "second", fsspec.filesystem("memory")
    folder, store, put = finished(tmp_path, first), Store(url), memory.put_file

    def breaks(source: str, target: str, **more: object) -> None:
        if target.endswith("weights.safetensors"):
            raise TimeoutError("the line is dead")
        put(source, target, **more)

    monkeypatch.setattr(memory, "put_file", breaks)
    with pytest.raises(ConfigError, match=rf"--store {re.escape(url)}: TimeoutError: the line is dead"):
        store.push(first, "0123")
    assert not store.done("0123")
    store.pull(second, "0123")
    assert not tasks.folder(second, "0123").exists()
    monkeypatch.undo()
    store.push(first, "0123")
    store.pull(second, "0123")
    assert content(tasks.folder(second, "0123")) == content(folder)


def test_half_a_last_file_is_not_done(tmp_path: Path) -> None:
    store = Store(f"file://{tmp_path}/store")
    store.push(finished(tmp_path, tmp_path / "out").parents[1], "0123")
    last = tasks.folder(tmp_path / "store", "0123") / tasks.DONE
    last.write_bytes(last.read_bytes()[:-4])
    assert not store.done("0123")


def test_half_a_download_leaves_nothing(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, memory = tmp_path / "first", tmp_path / "second", fsspec.filesystem("memory")
    finished(tmp_path, first)
    store, get = Store(url), memory.get_file
    store.push(first, "0123")

    def breaks(source: str, target: str, **more: object) -> None:
        if target.endswith("a.json"):
            raise TimeoutError("the line is dead")
        get(source, target, **more)

    monkeypatch.setattr(memory, "get_file", breaks)
    with pytest.raises(ConfigError, match="the line is dead"):
        store.pull(second, "0123")
    assert not any((second / tasks.RUNS).iterdir())


class Machines(NamedTuple):
    """One study in three folders, and which tasks were carried out for each."""

    outs: tuple[Path, ...]
    submitted: tuple[list[str], ...]
    arms: dict[str, Arm]


@pytest.fixture(scope="module")
def machines(path: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Machines:
    """The driver of the first is interrupted after three tasks. Its folder and data are gone when the next begins."""
    top, url = tmp_path_factory.mktemp("machines"), "memory://machines"
    outs, submitted, arms = [top / name for name in ("first", "second", "third")], [], {}
    for number, out in enumerate(outs):
        root = Path(shutil.copytree(dataset, top / f"data {number}"))
        with suppress(KeyboardInterrupt):
            submitted.append(run_here(path, root, out, url, ends_after=3 if number == 0 else 1 << 30))
        if number == 1:
            arms = gather.of_study(conduct.open_(out))[0]
        if number < 2:
            root.rename(top / f"gone data {number}")
            outs[number] = out.rename(top / f"gone {number}")
    return Machines(tuple(outs), tuple(submitted), arms)


def test_another_machine_goes_on_and_repeats_nothing(path: Path, machines: Machines) -> None:
    first, second, third = machines.outs
    before = {key for key in work_of(path).tasks if tasks.is_done(first, key)}
    assert len(before) == 3
    assert list(map(set, machines.submitted)) == [work_of(path).tasks.keys() - before, set()]
    assert content(third / tasks.RUNS) == content(second / tasks.RUNS)


def test_a_report_does_not_care_where_runs_were_made(machines: Machines) -> None:
    arms, notes = gather.of_study(conduct.open_(machines.outs[2]))
    assert not notes
    for name, arm in machines.arms.items():
        for one, other in zip(arm.runs, arms[name].runs, strict=True):
            assert one.lineage == other.lineage
            assert one.table.equals(other.table)
    assert arms["refined"].runs[0].lineage.steps == 6
    assert arms["refined"].runs[0].lineage.trainings > arms["BCE"].runs[0].lineage.trainings


def test_runs_of_a_folder_without_a_store_are_given_to_one(path: Path, dataset: Path, url: str, tmp_path: Path) -> None:
    work = work_of(path)
    conduct.begin(tmp_path / "out", path, "quick", dataset, work.rows)
    key = next(iter(work.tasks))
    finished(tmp_path, tmp_path / "out", key)
    Store(url).exchange(tmp_path / "out", work.tasks)
    assert Store(url).done(key)


def test_a_store_holds_one_study_of_one_data_set(path: Path, dataset: Path, url: str, tmp_path: Path) -> None:
    rows = work_of(path).rows
    conduct.begin(tmp_path / "first", path, "quick", dataset, rows, Store(url))
    with pytest.raises(DataError, match=rf"--store {re.escape(url)}: holds a study with scale quick, now full"):
        conduct.begin(tmp_path / "second", path, "full", dataset, rows, Store(url))
    other = tmp_path / "other.yaml"
    other.write_text(study({**ARMS, **BROKEN}))
    with pytest.raises(DataError, match=rf"--store {re.escape(url)}: holds another study"):
        conduct.begin(tmp_path / "second", other, "quick", dataset, rows, Store(url))
    changed = Path(shutil.copytree(dataset, tmp_path / "changed"))
    next((changed / "test_labels").rglob("*.json")).unlink()
    with pytest.raises(DataError, match=rf"--store {re.escape(url)}: holds a study of other images or annotations"):
        conduct.begin(tmp_path / "second", path, "quick", changed, rows, Store(url))
    assert not (tmp_path / "second").exists()


def test_seeds_that_other_machines_asked_for_stay_in_the_index(
    path: Path, dataset: Path, url: str, tmp_path: Path
) -> None:
    many, few = work_of(path, seeds=2).rows, work_of(path).rows
    conduct.begin(tmp_path / "first", path, "quick", dataset, many, Store(url))
    conduct.begin(tmp_path / "second", path, "quick", dataset, few, Store(url))
    assert len((Store(url).index or {})["runs"]) == len(many)
    assert conduct.open_(tmp_path / "second").rows == few


def test_a_node_has_a_folder_for_each_url_and_data_set(path: Path, dataset: Path, url: str, tmp_path: Path) -> None:
    """A key does not know the data, so what is left of a study of others must not pass for this one's."""
    other = Path(shutil.copytree(dataset, tmp_path / "other"))
    next((other / "test_labels").rglob("*.json")).unlink()
    folders = []
    for number, (root, where) in enumerate(((dataset, url), (other, url), (other, f"{url}/below"))):
        fsspec.filesystem("memory").store.clear()
        conduct.begin(tmp_path / str(number), path, "quick", root, work_of(path).rows, Store(where))
        folders.append(Store(where).scratch())
    assert len(set(folders)) == 3
    assert folders[2] == Store(f"{url}/below").scratch()
    for folder in folders:
        folder.rmdir()


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        known_implementations, "cloud", {"class": "cloudfs_not_there.Files", "err": "Install cloudfs_not_there"}
    )
    with pytest.raises(
        ConfigError, match=r"--store cloud://a/b: Install cloudfs_not_there; pip install cloudfs_not_there$"
    ):
        Store("cloud://a/b")
    with pytest.raises(ConfigError, match=r"--store nothing://a: Protocol not known: nothing; expected s3://"):
        Store("nothing://a")


def test_a_store_that_is_forbidden_or_no_study_is_said_before_anything_is_made(path: Path, tmp_path: Path) -> None:
    arguments = ["study", "run", str(path), "--scale", "quick", "--out", str(tmp_path / "out"), "--store"]
    (tmp_path / "a file").touch()
    done = CliRunner().invoke(app, [*arguments, f"{tmp_path}/a file/store"])
    assert done.exit_code == 2
    assert f"--store file://{tmp_path}/a file/store: NotADirectoryError" in " ".join(done.output.split())
    (tmp_path / tasks.INDEX).write_text("[1, 2]")
    done = CliRunner().invoke(app, [*arguments, str(tmp_path)])
    assert done.exit_code == 2
    assert "study.json is not the index of a study" in " ".join(done.output.split())
    assert not (tmp_path / "out").exists()


def test_the_command_goes_on_from_a_store(tmp_path: Path) -> None:
    """Two folders, made-up data in each; the second time no process begins at all."""
    path, first, second = tmp_path / "tiny.yaml", tmp_path / "first", tmp_path / "second"
    path.write_text(study({name: ARMS[name] for name in ("BCE", "Dice")} | {"broken": BROKEN["broken"]}))
    command = [sys.executable, "-m", "carpus.cli", "study", "run", str(path), "--scale", "quick", "--workers", "1"]
    for out in (first, second):
        more = ["--out", str(out), "--store", str(tmp_path / "store"), *(["--without", "broken"] * (out == second))]
        done = subprocess.run([*command, *more], capture_output=True, text=True, timeout=280)
        assert done.returncode == (out == first), done.stderr
    assert tasks.failure(first, conduct.open_(first).rows[2].key).startswith("ConfigError: train.batch_size")
    assert not (second / tasks.LOGS).exists()
    made = {row.key for row in conduct.open_(second).rows}
    assert made == {each.name for each in (second / tasks.RUNS).iterdir()}
    assert all(content(tasks.folder(second, key)) == content(tasks.folder(first, key)) for key in made)
