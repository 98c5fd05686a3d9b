import itertools

import cv2
import numpy as np
import pytest

from carpus.labels import BONES, area, depth, has
from carpus.phantom import anatomy, hands, skeleton

SIZE = 512
HANDS = 24


@pytest.fixture(scope="module", params=["straight", "bent"])
def drawn(request):
    """Label maps of different patients with one kind of wrist, at a quarter of the full size."""
    maps = []
    for seed in range(HANDS):
        rng = np.random.default_rng([seed, 7])
        posed = skeleton.pose(
            rng, skeleton.patient(rng), wrist=request.param, side="right" if seed % 2 else "left", size=SIZE
        )
        maps.append(hands.filled(tuple(hands.within(outline, SIZE) for outline in posed.outlines), SIZE))
    return request.param, maps


def _iou(labels, first: str, second: str) -> float:
    a, b = has(labels, BONES.index(first)), has(labels, BONES.index(second))
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


def test_overlaps_are_the_real_ones(drawn):
    wrist, maps = drawn

    def median(first: str, second: str) -> float:
        return float(np.median([_iou(labels, first, second) for labels in maps]))

    assert 0.38 < median("Triquetrum", "Pisiform") < 0.52
    assert 0.13 < median("Trapezium", "Trapezoid") < 0.27
    assert 0.01 < median("Capitate", "Lunate") < 0.09
    both = [
        np.count_nonzero(has(m, BONES.index("Lunate")) & has(m, BONES.index("Radius"))) * (2048 / SIZE) ** 2
        for m in maps
    ]
    assert 1200 < np.median(both) < 2200, wrist
    shared = [(depth(labels) > 1).mean() for labels in maps]
    assert 0.003 < np.median(shared) < 0.006
    assert max(int(depth(labels).max()) for labels in maps) <= 3


def test_areas_are_the_real_ones(drawn):
    areas = np.median([area(labels, len(BONES)) for labels in drawn[1]], axis=0) * (2048 / SIZE) ** 2
    for name, wanted in (
        ("finger-16", 3900),
        ("Pisiform", 4300),
        ("finger-4", 5000),
        ("Ulna", 39000),
        ("Radius", 75000),
    ):
        assert areas[BONES.index(name)] == pytest.approx(wanted, rel=0.15), name


def test_no_finger_touches_a_neighbour(drawn):
    for labels in drawn[1]:
        phalanges = [[has(labels, BONES.index(name)) for name in chain[1:]] for chain in skeleton.FINGERS]
        joined = [np.any(chain, axis=0) for chain in phalanges]
        assert not any((one & other).any() for one, other in itertools.combinations(joined, 2))


def test_neighbours_in_a_finger_stay_together(drawn):
    """The outlines of two bones of a joint are never further apart than a wide joint space."""
    for labels in drawn[1]:
        for one, other in (pair for chain in skeleton.FINGERS for pair in itertools.pairwise(chain)):
            first, second = (has(labels, BONES.index(name)) for name in (one, other))
            away = cv2.distanceTransform((~first).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
            assert away[second].min() < 0.06 * anatomy.SCALE_PX * SIZE / anatomy.FULL_SIZE, (one, other)


def test_forearm_leaves_through_the_lower_edge(drawn):
    for labels in drawn[1]:
        last = labels[-1]
        assert has(last, BONES.index("Radius")).any()
        assert has(last, BONES.index("Ulna")).any()
        fingers = np.any([has(last, BONES.index(name)) for name in BONES.groups["fingers"]], axis=0)
        assert not fingers.any()


def test_axis_tells_bent_from_straight(drawn):
    wrist, maps = drawn
    angles = np.array([anatomy.hand_axis_deg(labels) for labels in maps])
    if wrist == "bent":
        # Odd seeds show the thumb on the left; the hand leans to the other side.
        assert ((angles[1::2] < -28) & (angles[1::2] > -48)).all()
        assert ((angles[::2] > 28) & (angles[::2] < 48)).all()
    else:
        assert (np.abs(angles) < 8).all()


def test_bones_are_where_expected(drawn):
    wrist, maps = drawn
    expected = anatomy.expected(wrist)
    inner = [k for k, name in enumerate(BONES) if name not in BONES.groups["forearm"]]
    for seed, labels in enumerate(maps):
        centres = anatomy.centroids(labels, BONES)
        up = centres[BONES.index("finger-11")] - centres[BONES.index("Capitate")]
        right = np.array([-up[1], up[0]])
        local = (centres - centres[BONES.index("Capitate")]) @ np.stack([right, up], axis=1) / (up @ up)
        local[:, 0] *= 1 if seed % 2 else -1
        off = np.abs(local - expected.position)[inner] / np.maximum(expected.position_sd[inner], 0.02)
        assert np.percentile(off, 98) < 4


def test_taller_means_larger():
    tall = [skeleton.patient(np.random.default_rng(i), height_cm=190, sex="male").scale_px for i in range(8)]
    short = [skeleton.patient(np.random.default_rng(i), height_cm=150, sex="female").scale_px for i in range(8)]
    assert np.mean(tall) > 1.15 * np.mean(short)


def test_smooth_passes_through_its_points():
    outline = anatomy.bones("straight")["Hamate"].outline
    np.testing.assert_allclose(skeleton.smooth(outline, 240)[::5], outline, atol=1e-9)
