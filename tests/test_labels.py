"""The label map and the class list."""

import json

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from carpus import labels as label_map
from carpus.errors import DataError
from carpus.labels import BONES, Classes

PLANES = arrays(bool, st.tuples(st.integers(1, 31), st.integers(1, 9), st.integers(1, 9)))


def dense(size: int = 7) -> np.ndarray:
    """Every pixel has many low bits and the highest bit, which float32 cannot hold together."""
    values = np.arange(size * size, dtype=np.int32).reshape(size, size)
    return (values | (1 << 30)).astype(np.int32)


def test_the_bones_are_29_in_channel_order() -> None:
    assert len(BONES) == 29
    assert (BONES.names[0], BONES.names[19], BONES.names[28]) == ("finger-1", "Trapezium", "Ulna")
    assert sorted(name for group in BONES.groups.values() for name in group) == sorted(BONES.names)
    assert BONES.index("Radius") == 27


def test_an_unknown_class_names_what_was_probably_meant() -> None:
    with pytest.raises(DataError, match="'lunate'; did you mean Lunate"):
        BONES.index("lunate")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "needs 1 to 31 classes, has 0"),
        (json.dumps([str(k) for k in range(32)]), "has 32"),
        ('["a", "a"]', "named twice: a"),
        ('["a", " "]', "needs a name"),
        ('["a", 3]', "needs a name"),
        ('{"classes": "a"}', "expected a list of names"),
        ('{"classes": ["a"], "groups": {"g": ["b"]}}', "groups.g: unknown class b"),
        ('{"classes": ["a"], "groups": ["b"]}', "groups: expected lists"),
        ('["a", " b"]', "' b' starts or ends with a blank"),
        ('{"classes": ["a"], "groups": {"g": [[]]}}', "groups.g: expected names of classes"),
        ("nonsense", "not a readable JSON"),
    ],
)
def test_a_bad_class_list_is_refused_by_file_and_reason(tmp_path, content: str, message: str) -> None:
    path = tmp_path / "classes.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        Classes.read(path)
    assert str(path) in str(caught.value)


def test_a_class_list_is_read_from_a_plain_list(tmp_path) -> None:
    (tmp_path / "c.json").write_text('["Radius", "Ulna"]')
    assert tuple(Classes.read(tmp_path / "c.json")) == ("Radius", "Ulna")


@given(PLANES)
def test_pack_and_unpack_are_inverse(planes: np.ndarray) -> None:
    labels = label_map.pack(planes)
    assert labels.dtype == np.int32
    assert np.array_equal(label_map.unpack(labels, len(planes)), planes)


@given(PLANES)
def test_area_depth_and_boxes_are_those_of_the_planes(planes: np.ndarray) -> None:
    labels = label_map.pack(planes)
    assert np.array_equal(label_map.area(labels, len(planes)), planes.sum((1, 2)))
    assert np.array_equal(label_map.depth(labels), planes.sum(0))
    for plane, box in zip(planes, label_map.boxes(labels, len(planes)), strict=True):
        if box is None:
            assert not plane.any()
        else:
            assert plane[box].sum() == plane.sum()
            assert plane[box][0].any()
            assert plane[box][-1].any()
            assert plane[box][:, 0].any()
            assert plane[box][:, -1].any()


@given(PLANES, st.randoms())
def test_remap_moves_planes(planes: np.ndarray, random) -> None:
    target = [random.choice([None, *range(31)]) for _ in planes]
    expected = np.zeros((31, *planes.shape[1:]), bool)
    for plane, k in zip(planes, target, strict=True):
        if k is not None:
            expected[k] |= plane
    assert np.array_equal(label_map.unpack(label_map.remap(label_map.pack(planes), target), 31), expected)


def test_edges_are_the_pixels_on_both_sides_of_a_border() -> None:
    labels = np.zeros((5, 6), np.int32)
    labels[1:4, 1:4] = 1
    labels[:, 5] |= 4
    plane = ["011100", "111110", "110110", "111110", "011100"]
    column = ["000011"] * 5
    found = label_map.unpack(label_map.edges(labels), 3)
    assert ["".join(map(str, row)) for row in found[0].astype(int)] == plane
    assert not found[1].any()
    assert ["".join(map(str, row)) for row in found[2].astype(int)] == column


def test_union_keeps_its_arguments() -> None:
    a, b = np.array([[1, 2]], np.int32), np.array([[4, 2]], np.int32)
    assert label_map.union(a, b).tolist() == [[5, 2]]
    assert a.tolist() == [[1, 2]]


def test_opencv_is_exact_on_the_channels() -> None:
    labels = dense()
    assert np.array_equal(label_map.from_channels(label_map.channels(labels)), labels)
    larger = cv2.resize(label_map.channels(labels), (14, 14), interpolation=cv2.INTER_NEAREST)
    assert np.array_equal(label_map.from_channels(larger.astype(np.uint8)), labels.repeat(2, 0).repeat(2, 1))
    assert not np.array_equal(labels.astype(np.float32).astype(np.int32), labels)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((2, 2), np.int64), "expected int32"),
        (np.zeros((2, 2, 2), np.int32), "of 2 dimensions"),
        ([[0, 1]], "expected int32 of 2 dimensions, has list"),
        (np.full((2, 2), -1, np.int32), "beyond class 28"),
        (np.full((2, 2), 1 << 29, np.int32), "beyond class 28"),
    ],
)
def test_validate_refuses_what_is_no_label_map_of_29_classes(labels: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=f"a.png: .*{message}"):
        label_map.validate(labels, 29, "a.png")


def test_validate_returns_what_is_right() -> None:
    labels = np.full((2, 2), (1 << 29) - 1, np.int32)
    assert label_map.validate(labels, 29) is labels


def test_combinations_count_every_pair_of_words_once():
    a = np.array([[0, 1, 1, 1 << 30], [0, 3, 1, 1 << 30]], np.int32)
    b = np.array([[0, 1, 2, 1], [4, 3, 2, 1]], np.int32)
    first, second, counts = label_map.combinations(a, b)
    found = dict(zip(zip(first.tolist(), second.tolist(), strict=True), counts.tolist(), strict=True))
    assert found == {(0, 4): 1, (1, 1): 1, (1, 2): 2, (3, 3): 1, (1 << 30, 1): 2}
