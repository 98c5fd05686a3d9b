"""The command as its users run it."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from carpus.cli import app
from carpus.cli.options import DeviceOption, RunArgument, with_options
from carpus.errors import ConfigError
from carpus.labels import BONES
from carpus.predict import Options
from carpus.tiles import Tiles
from carpus.views import views

COMMANDS = (
    "train",
    "evaluate",
    "predict",
    "score",
    "ensemble",
    "export",
    "calibrate",
    "demo",
    "convert",
    "phantom",
    "check",
    "models",
    "schema",
)


def carpus(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_help_answers_at_once_and_loads_nothing_heavy() -> None:
    heavy = ("torch", "cv2", "pandas", "numba")
    code = f"import sys; from carpus import cli; print([name for name in {heavy} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
    times = []
    for _ in range(3):
        start = time.perf_counter()
        shown = subprocess.run(
            [sys.executable, "-m", "carpus.cli", "--help"], capture_output=True, text=True, check=True
        )
        times.append(time.perf_counter() - start)
    for verb in COMMANDS:
        assert verb in shown.stdout
    assert min(times) < 2  # 0.3 s on a quiet machine; the bound is for a loaded one


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    shown = carpus(command, "--help")
    assert shown.exit_code == 0
    assert "Usage" in shown.output


def test_the_commands_work_together(tmp_path: Path) -> None:
    data, run, sub = tmp_path / "data", tmp_path / "run", tmp_path / "sub.csv"
    assert carpus("phantom", data, "--patients", 4, "--test-patients", 2, "--size", 96).exit_code == 0
    small = [
        f"--set={value}" for value in ("data.folds=2", "train.steps=2", "data.image_size=64", "data.label_size=96")
    ]
    trained = carpus("train", "demo", "--data", data, "--out", run, *small)
    assert trained.exit_code == 0, trained.output
    assert "mean Dice of the validation patients" in trained.output
    evaluated = json.loads(carpus("evaluate", run, "--data", data, "--split", "test", "--json").stdout)
    shown = carpus("evaluate", run, "--data", data, "--split", "test").output
    assert all(name in shown for name in BONES)  # also at 80 columns
    assert "…" not in shown
    assert evaluated["images"] == 4
    assert carpus("predict", run, "--images", data / "test" / "DCM", "--out", sub).exit_code == 0
    scored = json.loads(carpus("score", sub, "--truth", data, "--json").stdout)
    assert scored["images"] == {"val": 0, "public": 2, "private": 2, "all": 4}
    assert scored["dice"]["all"] == pytest.approx(evaluated["dice"], abs=1e-9)
    head, *rows = sub.read_text().splitlines(keepends=True)
    members = [sub, tmp_path / "reversed.csv", tmp_path / "sorted.csv"]
    members[1].write_text("".join([head, *reversed(rows)]))
    members[2].write_text("".join([head, *sorted(rows)]))
    assert carpus("ensemble", *members, "--out", tmp_path / "voted.csv", "--size", "96x96").exit_code == 0
    assert (tmp_path / "voted.csv").read_bytes() == sub.read_bytes()
    against_csv = carpus("score", sub, "--truth", data / "test_labels" / "submission.csv", "--size", "96x96", "--json")
    assert json.loads(against_csv.stdout)["dice"]["all"] == pytest.approx(scored["dice"]["all"], abs=1e-9)
    back = carpus("convert", sub, tmp_path / "labels", "--images", data / "test" / "DCM")
    assert back.exit_code == 0, back.output
    again = carpus("convert", tmp_path / "labels", tmp_path / "again.csv", "--images", data / "test" / "DCM")
    assert again.exit_code == 0, again.output
    assert (tmp_path / "again.csv").read_bytes() == sub.read_bytes()
    checked = carpus("check", data, "--json")
    assert json.loads(checked.stdout)["counts"]["error"] == 0
    assert checked.exit_code == 0


def test_every_way_to_show_an_image_reaches_the_command(tmp_path: Path) -> None:
    looking, given = typer.Typer(), []

    @looking.command()
    @with_options
    def look(*, run: RunArgument, options: Options, device: DeviceOption = "auto") -> None:
        given.append((run, options, device))

    by_class = tmp_path / "w.json"
    by_class.write_text('{"Lunate": 2}')
    line = "RUN --canvas 96 --tile 64 --overlap 0.25 --margin 8 --batch 3 --flip --turn 10 --turn -10 --scale 1.5"
    for arguments in (f"{line} --blend votes --device cpu --weight 1.5 --weight {by_class} --precision 32", "RUN"):
        shown = CliRunner().invoke(looking, arguments.split())
        assert shown.exit_code == 0, shown.output
    seen = views(flip=True, turns_deg=[10, -10], scales=[1.5])
    shown_so = Options(96, Tiles(64, 0.25, 8), seen, "votes", 3, (1.5, {"Lunate": 2}), "32")
    by_class.write_text('["Lunate"]')
    for wrong, told in (("--overlap 0.2", "give their side with --tile"), (f"--weight {by_class}", "numbers by class")):
        refused = CliRunner().invoke(looking, ["RUN", *wrong.split()])
        assert isinstance(refused.exception, ConfigError)
        assert told in str(refused.exception)
    assert given == [(Path("RUN"), shown_so, "cpu"), (Path("RUN"), Options(), "auto")]


def test_schema_shows_every_setting() -> None:
    from carpus import config

    shown = carpus("schema").output
    assert all(name in shown for name, *_ in config.fields())
    assert json.loads(carpus("schema", "--json").stdout)["title"] == "Config"


def test_bad_data_is_one_line_and_status_2(tmp_path: Path) -> None:
    shown = carpus("check", tmp_path / "nothere")
    assert shown.exit_code == 2
    assert "nothere: no such folder" in shown.stderr
    assert "Traceback" not in shown.output


def test_a_bad_setting_is_one_line_and_status_2(tmp_path: Path) -> None:
    shown = carpus("train", "demo", "--data", tmp_path, "--out", tmp_path / "run", "--set", "train.stepz=3")
    assert shown.exit_code == 2
    assert "train.stepz: no such setting; did you mean train.steps?" in " ".join(shown.stderr.split())


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    shown = carpus("--debug", "check", tmp_path / "nothere")
    assert type(shown.exception).__name__ == "DataError"


def test_strict_turns_a_warning_into_an_error(tmp_path: Path) -> None:
    annotation = {"id": "1", "type": "poly_seg", "label": "Ulna", "points": [[-5, 1], [5, 1], [5, 6]]}
    (tmp_path / "a.json").write_text(json.dumps({"annotations": [annotation], "filename": "a.jpg"}))
    lenient = carpus("convert", tmp_path / "a.json", tmp_path / "a.csv", "--size", "8x8")
    assert lenient.exit_code == 0
    assert "warning:" in lenient.stderr
    assert "annotations[0].points: leaves the 8 x 8 image" in lenient.stderr
    strict = carpus("--strict", "convert", tmp_path / "a.json", tmp_path / "b.csv", "--size", "8x8")
    assert strict.exit_code == 2
    assert not (tmp_path / "b.csv").exists()


def test_a_size_that_is_none_is_named(tmp_path: Path) -> None:
    shown = carpus("convert", tmp_path, tmp_path / "a.csv", "--size", "big")
    assert shown.exit_code == 2
    assert "--size big: expected HxW" in shown.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM")
def test_sigterm_takes_away_what_is_half_made(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "carpus.cli", "phantom", str(tmp_path / "data"), "--patients", "500"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not any(tmp_path.rglob("*.png")):
            assert process.poll() is None
            time.sleep(0.05)
        process.terminate()
        assert process.wait(60) == 143
    assert not list(tmp_path.iterdir())


def test_a_broken_image_is_named_and_the_exit_status_says_so(trained: Path, dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for n, image in enumerate(sorted((dataset / "test" / "DCM").rglob("*.png"))[:2]):
        (folder / f"{n}.png").write_bytes(image.read_bytes())
    (folder / "2.png").write_bytes(b"nothing")
    arguments = ("predict", trained, "--images", folder, "--out", tmp_path / "sub.csv", "--flip", "--turn", 90)
    left_out = carpus(*arguments)
    assert left_out.exit_code == 2
    assert "2 images" in left_out.output
    assert "2.png: is text" in left_out.output
    assert (tmp_path / "sub.csv").is_file()
    stopped = carpus("--strict", *arguments[:5], tmp_path / "strict.csv")
    assert stopped.exit_code == 2
    assert not (tmp_path / "strict.csv").exists()


def test_a_run_that_counts_twice_is_refused(trained: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(trained, tmp_path / "copy")
    (tmp_path / "images").mkdir()
    for command in (
        ("predict", trained, copy, "--images", tmp_path / "images", "--out", tmp_path / "sub.csv"),
        ("evaluate", trained, copy, "--data", tmp_path),
    ):
        shown = carpus(*command)
        assert shown.exit_code == 2
        assert "once more; to count one more than others, give --weight" in " ".join(shown.output.split())


def test_a_folder_that_is_scored_hears_how_it_becomes_a_submission(dataset: Path) -> None:
    shown = carpus("score", dataset, "--truth", dataset)
    assert shown.exit_code == 2
    assert "expected a submission CSV; `carpus convert" in " ".join(shown.output.split())


def test_a_weight_of_an_unknown_class_is_told_with_its_file(trained: Path, tmp_path: Path) -> None:
    weights = tmp_path / "w.json"
    weights.write_text('{"Lunat": 2}')
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.zeros((64, 64), np.uint8))
    images, out = tmp_path / "images", tmp_path / "sub.csv"
    shown = carpus("predict", trained, "--images", images, "--out", out, "--weight", weights)
    assert shown.exit_code == 2
    assert "w.json: unknown class 'Lunat'" in " ".join(shown.output.split())
    weights.write_text('{"Lunate": 2}')
    shown = carpus("predict", trained, "--images", images, "--out", out, "--weight", weights)
    assert shown.exit_code == 0, shown.output
