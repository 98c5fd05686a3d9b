import numpy as np
import pytest
from broken import survives
from hypothesis import given
from hypothesis import strategies as st
from label_maps import CLASSES, label_maps
from pycocotools import mask as referee

from carpus import kernels, labels
from carpus.errors import DataError
from carpus.formats import rle

# 0 1 1
# 0 0 1
TINY = np.array([[0, 1, 1], [0, 0, 1]], bool)


def parse(text, size=(4, 5)):
    return rle.parse(text, size, "s.csv: line 2: rle").tolist()


def test_the_example_of_the_module():
    runs = kernels.encode(labels.pack(TINY[None]), 1)[0]
    assert kernels.text(runs) == "2 2 6 1"
    assert runs.tolist() == [[1, 2], [5, 1]] == rle.parse("2 2 6 1", (2, 3), "tiny").tolist()
    transposed = kernels.encode(labels.pack(TINY.T[None]), 1)[0]
    assert rle.to_counts(transposed, (2, 3)) == [2, 1, 1, 2]
    assert transposed.tolist() == [[2, 1], [4, 2]] == rle.from_counts([2, 1, 1, 2], (2, 3), "tiny").tolist()


@given(label_maps())
def test_every_way_of_writing_runs_gives_them_back(label_map):
    height, width = size = label_map.shape
    for runs, planes in zip(kernels.encode(label_map, 3), labels.unpack(label_map, 3), strict=True):
        text = kernels.text(runs)
        assert np.array_equal(rle.parse(text, size, "text"), runs)
        numbers = [int(number) for number in text.split()]
        flat = np.zeros(height * width, bool)
        for start, length in zip(numbers[0::2], numbers[1::2], strict=True):
            flat[start - 1 : start - 1 + length] = True
        assert np.array_equal(flat.reshape(size), planes)
    for runs in kernels.encode(np.ascontiguousarray(label_map.T), 3):
        assert np.array_equal(rle.from_counts(rle.to_counts(runs, size), size, "counts"), runs)
        assert np.array_equal(rle.from_compressed(rle.to_compressed(runs, size), size, "text"), runs)


@given(label_maps())
def test_compressed_counts_are_those_of_pycocotools(label_map):
    transposed = kernels.encode(np.ascontiguousarray(label_map.T), 3)
    for runs, plane in zip(transposed, labels.unpack(label_map, 3), strict=True):
        expected = referee.encode(np.asfortranarray(plane.astype(np.uint8)))["counts"].decode()
        assert rle.to_compressed(runs, label_map.shape) == expected


def test_compressed_counts_of_a_large_mask_are_those_of_pycocotools():
    plane = np.zeros((2048, 2048), np.uint8)
    plane[2047, 2047] = plane[5, 1000:1900] = 1
    runs = kernels.encode(labels.pack(plane.T[None]), 1)[0]
    expected = referee.encode(np.asfortranarray(plane))["counts"].decode()
    assert rle.to_compressed(runs, (2048, 2048)) == expected
    assert np.array_equal(rle.from_compressed(expected, (2048, 2048), "text"), runs)


@pytest.mark.parametrize("text", ["", "   ", "\t\r\n", None, float("nan")])
def test_40_an_empty_mask_has_no_runs(text):
    assert rle.parse(text, (4, 5), "empty").shape == (0, 2)


def test_runs_that_touch_are_merged():
    assert parse("1 2 3 1 5 1 6 2") == [[0, 3], [4, 3]]


def test_a_run_may_go_on_in_the_next_row_and_end_with_the_image():
    assert parse("4 17") == [[3, 17]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("1 2 3", "odd number of values (3)", id="33 odd"),
        pytest.param("1 0", "run 0: start and length count from 1, has 1 0", id="34 zero length"),
        pytest.param("4 1 0 2", "run 1: start and length count from 1, has 0 2", id="34 zero start"),
        pytest.param("1 -2", "whole numbers, has '-2'", id="34 negative"),
        pytest.param("1 1 20 2", "run 1: 20 2 ends beyond the 4 x 5 image of 20 pixels", id="35 past the end"),
        pytest.param("21 1", "run 0: 21 1 ends beyond", id="35 starts past the end"),
        pytest.param("1 4 3 1", "run 1: 3 1 overlaps the run before it, 1 4", id="36 overlap"),
        pytest.param("7 2 1 1", "run 1: 1 1 starts before the run before it, 7 2", id="36 unsorted"),
        pytest.param("9223372036854775808 1", "ends beyond", id="37 start of 2**63"),
        pytest.param("1 9223372036854775807", "ends beyond", id="37 length of 2**63 - 1"),
        pytest.param("2 1" + "0" * 400, "ends beyond", id="37 hundreds of digits"),
        pytest.param("1 2.5", "whole numbers, has '2.5'", id="fraction"),
        pytest.param("1 1e3", "whole numbers", id="exponent"),
        pytest.param("١ 2", "whole numbers", id="other digits"),
        pytest.param("1,2", "whole numbers", id="comma"),
        pytest.param("1 2\x00", "whole numbers", id="NUL"),
        pytest.param("1 2 \ud800", "whole numbers", id="half a surrogate pair"),
        pytest.param(7, "expected text of run lengths, has int 7", id="a number"),
    ],
)
def test_faults_of_run_lengths_are_named(text, message):
    with pytest.raises(DataError) as caught:
        parse(text)
    assert str(caught.value).startswith("s.csv: line 2: rle: ")
    assert message in str(caught.value)


@given(st.text(alphabet="0123456789 -.e\t", max_size=40) | st.text(max_size=20))
def test_any_text_is_runs_or_a_data_error(text):
    survives(lambda: rle.parse(text, (7, 9), "text"))
    survives(lambda: rle.from_compressed(text, (7, 9), "text"))


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([20, 1], "add up to 21, expected 20"),
        ([19], "add up to 19, expected 20"),
        ([], "add up to 0"),
        ([-1, 21], "counts from 0 to 20"),
        ([True, 19], "whole numbers"),
        ([1.0, 19], "whole numbers"),
        ([2**63, 1], "counts from 0 to 20"),
        ({"a": 1}, "list of whole numbers"),
        (None, "list of whole numbers"),
    ],
)
def test_38_bad_counts_are_named(counts, message):
    with pytest.raises(DataError, match=message):
        rle.from_counts(counts, (4, 5), "c.json: annotations[0].segmentation.counts")


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ("", "empty"),
        ("P", "stop in the middle"),
        ("PPPPPPPPP0", "more than 35 bits"),
        ("é0", "characters '0' to 'o'"),
        (" 1", "characters '0' to 'o'"),
        ("o", "stop in the middle"),
        ("O5", "outside 0 to 20"),
        ("51", "add up to 6"),
        (7, "expected compressed counts as text"),
    ],
)
def test_38_bad_compressed_counts_are_named(counts, message):
    with pytest.raises(DataError, match=message):
        rle.from_compressed(counts, (4, 5), "c.json: annotations[0].segmentation.counts")


def test_counts_of_zero_join_the_runs_around_them():
    assert rle.from_counts([2, 3, 0, 4, 11], (4, 5), "c").tolist() == [[2, 7]]
    assert rle.from_counts([0, 0, 20], (4, 5), "c").tolist() == []


@given(label_maps())
def test_the_union_of_runs_is_the_union_of_masks(label_map):
    runs = kernels.encode(label_map, len(CLASSES))
    together = labels.remap(label_map, [0, 0, 0])
    assert np.array_equal(rle.unite(runs), kernels.encode(together, 1)[0])
    assert rle.unite([]).shape == (0, 2)
