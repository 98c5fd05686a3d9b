"""What is said beforehand of memory and time."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from carpus import config, plan
from carpus.cli import app

Tiny = Callable[..., config.Config]


@pytest.fixture(scope="module")
def planned(dataset: Path, tiny: Tiny) -> plan.Plan:
    return plan.plan(tiny("train.batch_size=8", "data.image_size=256"), dataset)


def test_a_plan_leaves_nothing_behind(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(
        app, ["train", "demo", "--data", str(dataset), "--plan", "--set=data.folds=2", "--set=data.image_size=64"]
    )
    assert shown.exit_code == 0, shown.output
    assert "memory" in shown.output
    assert "600 steps of" in shown.output
    assert not list(tmp_path.iterdir())


def test_what_does_not_fit_is_said_with_what_does(planned: plan.Plan) -> None:
    assert planned.fits
    assert "does not fit" not in str(planned)
    room = (planned.memory(2) + 0.5 * planned.image_mib + 1) / plan.ROOM
    small = replace(planned, image_mib=planned.image_mib + 1, available_mib=room + 2)
    assert not small.fits
    assert small.parts() == 4
    assert "does not fit; train.accumulate=4 fits; what takes less: train.accumulate=2" in str(small)
    none = replace(planned, available_mib=1.0)
    assert none.parts() is None
    assert "no part of a batch is small enough" in str(none)


def test_time_is_that_of_all_steps_and_validations(planned: plan.Plan) -> None:
    told = replace(planned, step_seconds=2.0, validation_seconds=30.0)
    assert told.seconds == 3 * 2.0 + 2 * 30.0
    assert "1 min 6 s: 3 steps of 2.00 s" in str(told)


def test_a_step_is_measured(planned: plan.Plan) -> None:
    assert 0 < planned.step_seconds < 60
    assert 0 < planned.validation_seconds < 60
    assert planned.images == 4
    assert planned.fixed_mib > 20
