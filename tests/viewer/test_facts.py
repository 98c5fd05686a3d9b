"""What is measured, and which images are shown in which order."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from carpus import data, kernels, labels
from carpus.formats import submission
from carpus.labels import BONES
from carpus.pseudo.decisions import Decision
from carpus.viewer import facts, sources
from carpus.viewer.facts import Facts
from carpus.viewer.reviews import Decided
from carpus.viewer.sources import Workspace
from carpus.viewer.view import View

LUNATE = BONES.index("Lunate")


@pytest.fixture(scope="module")
def workspace(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The data set, and its labels without the Lunate in the second image and without any bone in the third."""
    path = tmp_path_factory.mktemp("facts") / "sub.csv"

    def rows() -> object:
        for n, case in enumerate(data.cases(dataset, "train")):
            found = data.read_labels(case)
            if n == 1:
                labels.erase(found, LUNATE)
            yield submission.image_name(case.name), kernels.encode(found * (n != 2), len(BONES))

    submission.write(path, rows(), BONES)  # type: ignore[arg-type]
    return sources.open_paths([dataset, path])


@pytest.fixture(scope="module")
def known(workspace: Workspace) -> Facts:
    return facts.scan(workspace, "data", "sub.csv")


def test_scan_finds_dice_and_the_worst_bone(workspace: Workspace, known: Facts) -> None:
    assert known.score(0) == 1
    # Dice is smoothed by less than a thousandth of a pixel.
    assert known.worst(1) == (LUNATE, pytest.approx(0, abs=1e-4))
    assert known.score(1) == pytest.approx(28 / 29, abs=1e-4)
    assert known.score(2) == pytest.approx(0, abs=1e-4)
    assert np.isnan(known.score(len(workspace.entries) - 1))  # a test image is not in the submission


def test_scan_of_one_layer_finds_what_is_missing(workspace: Workspace) -> None:
    found = facts.scan(workspace, "sub.csv")
    names = [entry.name for entry in workspace.entries]
    assert found.missing[names[0]] == ()
    assert found.missing[names[1]] == ("Lunate",)
    assert names[-1] not in found.missing
    assert np.isnan(found.dice).all()


@pytest.mark.parametrize(
    ("view", "places"),
    [
        (View(split="train"), list(range(8))),
        (View(split="train", order="mean"), [2, 1, 0, 3, 4, 5, 6, 7]),
        (View(split="train", order="worst"), [2, 1, 0, 3, 4, 5, 6, 7]),
        (View(order="bone", bone="Lunate", low=0.5), [0, 3, 4, 5, 6, 7]),
        (View(high=0.99), [1, 2]),
        (View(search="id001"), [0, 1]),
        (View(first="data", labelled="no"), []),
        (View(split="test", labelled="yes", first="sub.csv"), []),
    ],
)
def test_filters_and_orders(workspace: Workspace, known: Facts, view: View, places: list[int]) -> None:
    assert facts.choose(workspace, known, view) == places


@pytest.mark.parametrize(("bone", "places"), [("", [1, 2]), ("Lunate", [1, 2]), ("Capitate", [2]), ("no bone", [1, 2])])
def test_missing_bones_are_those_of_the_chosen_bone(workspace: Workspace, bone: str, places: list[int]) -> None:
    found = facts.scan(workspace, "sub.csv")
    assert facts.choose(workspace, found, View(first="sub.csv", labelled="missing", bone=bone)) == places


def test_scan_names_images_that_cannot_be_read_though_they_have_no_labels(dataset: Path, tmp_path: Path) -> None:
    root = shutil.copytree(dataset, tmp_path / "data")
    case = data.cases(root, "train")[1]
    assert case.annotation is not None
    case.annotation.unlink()
    case.image.write_bytes(b"")
    (fault,) = facts.scan(sources.open_paths([root]), "data").faults
    assert str(case.image) in fault


def test_images_that_wait_for_a_verdict_are_listed_and_the_one_that_is_shown(workspace: Workspace) -> None:
    entries = workspace.entries
    verdicts = {(entry.name, bone): Decision("accept") for entry in entries[:10] for bone in BONES}
    decided = Decided(workspace, {"data": verdicts})
    unknown = Facts.unknown(workspace)

    def listed(view: View) -> list[int]:
        return facts.choose(workspace, unknown, view, decided=decided)

    assert listed(View(judged="no")) == [10, 11]
    assert listed(View(judged="no", case=entries[3].name)) == [3, 10, 11]
    assert listed(View(judged="yes")) == list(range(10))
    assert facts.choose(workspace, unknown, View(judged="yes"), decided=Decided(workspace, {})) == []


def test_what_was_not_measured_is_named_and_leaves_all(workspace: Workspace) -> None:
    view = View(second="sub.csv", pose="bent", low=0.5, order="mean", split="train")
    assert facts.asked(view) == ["pose", "Dice", "the order"]
    assert facts.asked(View(labelled="missing", thumb="left")) == ["thumb", "missing bones"]
    assert facts.asked(View(split="train", search="x", order="agreement")) == []
    assert (facts.needs_pair(view), facts.needs_pair(view.but(second=""))) == (False, True)
    assert facts.choose(workspace, Facts.unknown(workspace), view) == list(range(8))


def test_kinds_are_filters_once_they_are_known(workspace: Workspace, known: Facts) -> None:
    view = View(pose="bent")
    assert len(facts.choose(workspace, Facts.unknown(workspace), view)) == len(workspace.entries)
    bent = facts.choose(workspace, known, view)
    straight = facts.choose(workspace, known, View(pose="straight"))
    assert set(bent).isdisjoint(straight)
    assert len(bent) + len(straight) == len(workspace.entries)


def test_neighbours_end_at_the_ends() -> None:
    assert facts.neighbours([4, 2, 7], 2) == (4, 7)
    assert facts.neighbours([4, 2, 7], 4) == (None, 2)
    assert facts.neighbours([4, 2, 7], 5) == (None, None)
