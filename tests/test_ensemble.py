"""Votes on run lengths are votes on pixels."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carpus import ensemble, kernels
from carpus import labels as label_map
from carpus.errors import ConfigError, DataError, DataWarning
from carpus.formats import submission
from carpus.labels import Classes

PIXELS = 24


def runs_of(mask: np.ndarray) -> np.ndarray:
    return kernels.encode(mask.reshape(1, -1).astype(np.int32), 1)[0]


@settings(deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=PIXELS, max_size=PIXELS), min_size=1, max_size=5), st.data())
def test_a_vote_on_runs_is_the_vote_on_pixels(drawn: list[list[bool]], data: st.DataObject) -> None:
    masks = np.array(drawn)
    weights = data.draw(st.lists(st.integers(0, 3), min_size=len(masks), max_size=len(masks)).filter(any))
    share = data.draw(st.sampled_from([0, 0.25, 0.5, 0.75]))
    expected = (masks * np.array(weights)[:, None]).sum(axis=0) > share * sum(weights)
    found = ensemble.vote([runs_of(mask) for mask in masks], [float(weight) for weight in weights], share)
    assert np.array_equal(found, runs_of(expected))


def test_a_tie_is_no_majority_however_the_weights_round() -> None:
    mask, nothing = np.array([[2, 3]]), np.empty((0, 2), np.int64)
    assert len(ensemble.vote([mask, mask, nothing], [0.1, 0.2, 0.3])) == 0
    assert ensemble.vote([mask, mask, nothing], [0.1, 0.21, 0.3]).tolist() == [[2, 3]]


CLASSES = Classes(("a", "b"))


def write(path: Path, *maps: np.ndarray) -> Path:
    items = ((f"{n}.png", kernels.encode(labels, 2)) for n, labels in enumerate(maps))
    submission.write(path, items, CLASSES)
    return path


@pytest.fixture
def members(tmp_path: Path) -> list[Path]:
    random = np.random.default_rng(0)
    maps = random.integers(0, 4, (3, 2, 9, 11)).astype(np.int32)
    return [write(tmp_path / f"{n}.csv", *of) for n, of in enumerate(maps)]


def test_submissions_vote_by_majority(members: list[Path], tmp_path: Path) -> None:
    assert ensemble.ensemble(members, tmp_path / "out.csv", size=(9, 11), classes=CLASSES) == 2
    found = submission.read(tmp_path / "out.csv", CLASSES, (9, 11))
    given = [submission.read(path, CLASSES, (9, 11)) for path in members]
    for name in ("0.png", "1.png"):
        planes = sum(label_map.unpack(kernels.decode(of[name], (9, 11)), 2).astype(int) for of in given)
        assert np.array_equal(label_map.unpack(kernels.decode(found[name], (9, 11)), 2), planes >= 2)


def test_a_class_may_trust_one_member_alone(members: list[Path], tmp_path: Path) -> None:
    weights = np.array([[1, 0], [0, 1], [0, 0]])
    ensemble.ensemble(members, tmp_path / "out.csv", size=(9, 11), weights=weights, classes=CLASSES)
    found = submission.read(tmp_path / "out.csv", CLASSES, (9, 11))
    first, second = (submission.read(path, CLASSES, (9, 11)) for path in members[:2])
    assert np.array_equal(found["1.png"][0], first["1.png"][0])
    assert np.array_equal(found["1.png"][1], second["1.png"][1])


def test_weights_by_name_are_those_of_an_array() -> None:
    given = ensemble.votes([{"a": 3}, 2, {"b": 0}], 3, CLASSES)
    assert given.tolist() == [[3, 1], [2, 2], [1, 0]]
    assert ensemble.votes(given, 3, CLASSES) is given
    with pytest.raises(ConfigError, match="weights: number 2: unknown class 'c'"):
        ensemble.votes([2, {"c": 3}, 1], 3, CLASSES)


def test_submissions_that_do_not_belong_together_leave_nothing(members: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    other = write(tmp_path / "other.csv", np.zeros((9, 11), np.int32))
    with pytest.raises(DataError, match=r"other\.csv: no rows for 1\.png"):
        ensemble.ensemble([members[0], other], out, size=(9, 11), classes=CLASSES)
    with pytest.raises(ConfigError, match="two or more"):
        ensemble.ensemble(members[:1], out, size=(9, 11), classes=CLASSES)
    for weights in ([1, 2], [1, 1, -1], [0, 0, 0], [{"a": 0}, {"a": 0}, {"a": 0, "b": 3}]):
        with pytest.raises(ConfigError, match="weights"):
            ensemble.ensemble(members, out, size=(9, 11), weights=weights, classes=CLASSES)
    assert not out.exists()


def test_a_submission_that_votes_twice_is_refused(members: list[Path], tmp_path: Path) -> None:
    copy = Path(shutil.copy(members[0], tmp_path / "copy.csv"))
    with pytest.raises(ConfigError, match=r"copy\.csv: is .*0\.csv once more; .* give --weight"):
        ensemble.ensemble([members[0], copy, members[1]], tmp_path / "out.csv", size=(9, 11), classes=CLASSES)
    assert not (tmp_path / "out.csv").exists()


def test_only_a_submission_is_replaced(members: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("name,age\nAnn,5\n")
    with pytest.raises(DataError, match=r"out\.csv: is there already and is something else"):
        ensemble.ensemble(members, out, size=(9, 11), classes=CLASSES)
    assert out.read_text() == "name,age\nAnn,5\n"
    out.unlink()
    for _ in range(2):
        assert ensemble.ensemble(members, out, size=(9, 11), classes=CLASSES) == 2


def test_an_even_number_of_voters_is_doubted(members: list[Path], tmp_path: Path) -> None:
    with pytest.warns(DataWarning, match="of 2 voters both must agree"):
        ensemble.ensemble(members[:2], tmp_path / "out.csv", size=(9, 11), classes=CLASSES)
    with pytest.warns(DataWarning, match="of 4 voters 3 must agree"):
        ensemble.doubt_even(4)
    # Warnings are errors here: neither weights, nor another share, nor an odd number is doubted.
    ensemble.ensemble(members[:2], tmp_path / "out.csv", size=(9, 11), weights=(1, 2), classes=CLASSES)
    ensemble.ensemble(members[:2], tmp_path / "out.csv", size=(9, 11), share=0.4, classes=CLASSES)
    ensemble.ensemble(members, tmp_path / "out.csv", size=(9, 11), classes=CLASSES)


def test_a_folder_is_no_submission(members: list[Path], tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"is a folder; expected a submission CSV; `carpus convert .* x\.csv` makes one"
    ):
        ensemble.ensemble([members[0], tmp_path], tmp_path / "out.csv", size=(9, 11), classes=CLASSES)
