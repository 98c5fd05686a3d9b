"""Decisions in the viewer: on disk at once, undone one by one."""

from pathlib import Path

import pytest

from carpus.errors import DataError
from carpus.labels import BONES
from carpus.pseudo import decisions
from carpus.viewer import reviews
from carpus.viewer.reviews import Reviews


def test_decisions_are_written_and_undone_in_turn(tmp_path: Path) -> None:
    review = Reviews(tmp_path, BONES, "kim")
    review.decide("a", list(BONES), "accept")
    review.decide("a", ["Lunate"], "reject")
    review.decide("b", ["Radius"], "ignore")
    known = decisions.read(tmp_path)
    assert reviews.marks(known, "a") == dict.fromkeys(BONES, "accept") | {"Lunate": "reject"}
    assert {each.by for each in known.values()} == {"kim"}
    assert reviews.done(known, ["a", "b", "c"]) == 2
    assert review.undo() == "b"
    assert review.undo() == "a"
    assert reviews.marks(review.read(), "a")["Lunate"] == "accept"
    assert review.undo() == "a"
    assert review.read() == {}
    assert not review.can_undo
    assert review.undo() is None


def test_undo_leaves_what_others_decided(tmp_path: Path) -> None:
    review = Reviews(tmp_path, BONES)
    review.decide("a", ["Lunate"], "reject")
    decisions.decide(tmp_path, "a", "Radius", "accept", "lee")
    review.undo()
    assert reviews.marks(review.read(), "a") == {"Radius": "accept"}


def test_nonsense_is_refused(tmp_path: Path) -> None:
    review = Reviews(tmp_path, BONES)
    with pytest.raises(DataError, match="unknown class"):
        review.decide("a", ["Elbow"], "accept")
    with pytest.raises(DataError, match="accept, reject or ignore"):
        review.decide("a", ["Lunate"], "maybe")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
