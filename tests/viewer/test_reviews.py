"""Decisions in the viewer: on disk at once, undone one by one."""

import json
import shutil
from pathlib import Path

import pytest

from carpus import data
from carpus.errors import DataError
from carpus.labels import BONES
from carpus.pseudo import decisions, trust
from carpus.pseudo.decisions import Decision, Decisions, Verdict
from carpus.viewer import reviews, sources
from carpus.viewer.reviews import Decided, Reviews, Undone
from carpus.viewer.sources import Workspace


def _verdicts(known: Decisions, image: str) -> dict[str, Verdict]:
    return {bone: each.verdict for (of, bone), each in known.items() if of == image}


def test_decisions_are_written_and_undone_in_turn(tmp_path: Path) -> None:
    review = Reviews(tmp_path, BONES, "kim")
    review.decide("a", list(BONES), "accept")
    review.decide("a", ["Lunate"], "reject")
    review.decide("b", ["Radius"], "ignore")
    known = decisions.read(tmp_path)
    assert _verdicts(known, "a") == dict.fromkeys(BONES, "accept") | {"Lunate": "reject"}
    assert {each.by for each in known.values()} == {"kim"}
    assert review.undo() == Undone("b", ())
    assert review.undo() == Undone("a", ())
    assert _verdicts(review.read(), "a")["Lunate"] == "accept"
    assert review.undo() == Undone("a", ())
    assert not list(tmp_path.iterdir())
    assert not review.can_undo
    assert review.undo() is None


def test_undo_leaves_what_others_decided(tmp_path: Path) -> None:
    review = Reviews(tmp_path, BONES)
    review.decide("a", ["Lunate"], "reject")
    decisions.decide(tmp_path, "a", "Radius", "accept", "lee")
    review.undo()
    assert _verdicts(review.read(), "a") == {"Radius": "accept"}


@pytest.mark.parametrize("theirs", ["accept", "reject", None])
def test_undo_leaves_what_others_decided_on_the_same_bone(tmp_path: Path, theirs: Verdict | None) -> None:
    review = Reviews(tmp_path, BONES, "kim")
    review.decide("a", ["Radius", "Lunate"], "reject")
    decisions.decide(tmp_path, "a", "Lunate", theirs, "lee")
    after = {("a", "Lunate"): decisions.read(tmp_path)["a", "Lunate"]} if theirs else {}
    assert review.undo() == Undone("a", ("Lunate",))
    assert review.read() == after
    assert not review.can_undo


def test_an_undone_decision_leaves_the_data_as_it_was(dataset: Path, tmp_path: Path) -> None:
    root = shutil.copytree(dataset, tmp_path / "data")
    cases = data.cases(root, "train")[:1]
    before = trust.fingerprint(root, cases)
    review = Reviews(root, BONES)
    review.decide(cases[0].name, ["Lunate"], "reject")
    assert trust.fingerprint(root, cases) != before
    review.undo()
    assert trust.fingerprint(root, cases) == before


def test_nonsense_is_refused(tmp_path: Path) -> None:
    review = Reviews(tmp_path, BONES)
    with pytest.raises(DataError, match="unknown class"):
        review.decide("a", ["Elbow"], "accept")
    with pytest.raises(DataError, match="accept, reject or ignore"):
        review.decide("a", ["Lunate"], "maybe")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.fixture
def both(dataset: Path, pseudo: Path) -> Workspace:
    return sources.open_paths([dataset, pseudo])


def test_an_image_is_decided_on_where_it_has_labels(both: Workspace) -> None:
    names = reviews.folders(both, ("data", "pseudo"))
    assert names == ["pseudo", "data"]
    of = {entry.name: (entry.split, reviews.folder_of(both, names, entry)) for entry in both.entries}
    assert set(of.values()) == {("train", "data"), ("test", "pseudo")}
    assert {reviews.folder_of(both, ["pseudo"], entry) for entry in both.entries if entry.split == "train"} == {""}
    assert reviews.folders(both, ("no folder", "")) == []


def test_progress_counts_the_bones_of_its_folder_alone(both: Workspace) -> None:
    drawn, made = both.entries[0], both.entries[-1]
    known: dict[str, Decisions] = {"pseudo": {(made.name, "Lunate"): Decision("reject")}, "data": {}}
    known["pseudo"][drawn.name, "Lunate"] = Decision("accept")  # of an image that the folder does not label
    decided = Decided(both, known)
    assert decided.progress("pseudo", both.entries) == (0, 4, pytest.approx(1 / (4 * 29)))
    assert decided.progress("data", both.entries) == (0, 8, 0)
    assert (decided.marks(made), decided.marks(drawn)) == ({"Lunate": "reject"}, {})
    assert (decided.mark(made), decided.mark(drawn)) == ("1/29", "")


def test_an_image_is_done_when_every_bone_that_has_a_mask_is_decided(dataset: Path, tmp_path: Path) -> None:
    root = shutil.copytree(dataset, tmp_path / "data")
    annotation = data.cases(root, "train")[0].annotation
    assert annotation is not None
    content = json.loads(annotation.read_text())
    content["annotations"] = [each for each in content["annotations"] if each["label"] != "Lunate"]
    annotation.write_text(json.dumps(content))
    workspace = sources.open_paths([root])
    entry, rest = workspace.entries[0], [bone for bone in BONES if bone != "Lunate"]
    review = Reviews(root, BONES)
    review.decide(entry.name, rest[1:], "accept")
    part = Decided(workspace, {"data": review.read()})
    assert (part.open(entry), part.mark(entry), part.waits(entry)) == (rest[:1], "27/28", True)
    review.decide(entry.name, rest[:1], "accept")
    done = Decided(workspace, {"data": review.read()})
    assert (done.open(entry), done.mark(entry), done.waits(entry)) == ([], "accept", False)
    assert done.progress("data", workspace.entries)[0] == 1
    review.decide(entry.name, rest[:1], "reject")
    assert Decided(workspace, {"data": review.read()}).mark(entry) == "mixed"
    annotation.write_text("{")
    with pytest.raises(DataError):
        Decided(workspace, {"data": {}}).open(entry)
