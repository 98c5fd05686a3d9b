"""`surface_distances` against every pixel pair, and hand-computed."""

import numpy as np
import pytest
from kernel_maps import SIZES, random_map

from carpus import kernels
from carpus.kernels import reference


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("classes", [1, 31])
def test_equals_every_pair(size, classes):
    random = np.random.default_rng(classes)
    for _ in range(3):
        a, b = random_map(random, size, classes), random_map(random, size, classes)
        for ours, theirs in zip(
            kernels.surface_distances(a, b, classes), reference.surface_distances(a, b, classes), strict=True
        ):
            assert np.array_equal(ours[0], theirs[0])
            assert np.array_equal(ours[1], theirs[1])


def test_two_squares():
    """
    A A A . . B     every pixel is border but A's centre; the columns of A are 5, 4 and 3 away from B's
    A . A . . B
    A A A . . B
    """
    a, b = np.zeros((3, 6), np.int32), np.zeros((3, 6), np.int32)
    a[:, :3], b[:, 5] = 2, 2
    forth, back = kernels.surface_distances(a, b, 2)[1]
    assert forth.tolist() == [5, 4, 3, 5, 3, 5, 4, 3]
    assert back.tolist() == [3, 3, 3]


def test_a_class_absent_in_one_is_infinitely_far():
    a, b = np.zeros((4, 4), np.int32), np.zeros((4, 4), np.int32)
    a[1, 1] = 1
    here, nowhere = kernels.surface_distances(a, b, 2)
    assert here[0].tolist() == [np.inf]
    assert here[1].size == nowhere[0].size == nowhere[1].size == 0


def test_far_apart():
    a, b = np.zeros((300, 400), np.int32), np.zeros((300, 400), np.int32)
    a[:3, :3], b[-2:, -2:] = 1, 1
    forth, back = kernels.surface_distances(a, b, 1)[0]
    assert forth[0] == np.hypot(298, 398)
    assert back.min() == np.hypot(296, 396)


def test_the_nearest_is_many_rows_away():
    """The other border is at the top, the bottom and the sides of the image, with nothing in the rows between."""
    a, b = np.zeros((401, 90), np.int32), np.zeros((401, 90), np.int32)
    a[199:202, 40:44] = 1
    b[0, 30] = b[400, 50] = b[1, 0] = b[1, 7] = b[1, 89] = 1
    for first, second in ((a, b), (b, a), (a.T, b.T), (b.T, a.T)):
        found = kernels.surface_distances(first, second, 1)[0]
        expected = reference.surface_distances(first, second, 1)[0]
        assert all(np.array_equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))
    assert kernels.surface_distances(a, b, 1)[0][0].max() == np.hypot(200, 10)


@pytest.mark.parametrize("scatter", [3, 30, 300])
def test_scattered_borders(scatter):
    """Single pixels anywhere: many in a row, or none in most rows."""
    random = np.random.default_rng(scatter)
    maps = []
    for _ in range(2):
        labels = np.zeros((131, 117), np.int32)
        labels[random.integers(0, 131, scatter), random.integers(0, 117, scatter)] = 1
        maps.append(labels)
    found, expected = (f(*maps, 1)[0] for f in (kernels.surface_distances, reference.surface_distances))
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


@pytest.mark.parametrize("size", [(5, 0), (0, 5), (0, 0)])
def test_maps_without_pixels_have_no_border(size):
    empty = np.zeros(size, np.int32)
    assert [(len(there), len(back)) for there, back in kernels.surface_distances(empty, empty, 3)] == [(0, 0)] * 3
