import numpy as np
import pytest

from carpus.errors import DataError
from carpus.formats import images
from carpus.formats.sizes import Sizes


@pytest.fixture
def folder(tmp_path):
    for name, shape in {"ID001/a.png": (2, 3), "ID002/a.png": (4, 5), "ID002/b_R.png": (6, 7)}.items():
        images.write(tmp_path / name, np.zeros(shape, np.uint8))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("ID002/a.png", ("ID002/a.png", (4, 5))),
        ("ID002/a.jpg", ("ID002/a.png", (4, 5))),
        ("b_R.png", ("ID002/b_R.png", (6, 7))),
        ("elsewhere/b_R.png", ("ID002/b_R.png", (6, 7))),
    ],
)
def test_an_image_is_found_by_path_or_else_by_base_name(folder, name, found):
    assert Sizes(folder).find(name, "s.csv") == found


def test_the_dots_of_a_dicom_uid_are_no_suffix(tmp_path):
    for name in ("1.2.840.7", "1.2.840.8", "1.2.840.8.dcm"):
        images.write(tmp_path / name, np.zeros((2, int(name.split(".")[3])), np.uint8))
    assert Sizes(tmp_path).find("1.2.840.7", "s.csv") == ("1.2.840.7", (2, 7))
    assert Sizes(tmp_path).find("1.2.840.7.png", "s.csv") == ("1.2.840.7", (2, 7))
    with pytest.raises(DataError, match=r"could be any of 1.2.840.8, 1.2.840.8.dcm"):
        Sizes(tmp_path).find("1.2.840.8.png", "s.csv")


def test_what_is_no_image_makes_no_name_ambiguous(folder):
    (folder / "ID002/b_R.tif").write_bytes(b"no image")
    assert Sizes(folder).find("b_R.png", "s.csv") == ("ID002/b_R.png", (6, 7))


def test_an_image_of_the_folder_is_right_against_the_label_file(folder):
    assert Sizes(folder, (9, 9)).find("b_R.png", "s.csv", own=(8, 8)) == ("ID002/b_R.png", (6, 7))


def test_one_image_is_a_folder_of_one(folder):
    assert Sizes(folder / "ID002/b_R.png").find("b_R.json", "s.csv") == ("b_R.png", (6, 7))


def test_39_an_image_that_is_not_there_or_there_twice_is_an_error(folder):
    with pytest.raises(DataError, match=r"s.csv: c.png: there is no such image in "):
        Sizes(folder).find("c.png", "s.csv")
    with pytest.raises(DataError, match=r"s.csv: a.png: could be any of ID001/a.png, ID002/a.png"):
        Sizes(folder).find("a.png", "s.csv")


def test_without_a_folder_the_size_comes_from_the_file_or_the_caller():
    assert Sizes(size=(8, 9)).find("a.png", "s.csv") == ("a.png", (8, 9))
    assert Sizes(size=(8, 9)).find("a.png", "s.csv", own=(1, 2)) == ("a.png", (1, 2))
    with pytest.raises(DataError, match=r"s.csv: does not tell .* \(--images DIR\) or their size \(--size HxW\)"):
        Sizes().find("a.png", "s.csv")


@pytest.mark.parametrize("size", [(0, 5), (-1, 5), (1 << 20, 1 << 20)])
def test_impossible_sizes_are_refused(size):
    with pytest.raises(DataError, match="size: expected 1 to"):
        Sizes(size=size)


def test_a_folder_without_images_is_an_error(tmp_path):
    with pytest.raises(DataError, match="holds no images"):
        Sizes(tmp_path)
