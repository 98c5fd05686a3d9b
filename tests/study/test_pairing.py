"""Two arms stand side by side on the images that both scored, class by class."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest

from carpus import config
from carpus.errors import DataError, DataWarning
from carpus.labels import BONES, Classes
from carpus.study import pairing, results
from carpus.study.lineage import Lineage
from study import planted

Tiny = Callable[..., config.Config]


def test_arms_with_other_groups_are_not_compared(tiny: Tiny, tmp_path: Path) -> None:
    turned = Classes(BONES.names, dict(reversed(BONES.groups.items())))
    arms = [
        results.Arm(name, (results.read_run(planted.graded_run(tmp_path / name, tiny(), classes)),))
        for name, classes in (("a", BONES), ("b", turned))
    ]
    with pytest.raises(DataError, match="a, b: have other classes, or other groups of them"):
        pairing.side_by_side(*arms, ["test"])


def test_columns_are_taken_by_name(tiny: Tiny, tmp_path: Path) -> None:
    classes = Classes(("d", "a", "c"), {"outer": ("d", "c")})
    arm = results.Arm("A", (results.read_run(planted.graded_run(tmp_path / "run", tiny(), classes)),))
    np.testing.assert_allclose(pairing.side_by_side(arm, arm, ["test"]).a, [[[0.2, 0.2, 0.1, 0.2, 0.3]] * 2])
    assert arm.mean(["test"]) == pytest.approx([0.2])


def test_the_same_patients_on_other_images_are_not_compared(tiny: Tiny, tmp_path: Path) -> None:
    """ID01 and ID02 in both arms, with these values of their images."""
    shown = {"a": {"ID01/1": 0.2, "ID01/2": 0.4, "ID02/1": 0.6}, "b": {"ID01/1": 0.3, "ID02/1": 0.5, "ID02/9": 0.9}}
    shown["c"] = {"ID01/7": 0.1, "ID02/8": 0.1}
    arms = {}
    for name, of in shown.items():
        dice = np.repeat(np.array(list(of.values()))[:, None], len(BONES), axis=1)
        table = planted.table(dice, [(case, case[:4]) for case in of], "test", BONES)
        path = planted.write_run(tmp_path / name, {"test": table}, settings=tiny())
        arms[name] = results.Arm(name, (results.read_run(path),))
    with pytest.warns(DataWarning, match="a, b: 2 of 4 images were not scored by every seed of both"):
        found = pairing.side_by_side(arms["a"], arms["b"], ["test"])
    np.testing.assert_allclose(found.a[0, :, 0], [0.2, 0.6])
    np.testing.assert_allclose(found.b[0, :, 0], [0.3, 0.5])
    with pytest.raises(DataError, match="a, c: no image was scored by both, going by patient and name"):
        pairing.side_by_side(arms["a"], arms["c"], ["test"])


def test_images_of_the_same_name_in_two_data_sets_are_not_compared(tiny: Tiny, tmp_path: Path) -> None:
    """ID02/1 is another image in the second data set; a submission does not tell which it was scored on."""
    one = results.read_run(planted.graded_run(tmp_path / "run", tiny()))

    def arm(name: str, **pixels: str) -> results.Arm:
        table = one.table.assign(pixels=one.table["patient"].map(pixels).fillna("")) if pixels else one.table
        return results.Arm(name, (replace(one, table=table),))

    here, there = arm("here", ID01="1e5", ID02="2e5"), arm("there", ID01="1e5", ID02="3e5")
    told = r"here, there: 1 of 2 images of the same patient and name have other pixels, .*\(patient ID02, 1\.png\)"
    with pytest.warns(DataWarning, match=f"{told} and are left out"):
        assert pairing.side_by_side(here, there, ["test"]).a.shape[1] == 1
    with pytest.raises(
        DataError, match=r"2 of 2 images .* compare runs that `carpus evaluate` scored on the same data"
    ):
        pairing.side_by_side(here, arm("far", ID01="4", ID02="5"), ["test"])
    for silent in (arm("submission"), arm("half", ID01="1e5", ID02=""), arm("again", ID01="1e5", ID02="2e5")):
        assert pairing.side_by_side(here, silent, ["test"]).a.shape[1] == 2


def test_only_images_that_are_compared_tell_two_data_sets_apart(tiny: Tiny, tmp_path: Path) -> None:
    """Not those of another split, nor of a seed that is left out because only one arm has a run of its training."""
    one = results.read_run(planted.graded_run(tmp_path / "run", tiny()))
    known = one.table.assign(pixels=one.table["patient"])
    other = known.assign(pixels="other")
    both_splits = pandas.concat([known, other.assign(split="val")])
    here, there = (results.Arm(name, (replace(one, table=of),)) for name, of in (("a", both_splits), ("b", known)))
    assert pairing.side_by_side(here, there, ["test"]).a.shape[1] == 2
    first, second = (replace(one, seed=seed, lineage=Lineage(trainings=frozenset({str(seed)}))) for seed in (0, 1))
    many = results.Arm("many", (replace(first, table=known), replace(second, table=other)))
    few = results.Arm("few", (replace(first, table=known),))
    found = pairing.side_by_side(many, few, ["test"])
    assert found.same_trainings
    assert found.a.shape[:2] == found.b.shape[:2] == (1, 2)


def test_a_run_and_a_submission_know_an_image_by_the_same_name(tiny: Tiny, tmp_path: Path) -> None:
    run_of = results.read_run(planted.graded_run(tmp_path / "run", tiny()))
    named = run_of.table.assign(case=run_of.table["case"].str.removeprefix("ID01/").str.removeprefix("ID02/") + ".png")
    arms = [results.Arm("a", (run_of,)), results.Arm("b", (replace(run_of, table=named),))]
    assert pairing.side_by_side(*arms, ["test"]).a.shape[1] == 2


def test_of_a_patient_the_images_of_all_folds_count(tiny: Tiny, tmp_path: Path) -> None:
    """Two methods without a difference; a fold of the first scored only the easy image of the patient."""
    every = {"ID01/easy": 0.9, "ID01/hard": 0.3}
    arms = {}
    for name, of_folds in (("a", (every, {"ID01/easy": 0.9})), ("b", (every, every))):
        runs = []
        for fold, shown in enumerate(of_folds):
            dice = np.repeat(np.array(list(shown.values()))[:, None], len(BONES), axis=1)
            table = planted.table(dice, [(case, case[:4]) for case in shown], "test", BONES)
            settings = tiny(f"data.fold={fold}", "data.folds=2")
            path = planted.write_run(tmp_path / name / str(fold), {"test": table}, settings=settings)
            runs.append(results.read_run(path))
        arms[name] = results.Arm(name, tuple(runs))
    assert arms["a"].mean(["test"]) == pytest.approx([0.9])
    with pytest.warns(DataWarning, match="a, b: 1 of 2 images were not scored by every seed of both"):
        found = pairing.side_by_side(arms["a"], arms["b"], ["test"])
    np.testing.assert_allclose(found.a, found.b)
