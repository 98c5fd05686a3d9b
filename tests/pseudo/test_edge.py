import cv2
import numpy as np
import pytest

from carpus.labels import empty
from carpus.pseudo import edge

SIZE = (512, 384)
PIXEL = edge.SIDE / max(SIZE) / edge.REACH
"""What one pixel of these images is as a distance."""

CENTRE, AXES = (180, 200), (60, 110)


def oval(grow=0.0, shift=0.0, centre=CENTRE, axes=AXES):
    """(H, W) a bone's label, a border `grow` pixels farther out, or moved to the right by `shift`."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    radii = ((x - centre[0] - shift) / (axes[0] + grow)) ** 2 + ((y - centre[1]) / (axes[1] + grow)) ** 2
    return (radii < 1).astype(np.int32)


def radiograph(gain=1.0, offset=0.0):
    """A bone in soft tissue that is denser on one side, with noise."""
    grey = 60 + 0.15 * np.arange(SIZE[1]) + 70 * cv2.GaussianBlur(oval().astype(np.float32), (0, 0), 1.0)
    grey = grey + np.random.default_rng(0).normal(0, 3, SIZE)
    return np.clip(gain * grey + offset, 0, 255).astype(np.uint8)


def distance(labels, image=None):
    return edge.distances(labels, radiograph() if image is None else image, 1)[0]


def test_a_label_on_the_bones_border_has_no_distance_and_one_grown_or_shrunk_has_its_own():
    assert distance(oval()) < 0.4 * PIXEL
    for grow in (-3, -2, 2, 3):
        assert distance(oval(grow)) == pytest.approx(abs(grow) * PIXEL, abs=0.5 * PIXEL)


def test_a_label_that_lies_beside_the_bone_is_off_although_its_mean_distance_is_not():
    # Along an ellipse's outline |cos| of the normal's direction is 0.78 on average where it is so slim.
    assert distance(oval(shift=4)) == pytest.approx(0.78 * 4 * PIXEL, abs=0.5 * PIXEL)


def test_exposure_and_contrast_do_not_matter():
    for gain, offset in ((0.3, 0), (0.3, 150), (1.2, -20)):
        assert distance(oval(), radiograph(gain, offset)) < 0.5 * PIXEL
        assert distance(oval(3), radiograph(gain, offset)) == pytest.approx(3 * PIXEL, abs=0.6 * PIXEL)


def test_what_is_darker_than_its_surroundings_is_no_bone():
    found = distance(oval(), 255 - radiograph())
    assert np.isnan(found) or found > 0.5


@pytest.mark.parametrize("grey", [0, 255])
def test_without_contrast_nothing_is_said(grey):
    assert np.isnan(distance(oval(), np.full(SIZE, grey, np.uint8)))


def test_noise_is_no_border():
    noise = np.random.default_rng(1).integers(0, 255, (1024, 768)).astype(np.uint8)
    labels = oval().repeat(2, 0).repeat(2, 1)
    assert np.isnan(distance(labels, noise))


def test_beyond_another_bones_border_nothing_is_looked_for():
    behind = cv2.GaussianBlur(oval(4.5).astype(np.float32), (0, 0), 1.0)
    image = (radiograph(0.4) + 110 * behind).astype(np.uint8)
    assert distance(oval(), image) > 0.5
    assert edge.distances(oval() | oval(2) << 1, image, 2)[0] < 0.5 * PIXEL


def test_borders_that_lie_on_each_other_say_nothing():
    assert np.isnan(edge.distances(oval() | oval() << 1 | oval(0.5) << 2, radiograph(), 3)).all()


def test_a_bone_on_or_across_another_is_judged_by_the_border_that_is_free():
    for other in (oval(40), oval(centre=(180, 310))):
        assert edge.distances(oval() | other << 1, radiograph(), 2)[0] < 0.4 * PIXEL


def test_the_end_of_the_image_is_no_border_of_a_bone():
    labels = oval()
    for cut in (np.s_[100:], np.s_[:, 180:]):
        assert distance(labels[cut], radiograph()[cut]) < 0.6 * PIXEL


def test_of_a_coarse_image_nothing_is_said(monkeypatch):
    labels, image = oval()[::4, ::4], radiograph()[::4, ::4]
    assert np.isnan(distance(labels, image))
    monkeypatch.setattr(edge, "SMALLEST", 0)
    assert np.isfinite(distance(labels, image))


def test_absent_tiny_and_endless_outlines_are_not_measured():
    dots, comb = empty(SIZE), np.zeros((1024, 1024), np.int32)
    dots[100, 100] = 1
    comb[::2, 1:], comb[:, 0] = 1, 1
    image = np.random.default_rng(0).integers(0, 255, comb.shape).astype(np.uint8)
    assert np.isnan(distance(empty(SIZE)))
    assert np.isnan(distance(dots))
    assert np.isnan(distance(comb, image))
