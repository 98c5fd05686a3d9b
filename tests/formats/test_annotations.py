import json
import warnings

import cv2
import numpy as np
import pytest
from broken import broken, scrambled, survives
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from label_maps import CLASSES, label_maps

from carpus import labels
from carpus.errors import DataError, DataWarning
from carpus.formats import annotations

SQUARE = [[1, 1], [4, 1], [4, 4], [1, 4]]


def content(*shapes):
    return {
        "annotations": [
            {"id": "30-0", "type": "poly_seg", "attributes": {}, "points": points, "label": label}
            for label, points in shapes
        ],
        "attributes": {},
        "filename": "image1.jpg",
        "metadata": {"height": 3060, "width": 3060},
    }


def read(value, size=(9, 9), **options):
    return annotations.from_content(value, "ID001/a.json", size, CLASSES, **options)


@given(label_maps())
def test_reading_what_was_written_gives_every_pixel_back(label_map):
    text = annotations.to_text(label_map, CLASSES, "image1.png", "/ID001")
    back = annotations.from_content(json.loads(text), "text", label_map.shape, CLASSES)
    assert back.dtype == np.int32
    assert np.array_equal(back, label_map)


def loaded_by_the_competition(text, size):
    """(H, W, K) as the competition's own loader has it: one polygon after the other, the last of a class wins."""
    label = np.zeros((*size, len(CLASSES)), np.uint8)
    for annotation in json.loads(text)["annotations"]:
        mask = np.zeros(size, np.uint8)
        cv2.fillPoly(mask, [np.array(annotation["points"])], 1)
        label[..., CLASSES.index(annotation["label"])] = mask
    return label


@pytest.mark.parametrize("row", [0, 18])
def test_the_competitions_own_loader_has_the_body_of_a_bone_and_loses_its_crumbs(row):
    label_map = labels.empty((20, 20))
    label_map[4:16, 4:16] = 1
    label_map[8:11, 8:11] = 0
    body = label_map.copy()
    label_map[row : row + 2, 9:11] = 1
    found = loaded_by_the_competition(annotations.to_text(label_map, CLASSES, "a.png"), label_map.shape)
    assert np.array_equal(found[..., 0], body)


def test_the_file_has_the_keys_of_the_competition(tmp_path):
    label_map = labels.empty((5, 6))
    label_map[2, 3] = 1
    annotations.write(tmp_path / "a.json", label_map, CLASSES, "image1_R.png", "/ID001")
    written = json.loads((tmp_path / "a.json").read_text())
    keys = "annotations attributes file_id filename parent_path last_modifier_id metadata last_workers"
    assert set(written) == set(keys.split())
    assert written["filename"] == "image1_R.png"
    assert written["parent_path"] == "/ID001"
    (annotation,) = written["annotations"]
    assert set(annotation) == {"id", "type", "attributes", "points", "label"}
    assert annotation["id"].startswith("30-")
    assert annotation["points"] == [[3, 2]] * 3
    assert annotation["label"] == "Radius"


def test_equal_labels_make_equal_files_and_every_id_once():
    label_map = labels.empty((5, 5))
    label_map[::2, ::2] = 7
    text = annotations.to_text(label_map, CLASSES, "a.png", "/ID001")
    assert text == annotations.to_text(label_map, CLASSES, "a.png", "/ID001")
    ids = [annotation["id"] for annotation in json.loads(text)["annotations"]]
    assert len(ids) == len(set(ids)) == 27


def test_30_the_size_is_the_images_and_not_the_metadatas():
    assert read(content(("Radius", SQUARE)), size=(7, 8)).shape == (7, 8)


def test_polygons_may_come_in_any_order_of_classes():
    shapes = [("Lunate", SQUARE), ("Radius", [[0, 0], [1, 0], [0, 1]])]
    assert np.array_equal(read(content(*shapes)), read(content(*shapes[::-1])))


def test_29_a_class_without_a_polygon_is_empty():
    assert labels.area(read(content(("Radius", SQUARE))), 3).tolist() == [16, 0, 0]
    assert not read(content()).any()


def test_26_points_outside_the_image_are_cut_off_with_a_warning():
    with pytest.warns(DataWarning, match=r"ID001/a.json: annotations\[0\].points: leaves the 9 x 9 image"):
        label_map = read(content(("Radius", [[-3, 2], [12, 2], [12, 4], [-3, 4]])))
    assert labels.area(label_map, 3).tolist() == [27, 0, 0]


def test_26_a_polygon_wholly_outside_the_image_is_an_empty_mask_with_a_warning():
    with pytest.warns(DataWarning, match="leaves"):
        assert not read(content(("Radius", [[20, 20], [30, 20], [30, 30]]))).any()


def test_26_strict_mode_refuses_points_outside_the_image():
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        with pytest.raises(DataWarning, match="leaves"):
            read(content(("Radius", [[-3, 2], [12, 2], [12, 4]])))


def test_25_a_polygon_that_crosses_itself_is_filled_even_odd_with_a_warning():
    with pytest.warns(DataWarning, match=r"annotations\[0\].points: crosses itself"):
        label_map = read(content(("Radius", [[0, 0], [8, 8], [8, 0], [0, 8]])))
    assert label_map[4, 1]
    assert label_map[4, 7]
    assert not label_map[0, 4]


def test_28_a_bone_labelled_twice_is_united_with_a_warning():
    with pytest.warns(DataWarning, match="ID001/a.json: Radius: 2 polygons share 4 pixels"):
        label_map = read(content(("Radius", SQUARE), ("Radius", [[3, 3], [6, 3], [6, 6], [3, 6]])))
    assert labels.area(label_map, 3)[0] == 28


def test_labels_to_skip_are_passed_over():
    label_map = read(content(("Ring", [["not", "read"]]), ("Radius", SQUARE)), skip=["Ring"])
    assert labels.area(label_map, 3)[0] == 16


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param(content(("Radius", [[1, 2], [3, 4]])), r"annotations\[0\].points: needs at least 3", id="24"),
        pytest.param(content(("radius", SQUARE)), r"annotations\[0\].label: .*did you mean Radius", id="27 case"),
        pytest.param(content(("Ring", SQUARE)), r"annotations\[0\].label: unknown class 'Ring'", id="27"),
        pytest.param(content((None, SQUARE)), r"annotations\[0\].label: expected the name", id="27 no label"),
        pytest.param([], "annotations: expected a list", id="a list"),
        pytest.param({"annotations": {}}, "annotations: expected a list", id="an object"),
        pytest.param({"annotations": [3]}, r"annotations\[0\]: expected an object", id="a number"),
        pytest.param({"annotations": [{"type": "bbox"}]}, r"annotations\[0\].type: expected 'poly_seg'", id="type"),
    ],
)
def test_faults_of_annotations_are_named(value, message):
    with pytest.raises(DataError, match=f"^ID001/a.json: {message}"):
        read(value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b'{"annotations": [NaN]}', "NaN is not a number", id="23 NaN"),
        pytest.param(b'{"annotations": [], "annotations": []}', "'annotations' appears twice", id="23 key twice"),
        pytest.param(b'{"annotations":' + b"[" * 100_000, "nested too deeply", id="23 depth"),
        pytest.param('{"annotations": []}'.encode("utf-16"), "not UTF-8", id="23 UTF-16"),
        pytest.param(b"", "not valid JSON", id="empty"),
    ],
)
def test_faults_of_the_file_are_named(tmp_path, data, message):
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(DataError, match=f"a.json: .*{message}"):
        annotations.read(tmp_path / "a.json", (9, 9), CLASSES)


def test_an_infinite_point_written_as_a_large_number_is_refused(tmp_path):
    (tmp_path / "a.json").write_text('{"annotations": [{"label": "Radius", "points": [[1e999, 1], [2, 3], [4, 5]]}]}')
    with pytest.raises(DataError, match="1e999 is not a number"):
        annotations.read(tmp_path / "a.json", (9, 9), CLASSES)


VALID = content(("Radius", SQUARE), ("Lunate", [[0, 0], [5, 0], [0, 5]]))


@given(broken(VALID))
def test_broken_annotations_are_a_data_error_or_read(value):
    survives(lambda: read(value))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=scrambled(json.dumps(VALID).encode()), size=st.sampled_from([(1, 1), (9, 9)]))
def test_scrambled_files_are_a_data_error_or_read(tmp_path, data, size):
    (tmp_path / "a.json").write_bytes(data)
    survives(lambda: annotations.read(tmp_path / "a.json", size, CLASSES))
