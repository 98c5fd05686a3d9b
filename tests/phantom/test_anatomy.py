import numpy as np
import pytest

from carpus import labels as label_map
from carpus.labels import BONES, Classes
from carpus.phantom import anatomy


def _axis_of(capitate: tuple[int, int], third: tuple[int, int]) -> float:
    labels = label_map.empty((60, 60))
    for name, (x, y) in (("Capitate", capitate), ("finger-11", third)):
        label_map.paint(labels, BONES.index(name), np.ones((3, 3), bool), y - 1, x - 1)
    return anatomy.hand_axis_deg(labels)


def test_hand_axis_is_counter_clockwise_from_the_vertical():
    assert _axis_of((30, 40), (30, 10)) == 0
    assert _axis_of((30, 40), (10, 20)) == pytest.approx(45)
    assert _axis_of((30, 40), (50, 20)) == pytest.approx(-45)


def test_hand_axis_is_nan_without_its_bones():
    labels = label_map.empty((8, 8))
    label_map.paint(labels, BONES.index("Capitate"), np.ones((2, 2), bool))
    assert np.isnan(anatomy.hand_axis_deg(labels))
    assert np.isnan(anatomy.hand_axis_deg(labels, Classes(("Radius", "Ulna"))))


def test_hand_axis_takes_the_class_list_it_is_given():
    classes = Classes(("finger-11", "Capitate"))
    planes = np.zeros((2, 9, 9), bool)
    planes[0, 1, 4] = planes[1, 7, 4] = True
    assert anatomy.hand_axis_deg(label_map.pack(planes), classes) == 0


@pytest.mark.parametrize("wrist", ["straight", "bent"])
def test_expected_is_in_the_hands_frame(wrist):
    expected = anatomy.expected(wrist)
    at = dict(zip(BONES, expected.position, strict=True))
    np.testing.assert_allclose(at["Capitate"], 0)
    np.testing.assert_allclose(np.linalg.norm(at["finger-11"]), 1, atol=0.01)
    assert at["finger-4"][1] > 3, "the finger tips are up"
    assert at["finger-1"][0] < -1, "the thumb is on the left"
    assert at["Radius"][1] < -0.5
    assert (expected.position_sd[np.array(list(BONES)) != "Capitate"] > 0).all()
    assert (expected.area_sd / expected.area < 0.5).all()
    assert expected.area[BONES.index("Pisiform")] * anatomy.SCALE_PX**2 == pytest.approx(4500, rel=0.1)


def test_a_bent_wrist_turns_the_radius_in_the_hands_frame():
    radius = BONES.index("Radius")
    assert anatomy.expected("straight").angle_deg[radius] == pytest.approx(1.5, abs=1)
    assert anatomy.expected("bent").angle_deg[radius] == pytest.approx(37, abs=1)


def test_shape_at_zero_is_the_mean_outline():
    bone = anatomy.bones("straight")["Lunate"]
    np.testing.assert_array_equal(bone.shape(np.zeros(4)), bone.outline)
    moved = bone.shape(np.array([1.0, 0, 0, 0])) - bone.outline
    np.testing.assert_allclose(moved, bone.mode_sd[0] * bone.modes[0])
