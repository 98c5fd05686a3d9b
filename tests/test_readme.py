"""What the README tells people to type does what it says."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from carpus.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SMALL = ["data.folds=2", "data.image_size=64", "data.label_size=96", "model.weights=null", "train.steps=2"]
"""A real recipe made small: no weights from the hub, and seconds instead of hours."""


def commands() -> list[list[str]]:
    block = next(block for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL) if "carpus train" in block)
    return [shlex.split(line, comments=True) for line in block.splitlines() if line.startswith("carpus")]


def test_the_commands_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, shlex.split("phantom DATA --patients 4 --test-patients 2 --size 96")).exit_code == 0
    shown = commands()
    assert len(shown) >= 7
    for _, verb, *arguments in shown:
        small = [f"--set={setting}" for setting in SMALL] if verb == "train" else []
        small = ["--patients=1", "--test-patients=1", "--size=96"] if verb == "phantom" else small
        result = CliRunner().invoke(app, [verb, *arguments, *small])
        assert result.exit_code == 0, f"carpus {verb} {' '.join(arguments)}: {result.output}"


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_two_commands_are_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert f"\n{target}:" in makefile
