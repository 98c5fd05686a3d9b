"""One warp for image and label map; exact where exactness is possible."""

import cv2
import numpy as np
import pytest

from carpus import augment
from carpus import labels as label_map
from carpus.augment import Settings

EVERYTHING = Settings(45, 0.2, 0.1, True, 0.3, 0.3, 0.1, 0.05, 1.5)


def discs(side: int) -> np.ndarray:
    """Two overlapping discs: class 0 and class 28, whose bits float32 cannot hold together."""
    planes = np.zeros((29, side, side), np.uint8)
    cv2.circle(planes[0], (side // 3, side // 2), side // 5, (1,), -1)
    cv2.circle(planes[28], (side // 2, side // 2), side // 5, (1,), -1)
    return label_map.pack(planes.astype(bool))


def picture(labels: np.ndarray) -> np.ndarray:
    return (label_map.has(labels, 0) * 100 + label_map.has(labels, 28) * 100).astype(np.uint8)


def test_nothing_to_do_changes_nothing() -> None:
    labels = discs(64)
    image, warped = augment.apply(picture(labels), labels, Settings(), np.random.default_rng(0))
    assert np.array_equal(warped, labels)
    assert np.allclose(image, picture(labels) / 255)


@pytest.mark.parametrize("seed", range(8))
def test_image_and_label_map_move_together(seed: int) -> None:
    labels = discs(192)
    warp_only = Settings(rotation_deg=45, scale=0.2, shift=0.1, flip=True)
    image, warped = augment.apply(picture(labels), labels, warp_only, np.random.default_rng(seed))
    # Only border pixels may differ, where the image is interpolated and the label map is not.
    differs = np.abs(image - picture(warped) / 255) > 0.25
    assert differs.mean() < 0.01
    assert set(np.unique(warped)) == {0, 1, 1 << 28, 1 | 1 << 28}


@pytest.mark.parametrize("seed", range(4))
def test_a_label_map_of_another_size_shows_the_same_field(seed: int) -> None:
    small, large = discs(96), discs(192)
    warp_only = Settings(rotation_deg=45, scale=0.2, shift=0.1, flip=True)
    _, warped = augment.apply(picture(small), small, warp_only, np.random.default_rng(seed))
    _, finer = augment.apply(picture(small), large, warp_only, np.random.default_rng(seed))
    both = label_map.area(warped & finer[::2, ::2], 29)[[0, 28]]
    assert (both > 0.9 * label_map.area(warped, 29)[[0, 28]]).all()


def test_a_mirror_is_exact() -> None:
    labels = discs(65)
    mirror = np.array([[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    warped = augment.warp(label_map.channels(labels), mirror, cv2.INTER_NEAREST)
    assert np.array_equal(label_map.from_channels(warped), labels[:, ::-1])


def test_a_quarter_turn_is_exact() -> None:
    labels = discs(65)
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]])
    warped = augment.warp(label_map.channels(labels), turn, cv2.INTER_NEAREST)
    assert np.array_equal(label_map.from_channels(warped), np.rot90(labels))


def test_the_same_random_state_gives_the_same_case() -> None:
    labels = discs(64)
    first, second = (augment.apply(picture(labels), labels, EVERYTHING, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])


def test_intensity_stays_in_range() -> None:
    labels = discs(64)
    for seed in range(20):
        image, _ = augment.apply(picture(labels), labels, EVERYTHING, np.random.default_rng(seed))
        assert image.dtype == np.float32
        assert image.min() >= 0
        assert image.max() <= 1


def test_a_setting_does_not_change_the_draws_of_another() -> None:
    labels = discs(64)
    plain = augment.apply(picture(labels), labels, Settings(rotation_deg=30), np.random.default_rng(5))
    noisy = augment.apply(picture(labels), labels, Settings(rotation_deg=30, gamma=0.3), np.random.default_rng(5))
    assert np.array_equal(plain[1], noisy[1])
