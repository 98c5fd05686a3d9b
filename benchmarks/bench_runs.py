"""Files of masks: runs to label map, label map to runs; the competition's code and pycocotools."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from benchmarks import inputs
from benchmarks.measure import Comparison, require
from carpus import kernels
from carpus import labels as label_map
from carpus.formats import rle

K, SIZE = inputs.CLASSES, (inputs.SIZE, inputs.SIZE)


def usual_decode(texts: list[str]) -> NDArray[np.uint8]:
    """The competition's own decoder, into planes."""
    planes = np.zeros((K, SIZE[0] * SIZE[1]), np.uint8)
    for plane, text in zip(planes, texts, strict=True):
        words = text.split()
        starts, lengths = (np.asarray(x, dtype=int) for x in (words[0:][::2], words[1:][::2]))
        for low, high in zip(starts - 1, starts - 1 + lengths, strict=True):
            plane[low:high] = 1
    return planes.reshape(K, *SIZE)


def usual_encode(planes: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    found = []
    for mask in planes:
        pixels = np.concatenate([[0], mask.flatten(), [0]])
        runs = np.where(pixels[1:] != pixels[:-1])[0]
        runs[1::2] -= runs[::2]
        found.append(runs.reshape(-1, 2))
    return found


def parsed(texts: list[str]) -> NDArray[np.int32]:
    return kernels.decode([rle.parse(text, SIZE, "text") for text in texts], SIZE)


def packed(stack: NDArray[np.uint8]) -> NDArray[np.int32]:
    return label_map.pack(stack.transpose(2, 0, 1).astype(bool))


def comparisons(quick: bool) -> Iterator[Comparison]:
    labels = inputs.hand().labels
    planes, runs = label_map.unpack(labels, K), kernels.encode(labels, K)
    texts = [kernels.text(of_class) for of_class in runs]
    yield Comparison(
        "RLE text to masks",
        lambda: usual_decode(texts),
        lambda: parsed(texts),
        lambda theirs, mine: require(np.array_equal(label_map.pack(theirs.astype(bool)), mine), "the same pixels"),
    )
    yield Comparison(
        "masks to runs",
        lambda: usual_encode(planes),
        lambda: kernels.encode(labels, K),
        lambda theirs, mine: require(all(map(np.array_equal, theirs, mine)), "the same runs"),
    )

    # COCO's runs go down the columns of an array in Fortran's order, and are written as bytes.
    stack = np.asfortranarray(planes.transpose(1, 2, 0).astype(np.uint8))
    written = coco.encode(stack)
    yield Comparison(
        "RLE text to masks, against pycocotools",
        lambda: coco.decode(written),
        lambda: parsed(texts),
        lambda theirs, mine: require(np.array_equal(packed(theirs), mine), "the same pixels"),
    )
    yield Comparison(
        "masks to RLE text, against pycocotools",
        lambda: coco.encode(stack),
        lambda: [kernels.text(of_class) for of_class in kernels.encode(labels, K)],
        lambda theirs, mine: require(
            np.array_equal(packed(coco.decode(theirs)), parsed(mine)), "the same pixels when read"
        ),
    )
