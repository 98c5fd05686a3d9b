"""One warp for image and label map; exact where exactness is possible."""

import cv2
import numpy as np
import pytest

from carpus import augment
from carpus import labels as label_map
from carpus.augment import Crop, Settings, Warp

EVERYTHING = Settings(45, 0.2, 0.1, True, 0.3, 0.3, 0.1, 0.05, 1.5, 0.02, 3, 0.1)
WARPS = Settings(rotation_deg=45, scale=0.2, shift=0.1, flip=True)


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
    warped = augment.warp(label_map.channels(labels), Warp(mirror), cv2.INTER_NEAREST)
    assert np.array_equal(label_map.from_channels(warped), labels[:, ::-1])


def test_a_quarter_turn_is_exact() -> None:
    labels = discs(65)
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]])
    warped = augment.warp(label_map.channels(labels), Warp(turn), cv2.INTER_NEAREST)
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


@pytest.mark.parametrize("seed", range(4))
def test_an_elastic_warp_moves_image_and_label_map_of_any_size_together(seed: int) -> None:
    bend = Settings(rotation_deg=20, elastic=0.03)
    small, large = discs(96), discs(192)
    image, warped = augment.apply(picture(large), large, bend, np.random.default_rng(seed))
    differs = np.abs(image - picture(warped) / 255) > 0.25
    assert differs.mean() < 0.01
    assert set(np.unique(warped)) == {0, 1, 1 << 28, 1 | 1 << 28}
    _, coarse = augment.apply(picture(small), small, bend, np.random.default_rng(seed))
    both = label_map.area(coarse & warped[::2, ::2], 29)[[0, 28]]
    assert (both > 0.9 * label_map.area(coarse, 29)[[0, 28]]).all()
    _, stiff = augment.apply(picture(large), large, Settings(rotation_deg=20), np.random.default_rng(seed))
    assert (stiff != warped).mean() > 0.005


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("settings", [Settings(), WARPS, Settings(rotation_deg=20, flip=True, elastic=0.03)])
@pytest.mark.parametrize("crop", [None, Crop(128, 1.0)])
@pytest.mark.parametrize("coarser", [1, 2])
def test_soft_labels_move_with_the_label_map(seed: int, settings: Settings, crop: Crop | None, coarser: int) -> None:
    labels = discs(192)
    masks = [cv2.resize(label_map.has(labels, k).astype(np.float32), (192 // coarser,) * 2) for k in (0, 28)]
    planes = np.dstack([np.rint(mask * 255).astype(np.uint8) for mask in masks])
    image, warped, soft = augment.apply_soft(
        picture(labels), labels, planes, settings, np.random.default_rng(seed), crop
    )
    plain = augment.apply(picture(labels), labels, settings, np.random.default_rng(seed), crop)
    assert np.array_equal(image, plain[0])
    assert np.array_equal(warped, plain[1])
    assert soft is not None
    assert soft.shape == (len(warped) // coarser, len(warped) // coarser, 2)
    inner = slice(4, -4)  # at the edge of a crop what lies beyond takes part
    for n, k in enumerate((0, 28)):
        truth = label_map.has(warped, k).astype(np.uint8)
        found = cv2.resize(soft[..., n], truth.shape) / 255
        border = np.ones((1 + 4 * coarser, 1 + 4 * coarser))
        inside, outside = cv2.erode(truth, border) == 1, cv2.dilate(truth, border) == 0
        assert (found[inner, inner][inside[inner, inner]] > 0.99).all()
        assert (found[inner, inner][outside[inner, inner]] < 0.01).all()
        assert found.sum() == pytest.approx(truth.sum(), rel=0.02)
        for axis in (0, 1):  # where it lies, to a fraction of a pixel
            place, meant = (x.sum(axis) @ np.arange(len(truth)) / x.sum() for x in (found, truth))
            assert place == pytest.approx(meant, abs=0.15)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("settings", [Settings(), WARPS, Settings(rotation_deg=20, elastic=0.03)])
def test_a_crop_is_a_window_of_the_whole(seed: int, settings: Settings) -> None:
    labels = discs(192)
    whole, all_labels = augment.apply(picture(labels), labels, settings, np.random.default_rng(seed))
    crop, crop_labels = augment.apply(picture(labels), labels, settings, np.random.default_rng(seed), Crop(64, 1.0))
    assert crop.shape == crop_labels.shape == (64, 64)
    assert crop_labels.any()
    # OpenCV rounds coordinates to 1/32 pixel, so that a few border pixels may fall otherwise.
    apart = min(
        (np.abs(whole[top : top + 64, left : left + 64] - crop) > 0.1).mean()
        + (all_labels[top : top + 64, left : left + 64] != crop_labels).mean()
        for top in range(129)
        for left in range(129)
    )
    assert apart < 0.02


def test_a_crop_of_labels_twice_as_fine_shows_the_same_window() -> None:
    fine = discs(192)
    coarse = np.ascontiguousarray(fine[::2, ::2])
    image, labels = augment.apply(picture(coarse), fine, WARPS, np.random.default_rng(1), Crop(32, 1.0))
    assert (image.shape, labels.shape) == ((32, 32), (64, 64))
    assert (np.abs(image - picture(labels[::2, ::2]) / 255) > 0.5).mean() < 0.06


def test_crops_favour_bones_and_treat_a_small_one_like_a_large_one() -> None:
    labels = np.zeros((128, 128), np.int32)
    labels[10:60, 10:60] = 1
    labels[100:103, 100:103] = 1 << 28
    seen = {0: 0, 28: 0}
    for seed in range(100):
        _, crop = augment.apply(picture(labels), labels, Settings(), np.random.default_rng(seed), Crop(32, 1.0))
        for k in seen:
            seen[k] += bool(label_map.has(crop, k).any())
    assert min(seen.values()) > 30
    anywhere = [
        augment.apply(picture(labels), labels, Settings(), np.random.default_rng(seed), Crop(32, 0.0))[1].any()
        for seed in range(100)
    ]
    assert 20 < sum(anywhere) < 95


@pytest.mark.parametrize("settings", [Settings(), WARPS, Settings(rotation_deg=20, elastic=0.05)])
def test_a_crop_around_a_bone_holds_it_wherever_the_warp_takes_it(settings: Settings) -> None:
    found = 0
    for seed in range(400):
        left, top = np.random.default_rng(seed).integers(20, 105, 2)
        labels = np.zeros((128, 128), np.int32)
        labels[top : top + 3, left : left + 3] = 1
        if augment.apply(picture(labels), labels, settings, np.random.default_rng(seed))[1].sum() >= 4:
            found += 1
            _, crop = augment.apply(picture(labels), labels, settings, np.random.default_rng(seed), Crop(32, 1.0))
            assert crop.any()
    assert found > 350


@pytest.mark.parametrize("seed", range(5))
def test_collimation_darkens_edges_and_never_a_bone(seed: int) -> None:
    labels = discs(96)
    bright = np.full((96, 96), 200, np.uint8)
    image, same = augment.apply(bright, labels, Settings(collimation=0.4), np.random.default_rng(seed))
    assert np.array_equal(same, labels)
    assert (image[labels != 0] > 0.7).all()
    assert (image == 0).any()


def test_local_contrast_is_equalised_now_and_then() -> None:
    grey = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    ranges = [
        np.ptp(augment.apply(grey, discs(64), Settings(clahe=4), np.random.default_rng(seed))[0]) for seed in range(20)
    ]
    assert min(ranges) == pytest.approx(63 / 255)
    assert max(ranges) > 0.3


def test_noise_has_the_standard_deviation_it_is_given() -> None:
    grey = np.full((256, 256), 128, np.uint8)
    spread = [
        augment.apply(grey, discs(256), Settings(noise=0.1), np.random.default_rng(seed))[0].std() for seed in range(80)
    ]
    assert 0.085 < max(spread) < 0.102
    assert np.mean(spread) == pytest.approx(0.05, rel=0.2)
