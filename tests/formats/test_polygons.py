import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_maps import label_maps

from carpus import kernels
from carpus.errors import DataError, DataWarning
from carpus.formats import polygons

SQUARE = np.array([[0, 0], [9, 0], [9, 9], [0, 9]])
BOW = np.array([[0, 0], [9, 9], [9, 0], [0, 9]])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param([[1, 2], [3, 4]], "needs at least 3 points, has 2", id="24 two points"),
        pytest.param([], "needs at least 3 points, has 0", id="24 none"),
        pytest.param([[1, 2], [3, 4], [5]], r"p\[2\]: expected \[x, y\], has 1 values", id="one number"),
        pytest.param([[1, 2], [3, 4], 5], "expected a list of", id="no pair"),
        pytest.param({"x": 1}, "expected a list of", id="object"),
        pytest.param(None, "expected a list of", id="missing"),
        pytest.param([[1, 2], [3, 4], [5, True]], "point 2: expected numbers, has True", id="boolean"),
        pytest.param([[1, 2], [3, "4"], [5, 6]], "point 1: expected numbers, has '4'", id="text"),
        pytest.param([[1, 2], [3, 4], [float("nan"), 6]], "point 2: nan is no place", id="23 NaN"),
        pytest.param([[1, 2], [3, float("inf")], [5, 6]], "point 1: inf is no place", id="infinity"),
        pytest.param([[1, 2], [3, 4], [5, 70000]], "point 2: 70000 is no place", id="far away"),
        pytest.param([[1, 2], [3, 4], [5, 10**400]], "hundreds of digits", id="huge"),
    ],
)
def test_faults_of_points_are_named(value, message):
    with pytest.raises(DataError, match=message):
        polygons.read(value, "p")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2, 3, 4], "needs at least 3 points, has 2"),
        ([1, 2, 3, 4, 5, 6, 7], "odd number of values"),
        ([1, 2, 3, 4, 5, None], "point 2: expected numbers"),
        ("123456", "expected a list of"),
    ],
)
def test_faults_of_flat_points_are_named(value, message):
    with pytest.raises(DataError, match=message):
        polygons.read_flat(value, "p")


def test_points_between_pixels_are_rounded_with_a_warning():
    with pytest.warns(DataWarning, match=r"p\[1\]: \[3.4, 4.0\] lies between pixels"):
        rounded = polygons.whole(polygons.read([[1, 2], [3.4, 4], [5.6, 6]], "p"), "p")
    assert rounded.tolist() == [[1, 2], [3, 4], [6, 6]]
    assert polygons.whole(polygons.read([[1.0, 2], [3, 4], [5, 6]], "p"), "p").dtype == np.int32


def test_25_a_bow_crosses_itself_and_a_square_does_not():
    assert polygons.crosses_itself(BOW)
    assert polygons.crosses_itself(BOW[:, ::-1] + 0.25)
    assert not polygons.crosses_itself(SQUARE)
    assert not polygons.crosses_itself(SQUARE[:3])


def test_a_neck_walked_twice_is_no_crossing():
    # ###   ###
    # #########   with the middle one pixel high
    outline = np.array([[0, 0], [2, 0], [2, 1], [6, 1], [6, 0], [8, 0], [8, 2], [6, 2], [6, 1], [2, 1], [2, 2], [0, 2]])
    assert not polygons.crosses_itself(outline)


@given(label_maps())
def test_our_own_outlines_never_cross_themselves(label_map):
    for of_class in kernels.polygons(label_map, 3):
        assert not any(polygons.crosses_itself(outline) for outline in of_class)


def crosses_slowly(points):
    """The definition, in whole numbers: two edges whose ends lie strictly on either side of each other."""
    edges = list(zip(points, np.roll(points, -1, axis=0), strict=True))

    def side(a, b, c):
        return np.sign((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))

    return any(
        side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0
        for i, (a, b) in enumerate(edges)
        for c, d in edges[:i]
    )


@given(st.lists(st.tuples(st.integers(-6, 6), st.integers(-6, 6)), min_size=3, max_size=9))
def test_crossings_are_those_of_the_definition(points):
    assert polygons.crosses_itself(np.array(points)) == crosses_slowly(np.array(points))


def test_a_polygon_of_a_hundred_thousand_edges_side_by_side_is_searched_in_bounded_memory():
    comb = np.stack([np.arange(100_000) // 2, np.arange(100_000) % 4 // 2 * 60_000], axis=1)
    assert polygons.crosses_itself(comb) in (True, False)


def test_26_leaving_the_image_is_doubted():
    with pytest.warns(DataWarning, match="leaves the 9 x 10 image"):
        polygons.doubt(SQUARE, (9, 10), "p")
    polygons.doubt(SQUARE, (10, 10), "p")
    polygons.doubt(SQUARE, (9, 9), "p", border=0)


def test_28_two_polygons_of_one_class_that_share_pixels_are_doubted():
    shapes = [[SQUARE.astype(np.int32), SQUARE.astype(np.int32) + 9]]
    with pytest.warns(DataWarning, match="2 polygons share 1 pixels"):
        polygons.doubt_overlap(shapes[0], kernels.rasterise(shapes, (30, 30)), 0, "p")
    shapes = [[SQUARE.astype(np.int32), SQUARE.astype(np.int32) + 10]]
    polygons.doubt_overlap(shapes[0], kernels.rasterise(shapes, (30, 30)), 0, "p")


def test_parts_outside_the_image_do_not_count_as_shared():
    shapes = [[SQUARE.astype(np.int32) - 20, SQUARE.astype(np.int32) - 20, SQUARE.astype(np.int32)]]
    polygons.doubt_overlap(shapes[0], kernels.rasterise(shapes, (30, 30)), 0, "p")
