import numpy as np
import pytest

from carpus import kernels, labels, metrics


def counts(a: str, b: str) -> np.ndarray:
    """`kernels.overlap` of two masks drawn with # and ."""
    drawn = [np.array([[pixel == "#" for pixel in row] for row in drawing.split()])[None] for drawing in (a, b)]
    return kernels.overlap(labels.pack(drawn[0]), labels.pack(drawn[1]), 1)


SHIFTED = (
    """
    ##..
    ##..
    ....
    """,
    """
    .##.
    .##.
    ....
    """,
)
INSIDE = (
    """
    ###
    ###
    ###
    """,
    """
    ...
    .#.
    ...
    """,
)
APART = ("#..", "..#")
EQUAL = ("##. #..", "##. #..")
NONE = ("...", "...")


@pytest.mark.parametrize(
    ("drawing", "dice", "iou"),
    [
        (SHIFTED, 2 * 2 / (4 + 4), 2 / 6),
        (INSIDE, 2 * 1 / (9 + 1), 1 / 9),
        (APART, 0.0, 0.0),
        (EQUAL, 1.0, 1.0),
        (NONE, 1.0, 1.0),
    ],
    ids=["shifted", "inside", "apart", "equal", "none"],
)
def test_drawn_masks_give_the_values_counted_by_hand(drawing, dice, iou):
    found = counts(*drawing)
    assert metrics.dice(found) == pytest.approx([dice], abs=1e-4)
    assert metrics.iou(found).tolist() == [iou]


def test_dice_is_smoothed_with_the_competitions_epsilon():
    assert metrics.dice(np.array([[0, 1, 1]]))[0] == 1e-4 / 2.0001
    assert metrics.dice(np.array([[0, 0, 3900]]))[0] == 1e-4 / 3900.0001


def test_counts_may_have_images_in_front():
    many = np.arange(24).reshape(4, 2, 3)
    assert metrics.dice(many).shape == (4, 2)
    assert metrics.dice(many)[3].tolist() == metrics.dice(many[3]).tolist()
    assert metrics.iou(many)[1].tolist() == metrics.iou(many[1]).tolist()


def test_whole_images_of_31_classes_do_not_overflow():
    whole = np.full((31, 3), 60000 * 60000, np.int64)
    assert metrics.dice(whole).tolist() == [1.0] * 31
    assert metrics.iou(whole).tolist() == [1.0] * 31


def distances(a: str, b: str) -> list[metrics.Distances]:
    drawn = [np.array([[pixel == "#" for pixel in row] for row in drawing.split()])[None] for drawing in (a, b)]
    return kernels.surface_distances(labels.pack(drawn[0]), labels.pack(drawn[1]), 1)


@pytest.mark.parametrize(
    ("drawing", "nsd", "hd95"),
    [
        # Each border has two pixels on the other's and two one pixel off.
        (SHIFTED, {0: 4 / 8, 1: 1.0}, 1.0),
        # All 8 border pixels of the ring are 1 (4) or sqrt 2 (4) from the dot, whose one pixel is 1 from them.
        (INSIDE, {0: 0.0, 1: 5 / 9, 2: 1.0}, 2**0.5),
        (APART, {1: 0.0, 2: 1.0}, 2.0),
        (EQUAL, {0: 1.0}, 0.0),
        (NONE, {0: 1.0, 4: 1.0}, 0.0),
        (("#..", "..."), {4: 0.0}, 99.0),
        (("...", "#.."), {4: 0.0}, 99.0),
    ],
    ids=["shifted", "inside", "apart", "equal", "none", "only predicted", "only true"],
)
def test_borders_agree_as_counted_by_hand(drawing, nsd, hd95):
    found = distances(*drawing)
    assert {tolerance: metrics.nsd(found, tolerance)[0] for tolerance in nsd} == pytest.approx(nsd)
    assert metrics.hd95(found, absent=99.0)[0] == pytest.approx(hd95)


def test_hd95_is_the_larger_direction():
    near, far = np.zeros(100), np.arange(100.0)
    assert metrics.hd95([(near, far)], 0)[0] == metrics.hd95([(far, near)], 0)[0] == np.percentile(far, 95)
