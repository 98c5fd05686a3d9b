"""The studies that come along hold the report's tables, and every arm of them can be judged."""

import re
from pathlib import Path

import pytest

from carpus.study import spec, tasks

OWN = sorted(spec.STUDIES.glob("*.yaml"))
DOCS = Path(__file__).parents[2] / "docs" / "studies.md"

REPORTED = {"1_auxiliary": 5, "2_losses": 6, "3_pseudo": 2, "4_shuffle": 6, "5_refinement": 5}
"""Rows of the report's tables."""


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.stem)
def test_every_arm_is_a_run_at_both_scales_and_stands_in_a_contrast(path: Path) -> None:
    study = spec.load(path.stem)
    assert set(study.scales) == {"full", "quick"}
    for scale in study.scales:
        assert tasks.work(study, path, scale, seeds=2, folds=[0]).rows
    compared = {arm for contrast in study.contrasts for arm in contrast}
    needed = {name for arm in study.arms for name in study.needs(arm)}
    assert set(study.arms) <= compared | needed
    assert {contrast.arm for contrast in study.contrasts} >= {
        name for name, arm in study.arms.items() if arm.published and study.control_of(name)
    }
    assert study.claims
    assert study.regrets


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.stem)
def test_all_rows_of_the_report_are_arms(path: Path) -> None:
    published = [arm for arm in spec.load(path).arms.values() if arm.published]
    assert len(published) == REPORTED[path.stem]


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.stem)
def test_a_difference_of_budget_is_flagged(path: Path) -> None:
    study = spec.load(path)
    for scale in study.scales:
        for name, arm in study.arms.items():
            control = study.control_of(name)
            if control is None or "budget" in arm.flags:
                continue
            own, other = (spec.settings(study, one, scale, path) for one in (name, control))
            assert own.train.steps == other.train.steps, name
            assert own.data.image_size == other.data.image_size, name


def test_the_documentation_lists_them() -> None:
    listed = {name: int(arms) for name, arms in re.findall(r"^\| `(\d_\w+)` \|.*\| (\d+) \|$", DOCS.read_text(), re.M)}
    assert listed == {path.stem: len(spec.load(path).arms) for path in OWN}


def test_the_documented_study_file_is_one(tmp_path: Path) -> None:
    (shown,) = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(), re.S)
    path = tmp_path / "shown.yaml"
    path.write_text(shown)
    assert list(spec.load(path).arms) == ["BCE", "Dice", "Dice, longer"]
