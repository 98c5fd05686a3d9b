import cv2
import numpy as np
import pytest

from carpus import phantom
from carpus.errors import ConfigError
from carpus.labels import BONES, area, has
from carpus.phantom import hands

SIZE = 512


@pytest.fixture(scope="module")
def twenty():
    return [
        phantom.hand(
            np.random.default_rng([i, 1]),
            SIZE,
            wrist="bent" if i % 3 == 0 else "straight",
            side="right" if i % 2 else "left",
        )
        for i in range(20)
    ]


def test_same_generator_same_picture():
    one, other = (phantom.hand(np.random.default_rng(4), 256) for _ in range(2))
    np.testing.assert_array_equal(one.image, other.image)
    np.testing.assert_array_equal(one.labels, other.labels)
    assert (phantom.hand(np.random.default_rng(5), 256).image != one.image).any()


def test_threads_do_not_change_the_picture():
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        one = phantom.hand(np.random.default_rng(6), SIZE)
    finally:
        cv2.setNumThreads(threads)
    np.testing.assert_array_equal(one.image, phantom.hand(np.random.default_rng(6), SIZE).image)


def test_every_bone_is_there_in_a_plausible_size(twenty):
    factor = (SIZE / 2048) ** 2
    for one in twenty:
        areas = area(one.labels, len(BONES)) / factor
        assert (areas > 2400).all()
        assert (areas[: BONES.index("Radius")] < 60_000).all()
        assert 45_000 < areas[BONES.index("Radius")] < 120_000


def test_brightness_is_that_of_radiographs(twenty):
    assert 0.10 < np.mean([one.image.mean() for one in twenty]) / 255 < 0.15
    assert 0.14 < np.mean([one.image.std() for one in twenty]) / 255 < 0.20


def test_bone_is_brighter_than_soft_tissue_and_that_than_air(twenty):
    carpals = [BONES.index(name) for name in BONES.groups["carpals"]]
    for one in twenty:
        bone = np.median(one.image[np.any([has(one.labels, k) for k in carpals], axis=0)])
        near = cv2.dilate((one.labels != 0).astype(np.uint8), np.ones((9, 9)))
        soft = np.median(one.image[(near != 0) & (one.labels == 0)])
        assert bone > 1.5 * soft
        assert soft > 1.5 * np.median(one.image[SIZE // 4 : SIZE // 2, [0, -1]])


def test_shafts_are_hollow_tubes():
    """Across the third metacarpal's middle the cortex on both sides is brighter than the canal between."""
    one = phantom.hand(np.random.default_rng(11), 1024)
    mask = has(one.labels, BONES.index("finger-11"))
    rows = np.flatnonzero(mask.any(axis=1))
    profile = np.zeros(21)
    for row in range(int(np.percentile(rows, 45)), int(np.percentile(rows, 60))):
        columns = np.flatnonzero(mask[row])
        profile += np.interp(np.linspace(columns[0], columns[-1], 21), np.arange(1024), one.image[row].astype(float))
    assert profile[1:7].max() > 1.06 * profile[10]
    assert profile[-7:-1].max() > 1.06 * profile[10]


def test_polygons_give_the_label_map(twenty):
    for one in twenty[:4]:
        np.testing.assert_array_equal(hands.filled(one.polygons, SIZE), one.labels)
        for polygon in one.polygons:
            assert polygon.min() >= 0
            assert polygon.max() < SIZE


def test_thumb_is_on_the_side_the_hand_says(twenty):
    for one in twenty:
        thumb, little = (np.nonzero(has(one.labels, BONES.index(name)))[1].mean() for name in ("finger-3", "finger-19"))
        assert (thumb < little) == (one.side == "right")


def test_the_same_hand_at_every_size():
    small, large = (phantom.hand(np.random.default_rng(8), size) for size in (256, 1024))
    shrunk = cv2.resize((large.labels != 0).astype(np.uint8), (256, 256), interpolation=cv2.INTER_NEAREST) != 0
    mask = small.labels != 0
    assert 2 * (mask & shrunk).sum() / (mask.sum() + shrunk.sum()) > 0.93
    grey = cv2.resize(large.image, (256, 256), interpolation=cv2.INTER_AREA)
    assert np.abs(grey.astype(float) - small.image).mean() < 6


def test_both_hands_of_a_patient_are_alike():
    who = phantom.patient(np.random.default_rng(1), height_cm=180, sex="male")
    right, left = (
        phantom.hand(np.random.default_rng(i), SIZE, side=side, patient=who) for i, side in enumerate(("right", "left"))
    )
    assert right.patient is left.patient
    assert (right.image != left.image).any()
    # Not the forearm: how much of it an image shows differs.
    areas = np.array([area(one.labels, len(BONES))[:-2] for one in (right, left)], float)
    assert np.abs(np.log(areas[0] / areas[1])).mean() < 0.12


def test_domain_shift_is_darker_and_noisier():
    usual, shifted = (phantom.hand(np.random.default_rng(2), SIZE, domain_shift=shift) for shift in (0.0, 1.0))
    np.testing.assert_array_equal(usual.labels, shifted.labels)
    bone = usual.labels != 0
    assert shifted.image[bone].mean() < 0.95 * usual.image[bone].mean()


@pytest.mark.parametrize("wrong", [{"size": 32}, {"domain_shift": 1.5}, {"wrist": "broken"}, {"side": "up"}])
def test_settings_out_of_range(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        phantom.hand(np.random.default_rng(0), **{"size": 128, **wrong})
