import json
import warnings

import numpy as np
import pytest
from broken import broken, scrambled, survives
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from label_maps import CLASSES, label_maps
from pycocotools import mask as referee
from pycocotools.coco import COCO

from carpus import labels
from carpus.errors import DataError, DataWarning
from carpus.formats import Labelled, coco, images
from carpus.formats.sizes import Sizes

# Its array type has not learnt NumPy 2's `copy`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SQUARE = [1, 1, 5, 1, 5, 5, 1, 5]


def content(*segmentations, category=1, size=(9, 9)):
    return {
        "images": [{"id": 7, "file_name": "ID001/image1.png", "height": size[0], "width": size[1]}],
        "categories": [{"id": 1, "name": "Radius"}, {"id": 5, "name": "Ring"}, {"id": 9, "name": "Lunate"}],
        "annotations": [
            {"id": i, "image_id": 7, "category_id": category, "segmentation": segmentation, "iscrowd": 0}
            for i, segmentation in enumerate(segmentations)
        ],
    }


@pytest.fixture
def read(tmp_path):
    def read(value, sizes=None, **options):
        path = tmp_path / "c.json"
        path.write_text(json.dumps(value))
        return list(coco.read_all(path, CLASSES, sizes or Sizes(), **options))

    return read


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(maps=st.lists(label_maps(), max_size=3))
def test_reading_what_was_written_gives_every_pixel_back_to_us_and_to_pycocotools(tmp_path, capsys, maps):
    items = [Labelled(f"ID001/image{i}.png", label_map) for i, label_map in enumerate(maps)]
    coco.write_all(tmp_path / "c.json", items, CLASSES)
    back = list(coco.read_all(tmp_path / "c.json", CLASSES, Sizes()))
    assert [item.name for item in back] == [item.name for item in items]
    theirs = COCO(tmp_path / "c.json")
    for number, (item, again) in enumerate(zip(items, back, strict=True), start=1):
        assert np.array_equal(again.labels, item.labels)
        assert again.labels.dtype == np.int32
        label_map = labels.empty(item.size)
        for annotation in theirs.loadAnns(theirs.getAnnIds(imgIds=[number])):
            mask = theirs.annToMask(annotation)
            labels.paint(label_map, CLASSES.index(theirs.cats[annotation["category_id"]]["name"]), mask.astype(bool))
            encoded = referee.encode(np.asfortranarray(mask))
            assert annotation["area"] == referee.area(encoded)
            assert annotation["bbox"] == referee.toBbox(encoded).tolist()
        assert np.array_equal(label_map, item.labels)


@pytest.mark.parametrize("whole", [True, False])
@settings(max_examples=300)
@given(data=st.data())
def test_polygons_are_filled_as_pycocotools_fills_them(whole, data):
    height, width = data.draw(st.tuples(st.integers(1, 20), st.integers(1, 20)))
    number = st.integers(-4, 24) if whole else st.floats(-4, 24)
    # Points twice only where they are on the image: elsewhere C leaves the outcome to the compiler.
    points = data.draw(st.lists(st.tuples(number, number), min_size=3, max_size=9, unique=True))
    if data.draw(st.booleans()):
        points = [point for point in points if min(point) >= 0 for _ in range(2)] or [(1, 1)] * 3
    flat = [float(value) for point in points for value in point]
    if len(flat) < 6:
        flat = (flat * 3)[:6]
    (encoded,) = referee.frPyObjects([flat], height, width)
    runs = coco.fill(np.array(flat).reshape(-1, 2), (height, width), "p")
    mask = np.zeros(height * width, np.uint8)
    for start, length in runs.tolist():
        mask[start : start + length] = 1
    assert np.array_equal(mask.reshape(width, height).T, referee.decode(encoded))


def test_a_large_polygon_is_filled_as_pycocotools_fills_it():
    turn = np.linspace(0, 2 * np.pi, 150, endpoint=False)
    wave = 1 + 0.2 * np.sin(5 * turn)
    points = np.stack([1000 + 700 * np.cos(turn) * wave, 1100 + 1200 * np.sin(turn) * wave], axis=1)
    (encoded,) = referee.frPyObjects([points.ravel().tolist()], 2048, 1900)
    runs = coco.fill(points, (2048, 1900), "p")
    mask = np.zeros(2048 * 1900, np.uint8)
    for start, length in runs.tolist():
        mask[start : start + length] = 1
    assert np.array_equal(mask.reshape(1900, 2048).T, referee.decode(encoded))


def test_an_outline_of_millions_of_pixels_is_refused():
    comb = np.tile([[0.0, 0.0], [0.0, 60000.0]], (100, 1))
    with pytest.raises(DataError, match=r"p: the outline is 12000000 pixels long"):
        coco.fill(comb, (9, 9), "p")


@pytest.mark.parametrize(
    "segmentation",
    [
        pytest.param([SQUARE], id="polygon"),
        pytest.param([SQUARE[:6], [1, 1, 5, 5, 1, 5]], id="two polygons"),
        pytest.param({"size": [9, 9], "counts": [10, 4, 5, 4, 5, 4, 5, 4, 40]}, id="uncompressed"),
        pytest.param(
            {"size": [9, 9], "counts": referee.frPyObjects([SQUARE], 9, 9)[0]["counts"].decode()}, id="compressed"
        ),
    ],
)
def test_ways_of_writing_one_mask(read, segmentation):
    (item,) = read(content(segmentation))
    assert (item.name, item.size) == ("ID001/image1.png", (9, 9))
    expected = labels.empty((9, 9))
    expected[1:5, 1:5] = 1
    assert np.array_equal(item.labels, expected)


def test_a_crowd_is_read_like_any_other(read):
    value = content([SQUARE])
    value["annotations"][0]["iscrowd"] = 1
    assert labels.area(read(value)[0].labels, 3)[0] == 16


def test_29_an_image_without_annotations_is_empty(read):
    (item,) = read(content())
    assert item.size == (9, 9)
    assert not item.labels.any()


def test_categories_are_matched_by_name_and_those_to_skip_passed_over(read):
    value = content([SQUARE], category=9)
    value["annotations"].append({"id": 99, "image_id": 7, "category_id": 5, "segmentation": "not read"})
    (item,) = read(value, skip=["Ring", "Metal Implant"])
    assert labels.area(item.labels, 3).tolist() == [0, 0, 16]


def test_27_categories_that_are_no_classes_are_listed_with_the_way_out(read):
    with pytest.raises(DataError, match=r"c.json: categories: not in the class list: Ring; .*--skip NAME.*--classes"):
        read(content([SQUARE], category=5))


def test_a_category_that_nothing_uses_may_have_any_name(read):
    assert len(read(content([SQUARE]))) == 1


def test_28_a_bone_labelled_twice_is_united_with_a_warning(read):
    with pytest.warns(DataWarning, match="image 7: Radius: annotations share 16 pixels"):
        (item,) = read(content([SQUARE], [SQUARE]))
    assert labels.area(item.labels, 3)[0] == 16


def test_25_26_polygons_that_cross_themselves_or_leave_the_image_are_doubted(read):
    with pytest.warns(DataWarning, match=r"annotations\[0\].segmentation\[0\]: crosses itself"):
        read(content([[0, 0, 8, 8, 8, 0, 0, 8]]))
    with pytest.warns(DataWarning, match=r"segmentation\[0\]: leaves the 9 x 9 image"):
        read(content([[0, 0, 10, 0, 10, 9]]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(content([[0, 0, 9, 0, 9, 9]]))


def test_30_the_image_is_right_about_its_size(read, tmp_path):
    images.write(tmp_path / "images/ID001/image1.png", np.zeros((7, 8), np.uint8))
    with pytest.warns(DataWarning, match="says 9 x 9, ID001/image1.png has 7 x 8"):
        (item,) = read(content([SQUARE]), Sizes(tmp_path / "images"))
    assert item.size == (7, 8)
    with (
        pytest.warns(DataWarning, match="says 9 x 9"),
        pytest.raises(DataError, match=r"segmentation.size: expected \[7, 8\], the image's, has \[9, 9\]"),
    ):
        read(content({"size": [9, 9], "counts": [81]}), Sizes(tmp_path / "images"))


def changed(*path, to):
    value = content([SQUARE], [[0, 0, 1, 0, 1, 1]])
    node = value
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = to
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param([], "expected an object with images", id="a list"),
        pytest.param({"images": []}, "categories: expected a list", id="no categories"),
        pytest.param(changed("images", to=None), "images: expected a list", id="no images"),
        pytest.param(changed("images", 0, to=3), r"images\[0\]: expected an object", id="image a number"),
        pytest.param(changed("images", 0, "id", to=None), r"images\[0\].id: expected a whole", id="image without id"),
        pytest.param(changed("images", 0, "height", to=9.5), r"images\[0\].height: expected a whole", id="height"),
        pytest.param(changed("images", 0, "height", to=10**9), r"images\[0\]: expected 1 to", id="huge"),
        pytest.param(changed("images", 0, "file_name", to="../a.png"), "file_name: '../a.png' leads out", id="43"),
        pytest.param(changed("images", 0, "file_name", to="..\\a.png"), "file_name: .* leads out", id="43 backslash"),
        pytest.param(changed("images", 0, "file_name", to="/etc/a.png"), "file_name: .* leads out", id="44"),
        pytest.param(changed("images", 0, "file_name", to="a\0.png"), "file_name: .* is not a file name", id="46 NUL"),
        pytest.param(changed("images", 0, "file_name", to="con.png"), "not every system can hold", id="46 reserved"),
        pytest.param(changed("images", 0, "file_name", to=None), "expected a file name", id="no name"),
        pytest.param(changed("categories", 0, "name", to=3), r"categories\[0\].name: expected a name", id="category"),
        pytest.param(
            changed("categories", 2, "id", to=1), r"categories\[2\].id: 1 is the id of categories\[0\]", id="twice"
        ),
        pytest.param(
            changed("annotations", 1, "id", to=0), r"annotations\[1\].id: 0 is the id of annotations\[0\]", id="id"
        ),
        pytest.param(
            changed("annotations", 1, "image_id", to=8), r"annotations\[1\].image_id: there is no image 8", id="39"
        ),
        pytest.param(changed("annotations", 1, "category_id", to=8), "there is no category 8", id="27 no category"),
        pytest.param(changed("annotations", 1, "iscrowd", to=2), "iscrowd: expected 0 or 1", id="crowd"),
        pytest.param(changed("annotations", 1, "segmentation", to=[]), "expected polygons or run lengths", id="empty"),
        pytest.param(changed("annotations", 1, "segmentation", to=[[1, 2, 3, 4]]), "at least 3 points, has 2", id="24"),
        pytest.param(changed("annotations", 1, "segmentation", to=[[1] * 7]), "odd number of values", id="odd"),
        pytest.param(changed("annotations", 1, "segmentation", to=[["a"] * 6]), "expected numbers, has 'a'", id="text"),
        pytest.param(
            changed("annotations", 1, "segmentation", to={"size": [9, 9], "counts": [80]}),
            r"annotations\[1\].segmentation.counts: counts add up to 80",
            id="38 uncompressed",
        ),
        pytest.param(
            changed("annotations", 1, "segmentation", to={"size": [9, 9], "counts": "PP"}),
            "counts: compressed counts stop in the middle",
            id="38 compressed",
        ),
        pytest.param(
            changed("annotations", 1, "segmentation", to={"size": [9, 8], "counts": [72]}),
            r"segmentation.size: expected \[9, 9\]",
            id="30 size",
        ),
    ],
)
def test_faults_are_named(read, tmp_path, value, message):
    with pytest.raises(DataError, match=message) as caught:
        read(value)
    assert str(caught.value).startswith(f"{tmp_path / 'c.json'}: ")


def test_47_images_whose_names_some_systems_take_for_one_are_refused(read, tmp_path):
    value = content()
    value["images"].append({**value["images"][0], "id": 8, "file_name": "id001/IMAGE1.png"})
    with pytest.raises(DataError, match=r"'id001/IMAGE1.png' and 'ID001/image1.png' would be one file"):
        read(value)


def test_ids_are_stable_and_an_empty_class_has_no_annotation(tmp_path):
    label_map = labels.empty((3, 4))
    label_map[1, 2:] = 5
    items = [Labelled("b.png", label_map), Labelled("a.png", label_map)]
    for name in ("one.json", "two.json"):
        coco.write_all(tmp_path / name, items, CLASSES)
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    written = json.loads((tmp_path / "one.json").read_text())
    assert [(row["id"], row["file_name"]) for row in written["images"]] == [(1, "b.png"), (2, "a.png")]
    assert [row["id"] for row in written["annotations"]] == [1, 2, 3, 4]
    assert [row["category_id"] for row in written["annotations"]] == [1, 3, 1, 3]
    assert [row["bbox"] for row in written["annotations"]] == [[2, 1, 2, 1]] * 4


VALID = content([SQUARE], {"size": [9, 9], "counts": [10, 4, 67]}, {"size": [9, 9], "counts": "1"})
VALID["annotations"][2]["segmentation"]["counts"] = "a2"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=broken(VALID))
def test_broken_files_are_a_data_error_or_read(read, value):
    survives(lambda: read(value, skip=["Ring"]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=scrambled(json.dumps(VALID).encode()))
def test_scrambled_files_are_a_data_error_or_read(tmp_path, data):
    (tmp_path / "c.json").write_bytes(data)
    survives(lambda: list(coco.read_all(tmp_path / "c.json", CLASSES, Sizes())))
