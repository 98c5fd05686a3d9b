"""Score of a submission against another, both as CSV: decode every mask and multiply, against `competition.score`."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas
from numpy.typing import NDArray

from benchmarks import inputs
from benchmarks.measure import Comparison, require
from carpus import competition, kernels
from carpus.formats import submission
from carpus.labels import BONES, LabelMap

IMAGES = 288
"""As many as the competition's test set."""


def decode(rle: str) -> NDArray[np.uint8]:
    """The competition's own decoder."""
    numbers = np.array(rle.split(), int)
    mask = np.zeros(inputs.SIZE * inputs.SIZE, np.uint8)
    for start, length in zip(numbers[::2] - 1, numbers[1::2], strict=True):
        mask[start : start + length] = 1
    return mask


def usual(prediction: Path, truth: Path) -> NDArray[np.float64]:
    """(N, K), masks one at a time."""
    tables = [pandas.read_csv(path, keep_default_na=False) for path in (prediction, truth)]
    both = tables[0].merge(tables[1], on=["image_name", "class"], validate="one_to_one")
    found = []
    for ours, theirs in zip(both["rle_x"], both["rle_y"], strict=True):
        a, b = decode(ours), decode(theirs)
        found.append((2 * (a * b).sum(dtype=int) + 1e-4) / (a.sum(dtype=int) + b.sum(dtype=int) + 1e-4))
    return np.array(found).reshape(-1, len(BONES))


def equal(theirs: NDArray[np.float64], mine: competition.Score) -> str:
    return require(np.abs(theirs - mine.dice).max() < 1e-12, "the same Dice within 1e-12")


def write(path: Path, labels: LabelMap, images: int) -> Path:
    """A submission of one hand, moved a little further from image to image."""
    moved = (np.roll(labels, (n // 24, n % 24), axis=(0, 1)) for n in range(images))
    submission.write(path, ((f"{n:03}.png", kernels.encode(each, len(BONES))) for n, each in enumerate(moved)), BONES)
    return path


def comparisons(quick: bool) -> Iterator[Comparison]:
    images = 4 if quick else IMAGES
    folder = Path(tempfile.mkdtemp(prefix="carpus-benchmark-"))
    try:
        truth = write(folder / "truth.csv", inputs.hand().labels, images)
        prediction = write(folder / "prediction.csv", inputs.other_labels(), images)
        yield Comparison(
            f"score of {images} images from CSVs",
            lambda: usual(prediction, truth),
            lambda: competition.score(prediction, truth),
            equal,
        )
    finally:
        shutil.rmtree(folder)
