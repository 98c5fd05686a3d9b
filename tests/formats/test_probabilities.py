"""Soft labels as files: the same bytes for the same content, and nothing else in their place."""

import io
import zipfile

import numpy as np
import pytest

from carpus.errors import DataError
from carpus.formats import probabilities
from carpus.labels import Classes

TWO = Classes(("Radius", "Ulna"))


@pytest.fixture
def found():
    return np.random.default_rng(0).integers(0, 256, (2, 5, 5), np.uint8)


def test_soft_labels_come_back_and_equal_content_is_equal_bytes(found, tmp_path):
    for name in ("a.npz", "b.npz"):
        probabilities.write_codes(tmp_path / name, found, (3, 4), TWO)
    assert np.array_equal(probabilities.read_codes(tmp_path / "a.npz", TWO), found)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz") as kept:
        assert kept["size"].tolist() == [3, 4]


def test_probabilities_of_a_prediction_are_no_soft_labels(found, tmp_path):
    probabilities.write(tmp_path / "a.npz", found / 255, (3, 4), TWO)
    with pytest.raises(DataError, match=r"a\.npz: no soft labels"):
        probabilities.read_codes(tmp_path / "a.npz", TWO)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((2, 5, 5), np.float16), r"expected \(2, h, h\) uint8, has \(2, 5, 5\) float16"),
        (np.zeros((3, 5, 5), np.uint8), r"has \(3, 5, 5\) uint8"),
        (np.zeros((2, 5, 6), np.uint8), r"has \(2, 5, 6\) uint8"),
        (np.zeros((2, 5), np.uint8), r"has \(2, 5\) uint8"),
        (np.zeros((2, 0, 0), np.uint8), r"has \(2, 0, 0\) uint8"),
    ],
)
def test_other_arrays_are_refused(content, message, tmp_path):
    probabilities.write_codes(tmp_path / "a.npz", content, (5, 5), TWO)
    with pytest.raises(DataError, match=rf"a\.npz: codes: .*{message}"):
        probabilities.read_codes(tmp_path / "a.npz", TWO)


def test_other_classes_are_refused(found, tmp_path):
    probabilities.write_codes(tmp_path / "a.npz", found, (5, 5), Classes(("Ulna", "Radius")))
    with pytest.raises(DataError, match=r"a\.npz: classes: are others"):
        probabilities.read_codes(tmp_path / "a.npz", TWO)


def test_what_is_no_such_file_is_named(found, tmp_path):
    path = tmp_path / "a.npz"
    probabilities.write_codes(path, found, (5, 5), TWO)
    whole, array = path.read_bytes(), io.BytesIO()
    np.save(array, found)
    damaged = bytearray(whole)
    damaged[100] ^= 255
    pickled = io.BytesIO()
    np.savez(pickled, probabilities=np.array([{}], object), classes=np.array(TWO.names))
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    for content in (
        b"",
        b"no",
        whole[: len(whole) // 2],
        bytes(damaged),
        array.getvalue(),
        *map(io.BytesIO.getvalue, (pickled, empty)),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"a\.npz: no soft labels as `carpus pseudo --soft` writes them"):
            probabilities.read_codes(path, TWO)
    with pytest.raises(DataError, match=r"none\.npz: no soft labels"):
        probabilities.read_codes(tmp_path / "none.npz", TWO)
