"""An arm is runs of one class list that scored everything."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from carpus import config
from carpus.errors import DataError
from carpus.labels import BONES, Classes
from carpus.study import gather, results
from study import planted

Tiny = Callable[..., config.Config]


def test_an_arm_needs_a_run() -> None:
    with pytest.raises(DataError, match="A: an arm needs a run"):
        results.Arm("A", ())


@pytest.mark.parametrize("names", [("b", "a"), ("a",), ("a", "b", "c")])
def test_runs_of_other_classes_are_no_arm(tiny: Tiny, tmp_path: Path, names: tuple[str, ...]) -> None:
    planted.graded_run(tmp_path / "first", tiny("train.seed=0"), Classes(("a", "b"), {}))
    planted.graded_run(tmp_path / "second", tiny("train.seed=1"), Classes(names, {}))
    with pytest.raises(DataError, match=r"A: .*second has other classes or groups than .*first"):
        gather.of_paths([f"A={tmp_path}/first,{tmp_path}/second"], classes=BONES)


def test_a_missing_score_is_refused_by_means_as_by_contrasts(tiny: Tiny, tmp_path: Path) -> None:
    outcome = results.read_run(planted.graded_run(tmp_path / "run", tiny()))
    unknown = outcome.table.assign(value=outcome.table["value"].where(outcome.table["class"] != "Lunate"))
    for table in (unknown, unknown.dropna()):
        with pytest.raises(DataError, match="run: a dice is missing"):
            results.Arm("A", (replace(outcome, table=table),)).mean(["test"])
