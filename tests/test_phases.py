"""Seconds and memory by phase."""

import time

import numpy as np
import pytest

from carpus import phases
from carpus.phases import Phases


def test_a_phase_within_another_is_not_counted_twice() -> None:
    spent, begun = Phases(), time.perf_counter()
    with spent("train"):
        time.sleep(0.05)
        with spent("validate"):
            time.sleep(0.1)
        time.sleep(0.05)
    assert spent.seconds["train"] >= 0.1
    assert spent.seconds["validate"] >= 0.1
    assert sum(spent.seconds.values()) <= time.perf_counter() - begun
    with spent("validate"):
        time.sleep(0.1)
    assert spent.seconds["validate"] >= 0.2


def test_a_phase_that_fails_is_counted_too() -> None:
    spent = Phases()
    with pytest.raises(ZeroDivisionError), spent("train"):
        1 / 0  # noqa: B018
    assert set(spent.seconds) == set(spent.peak_mib) == {"train"}


def test_the_peak_is_that_of_the_phase() -> None:
    spent = Phases()
    with spent("large"):
        np.ones((256, 1 << 20), np.uint8).sum()
    with spent("small"):
        pass
    if phases.peak_mib() < spent.peak_mib["large"]:  # not every system forgets a peak
        assert spent.peak_mib["large"] > spent.peak_mib["small"] + 200
