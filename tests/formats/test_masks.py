import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from label_maps import CLASSES, label_maps

from carpus import labels
from carpus.errors import DataError, DataWarning
from carpus.formats import Labelled, images, masks
from carpus.formats.sizes import Sizes
from carpus.labels import Classes


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(label_map=label_maps())
def test_reading_what_was_written_gives_every_pixel_back(tmp_path, label_map):
    masks.write(tmp_path, label_map, CLASSES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Lunate.png", "Radius.png", "finger-1.png"]
    for k, label in enumerate(CLASSES):
        expected = np.where(labels.has(label_map, k), 255, 0)
        assert np.array_equal(images.read(tmp_path / f"{label}.png"), expected)
    assert np.array_equal(masks.read(tmp_path, CLASSES), label_map)


def put(folder, **planes):
    for label, plane in planes.items():
        images.write(folder / f"{label}.png", np.array(plane, np.uint8))


def test_29_a_class_without_a_file_is_empty(tmp_path):
    put(tmp_path, Radius=[[0, 255], [255, 255]])
    assert labels.area(masks.read(tmp_path, CLASSES), 3).tolist() == [3, 0, 0]


def test_masks_of_0_and_1_are_masks(tmp_path):
    put(tmp_path, Radius=[[0, 1], [1, 1]], Lunate=[[0, 0], [0, 0]])
    assert labels.area(masks.read(tmp_path, CLASSES), 3).tolist() == [3, 0, 0]


def test_values_between_count_from_the_middle_with_a_warning(tmp_path):
    put(tmp_path, Radius=[[0, 127], [128, 255]])
    with pytest.warns(DataWarning, match="Radius.png: holds values besides 0 and 255"):
        assert labels.area(masks.read(tmp_path, CLASSES), 3).tolist() == [2, 0, 0]


def test_files_to_skip_are_passed_over(tmp_path):
    put(tmp_path, Radius=[[255]], overlay=[[1, 2, 3]])
    (tmp_path / "notes.txt").write_text("no mask")
    assert masks.read(tmp_path, CLASSES, skip=["overlay"]).shape == (1, 1)


def test_27_a_file_that_no_class_names_is_an_error(tmp_path):
    put(tmp_path, Radius=[[255]], Ring=[[255]])
    with pytest.raises(DataError, match=r"Ring.png: unknown class 'Ring'"):
        masks.read(tmp_path, CLASSES)


def test_30_masks_of_two_sizes_are_an_error(tmp_path):
    put(tmp_path, Lunate=[[255]], Radius=[[255, 0]])
    with pytest.raises(DataError, match=r"Radius.png: is 1 x 2, the masks before it 1 x 1"):
        masks.read(tmp_path, CLASSES)


def test_30_masks_of_another_size_than_the_image_are_an_error(tmp_path):
    put(tmp_path / "masks/ID001/image1", Lunate=[[255]])
    put(tmp_path / "images/ID001", image1=[[255, 0]])
    with pytest.raises(DataError, match=r"masks are 1 x 1, ID001/image1.png is 1 x 2"):
        list(masks.read_all(tmp_path / "masks", CLASSES, Sizes(tmp_path / "images")))


def test_a_folder_without_masks_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"holds no mask; expected files such as Radius.png"):
        masks.read(tmp_path, CLASSES)
    with pytest.raises(DataError, match=r"holds no masks"):
        list(masks.read_all(tmp_path, CLASSES, Sizes()))


def test_a_damaged_mask_is_a_data_error(tmp_path):
    put(tmp_path, Radius=[[255] * 9] * 9)
    path = tmp_path / "Radius.png"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"Radius.png"):
        masks.read(tmp_path, CLASSES)


@pytest.mark.parametrize("label", ["../Radius", "a/b", "a\\b", "NUL", "a\nb"])
def test_43_46_a_class_that_cannot_be_a_file_is_not_written(tmp_path, label):
    with pytest.raises(DataError, match="class: "):
        masks.write(tmp_path / "out", labels.empty((1, 1)), Classes((label,)))
    assert not (tmp_path / "out").exists()


def test_47_images_whose_names_some_systems_take_for_one_are_refused(tmp_path):
    items = [Labelled("a/b.png", labels.empty((1, 1))), Labelled("a/B.jpg", labels.empty((1, 1)))]
    with pytest.raises(DataError, match=r"'a/B.jpg' and 'a/b.png' would be one file"):
        masks.write_all(tmp_path, items, CLASSES)


def test_47_classes_that_some_systems_cannot_tell_apart_are_not_written(tmp_path):
    with pytest.raises(DataError, match="'a' and 'A' would be one file"):
        masks.write(tmp_path, np.zeros((2, 2), np.int32), Classes(("A", "a")))
