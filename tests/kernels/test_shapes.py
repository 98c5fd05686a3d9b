"""`rasterise` against cv2.fillPoly, and `polygons` as its inverse."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_maps import SIZES, random_map

from carpus import kernels
from carpus.errors import DataError
from carpus.kernels import reference


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 59), st.integers(0, 39)), min_size=1, max_size=12))
def test_a_polygon_is_filled_as_opencv_does(points):
    """Self-crossing, flat and repeated points included."""
    polygon = np.array(points, np.int32)
    expected = np.zeros((40, 60), np.uint8)
    cv2.fillPoly(expected, [polygon], (1,))
    assert np.array_equal(kernels.rasterise([[], [polygon]], (40, 60)), expected.astype(np.int32) * 2)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(-30, 90), st.integers(-30, 70)), min_size=1, max_size=8))
def test_what_is_outside_is_cut_off(points):
    polygon = np.array(points, np.int32)
    assert np.array_equal(kernels.rasterise([[polygon]], (40, 60)), reference.rasterise([[polygon]], (40, 60)))


def test_long_thin_edges_of_a_radiograph():
    random = np.random.default_rng(0)
    shapes = [[random.integers(0, 2048, (n, 2)).astype(np.int32)] for n in (3, 4, 7, 40)]
    expected = np.zeros((2048, 2048), np.int32)
    for k, (polygon,) in enumerate(shapes):
        plane = np.zeros((2048, 2048), np.uint8)
        cv2.fillPoly(plane, [polygon], (1,))
        expected |= plane.astype(np.int32) << k
    assert np.array_equal(kernels.rasterise(shapes, (2048, 2048)), expected)


def test_polygons_of_a_class_are_united_not_cancelled():
    square = np.array([[1, 1], [5, 1], [5, 5], [1, 5]], np.int32)
    labels = kernels.rasterise([[square, square + 2]], (9, 9))
    assert labels.sum() == 25 + 25 - 9


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("classes", [1, 5, 31])
def test_polygons_give_the_label_map_back(size, classes):
    random = np.random.default_rng(classes)
    for _ in range(5):
        labels = random_map(random, size, classes)
        shapes = kernels.polygons(labels, classes)
        assert np.array_equal(kernels.rasterise(shapes, size), labels)
        expected = reference.polygons(labels, classes)
        assert [[p.tolist() for p in of_class] for of_class in shapes] == [
            [p.tolist() for p in of_class] for of_class in expected
        ]


def test_an_absent_class_has_no_polygons():
    assert kernels.polygons(np.full((5, 5), 4, np.int32), 4)[0] == []
    assert kernels.rasterise([[], []], (3, 3)).tolist() == [[0] * 3] * 3


def test_holes_stay_open():
    """
    # # # # #     a ring with an island: one polygon for the ring, its hole bridged, and one for the island
    # . . . #
    # . # . #
    # . . . #
    # # # # #
    """
    labels = np.ones((5, 5), np.int32)
    labels[1:4, 1:4] = 0
    labels[2, 2] = 1
    shapes = kernels.polygons(labels, 1)
    assert len(shapes[0]) == 2
    assert np.array_equal(kernels.rasterise(shapes, (5, 5)), labels)


def test_more_classes_than_bits_are_refused():
    square = np.array([[0, 0], [1, 0], [1, 1]], np.int32)
    assert kernels.rasterise([[]] * 30 + [[square]], (3, 3)).min() >= 0
    for classes in (32, 33):
        with pytest.raises(DataError, match=f"shapes: at most 31 classes fit a label map, has {classes}"):
            kernels.rasterise([[]] * (classes - 1) + [[square]], (3, 3))


@pytest.mark.parametrize("polygon", [np.zeros((0, 2), np.int32), np.zeros(4, np.int32), np.zeros((3, 3), np.int32), []])
def test_what_is_no_polygon_is_refused(polygon):
    with pytest.raises(DataError, match=r"shapes\[1\]\[0\]: expected (\(N, 2\)|at least one point)"):
        kernels.rasterise([[], [polygon]], (3, 3))


@pytest.mark.parametrize("point", [1.9, float("nan"), 2**32 + 1])
def test_points_that_would_be_cut_or_wrapped_are_refused(point):
    polygon = np.array([[0, 0], [point, 0], [1, 2]])
    with pytest.raises(DataError, match=r"shapes\[0\]\[0\]: expected integers that int32 holds"):
        kernels.rasterise([[polygon]], (4, 4))
