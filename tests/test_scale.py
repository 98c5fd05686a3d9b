"""A whole test set of the competition: 288 images of 29 classes at 2048 x 2048, scored and converted in seconds.

The processor's seconds count: those on the clock depend on what else the machine does.
"""

import time
from pathlib import Path

import numpy as np
import pytest

from carpus import competition, kernels, phantom
from carpus.formats import submission
from carpus.formats.convert import convert
from carpus.labels import BONES

SIZE, IMAGES = (2048, 2048), 288


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8,352 rows: a few hands, each moved about so that no two images are alike."""
    drawn = [phantom.hand(np.random.default_rng(seed), SIZE[0]).labels for seed in range(2)]
    shifts = [(n // 2 % 12, n // 24) for n in range(IMAGES)]
    moved = (np.roll(drawn[n % 2], shift, axis=(0, 1)) for n, shift in enumerate(shifts))
    rows = ((f"image{n:013}.png", kernels.encode(labels, len(BONES))) for n, labels in enumerate(moved))
    path = tmp_path_factory.mktemp("scale") / "truth.csv"
    submission.write(path, rows, BONES)
    return path


def test_a_submission_of_8352_rows_is_scored_in_seconds(truth: Path) -> None:
    competition.score(truth, truth)  # compiles
    began = time.process_time()
    result = competition.score(truth, truth)
    # Of one core, whatever else the machine does: 0.6 s, both files read.
    assert time.process_time() - began < 2
    assert result.counts.shape == (IMAGES, 29, 3)
    assert result.mean() == 1


def test_a_submission_of_8352_rows_becomes_annotations_and_comes_back(truth: Path, tmp_path: Path) -> None:
    began = time.process_time()
    convert(truth, tmp_path / "labels", size=SIZE)
    convert(tmp_path / "labels", tmp_path / "again.csv", size=SIZE)
    assert time.process_time() - began < 60  # 15 s on the clock of two quiet cores
    assert (tmp_path / "again.csv").read_bytes() == truth.read_bytes()
