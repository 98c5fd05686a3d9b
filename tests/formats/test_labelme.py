import base64
import io
import json
import warnings

import numpy as np
import pytest
from broken import broken, scrambled, survives
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from label_maps import CLASSES, label_maps
from PIL import Image, ImageDraw

from carpus import labels
from carpus.errors import DataError, DataWarning
from carpus.formats import images, labelme
from carpus.formats.sizes import Sizes

SQUARE = [[1, 1], [4, 1], [4, 4], [1, 4]]


def shape_to_mask(size, points, kind):
    """What Labelme's function of this name does: the referee."""
    canvas = Image.new("L", (size[1], size[0]))
    draw, xy = ImageDraw.Draw(canvas), [tuple(point) for point in points]
    if kind == "circle":
        (cx, cy), (px, py) = xy
        d = np.sqrt((cx - px) ** 2 + (cy - py) ** 2)
        draw.ellipse([cx - d, cy - d, cx + d, cy + d], outline=1, fill=1)
    elif kind == "rectangle":
        draw.rectangle(xy, outline=1, fill=1)
    else:
        draw.polygon(xy, outline=1, fill=1)
    return np.array(canvas, bool)


def content(*shapes, size=(9, 9)):
    return {
        "version": "5.4.1",
        "flags": {},
        "shapes": [{"label": label, "points": points, "shape_type": kind} for label, points, kind in shapes],
        "imagePath": "image1.png",
        "imageData": None,
        "imageHeight": size[0],
        "imageWidth": size[1],
    }


def read(value, size=None, **options):
    return labelme.from_content(value, "ID001/a.json", CLASSES, size, **options)


def png(mask):
    stream = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8)).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def mask_shape(pixels, left, top, **changes):
    corners = [[left, top], [left + pixels.shape[1] - 1, top + pixels.shape[0] - 1]]
    return {"label": "Radius", "points": corners, "shape_type": "mask", "mask": png(pixels), **changes}


@given(label_maps())
def test_reading_what_was_written_gives_every_pixel_back_to_us_and_to_labelme(label_map):
    written = json.loads(labelme.to_text(label_map, CLASSES, "image1.png"))
    assert np.array_equal(read(written), label_map)
    theirs = labels.empty(label_map.shape)
    for shape in written["shapes"]:
        assert len(shape["points"]) > 2
        mask = shape_to_mask(label_map.shape, shape["points"], shape["shape_type"])
        labels.paint(theirs, CLASSES.index(shape["label"]), mask)
    assert np.array_equal(theirs, label_map)


@given(
    kind=st.sampled_from(["polygon", "rectangle", "circle"]),
    points=st.lists(st.tuples(st.floats(-5, 30), st.floats(-5, 30)), min_size=3, max_size=8),
)
def test_shapes_are_filled_as_labelme_fills_them(kind, points):
    points = [list(point) for point in (points if kind == "polygon" else points[:2])]
    if kind == "rectangle":
        points = np.sort(points, axis=0).tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        label_map = read(content(("Lunate", points, kind), size=(20, 24)))
    assert np.array_equal(labels.has(label_map, 2), shape_to_mask((20, 24), points, kind))


def test_rectangles_may_be_drawn_from_any_corner():
    shapes = [[[2, 3], [5, 7]], [[5, 7], [2, 3]], [[5, 3], [2, 7]]]
    maps = [read(content(("Radius", points, "rectangle"))) for points in shapes]
    assert all(np.array_equal(other, maps[0]) for other in maps)
    assert labels.area(maps[0], 3)[0] == 20


def test_a_mask_shape_lies_at_its_corner():
    mask = np.array([[1, 0, 1], [0, 1, 0]], bool)
    label_map = read({**content(), "shapes": [mask_shape(mask, 4, 6)]})
    assert np.array_equal(label_map[6:8, 4:7], mask)
    assert labels.area(label_map, 3).tolist() == [3, 0, 0]


def test_26_a_mask_shape_outside_the_image_is_cut_off_with_a_warning():
    with pytest.warns(DataWarning, match="leaves the 9 x 9 image"):
        label_map = read({**content(), "shapes": [mask_shape(np.ones((4, 4), bool), -2, 7)]})
    assert labels.area(label_map, 3)[0] == 4
    with pytest.warns(DataWarning, match="leaves"):
        assert not read({**content(), "shapes": [mask_shape(np.ones((4, 4), bool), 50, -40)]}).any()


def test_a_shape_without_a_type_is_a_polygon():
    value = content(("Radius", SQUARE, "polygon"))
    del value["shapes"][0]["shape_type"]
    assert labels.area(read(value), 3)[0] == 16


def test_30_the_image_is_right_about_its_size():
    with pytest.warns(DataWarning, match="says 9 x 9, the image has 7 x 8; the image is right"):
        assert read(content(("Radius", SQUARE, "polygon")), size=(7, 8)).shape == (7, 8)


def test_28_a_bone_labelled_twice_is_united_with_a_warning():
    with pytest.warns(DataWarning, match="Radius: shapes share 4 pixels"):
        label_map = read(content(("Radius", SQUARE, "polygon"), ("Radius", [[3, 3], [6, 6]], "rectangle")))
    assert labels.area(label_map, 3)[0] == 28


def test_25_a_polygon_that_crosses_itself_is_doubted():
    with pytest.warns(DataWarning, match="crosses itself"):
        read(content(("Radius", [[0, 0], [8, 8], [8, 0], [0, 8]], "polygon")))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param([], "shapes: expected a list", id="a list"),
        pytest.param({**content(), "imageHeight": None}, "imageHeight, imageWidth: missing", id="no size"),
        pytest.param({**content(), "imageHeight": "9"}, "imageHeight, imageWidth: expected whole", id="size as text"),
        pytest.param(content(size=(10**6, 10**6)), "imageHeight, imageWidth: expected 1 to", id="huge"),
        pytest.param(content(size=(0, 5)), "imageHeight, imageWidth: expected 1 to", id="no pixels"),
        pytest.param(
            content(("Radius", [[1, 2], [3, 4]], "polygon")), r"shapes\[0\].points: needs at least 3", id="24"
        ),
        pytest.param(content(("Radius", SQUARE, "circle")), r"shapes\[0\].points: expected 2 points", id="circle"),
        pytest.param(content(("Radius", [[1, 2]], "rectangle")), "needs at least 2 points", id="rectangle"),
        pytest.param(content(("Ring", SQUARE, "polygon")), r"shapes\[0\].label: unknown class 'Ring'", id="27"),
        pytest.param(
            content(("Radius", SQUARE, "line")), r"shapes\[0\].shape_type: expected polygon, .*'line'", id="line"
        ),
        pytest.param({**content(), "shapes": [3]}, r"shapes\[0\]: expected an object", id="a number"),
        pytest.param(
            {**content(), "shapes": [mask_shape(np.ones((2, 2)), 1, 1, mask="no base64!")]},
            r"shapes\[0\].mask: not a readable PNG",
            id="mask not in base64",
        ),
        pytest.param(
            {**content(), "shapes": [mask_shape(np.ones((2, 2)), 1, 1, mask="QUJD")]}, "not a readable PNG", id="no PNG"
        ),
        pytest.param(
            {**content(), "shapes": [mask_shape(np.ones((2, 2)), 1, 1, mask=png(np.ones((2, 2)))[:60] + "AAAA")]},
            "not a readable PNG",
            id="truncated PNG",
        ),
        pytest.param(
            {**content(), "shapes": [mask_shape(np.ones((2, 2)), 1, 1, mask=png(np.ones((3, 2))))]},
            r"shapes\[0\].mask: is 3 x 2, its points say 2 x 2",
            id="mask of another size",
        ),
        pytest.param(
            {**content(), "shapes": [mask_shape(np.ones((2, 2)), 1, 1, mask=None)]}, "expected a PNG file", id="no mask"
        ),
    ],
)
def test_faults_are_named(value, message):
    with pytest.raises(DataError, match=f"^ID001/a.json: .*{message}|^ID001/a.json: {message}"):
        read(value)


def put(folder, stem, **changes):
    path = folder / f"{stem}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**content(("Radius", SQUARE, "polygon")), **changes}))


def test_30_the_image_beside_the_file_gives_the_size(tmp_path):
    put(tmp_path, "ID001/image1")
    images.write(tmp_path / "ID001/image1.png", np.zeros((7, 8), np.uint8))
    with pytest.warns(DataWarning, match="the image has 7 x 8"):
        (item,) = labelme.read_all(tmp_path, CLASSES, Sizes())
    assert (item.name, item.size) == ("ID001/image1.png", (7, 8))


@pytest.mark.parametrize("place", ["../../secret.png", "..\\..\\secret.png", "/etc/secret.png", "C:\\secret.png"])
def test_43_44_of_an_image_path_only_the_last_part_is_used(tmp_path, place):
    put(tmp_path / "data", "ID001/image1", imagePath=place)
    images.write(tmp_path / "secret.png", np.zeros((3, 3), np.uint8))
    (item,) = labelme.read_all(tmp_path / "data", CLASSES, Sizes())
    assert (item.name, item.size) == ("ID001/secret.png", (9, 9))


def test_the_image_is_the_one_that_the_file_names(tmp_path):
    put(tmp_path, "ID001/renamed", imagePath="image1.jpg")
    images.write(tmp_path / "DCM/ID001/image1.png", np.zeros((9, 9), np.uint8))
    (item,) = labelme.read_all(tmp_path, CLASSES, Sizes(tmp_path / "DCM"))
    assert item.name == "ID001/image1.png"
    (item,) = labelme.read_all(tmp_path, CLASSES, Sizes())
    assert item.name == "ID001/image1.jpg"


def test_45_an_image_that_is_a_link_out_of_the_folder_is_refused(tmp_path):
    put(tmp_path / "data", "image1")
    images.write(tmp_path / "secret.png", np.zeros((3, 3), np.uint8))
    (tmp_path / "data/image1.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(DataError, match=r"'image1.png' is a link out of"):
        list(labelme.read_all(tmp_path / "data", CLASSES, Sizes()))


VALID = {
    **content(("Radius", SQUARE, "polygon"), ("Lunate", [[2, 2], [6, 6]], "circle")),
    "shapes": [
        *content(("Radius", SQUARE, "polygon"), ("Lunate", [[2, 2], [3, 6]], "circle"))["shapes"],
        mask_shape(np.ones((2, 3), bool), 5, 5, label="finger-1"),
    ],
}


@given(broken(VALID))
def test_broken_files_are_a_data_error_or_read(value):
    survives(lambda: read(value))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=scrambled(json.dumps(VALID).encode()))
def test_scrambled_files_are_a_data_error_or_read(tmp_path, data):
    (tmp_path / "a.json").write_bytes(data)
    survives(lambda: list(labelme.read_all(tmp_path, CLASSES, Sizes())))
