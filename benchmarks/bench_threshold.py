"""Prediction: logits to label map, to runs, and to the text of a submission."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from benchmarks import inputs
from benchmarks.measure import Comparison, require
from carpus import kernels
from carpus import labels as label_map
from carpus.formats import rle
from carpus.labels import LabelMap

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


def equal_masks(logits: Tensor, theirs: NDArray[np.bool_], mine: Tensor) -> str:
    return differing(logits, label_map.pack(theirs), mine[0].numpy())


def equal_runs(logits: Tensor, theirs: list[NDArray[np.int64]], mine: list[list[NDArray[np.int64]]]) -> str:
    usual = [runs.reshape(-1, 2) - [1, 0] for runs in theirs]
    return differing(logits, kernels.decode(usual, SIZE), kernels.decode(mine[0], SIZE))


def equal_text(logits: Tensor, theirs: list[str], mine: list[str]) -> str:
    if theirs == mine:
        return "the same text"
    return differing(logits, *(kernels.decode([rle.parse(text, SIZE, "text") for text in texts], SIZE)
                               for texts in (theirs, mine)))  # fmt: skip


def differing(logits: Tensor, theirs: LabelMap, mine: LabelMap) -> str:
    """How many pixels differ; each must be at the threshold: float32's sigmoid is 0.5 for logits up to 9e-8."""
    count = 0
    for k in range(logits.shape[1]):
        pixels = label_map.has(theirs ^ mine, k)
        if pixels.any():
            z = functional.interpolate(logits[:, k : k + 1], theirs.shape, mode="bilinear", align_corners=False)
            z = z[0, 0].numpy()[pixels]
            require(((z > 0) & (z < 1e-7)).all(), f"class {k} differs at logits up to {np.abs(z).max():.1e}")
            count += len(z)
    of = theirs.size * logits.shape[1]
    return f"{count} of {of} pixels differ, each at the threshold" if count else "the same pixels"


def comparisons(quick: bool) -> Iterator[Comparison]:
    x, noise = inputs.logits(), inputs.noise()
    yield Comparison(
        "logits to label map",
        lambda: masks(x),
        lambda: kernels.threshold(x, HALF, SIZE),
        partial(equal_masks, x),
    )
    for name, logits in (("logits to runs", x), ("logits to runs, pure noise", noise)):
        yield Comparison(
            name,
            lambda logits=logits: usual_runs(logits),
            lambda logits=logits: kernels.run_lengths(logits, HALF, SIZE),
            partial(equal_runs, logits),
        )
    yield Comparison("logits to RLE text", lambda: usual_text(x), lambda: our_text(x), partial(equal_text, x))
