"""The demo, made small: it leaves what it promises and says what to do next."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from carpus import run
from carpus.cli import app
from carpus.demo import demo
from carpus.errors import ConfigError, DataError

SMALL = ("data.image_size=64", "data.label_size=96", "train.steps=2", "train.batch_size=2")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("demo") / "out"
    told = Console(file=io.StringIO(), width=100)
    demo(out, console=told, patients=5, test_patients=2, size=96, overrides=SMALL)
    return out, told.file.getvalue()


def test_the_demo_leaves_data_run_report_and_submission(made: tuple[Path, str]) -> None:
    out, _ = made
    assert sorted(path.name for path in out.iterdir()) == [".demo", "data", "report.html", "run", "submission.csv"]
    assert run.read(out / "run").settings.train.steps == 2
    page = (out / "report.html").read_text()
    assert "Private" in page
    assert page.count("<img") >= 4


def test_the_next_commands_are_commands(made: tuple[Path, str]) -> None:
    from typer.main import get_command

    _, told = made
    assert "Public" in told
    commands = re.findall(r"^ *carpus (\w+) (.*)$", told, re.MULTILINE)
    assert len(commands) >= 3
    known = get_command(app).commands
    assert {verb for verb, _ in commands} <= set(known)


def test_an_earlier_demo_is_kept(made: tuple[Path, str]) -> None:
    with pytest.raises(DataError, match=r"already holds .*; name another folder with --out, or pass --overwrite"):
        demo(made[0], console=Console(file=io.StringIO()))


def test_an_earlier_demo_stays_until_the_new_one_is_made(made: tuple[Path, str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in made[0].rglob("*")}
    with pytest.raises(ConfigError, match="size"):
        demo(made[0], console=Console(file=io.StringIO()), overwrite=True, size=8)
    assert set(made[0].rglob("*")) == set(before)
    assert (made[0] / "report.html").stat().st_mtime_ns == before[made[0] / "report.html"]


def test_what_no_demo_made_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").write_text("precious")
    with pytest.raises(DataError, match="holds data that no demo made"):
        demo(tmp_path, console=Console(file=io.StringIO()), overwrite=True)
    assert (tmp_path / "data" / "mine.txt").read_text() == "precious"
