"""Score: Dice counts of two label maps, and of two sets of runs."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import inputs
from benchmarks.measure import Comparison, require
from carpus import kernels
from carpus import labels as label_map

K = inputs.CLASSES


def usual(a: torch.Tensor, b: torch.Tensor) -> NDArray[np.int64]:
    """The competition's Dice on planes: flatten, float, multiply, add."""
    a, b = a.flatten(1).float(), b.flatten(1).float()
    return torch.stack([(a * b).sum(1), a.sum(1), b.sum(1)], dim=1).numpy().astype(np.int64)


def equal(theirs: NDArray[np.int64], mine: NDArray[np.int64]) -> str:
    return require(np.array_equal(theirs, np.asarray(mine)), "the same counts")


def comparisons(quick: bool) -> Iterator[Comparison]:
    a, b = inputs.hand().labels, inputs.other_labels()
    planes = [torch.from_numpy(label_map.unpack(labels, K)) for labels in (a, b)]
    yield Comparison("Dice of label maps", lambda: usual(*planes), lambda: kernels.overlap(a, b, K), equal)
    runs = list(zip(kernels.encode(a, K), kernels.encode(b, K), strict=True))
    yield Comparison(
        "Dice of run lengths", lambda: usual(*planes), lambda: [kernels.overlap_runs(*pair) for pair in runs], equal
    )
