"""Bent wrists and hard cases are drawn more often, and the batch stays a function of (seed, step)."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas
import pytest

from carpus import augment, config, data, evaluate, phantom, sampling
from carpus.batches import Batches
from carpus.errors import ConfigError, DataError
from carpus.labels import BONES, Classes
from carpus.phantom.anatomy import Wrist


@pytest.fixture(scope="module")
def cases(dataset: Path) -> tuple[data.Case, ...]:
    return data.read(dataset).train


def counts(cases: tuple[data.Case, ...], weights: list[float] | None, epochs: int) -> Counter[str]:
    cache = data.Cache(BONES, 32, 32, 1)
    batches = Batches(cases, cache, augment.Settings(), batch_size=len(cases), seed=3, weights=weights)
    return Counter(case.name for epoch in range(epochs) for case in batches.cases_of(epoch))


def test_a_case_comes_as_often_as_its_weight_says(cases: tuple[data.Case, ...]) -> None:
    weights = [3.0] + [1.0] * (len(cases) - 1)
    seen = counts(cases, weights, 50)
    assert sum(seen.values()) == 50 * len(cases)
    share = 3 / sum(weights)
    assert seen[cases[0].name] == pytest.approx(50 * len(cases) * share, abs=10)
    one = counts(cases, weights, 1)
    assert one[cases[0].name] in (int(len(cases) * share), int(len(cases) * share) + 1)


def test_equal_weights_are_every_case_once_an_epoch(cases: tuple[data.Case, ...]) -> None:
    assert set(counts(cases, [1.0] * len(cases), 1).values()) == {1}
    assert sampling.weights(cases, config.Data(), BONES) is None


@pytest.mark.parametrize("wrist", ["straight", "bent"])
def test_the_labels_tell_a_bent_wrist(wrist: Wrist) -> None:
    hands = [phantom.hand(np.random.default_rng(seed), 256, wrist=wrist) for seed in range(12)]
    assert np.mean([sampling.bent(hand.labels) == (wrist == "bent") for hand in hands]) > 0.9


def test_a_map_with_too_few_bones_is_not_bent() -> None:
    assert not sampling.bent(np.ones((32, 32), np.int32))


def test_hard_cases_are_those_a_table_of_scores_says(cases: tuple[data.Case, ...], tmp_path: Path) -> None:
    rows = [(case.name, case.patient, "val", "Ulna", "dice", 0.9 - 0.1 * (n < 2)) for n, case in enumerate(cases)]
    evaluate.save(tmp_path, pandas.DataFrame(rows, columns=list(evaluate.COLUMNS)))
    options = config.Data(hard=str(tmp_path / "scores.csv"), hard_weight=4.0)
    assert sampling.weights(cases, options, BONES) == [4.0] * 2 + [1.0] * (len(cases) - 2)


def test_a_table_that_knows_no_case_is_named(cases: tuple[data.Case, ...], tmp_path: Path) -> None:
    table = pandas.DataFrame([("x", "y", "val", "Ulna", "dice", 0.9)], columns=list(evaluate.COLUMNS))
    evaluate.save(tmp_path, table)
    with pytest.raises(DataError, match="knows none of the 8 training cases"):
        sampling.weights(cases, config.Data(hard=str(tmp_path / "scores.csv")), BONES)


def test_only_bones_bend(cases: tuple[data.Case, ...]) -> None:
    with pytest.raises(ConfigError, match=r"data\.bent_weight"):
        sampling.weights(cases, config.Data(bent_weight=2.0), Classes(("Radius", "Ulna")))
