"""The statistics against studies whose truth is known, with the scatter that real ones have.

Every column of an array is a study of its own, so one call judges thousands.
"""

import math
import time
from dataclasses import replace

import numpy as np
import pytest

from carpus.errors import DataError
from carpus.study import stats
from carpus.study.planning import Design, power
from carpus.study.stats import Spread, contrast, holm, verdict
from study.planted import LIKE_OURS, scores

PATIENTS, STUDIES = 144, 2500
SEEDS = (2, 3, 5, 8)
SPREADS = (Spread(0.004, 0.0015, 0.003), LIKE_OURS, Spread(0.008, 0.0005, 0.003))
ERROR = 3.5 * math.sqrt(0.05 * 0.95 / STUDIES)
"""What a share of 5 % of so many studies can be off by."""


def judged(spread: Spread, seeds: int, effect: float = 0.0, **more: float) -> stats.Contrast:
    a, b = scores(spread, seeds=seeds, patients=PATIENTS, columns=STUDIES, effect=effect, random=seeds, **more)  # type: ignore[arg-type]
    return contrast(a, b, margin=stats.MARGIN, resamples=1000)


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("spread", SPREADS, ids=lambda spread: f"seed SD {spread.seed}")
def test_a_difference_of_zero_is_found_in_at_most_5_percent(spread: Spread, seeds: int) -> None:
    found = judged(spread, seeds)
    assert (found.p < 0.05).mean() <= 0.05 + ERROR
    np.testing.assert_array_equal(found.p < 0.05, (found.low > 0) | (found.high < 0))


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("effect", [0.001, 0.003])
def test_the_interval_covers_the_truth_in_93_to_97_percent_and_the_power_is_as_planned(
    effect: float, seeds: int
) -> None:
    found = judged(LIKE_OURS, seeds, effect)
    covered = ((found.low <= effect) & (effect <= found.high)).mean()
    assert 0.93 <= covered <= 0.97 + ERROR / 3.5
    seen = (found.low > 0).mean()
    assert seen == pytest.approx(power(effect, Design(seeds, PATIENTS), LIKE_OURS), abs=0.035)


def test_a_difference_as_large_as_the_margin_is_called_equivalent_in_at_most_5_percent_and_none_at_all_often() -> None:
    close = Spread(0.002, 0.0003, 0.001)
    assert (judged(close, 3, effect=0.001).p_equivalent < 0.05).mean() <= 0.05 + ERROR
    assert (judged(close, 3, effect=-0.001).p_equivalent < 0.05).mean() <= 0.05 + ERROR
    assert (judged(close, 5).p_equivalent < 0.05).mean() > 0.9


def test_seeds_that_go_together_make_it_careful_not_wrong() -> None:
    assert (judged(LIKE_OURS, 3, correlation=0.5).p < 0.05).mean() < 0.05


@pytest.mark.parametrize("seeds", SEEDS)
def test_runs_of_the_same_trainings_are_judged_by_their_differences(seeds: int) -> None:
    # What the trainings bring scatters ten times as far as what is done to their runs afterwards.
    draw, planned = np.random.default_rng(0), replace(LIKE_OURS, paired=True)
    trainings = 0.01 * draw.standard_normal((seeds, 1, STUDIES)) + 0.01 * draw.standard_normal(
        (seeds, PATIENTS, STUDIES)
    )
    for effect in (0.0, 0.003):
        a, b = scores(LIKE_OURS, seeds=seeds, patients=PATIENTS, columns=STUDIES, effect=effect, random=seeds)
        found = contrast(a + trainings, b + trainings, paired=True, resamples=1000)
        wrong = (found.low > effect) | (found.high < effect)
        assert 0.03 - ERROR / 3.5 <= wrong.mean() <= 0.05 + ERROR
        np.testing.assert_array_equal(found.p < 0.05, (found.low > 0) | (found.high < 0))
        assert math.sqrt((found.seed**2).mean()) == pytest.approx(LIKE_OURS.seed, rel=0.15)
    assert (found.low > 0).mean() == pytest.approx(power(0.003, Design(seeds, PATIENTS), planned), abs=0.035)
    unpaired = contrast(a + trainings, b + trainings, resamples=1000)  # careful, and blind
    assert (unpaired.low > 0).mean() < 0.25 * (found.low > 0).mean()


def test_skewed_differences_of_few_patients_do_not_upset_it() -> None:
    a, b = scores(LIKE_OURS, seeds=5, patients=30, columns=STUDIES, skewed=True)
    assert (contrast(a, b, resamples=1000).p < 0.05).mean() < 0.075


def test_folds_with_patients_and_runs_of_their_own_are_covered() -> None:
    # Every (seed, fold) is a run: 5 folds of 30 patients share the run's luck, and nobody is scored twice.
    draw, spread, folds = np.random.default_rng(0), LIKE_OURS, 5
    difference = spread.patient * draw.standard_normal((150, STUDIES))
    a, b = (
        own
        + np.repeat(spread.seed * draw.standard_normal((3, folds, STUDIES)), 30, axis=1)
        + spread.residual * draw.standard_normal((3, 150, STUDIES))
        for own in (difference, 0.0)
    )
    assert (contrast(a, b, resamples=1000).p < 0.05).mean() <= 0.05 + ERROR


def test_the_parts_of_the_scatter_are_recovered() -> None:
    found = judged(LIKE_OURS, 8)
    for name in ("patient", "seed", "residual"):
        of = getattr(found, name)
        assert math.sqrt((of**2).mean()) == pytest.approx(getattr(LIKE_OURS, name), rel=0.05), name


def test_unequal_numbers_of_seeds_are_allowed() -> None:
    a, b = scores(LIKE_OURS, seeds=5, patients=PATIENTS, columns=STUDIES)
    found = contrast(a, b[:2], resamples=1000)
    assert found.seeds == (5, 2)
    assert (found.p < 0.05).mean() <= 0.05 + ERROR


@pytest.mark.parametrize(
    ("seeds", "times", "share"), [(2, 3, 0.05), (2, 10, 0.08), (3, 3, 0.05), (3, 10, 0.06), (8, 10, 0.05)]
)
def test_an_arm_whose_seeds_scatter_farther_than_the_others_does_not_upset_it(
    seeds: int, times: float, share: float
) -> None:
    found = judged(LIKE_OURS, seeds, times=times)  # were the seeds pooled, ten times as far would be 14, 11 and 7 %
    assert (found.p < 0.05).mean() <= share + ERROR


def test_few_seeds_that_scatter_are_not_helped_by_many_that_do_not() -> None:
    a, b = scores(LIKE_OURS, seeds=8, patients=PATIENTS, columns=STUDIES, times=3)
    assert (contrast(a[:3], b, resamples=1000).p < 0.05).mean() <= 0.06 + ERROR
    assert (contrast(b, a[:3], resamples=1000).p < 0.05).mean() <= 0.06 + ERROR


def test_one_seed_or_four_patients_tell_nothing_but_the_difference() -> None:
    a, b = scores(LIKE_OURS, seeds=2, patients=5, columns=3, effect=0.5)
    for few in (contrast(a[:1], b), contrast(a[:, :4], b[:, :4])):
        assert (few.difference > 0.4).all()
        assert np.isnan(few.p).all()
        assert np.isnan(few.low).all()
        assert few.spread() is None
    assert np.isfinite(contrast(a, b).p).all()


def test_arms_that_are_the_same_do_not_differ_and_are_equivalent() -> None:
    a, _ = scores(LIKE_OURS, seeds=3, patients=20, columns=1)
    found = contrast(a, a.copy())
    assert found.difference == pytest.approx(0)
    assert found.superiority[0] == 0.5
    same = contrast(np.ones((2, 6, 1)), np.ones((2, 6, 1)), margin=stats.MARGIN)
    assert (same.low, same.high, same.p, same.p_equivalent < 0.05) == (0, 0, 1, True)


def test_without_a_margin_nothing_is_equivalent() -> None:
    a, b = scores(LIKE_OURS, seeds=3, patients=20, columns=2)
    found, close = contrast(a, b), contrast(a, b, margin=1.0)
    assert np.isnan(found.p_equivalent).all()
    assert (close.p_equivalent < 0.05).all()
    np.testing.assert_array_equal(found.p, close.p)


def test_exchanging_the_arms_changes_the_sign_and_nothing_else() -> None:
    a, b = scores(LIKE_OURS, seeds=3, patients=40, columns=4, effect=0.002)
    found, back = contrast(a, b), contrast(b, a)
    np.testing.assert_allclose(found.difference, -back.difference)
    np.testing.assert_allclose(found.p, back.p, rtol=0.15)
    np.testing.assert_allclose(found.superiority, 1 - back.superiority)


def test_scores_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="same patients"):
        contrast(np.zeros((2, 6, 1)), np.zeros((2, 7, 1)))
    with pytest.raises(DataError, match="equally many in both arms, got 2 and 3"):
        contrast(np.zeros((2, 6, 1)), np.zeros((3, 6, 1)), paired=True)
    with pytest.raises(DataError, match="a score is missing"):
        contrast(np.zeros((2, 6, 1)), np.full((2, 6, 1), np.nan))


def test_holm_is_that_of_the_textbook_and_counts_tests_that_could_not_be_done() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    corrected = holm([0.02, math.nan, 0.5])
    assert corrected[0] == pytest.approx(0.06)
    assert math.isnan(corrected[1])
    assert holm([0.02, 0.5], tests=3)[0] == corrected[0]


def test_holm_is_wrong_anywhere_in_at_most_5_percent() -> None:
    p = judged(LIKE_OURS, 3).p.reshape(-1, 5)
    assert np.mean([min(holm(list(of))) < 0.05 for of in p]) <= 0.05 + 3.5 * math.sqrt(0.05 * 0.95 / len(p))


@pytest.mark.parametrize(
    ("difference", "p", "p_equivalent", "word"),
    [
        (0.004, 0.01, 0.9, "better"),
        (-0.004, 0.01, 0.9, "worse"),
        (0.0002, 0.3, 0.01, "equivalent"),
        (0.0004, 0.01, 0.01, "equivalent"),
        (0.004, 0.06, 0.9, "cannot tell"),
        (0.4, math.nan, math.nan, "cannot tell"),
    ],
)
def test_the_four_words(difference: float, p: float, p_equivalent: float, word: str) -> None:
    assert verdict(difference, p, p_equivalent) == word


def test_ten_thousand_resamples_of_a_study_take_less_than_two_seconds() -> None:
    a, b = scores(LIKE_OURS, seeds=8, patients=144, columns=29)
    began = time.process_time()
    contrast(a, b)
    assert time.process_time() - began < 2
