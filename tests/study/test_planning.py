"""Planning gives the sizes that textbooks give, and more where both patients and seeds are few."""

import math

import pytest

from carpus.study import planning
from carpus.study.planning import Design
from carpus.study.stats import Spread


@pytest.mark.parametrize(("sd", "patients"), [(0.004, 128), (0.006, 285), (0.008, 505)])
def test_patients_alone_as_of_a_paired_t_test(sd: float, patients: int) -> None:
    assert planning.alone(0.001, Spread(sd, 0.0))[1] == patients


@pytest.mark.parametrize(("sd", "seeds"), [(0.0005, 6), (0.0007, 9), (0.001, 17), (0.0015, 37)])
def test_seeds_alone_as_of_a_two_sample_t_test(sd: float, seeds: int) -> None:
    assert planning.alone(0.001, Spread(0.0, sd))[0] == seeds


def test_together_both_are_needed_and_more() -> None:
    spread = Spread(0.006, 0.0007, 0.003)
    seeds, patients = planning.alone(0.001, spread)
    assert planning.patients(0.001, seeds or 0, spread) is None or (
        planning.patients(0.001, seeds or 0, spread) or 0
    ) > (patients or 0)
    assert planning.seeds(0.001, patients or 0, spread) is None
    needed = planning.patients(0.001, 20, spread)
    assert needed is not None
    assert (
        planning.power(0.001, Design(20, needed), spread) >= 0.8 > planning.power(0.001, Design(20, needed - 1), spread)
    )


def test_the_detectable_effect_is_found_with_the_power_asked_for() -> None:
    spread, design = Spread(0.006, 0.0007, 0.003), Design(3, 144)
    effect = planning.detectable(design, spread, wanted=0.9)
    assert planning.power(effect, design, spread) == pytest.approx(0.9, abs=1e-3)
    assert planning.detectable(design, spread, level=0.005) > planning.detectable(design, spread)


def test_one_seed_has_no_power() -> None:
    assert planning.power(0.5, Design(1, 1000), Spread(0.006, 0.0007)) == 0
    assert math.isinf(planning.detectable(Design(1, 1000), Spread(0.006, 0.0007)))


def test_enough_is_enough_and_never_less_than_there_is() -> None:
    spread = Spread(0.006, 0.0007, 0.003)
    for effect in (0.0005, 0.001, 0.002, 0.01):
        found = planning.enough(effect, Design(3, 144), spread)
        assert found is not None
        assert found.seeds >= 3
        assert found.patients >= 144
        assert planning.power(effect, found, spread) >= 0.8
    assert planning.enough(1e-9, Design(3, 144), spread) is None


def test_no_more_seeds_are_advised_than_are_told() -> None:
    scattered = Spread(0.001, 0.004, 0.001)
    needed = planning.seeds(0.001, planning.MOST_PATIENTS, scattered)
    assert needed is not None
    assert needed > planning.MOST_ADVISED
    assert planning.enough(0.001, Design(3, 144), scattered) is None
    many = planning.enough(0.001, Design(80, 144), scattered)
    assert many is not None
    assert planning.MOST_ADVISED < many.seeds <= 4 * 80


def test_a_pilot_is_pooled_without_the_contrasts_whose_runs_share_trainings() -> None:
    apart, shared = Spread(0.003, 0.001, 0.002), Spread(0.001, 0.0, 0.0, paired=True)
    assert planning.pooled([apart, shared]) == planning.pooled([apart])
    assert planning.pooled([shared]) == shared
    assert planning.pooled([]) is None
