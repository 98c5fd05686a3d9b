"""Prediction: logits to label map, to runs, and to the text of a submission."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from benchmarks import inputs
from benchmarks.measure import Comparison, require
from carpus import kernels

SIZE = (inputs.SIZE, inputs.SIZE)
HALF = torch.full((inputs.CLASSES,), 0.5)


def masks(logits: Tensor) -> NDArray[np.bool_]:
    z = functional.interpolate(logits, SIZE, mode="bilinear", align_corners=False)
    return (torch.sigmoid(z) > 0.5)[0].numpy()


def usual_runs(logits: Tensor) -> list[NDArray[np.int64]]:
    return runs_of(masks(logits))


def runs_of(planes: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """The competition's own encoder: a zero at both ends, positions where neighbours differ."""
    found = []
    for mask in planes:
        pixels = np.concatenate([[0], mask.flatten(), [0]])
        runs = np.where(pixels[1:] != pixels[:-1])[0] + 1
        runs[1::2] -= runs[::2]
        found.append(runs)
    return found


def usual_text(logits: Tensor) -> list[str]:
    return text_of(masks(logits))


def text_of(planes: NDArray[np.bool_]) -> list[str]:
    return [" ".join(str(value) for value in runs) for runs in runs_of(planes)]


def our_text(logits: Tensor) -> list[str]:
    return [kernels.text(runs) for runs in kernels.run_lengths(logits, HALF, SIZE)[0]]


def equal_masks(theirs: NDArray[np.bool_], mine: Tensor) -> str:
    different = sum(int(((mine[0].numpy() >> k & 1) != mask).sum()) for k, mask in enumerate(theirs))
    return differing(different, theirs.size)


def differing(pixels: int, of: int) -> str:
    """sigmoid rounds to 0.5 for logits up to 6e-8, which are above the threshold all the same."""
    return require(pixels <= of * 1e-7, f"{pixels} of {of} pixels differ, by rounding at the threshold")


def equal_runs(theirs: list[NDArray[np.int64]], mine: list[list[NDArray[np.int64]]]) -> str:
    pixels = 0
    for k, runs in enumerate(theirs):
        usual = runs.reshape(-1, 2) - [1, 0]
        if not np.array_equal(usual, mine[0][k]):
            a, b = kernels.decode([usual], SIZE), kernels.decode([mine[0][k]], SIZE)
            pixels += int((a != b).sum())
    return differing(pixels, len(theirs) * SIZE[0] * SIZE[1])


def equal_text(theirs: list[str], mine: list[str]) -> str:
    return require(theirs == mine, "the same text")


def comparisons(quick: bool) -> Iterator[Comparison]:
    x, noise = inputs.logits(), inputs.noise()
    yield Comparison("logits to label map", lambda: masks(x), lambda: kernels.threshold(x, HALF, SIZE), equal_masks)
    yield Comparison("logits to runs", lambda: usual_runs(x), lambda: kernels.run_lengths(x, HALF, SIZE), equal_runs)
    yield Comparison("logits to RLE text", lambda: usual_text(x), lambda: our_text(x), equal_text)
    yield Comparison(
        "logits to runs, pure noise",
        lambda: usual_runs(noise),
        lambda: kernels.run_lengths(noise, HALF, SIZE),
        equal_runs,
    )
