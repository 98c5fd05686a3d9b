import sys
from pathlib import Path

import numpy as np
import pytest

from carpus import ensemble, kernels
from carpus.labels import BONES, Classes
from carpus.pseudo import selection
from carpus.pseudo.criteria import MEASURES
from carpus.pseudo.measures import doubtful, measure, unsure
from carpus.pseudo.sources import Prediction

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import pseudo_damage

NAMES = list(MEASURES)
TWO = Classes(("Radius", "Ulna"))


@pytest.fixture(scope="module")
def rules():
    clean = pseudo_damage.labelled(24, 256, 0)
    return selection.tune(clean.measures, clean.dice)


@pytest.mark.parametrize("sharing", [2, 3])
@pytest.mark.parametrize("kind", list(pseudo_damage.KINDS))
def test_planted_damage_is_left_out_and_what_is_good_is_kept(kind, sharing, rules):
    found = pseudo_damage.labelled(12, 256, 1, pseudo_damage.KINDS[kind], sharing)
    caught, kept = pseudo_damage.shares(found, rules)
    assert caught >= 0.8
    assert kept >= 0.9


def runs_of(*rows):
    return kernels.encode(np.array(rows, np.int32), 2)


def test_pixels_in_which_members_disagree_about_a_bone_that_counts_are_doubtful():
    members = [runs_of([1, 1, 0, 2]), runs_of([1, 0, 0, 2]), runs_of([1, 1, 0, 0])]
    voted = [ensemble.vote(masks, [1.0] * 3) for masks in zip(*members, strict=True)]
    found = Prediction((1, 4), voted, members)
    both = unsure(found)
    assert [runs.tolist() for runs in both] == [[[1, 1]], [[3, 1]]]
    assert doubtful(both, np.array([True, True])).tolist() == [[1, 1], [3, 1]]
    assert doubtful(both, np.array([True, False])).tolist() == [[1, 1]]
    assert doubtful(both, np.array([False, False])).tolist() == []


def test_one_member_is_unsure_where_its_probability_is():
    probabilities = np.array([[[0.9, 0.5], [0.1, 0.3]], [[0.0, 0.0], [0.0, 1.0]]], np.float32)
    runs = runs_of(*[[1, 1, 1, 1]] * 2, *[[0, 0, 2, 2]] * 2)
    found = Prediction((4, 4), runs, [runs], probabilities)
    assert [of.tolist() for of in unsure(found)] == [[[2, 2], [6, 2], [10, 2], [14, 2]], []]
    values = measure(found, TWO)
    assert values[1, NAMES.index("confidence")] == 1.0
    assert values[1, NAMES.index("border")] == 0.0
    assert values[0, NAMES.index("confidence")] == pytest.approx(0.7)
    assert np.isnan(values[:, NAMES.index("agreement")]).all()


def test_pieces_holes_and_missing_bones_are_measured():
    labels = np.zeros((12, 12), np.int32)
    labels[1:8, 1:8] = 1
    labels[3, 3] = 0
    labels[10, 10] = 1
    runs = kernels.encode(labels, 2)
    values = measure(Prediction((12, 12), runs, [runs]), TWO)
    assert values[0, NAMES.index("pieces")] == pytest.approx(1 / 49)
    assert values[0, NAMES.index("holes")] == pytest.approx(1 / 49)
    assert values[:, NAMES.index("missing")].tolist() == [0, 1]


def values_of(**columns):
    rows = np.full((len(next(iter(columns.values()))), 1, len(NAMES)), np.nan)
    for name, values in columns.items():
        rows[:, 0, NAMES.index(name)] = values
    return rows


def test_what_is_not_measured_speaks_neither_for_nor_against():
    found = selection.select(values_of(agreement=[0.99, np.nan, 0.5], size=[1, np.nan, 9]), selection.fixed(1))
    assert found.kept[:, 0].tolist() == [True, True, False]
    assert [found.reasons(n, 0) for n in range(3)] == [(), (), ("agreement", "size")]


def test_a_quota_keeps_the_surest():
    rules = selection.fixed(1)
    rules = selection.Rules(rules.limits, np.array([0.5]), rules.tuned)
    found = selection.select(values_of(agreement=[0.95, 0.99, 0.97, 0.98]), rules)
    assert found.kept[:, 0].tolist() == [False, True, False, True]
    assert found.reasons(0, 0) == ("quota",)


def test_the_order_of_the_files_decides_nothing():
    rng = np.random.default_rng(0)
    ties = dict.fromkeys(("missing", "pieces", "holes", "swapped", "mirrored"), np.zeros(200))
    measures = values_of(
        **ties,
        agreement=rng.uniform(0.95, 1, 200).round(3),
        confidence=rng.uniform(0.95, 1, 200),
        border=rng.uniform(0, 0.1, 200),
    )
    rules = selection.fixed(1)
    rules = selection.Rules(rules.limits, np.array([0.7]), rules.tuned)
    kept = selection.select(measures, rules).kept[:, 0]
    assert abs(int(kept[:100].sum()) - int(kept[100:].sum())) < 20
    order = rng.permutation(200)
    assert np.array_equal(selection.select(measures[order], rules).kept[:, 0], kept[order])
    alike = selection.select(np.tile(measures[:1], (10, 1, 1)), rules).kept
    assert alike.all()


def test_a_hard_class_gets_limits_and_a_quota_of_its_own():
    rng = np.random.default_rng(0)
    agreement = rng.uniform([0.95, 0.80], [1.0, 0.9], (200, 2))
    dice = rng.normal([0.97, 0.85], 0.01, (200, 2))
    dice[:20, 1] = 0.3
    agreement[:20, 1] = 0.4
    measures = np.full((200, 2, len(NAMES)), np.nan)
    measures[..., NAMES.index("agreement")] = agreement
    rules = selection.tune(measures, dice)
    limits = rules.limits[:, NAMES.index("agreement")]
    assert 0.94 < limits[0] < 0.96
    assert 0.78 < limits[1] < 0.81
    assert rules.quotas[0] > 0.97
    assert rules.quotas[1] == pytest.approx(0.9, abs=0.02)
    kept = selection.select(measures, rules).kept
    assert not kept[:20, 1].any()
    assert kept[20:].mean() > 0.95


def test_few_labels_leave_the_limits_as_they_are():
    rules = selection.tune(np.full((5, len(BONES), len(NAMES)), 0.5), np.full((5, len(BONES)), 0.9))
    assert not rules.tuned.any()
    assert np.array_equal(rules.limits, selection.fixed(len(BONES)).limits)
