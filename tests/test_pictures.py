import numpy as np
import pytest

from carpus import labels as label_map
from carpus import pictures
from carpus.errors import DataError
from carpus.labels import BONES, Classes

TWO = Classes(("a", "b"), {"first": ("a",)})

# Bones that touch or overlap in a radiograph, by name; the first of each pair of rows lies further from the body.
NEIGHBOURS = [
    *((f"finger-{k}", f"finger-{k + 1}") for k in (1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 16, 17, 18)),
    *((f"finger-{k}", f"finger-{k + 4}") for k in range(3, 16)),
    ("finger-3", "Trapezium"),
    ("finger-7", "Trapezium"),
    ("finger-7", "Trapezoid"),
    ("finger-7", "Capitate"),
    ("finger-11", "Capitate"),
    ("finger-15", "Capitate"),
    ("finger-15", "Hamate"),
    ("finger-19", "Hamate"),
    ("Trapezium", "Trapezoid"),
    ("Trapezium", "Scaphoid"),
    ("Trapezoid", "Scaphoid"),
    ("Trapezoid", "Capitate"),
    ("Capitate", "Hamate"),
    ("Capitate", "Scaphoid"),
    ("Capitate", "Lunate"),
    ("Hamate", "Lunate"),
    ("Hamate", "Triquetrum"),
    ("Hamate", "Pisiform"),
    ("Scaphoid", "Lunate"),
    ("Scaphoid", "Radius"),
    ("Lunate", "Triquetrum"),
    ("Lunate", "Radius"),
    ("Lunate", "Ulna"),
    ("Triquetrum", "Pisiform"),
    ("Triquetrum", "Ulna"),
    ("Pisiform", "Ulna"),
    ("Radius", "Ulna"),
]

# Machado, Oliveira and Fernandes (2009), severity 1.0, on linear red, green and blue.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
}


def oklab(colour: tuple[int, int, int], sight: str) -> np.ndarray:
    value = np.array(colour) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(SIGHT[sight]) @ linear, 0, 1)
    cones = [[0.41222, 0.53633, 0.05145], [0.2119, 0.6807, 0.1074], [0.0883, 0.28172, 0.62998]]
    mixed = [[0.21045, 0.79362, -0.00407], [1.978, -2.42859, 0.45059], [0.0259, 0.78277, -0.80868]]
    return np.array(mixed) @ np.cbrt(np.array(cones) @ seen)


@pytest.mark.parametrize("sight", SIGHT)
def test_neighbouring_bones_are_told_apart_with_any_eyes(sight):
    palette = pictures.colours(len(BONES))
    for one, other in NEIGHBOURS:
        apart = oklab(palette[BONES.index(one)], sight) - oklab(palette[BONES.index(other)], sight)
        assert np.linalg.norm(apart) > 0.1, (one, other)


def test_a_class_keeps_its_colour():
    assert pictures.colours(31)[:7] == pictures.colours(7)


def square(top: int, left: int, side: int, size: int = 40, k: int = 0) -> label_map.LabelMap:
    labels = label_map.empty((size, size))
    label_map.paint(labels, k, np.ones((side, side), bool), top, left)
    return labels


def grey(size: int = 40) -> np.ndarray:
    return np.full((size, size), 50, np.uint8)


def drawn(picture: np.ndarray) -> np.ndarray:
    """Where a picture of a grey image has colour."""
    return np.ptp(picture.astype(int), axis=2) > 8


@pytest.mark.parametrize("scale", [1, 2, 5])
def test_the_outline_runs_on_the_border_of_the_mask(scale):
    picture = pictures.overlay(grey(), square(10, 12, 15), classes=TWO, longest=40 * scale)
    rows, columns = (np.flatnonzero(drawn(picture).any(axis=axis)) for axis in (1, 0))
    reach = 1.5
    assert abs(rows[0] + reach / 2 - 10 * scale) <= reach
    assert abs(rows[-1] + 1 - reach / 2 - 25 * scale) <= reach
    assert abs(columns[0] + reach / 2 - 12 * scale) <= reach
    assert abs(columns[-1] + 1 - reach / 2 - 27 * scale) <= reach
    inside = picture[14 * scale : 21 * scale, 16 * scale : 23 * scale]
    assert (inside == 50).all()


def test_an_outline_is_as_wide_outside_as_inside():
    column = pictures.overlay(grey(), square(10, 12, 15), classes=TWO, longest=400, width_px=4)[:, 200].astype(int)
    coloured = np.flatnonzero(np.ptp(column, axis=1) > 8)
    upper = coloured[coloured < 150]
    assert abs((upper[0] + upper[-1] + 1) / 2 - 100) <= 0.5
    assert 3 <= len(upper) <= 5


def test_edges_of_outlines_are_soft():
    labels = label_map.empty((40, 40))
    rows, columns = np.indices((40, 40))
    label_map.paint(labels, 0, (rows - 20) ** 2 + (columns - 20) ** 2 < 144)
    shades = np.unique(pictures.overlay(grey(), labels, classes=TWO, longest=160)[..., 1])
    assert len(shades) > 4


def test_two_maps_that_agree_have_outlines_and_no_tint():
    labels = square(10, 12, 15)
    picture = pictures.overlay(grey(), labels, reference=labels, classes=TWO, longest=200)
    assert (picture[60:115, 70:125] == 50).all()
    found = {tuple(colour) for colour in picture.reshape(-1, 3).tolist()}
    assert pictures.PREDICTION in found


def test_what_only_one_map_has_is_tinted_in_its_colour():
    truth, prediction = square(10, 5, 10), square(10, 22, 10)
    picture = pictures.overlay(grey(), prediction, reference=truth, classes=TWO)
    missed, invented = picture[15, 10].astype(int), picture[15, 27].astype(int)
    assert missed[2] > missed[0] + 20
    assert invented[0] > invented[2] + 20
    assert (picture[15, 19] == 50).all()


def test_errors_are_counted_by_class_where_bones_overlap():
    truth = label_map.union(square(10, 10, 15), square(10, 10, 15, k=1))
    picture = pictures.overlay(grey(), square(10, 10, 15), reference=truth, classes=TWO)
    assert picture[17, 17, 2] > picture[17, 17, 0] + 20


def test_a_bone_that_leaves_the_image_has_no_border_there():
    picture = pictures.overlay(grey(), square(25, 12, 15), classes=TWO)
    assert (picture[-1, 15:24] == 50).all()
    assert drawn(picture)[25].any()


def test_a_crop_does_not_close_the_bones_it_cuts():
    whole = pictures.overlay(grey(), square(10, 12, 15), classes=TWO)
    part = pictures.overlay(grey(), square(10, 12, 15), classes=TWO, box=(slice(5, 18), slice(8, 20)))
    np.testing.assert_array_equal(part, whole[5:18, 8:20])


def test_classes_that_are_nowhere_or_not_wanted_draw_nothing():
    labels = square(10, 12, 15)
    assert (pictures.overlay(grey(), label_map.empty((40, 40)), classes=TWO) == 50).all()
    assert (pictures.overlay(grey(), labels, classes=TWO, only=["b"], fill=0.5) == 50).all()
    assert (pictures.overlay(grey(), labels, classes=TWO, only=["a"], fill=0.5)[17, 19] != 50).any()


def test_a_smaller_image_is_stretched_to_the_label_map():
    labels = square(10, 12, 15)
    np.testing.assert_array_equal(
        pictures.overlay(grey(20), labels, classes=TWO), pictures.overlay(grey(), labels, classes=TWO)
    )


def test_the_input_is_left_alone():
    image, labels = grey(), square(10, 12, 15)
    pictures.overlay(image, labels, reference=labels, classes=TWO, longest=90)
    assert (image == 50).all()
    np.testing.assert_array_equal(labels, square(10, 12, 15))


@pytest.mark.parametrize(
    ("image", "labels", "options", "message"),
    [
        (grey().astype(float), square(1, 1, 5), {}, "image: expected uint8"),
        (np.zeros((40, 20), np.uint8), square(1, 1, 5), {}, "same proportions"),
        (grey(), square(1, 1, 5), {"reference": square(1, 1, 5, 50)}, "expected one size"),
        (grey(), square(1, 1, 5, k=2), {}, "beyond class 1"),
        (grey(), square(1, 1, 5), {"only": ["c"]}, "only: unknown class c"),
        (grey(), square(1, 1, 5), {"longest": 0}, "longest: expected 1 pixel or more, got 0"),
        (grey(), square(1, 1, 5), {"box": (slice(9, 9), slice(0, 9))}, "box: expected rows"),
    ],
)
def test_what_does_not_fit_is_named(image, labels, options, message):
    with pytest.raises(DataError, match=message):
        pictures.overlay(image, labels, classes=TWO, **options)


def test_around_holds_what_it_is_about():
    labels = label_map.union(square(10, 12, 6), square(30, 30, 5, k=1))
    rows, columns = pictures.around(labels, TWO, "first", margin=0.5)
    assert (rows, columns) == (slice(7, 19), slice(9, 21))
    rows, columns = pictures.around(labels, TWO, margin=0.0)
    assert (rows, columns) == (slice(10, 35), slice(12, 35))


def test_around_grows_to_the_shape_wanted_and_stays_inside():
    rows, columns = pictures.around(square(0, 0, 10), TWO, margin=0.0, aspect=2.0)
    assert (rows, columns) == (slice(0, 10), slice(0, 20))
    rows, columns = pictures.around(square(0, 0, 40), TWO, margin=0.2, aspect=0.8)
    assert (rows, columns) == (slice(0, 40), slice(0, 40))


def test_around_nothing_is_everything():
    assert pictures.around(label_map.empty((30, 20)), TWO, "first") == (slice(0, 30), slice(0, 20))
    with pytest.raises(DataError, match="no 'carpals'; known: first"):
        pictures.around(label_map.empty((30, 20)), TWO, "carpals")
