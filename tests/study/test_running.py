"""A study runs to its end whatever happens to its processes, and no run that is finished runs again."""

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
from safetensors.torch import load_file, save_file
from small_study import ARMS, BROKEN, study
from typer.testing import CliRunner

from carpus import evaluate, run
from carpus.cli import app
from carpus.errors import BusyError, ConfigError, DataError
from carpus.study import conduct, perform, spec, tasks
from carpus.study.local import Local, suited

pytestmark = pytest.mark.timeout(900)
"""Processes of torch that start while others work can take minutes."""


def work_of(path: Path, *, seeds: int = 1, arms: list[str] | None = None) -> tasks.Work:
    return tasks.work(spec.load(path), path, "quick", seeds=seeds, folds=[0], arms=arms)


def command(path: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "carpus.cli", "study", "run", str(path), "--scale", "quick", "--out", str(out), *more]


def until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 500
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)


def stamps(out: Path) -> dict[str, int]:
    """When the tasks that are done came to their end, which is written again by whatever repeats one."""
    done = [path.parent for path in out.glob(f"{tasks.RUNS}/*/{tasks.DONE}")]
    return {folder.name: (folder / tasks.DONE).stat().st_mtime_ns for folder in done}


@pytest.fixture(scope="module")
def tiny_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("studies") / "tiny.yaml"
    path.write_text(study({**ARMS, **BROKEN}))
    return path


@pytest.fixture(scope="module")
def ran(tiny_study: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, "subprocess.CompletedProcess[str]"]:
    out = tmp_path_factory.mktemp("study") / "out"
    done = subprocess.run(command(tiny_study, out, "--workers", "2"), capture_output=True, text=True, timeout=580)
    return out, done


def test_arms_with_the_same_settings_share_a_run_and_seeds_do_not(tiny_study: Path) -> None:
    work = work_of(tiny_study, seeds=2)
    keys = {(row.arm, row.seed): row.key for row in work.rows}
    assert keys["BCE", 0] == keys["BCE again", 0] != keys["Dice", 0]
    assert keys["BCE", 0] != keys["BCE", 1]
    assert len(work.tasks) == 2 * (len(ARMS) - 1 + len(BROKEN) + 1)  # and one that labels
    assert work.tasks[keys["refined", 1]].start == keys["BCE", 1]


def test_a_key_is_the_hash_of_what_decides_and_nothing_else(tmp_path: Path) -> None:
    keys = []
    for number, base in enumerate(({}, {"data": {"workers": 1}}, {"train": {"steps": 4}})):
        path = tmp_path / f"{number}.yaml"
        path.write_text(study(ARMS, **base))
        keys.append(work_of(path).rows[0].key)
    assert keys[0] == keys[1] != keys[2]


def test_a_run_that_fails_stops_only_those_that_need_it_and_is_reported(
    ran: tuple[Path, "subprocess.CompletedProcess[str]"], tiny_study: Path
) -> None:
    out, done = ran
    assert done.returncode == 1, done.stderr
    rows = conduct.open_(out).rows
    states = {row.arm: tasks.state(out, row.key) for row in rows}
    assert states == dict.fromkeys(ARMS, "done") | {"broken": "failed", "after it": "failed"}
    assert "failed broken, seed 0, fold 0: ConfigError: train.batch_size: 3 images" in done.stdout
    assert "failed after it, seed 0, fold 0: needs the task" in done.stdout
    told = [line.split(", ") for line in done.stdout.splitlines() if line.startswith("  /")]
    assert sorted(len(paths) for paths in told) == [1, 2]  # what never ran has no log
    assert all(Path(path.strip()).is_file() for paths in told for path in paths)


def test_every_run_is_scored_on_val_public_and_private(ran: tuple[Path, object]) -> None:
    out, _ = ran
    row = conduct.open_(out).rows[0]
    table = evaluate.load(tasks.folder(out, row.key))
    assert set(table["split"]) == {"val", "public", "private"}
    assert {"dice", "nsd_2px", "hd95_px"} <= set(table["metric"])
    cases = table.groupby("split")["case"].nunique()
    assert cases["public"] == cases["private"] == 2
    assert not set(table[table["split"] == "public"]["patient"]) & set(table[table["split"] == "private"]["patient"])


def test_what_a_killed_scoring_left_goes_when_the_run_is_scored(
    ran: tuple[Path, object], tiny_study: Path, tmp_path: Path
) -> None:
    row = conduct.open_(ran[0]).rows[0]
    folder = Path(shutil.copytree(tasks.folder(ran[0], row.key), tasks.folder(tmp_path, row.key)))
    for name in (tasks.DONE, run.SCORES):
        (folder / name).unlink()
    begun = folder / f".scores.0a1b2c.{run.SCORES.rpartition('.')[2]}"
    begun.write_text("half")
    perform.perform(work_of(tiny_study).tasks[row.key], ran[0] / "data", tmp_path)
    assert (folder / tasks.DONE).is_file()
    assert not begun.exists()


def test_a_run_starts_from_the_run_it_names(ran: tuple[Path, object]) -> None:
    out, _ = ran
    keys = {row.arm: row.key for row in conduct.open_(out).rows}
    weights = run.read(tasks.folder(out, keys["refined"])).settings.model.weights
    assert weights == str((tasks.folder(out, keys["BCE"]) / run.WEIGHTS).resolve())


def test_labels_are_made_by_the_runs_it_names(ran: tuple[Path, object]) -> None:
    out, _ = ran
    keys = {row.arm: row.key for row in conduct.open_(out).rows}
    trained = run.read(tasks.folder(out, keys["pseudo"]))
    teachers = [run.read(tasks.folder(out, keys[arm])) for arm in ("BCE", "Dice")]
    told = {source["sha256"][run.WEIGHTS] for source in trained.manifest["pseudo"]["sources"]}
    assert told == {teacher.manifest["files"][run.WEIGHTS] for teacher in teachers}
    assert len(trained.manifest["pseudo"]["images"]) == 4


def test_an_arm_whose_selection_keeps_nothing_says_so_and_what_to_do(ran: tuple[Path, object], tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    selected = {**ARMS["pseudo"], "set": {"data": {"pseudo": {"selection": True, "soft": True, "until": 1.0}}}}
    path.write_text(study({**ARMS, "selected": selected}))
    work = work_of(path)
    task = next(work.tasks[row.key] for row in work.rows if row.arm == "selected")
    (tmp_path / tasks.RUNS).mkdir()
    for key in task.needs:  # the labels, of teachers that learnt for three steps
        tasks.folder(tmp_path, key).symlink_to(tasks.folder(ran[0], key))
    with pytest.raises(DataError) as raised:
        perform.perform(task, ran[0] / "data", tmp_path)
    told = str(raised.value)
    assert "not one label of its 4 images counts" in told
    assert "the selection of `carpus pseudo` left all out. Labels of better runs may be kept" in told
    assert "data.pseudo.selection=false takes all" in told


def test_arms_that_learn_soft_labels_have_them_made_apart(tmp_path: Path) -> None:
    path, hard = tmp_path / "study.yaml", {**ARMS["pseudo"], "set": {"data": {"pseudo": {"selection": False}}}}
    path.write_text(study({**ARMS, "hard": hard}))
    made = [task for task in work_of(path).tasks.values() if task.teachers]
    assert sorted(task.settings.data.pseudo.soft for task in made) == [False, True]


def test_the_same_command_repeats_nothing_and_tries_again_what_failed(
    ran: tuple[Path, object], tiny_study: Path
) -> None:
    out, _ = ran
    before = stamps(out)
    again = subprocess.run(command(tiny_study, out), capture_output=True, text=True, timeout=580)
    assert again.returncode == 1
    assert stamps(out) == before
    status = subprocess.run(
        [sys.executable, "-m", "carpus.cli", "study", "status", str(out)], capture_output=True, text=True
    )
    assert status.returncode == 0
    assert "1 of 1" in status.stdout
    assert "ConfigError: train.batch_size" in status.stdout


def test_more_seeds_later_keep_the_first_ones(ran: tuple[Path, object], tiny_study: Path) -> None:
    out, _ = ran
    before = conduct.open_(out).rows
    conduct.begin(out, tiny_study, "quick", out / "data", work_of(tiny_study, seeds=2).rows)
    assert conduct.open_(out).rows[: len(before)] == before
    assert len(conduct.open_(out).rows) == 2 * len(before)
    conduct.begin(out, tiny_study, "quick", out / "data", before)
    assert len(conduct.open_(out).rows) == 2 * len(before)


def test_a_study_that_was_moved_goes_on(ran: tuple[Path, object], tiny_study: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(ran[0], tmp_path / "moved", symlinks=True))
    index = json.loads((out / tasks.INDEX).read_text())
    (out / tasks.INDEX).write_text(json.dumps(index | {"data": str(tmp_path / "gone")}))
    opened = conduct.open_(out)
    assert opened.root == (out / "data").resolve()
    conduct.begin(out, tiny_study, "quick", out / "data", opened.rows)
    assert json.loads((out / tasks.INDEX).read_text())["data"] == str((out / "data").resolve())


def test_a_folder_holds_one_study_of_one_data_set(
    ran: tuple[Path, object], tiny_study: Path, dataset: Path, tmp_path: Path
) -> None:
    out, _ = ran
    rows = conduct.open_(out).rows
    changed = Path(shutil.copytree(dataset, tmp_path / "changed"))
    annotation = next(changed.glob("train/outputs_json/*/*.json"))
    annotation.write_text(annotation.read_text() + "\n")
    with pytest.raises(DataError, match="holds a study of other images or annotations"):
        conduct.begin(out, tiny_study, "quick", changed, rows)
    other = tmp_path / "other.yaml"
    other.write_text(study(ARMS))
    with pytest.raises(DataError, match="holds another study"):
        conduct.begin(out, other, "quick", out / "data", rows)


def test_a_folder_is_opened_without_the_recipe_beside_the_study(dataset: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "mine" / "tiny.yaml", tmp_path / "out"
    path.parent.mkdir()
    path.write_text(study(ARMS).replace("recipe: demo", "recipe: own.yaml"))
    path.with_name("own.yaml").write_text("train: {steps: 3}")
    conduct.begin(out, path, "quick", dataset, work_of(path).rows)
    path.with_name("own.yaml").unlink()
    opened = conduct.open_(out)
    assert list(opened.study.arms) == list(ARMS)
    assert opened.source == str(path)


def test_a_task_knows_its_first_weights_by_their_content(trained: Path, tmp_path: Path) -> None:
    def key(folder: Path) -> str:
        path = folder / "tiny.yaml"
        begun = {"base": "tiny", "set": {"model": {"weights": f"{folder}/start.safetensors"}}}
        path.write_text(study({**ARMS, "begun": begun}))
        return work_of(path, arms=["begun"]).rows[0].key

    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        shutil.copy(trained / run.WEIGHTS, folder / "start.safetensors")
    before = key(here)
    assert key(there) == before
    save_file({name: value + 1 for name, value in load_file(trained / run.WEIGHTS).items()}, here / "start.safetensors")
    assert key(here) != before


def test_line_ends_of_another_system_are_no_other_study(dataset: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "tiny.yaml", tmp_path / "out"
    path.write_bytes(study(ARMS).replace("\n", "\r\n").encode())
    for _ in range(2):
        conduct.begin(out, path, "quick", dataset, work_of(path).rows)
    assert (out / tasks.COPY).read_bytes() == path.read_bytes()


def test_two_drivers_do_not_share_a_folder(tmp_path: Path) -> None:
    with conduct.claim(tmp_path), pytest.raises(BusyError, match="is at work in this folder"), conduct.claim(tmp_path):
        pass


def test_data_on_which_thresholds_cannot_be_fitted_are_refused_before_training(dataset: Path, tmp_path: Path) -> None:
    root, path = Path(shutil.copytree(dataset, tmp_path / "data")), tmp_path / "tiny.yaml"
    shutil.rmtree(root / "test_labels")
    path.write_text(
        study({"BCE": ARMS["BCE"], "Dice": ARMS["Dice"], "fitted, all": {"base": "tiny", "calibrated": True}})
    )
    with pytest.raises(
        ConfigError, match=r"holds out 2 patients, and fitting takes at least 10.*--without 'fitted, all'"
    ):
        conduct.require_fitting(work_of(path), dataset)
    conduct.require_fitting(work_of(path, arms=["BCE", "Dice"]), root)
    arguments = ["study", "run", str(path), "--scale", "quick", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*arguments, "--data", str(root)])
    assert done.exit_code == 2
    assert "has no test image with known truth" in done.output
    assert "--without 'fitted, all'" in done.output
    assert not (tmp_path / "out").exists()
    unknown = CliRunner().invoke(app, [*arguments, "--without", "fitted"])
    assert "--without fitted: expected one of BCE, Dice, fitted, all" in unknown.output


def test_a_driver_that_is_asked_to_stop_says_how_to_go_on(dataset: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "tiny.yaml", tmp_path / "out"
    path.write_text(study({name: ARMS[name] for name in ("BCE", "Dice")}, train={"steps": 10_000}))
    wanted = command(path, out, "--workers", "1", "--data", str(dataset), "--without", "Dice")
    process = subprocess.Popen(wanted, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    until((out / tasks.LOGS).is_dir)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=500)
    assert process.returncode == 143
    assert "SIGTERM: stopped; what is finished stays, runs at work are saved, and the same command goes on" in " ".join(
        told.split()
    )
    assert len(conduct.open_(out).rows) == 1


def test_a_killed_driver_loses_nothing_and_the_same_command_goes_on(dataset: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "tiny.yaml", tmp_path / "out"
    path.write_text(
        study({name: ARMS[name] for name in ("BCE", "Dice", "refined")}, train={"steps": 12, "save_every": 1})
    )
    wanted = command(path, out, "--workers", "1", "--data", str(dataset))
    process = subprocess.Popen(wanted, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    second = tasks.folder(out, work_of(path).rows[1].key)
    until(lambda: len(list((second / run.STATE).glob("[0-9]*.safetensors"))) > 1)
    before = stamps(out)
    assert len(before) == 1
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = subprocess.run(wanted, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr
    assert before.items() <= stamps(out).items()
    assert len(stamps(out)) == 3


def test_a_killed_worker_costs_no_run_and_changes_no_weight(
    ran: tuple[Path, object], dataset: Path, tiny_study: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    work = work_of(tiny_study, arms=["BCE"])
    key = work.rows[0].key
    killed: list[int] = []

    class Mortal(Local):
        """Its first worker is killed when it has saved a state, before anybody can hear that it is done."""

        def wait(self, seconds: float) -> list[tuple[str, str | None]]:
            if not killed and any((tasks.folder(out, key) / run.STATE).glob("[0-9]*.safetensors")):
                killed.append(self._workers[0].process.pid or 0)
                os.kill(killed[0], signal.SIGKILL)
            return super().wait(0.02)

    now = conduct.conduct(work, out, lambda: Mortal(dataset, out, workers=1))
    assert killed
    assert now.done == {key}
    assert not now.failed
    first, second = (load_file(tasks.folder(of, key) / run.WEIGHTS) for of in (ran[0], out))
    assert all(first[name].equal(second[name]) for name in first)


def test_nothing_left_to_do_starts_nothing(ran: tuple[Path, object], tiny_study: Path) -> None:
    def start() -> Local:
        raise AssertionError

    now = conduct.conduct(work_of(tiny_study, arms=["BCE", "Dice"]), ran[0], start)
    assert len(now.done) == 2


def test_workers_share_the_cores() -> None:
    workers, threads, gpus = suited(1000)
    assert workers == gpus or workers * threads <= run.threads()
    assert suited(1)[0] == 1
    assert suited(1000, 3)[0] == 3
