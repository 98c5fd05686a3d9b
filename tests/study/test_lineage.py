"""A run knows the runs that its weights come from."""

from collections.abc import Callable
from pathlib import Path

import pytest

from carpus import config, run
from carpus.errors import DataWarning
from carpus.study import lineage
from study import planted

Tiny = Callable[..., config.Config]


def test_a_run_is_not_the_run_of_the_same_name_that_it_started_from(tiny: Tiny, tmp_path: Path) -> None:
    path = planted.graded_run(tmp_path / "second" / "run", tiny(f"model.weights={tmp_path}/gone/run/{run.WEIGHTS}"))
    with pytest.warns(DataWarning, match="gone/run, is not there; its steps and time are not counted"):
        assert lineage.trace(path).steps == 3


def test_runs_that_started_from_each_other_are_counted_once(tiny: Tiny, tmp_path: Path) -> None:
    first, second = (
        planted.graded_run(tmp_path / name, tiny(f"model.weights={tmp_path / other / run.WEIGHTS}"))
        for name, other in (("first", "second"), ("second", "first"))
    )  # as when the first one is trained anew, from the second
    for path in (first, second):
        with pytest.warns(DataWarning, match="is not there"):
            assert lineage.trace(path).steps == 6


@pytest.mark.parametrize("here", ["moved", "first"])
def test_a_run_is_known_by_the_weights_that_another_started_from(tiny: Tiny, tmp_path: Path, here: str) -> None:
    for name, steps, sha256 in (("first", 5, "a" * 64), ("moved", 4, "b" * 64)):
        planted.graded_run(tmp_path / name / "start", tiny(), steps=steps, files={run.WEIGHTS: sha256})
    settings = tiny(f"model.weights={tmp_path}/first/start/{run.WEIGHTS}")
    path = planted.graded_run(tmp_path / here / "run", settings, start_sha256="b" * 64)
    if here == "moved":
        assert lineage.trace(path).steps == 7  # the start beside it, not the run that took its old place
    else:
        with pytest.warns(DataWarning, match="first/start, is not there"):
            assert lineage.trace(path).steps == 3
