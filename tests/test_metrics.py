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
