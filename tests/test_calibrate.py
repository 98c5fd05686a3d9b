"""A calibration keeps what helps and nothing else."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from carpus import calibrate, config, phantom, run, train
from carpus.calibrate import CANDIDATES
from carpus.errors import ConfigError
from carpus.labels import BONES, Classes
from carpus.postprocess import Calibration

FOUR = Classes(("a", "b", "c", "d"))


def drawn(seed: int, patients: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Dice of two images a patient, no candidate better than another: noise around a patient's own level."""
    random = np.random.default_rng(seed)
    level = np.repeat(random.normal(0.95, 0.01, (patients, 1, 1)), 2, axis=0)
    table = level + random.normal(0, 0.003, (2 * patients, len(CANDIDATES), 4))
    return table, np.repeat([f"ID{n:03}" for n in range(patients)], 2)


def test_where_nothing_helps_nothing_is_kept() -> None:
    kept = sum(bool(calibrate.fit(*drawn(seed), FOUR)[1]) for seed in range(60))
    # 5 % at most by design; 60 draws could show 8 by chance once in a hundred.
    assert kept <= 8


def test_what_helps_is_kept_with_its_effect() -> None:
    table, patients = drawn(0)
    better = next(n for n, step in enumerate(CANDIDATES) if step.threshold == 0.35)
    filled = next(n for n, step in enumerate(CANDIDATES) if step.fill)
    table[:, better, 1] += 0.01
    table[:, filled, 1] += 0.01
    steps, kept = calibrate.fit(table, patients, FOUR)
    assert set(steps) == {"b"}
    assert (steps["b"].threshold, steps["b"].fill, steps["b"].largest) == (0.35, True, False)
    assert [each.kind for each in kept] == ["threshold", "fill"]
    for each in kept:
        assert each.low < 0.01 < each.high
        assert each.effect == pytest.approx(0.01, abs=0.002)


def test_patients_count_not_images() -> None:
    gains = np.array([1.0, 1.0, 1.0, 1.0, 0.0, 0.0])
    patients = np.array(["a", "a", "a", "a", "b", "c"])
    mean, low, high = calibrate.interval(gains, patients, 0.05)
    assert mean == pytest.approx(1 / 3)
    assert high - mean == pytest.approx(mean - low)
    assert calibrate.interval(gains[:4], patients[:4], 0.05)[1] == -np.inf


@pytest.mark.parametrize("freedom", [9, 19, 79])
@pytest.mark.parametrize("probability", [0.975, 1 - 0.0002])
def test_the_quantiles_are_students(freedom: int, probability: float) -> None:
    exact = stats.t.ppf(probability, freedom)
    assert calibrate._student(probability, freedom) == pytest.approx(exact, rel=0.01)


def test_runs_of_two_folds_become_a_calibration(
    tiny: Callable[..., config.Config], tmp_path: Path, dataset: Path, trained: Path
) -> None:
    root, runs = tmp_path / "data", []
    phantom.write(root, patients=10, test_patients=0, size=64, seed=2)
    for fold in (0, 1):
        train.train(tiny(f"data.fold={fold}", "data.label_size=64", "train.steps=2"), root, tmp_path / str(fold))
        runs.append(run.read(tmp_path / str(fold)))
    done: list[tuple[int, int]] = []
    found = calibrate.calibrate(runs, root, tmp_path / "c.json", progress=lambda *now: done.append(now))
    assert (found.images, found.patients, done[-1]) == (20, 10, (40, 40))
    assert found.low <= found.effect <= found.high
    assert Calibration.read(tmp_path / "c.json", BONES).steps == found.calibration.steps
    assert json.loads((tmp_path / "c.json").read_text())["effect"]["dice"] == found.effect
    with pytest.raises(ConfigError, match=r"holds out ID\d+, as .* does"):
        calibrate.calibrate([runs[0], run.read(_copy(runs[0].path))], root, tmp_path / "d.json")
    with pytest.raises(ConfigError, match="2 patients are held out"):
        calibrate.calibrate([run.read(trained)], dataset, tmp_path / "d.json")
    assert not (tmp_path / "d.json").exists()


def _copy(path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(path, path.with_name("copy")))
