"""Hands are drawn from the measured anatomy bone by bone, independently: a wider spread than the phantom's."""

import numpy as np
import pytest

from carpus import pose
from carpus.labels import BONES
from carpus.phantom import anatomy
from carpus.pose.believed import MIN_BONES
from carpus.pose.drawn import elongation
from carpus.pose.gaussian import elongations, line

CARPALS = BONES.groups["carpals"]


def draw(rng, wrist, thumb_left=True):
    """Centroids (29, 2) and areas (29,) in pixels and elongations (29,) of a random hand, 300 pixels to the unit."""
    known, placed = anatomy.bones(wrist), {}
    for name in sorted(known, key=lambda name: len(list(line(name, known)))):
        bone = known[name]
        centre, angle = placed.get(bone.parent, (np.zeros(2), 0.0))
        offset = bone.offset + bone.offset_sd * rng.standard_normal(2)
        turn = 0.0 if name in CARPALS else bone.angle_deg + bone.angle_sd_deg * rng.standard_normal()
        placed[name] = (centre + anatomy.rotation(angle) @ offset, angle + turn)
    points = np.stack([placed[name][0] for name in BONES]) @ anatomy.rotation(rng.normal(0, 10)).T
    expected = anatomy.expected(wrist)
    areas = expected.area * np.exp(rng.standard_normal(29) * expected.area_sd / expected.area) * 300**2
    mean, sd = elongations()
    shapes = mean + sd * rng.standard_normal(29)
    return points * (300 if thumb_left else -300, -300) + (1000, 1200), areas, shapes


def swapped(values, pairs):
    values = values.copy()
    for a, b in pairs:
        values[[BONES.index(a), BONES.index(b)]] = values[[BONES.index(b), BONES.index(a)]]
    return values


@pytest.mark.parametrize("wrist", ["straight", "bent"])
@pytest.mark.parametrize("thumb_left", [True, False])
def test_sound_hands_are_believed_whole(wrist, thumb_left):
    rng = np.random.default_rng(0)
    for _ in range(20):
        found = pose.fit(*draw(rng, wrist, thumb_left))
        assert found is not None
        assert found.thumb_left == thumb_left
        assert found.believed.all()
        assert found.swapped == []
        assert found.scale_px == pytest.approx(300, rel=0.15)
        assert found.distance.max() < pose.FAR


@pytest.mark.parametrize(
    "pairs",
    [
        [("Trapezium", "Trapezoid")],
        [("Scaphoid", "Lunate")],
        [("finger-13", "finger-17")],
        [("Radius", "Ulna")],
        [(f"finger-{4 + i}", f"finger-{8 + i}") for i in range(4)],
        [(f"finger-{8 + i}", f"finger-{12 + i}") for i in range(2)],
    ],
    ids=lambda pairs: f"{pairs[0][0]}-{len(pairs)}",
)
def test_swapped_labels_are_set_right(pairs):
    rng = np.random.default_rng(1)
    for wrist in ("straight", "bent") * 5:
        found = pose.fit(*(swapped(values, pairs) for values in draw(rng, wrist)))
        assert found is not None
        assert [set(exchange) for exchange, _ in found.swapped] == [
            {(BONES.index(a), BONES.index(b)) for a, b in pairs}
        ]
        assert found.believed.all()


@pytest.mark.parametrize("bone", ["finger-1", "finger-11", "Capitate", "Pisiform", "Trapezium"])
def test_one_misplaced_bone_does_not_shake_the_others(bone):
    rng = np.random.default_rng(2)
    for _ in range(5):
        centroids, areas, shapes = draw(rng, "straight")
        centroids[BONES.index(bone)] += (150, 250)
        found = pose.fit(centroids, areas, shapes)
        assert found is not None
        assert np.flatnonzero(~found.believed).tolist() == [BONES.index(bone)]
        off = found.residual[BONES.index(bone)] * found.scale_px
        assert np.linalg.norm(off) == pytest.approx(np.hypot(150, 250), rel=0.35)


def test_absent_bones_are_absent_and_the_rest_is_fitted():
    centroids, areas, shapes = draw(np.random.default_rng(3), "bent")
    gone = [BONES.index(name) for name in ("Capitate", "finger-11", "Radius")]
    centroids[gone] = areas[gone] = shapes[gone] = np.nan
    found = pose.fit(centroids, areas, shapes)
    assert found is not None
    assert np.flatnonzero(np.isnan(found.distance)).tolist() == sorted(gone)
    assert np.flatnonzero(~found.believed).tolist() == sorted(gone)
    assert found.wrist == "bent"


def test_what_does_not_fix_a_hand_has_no_fit():
    centroids, areas, shapes = draw(np.random.default_rng(4), "straight")
    centroids[MIN_BONES - 1 :] = np.nan
    assert pose.fit(centroids, areas, shapes) is None
    assert pose.fit(np.full((29, 2), 7.0), areas, shapes) is None


def test_each_part_of_the_hand_tells_the_thumbs_side():
    rng = np.random.default_rng(5)
    for wrist in ("straight", "bent"):
        for thumb_left in (True, False):
            centroids, _, _ = draw(rng, wrist, thumb_left)
            assert pose.thumb_left(centroids) == dict.fromkeys(("fingers", "carpals", "forearm"), thumb_left)
    exchanged = swapped(centroids, [("Radius", "Ulna")])
    assert pose.thumb_left(exchanged) == {"fingers": False, "carpals": False, "forearm": True}
    assert pose.thumb_left(np.full((29, 2), np.nan)) == {}


def test_elongation_is_the_ratio_of_the_axes():
    import cv2

    for width, height in ((10, 40), (40, 10), (25, 25)):
        mask = np.ones((height, width), np.uint8)
        ratio = np.exp(elongation(cv2.moments(mask, binaryImage=True)))
        assert ratio == pytest.approx(max(width, height) / min(width, height), rel=0.01)
    means, sds = elongations()
    assert np.exp(means[BONES.index("finger-11")]) > 2.5
    assert np.exp(means[BONES.index("Capitate")]) < 2
    assert (sds >= 0.08).all()
