"""`encode`, `decode`, `overlap` and `overlap_runs` against the reference, and hand-computed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_maps import SIZES, random_map

from carpus import kernels
from carpus.errors import DataError
from carpus.kernels import reference


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("classes", [1, 3, 29, 31])
def test_everything_equals_the_reference(size, classes):
    random = np.random.default_rng(classes)
    for _ in range(5):
        a, b = random_map(random, size, classes), random_map(random, size, classes)
        runs_a, runs_b = kernels.encode(a, classes), kernels.encode(b, classes)
        expected = reference.encode(a, classes)
        assert len(runs_a) == classes
        assert all(np.array_equal(ours, theirs) for ours, theirs in zip(runs_a, expected, strict=True))
        assert np.array_equal(kernels.decode(runs_a, size), a)
        counts = reference.overlap(a, b, classes)
        assert np.array_equal(kernels.overlap(a, b, classes), counts)
        assert [list(kernels.overlap_runs(*pair)) for pair in zip(runs_a, runs_b, strict=True)] == counts.tolist()


def test_a_run_goes_on_in_the_next_row():
    """. # #     starts at pixel 1 and is 3 long, because pixel 3 begins the second row.
    # . ."""
    labels = np.array([[0, 1, 1], [1, 0, 0]], np.int32)
    assert kernels.encode(labels, 2)[0].tolist() == [[1, 3]]
    assert kernels.encode(labels, 2)[1].shape == (0, 2)


@pytest.mark.parametrize("word", [0, 2**29 - 1, 2**31 - 1])
def test_empty_and_full(word):
    labels = np.full((40, 33), word, np.int32)
    runs = kernels.encode(labels, 31)
    assert [of_class.tolist() for of_class in runs] == [[[0, 1320]] if (word >> k) & 1 else [] for k in range(31)]
    assert np.array_equal(kernels.decode(runs, (40, 33)), labels)
    assert kernels.overlap(labels, labels, 31).tolist() == [[1320 * ((word >> k) & 1)] * 3 for k in range(31)]


def test_a_checkerboard_has_more_runs_than_any_guess():
    labels = (np.indices((200, 201)).sum(axis=0) % 2).astype(np.int32) * 5
    runs = kernels.encode(labels, 3)
    assert [len(of_class) for of_class in runs] == [20100, 0, 20100]
    assert np.array_equal(kernels.decode(runs, (200, 201)), labels)


def test_bits_beyond_the_classes_do_not_count():
    labels = np.array([[1, 7], [4, 0]], np.int32)
    assert kernels.overlap(labels, labels, 1).tolist() == [[2, 2, 2]]
    assert [of_class.tolist() for of_class in kernels.encode(labels, 1)] == [[[0, 2]]]


def test_strided_maps_are_read_as_they_look():
    labels = random_map(np.random.default_rng(0), (21, 34), 3)
    expected = reference.encode(np.ascontiguousarray(labels.T), 3)
    found = kernels.encode(labels.T, 3)
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))
    assert np.array_equal(kernels.overlap(labels.T, labels.T, 3), reference.overlap(labels, labels, 3))


@pytest.mark.parametrize("run", [[-1, 2], [3, 2], [4, 1], [2**62, 2**62], [2, -1], [5, 0]])
def test_a_run_outside_the_map_is_refused(run):
    with pytest.raises(DataError, match="runs of class 1"):
        kernels.decode([np.zeros((0, 2), np.int64), np.array([run], np.int64)], (2, 2))


def test_more_classes_than_bits_are_refused():
    with pytest.raises(DataError, match="runs: at most 31 classes"):
        kernels.decode([np.zeros((0, 2), np.int64)] * 32, (2, 2))


def test_maps_of_two_sizes_are_refused():
    with pytest.raises(DataError, match="one size"):
        kernels.overlap(np.zeros((2, 3), np.int32), np.zeros((3, 2), np.int32), 1)


@settings(deadline=None)  # the first example compiles
@given(st.lists(st.tuples(st.integers(0, 2**62), st.integers(1, 2**62)), max_size=6))
def test_runs_as_text(pairs):
    runs = np.array(pairs, np.int64).reshape(-1, 2)
    assert kernels.text(runs) == reference.text(runs) == " ".join(f"{start + 1} {length}" for start, length in pairs)


@pytest.mark.parametrize("word", [-1, -(2**31)])
def test_the_sign_bit_is_no_class(word):
    labels = np.full((64, 64), word, np.int32)
    labels[::3] = 5
    expected = labels & 0x7FFFFFFF
    for _ in range(20):
        found = kernels.encode(labels, 31)
        assert all(np.array_equal(a, b) for a, b in zip(found, reference.encode(expected, 31), strict=True))
        assert np.array_equal(kernels.overlap(labels, labels, 31), reference.overlap(expected, expected, 31))


def test_other_types_are_refused():
    labels = np.zeros((4, 4), np.int64)
    for call in (lambda: kernels.encode(labels, 3), lambda: kernels.overlap(labels, labels, 3)):
        with pytest.raises(DataError, match="expected int32, got int64"):
            call()


@pytest.mark.parametrize("verb", [kernels.text, lambda runs: kernels.decode([runs], (2, 2))], ids=["text", "decode"])
@pytest.mark.parametrize(("runs", "says"), [([[1.5, 2.5]], "integers"), ([1, 2], "R, 2"), ([[1, 2, 3]], "R, 2")])
def test_what_is_no_run_is_refused(verb, runs, says):
    with pytest.raises(DataError, match=f"runs.*: expected .*{says}"):
        verb(np.array(runs))


@pytest.mark.parametrize("classes", [-1, 0, 32])
@pytest.mark.parametrize(
    "verb",
    [
        kernels.encode,
        kernels.polygons,
        lambda a, k: kernels.overlap(a, a, k),
        lambda a, k: kernels.surface_distances(a, a, k),
    ],
    ids=["encode", "polygons", "overlap", "surface_distances"],
)
def test_a_number_of_classes_that_no_map_has_is_refused(verb, classes):
    with pytest.raises(DataError, match="classes"):
        verb(np.full((5, 6), 3, np.int32), classes)


@pytest.mark.parametrize(
    "labels", [np.zeros((1, 5, 6), np.int32), np.zeros((5, 6)), np.zeros((5, 6), np.int64)], ids=str
)
def test_only_a_label_map_has_polygons(labels):
    with pytest.raises(DataError, match="label map: expected"):
        kernels.polygons(labels, 2)
