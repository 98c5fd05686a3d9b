"""From decoded files to a training batch at label resolution 2048, and the first decoding of a case.

The usual way: `cv2.imread`, one `cv2.fillPoly` a class into 29 planes, resized image, then for every sample one
`warpAffine` a plane and the changes of intensity in float32, as albumentations makes them (`Affine`, `RandomGamma`,
`GaussNoise`, `ToTensor`). Both sides draw the same warp; the labels are compared first, pixel for pixel. All on one
core, so that images a second are those of one worker.
"""

import json
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Comparison, require
from carpus import augment, data, phantom
from carpus import labels as label_map
from carpus.labels import BONES

SIDE, IMAGE = 2048, 1024
LIMITS = augment.Settings(
    rotation_deg=45, scale=0.15, shift=0.06, flip=True, gamma=0.25, contrast=0.2, brightness=0.05, noise=0.03
)
WARP_ONLY = augment.Settings(rotation_deg=45, scale=0.15, shift=0.06, flip=True)

Planes = NDArray[np.uint8]
Sample = tuple[NDArray[np.float32], NDArray]


@lru_cache
def case() -> data.Case:
    folder = tempfile.TemporaryDirectory()
    cases.append(folder)  # lives as long as the process
    phantom.write(Path(folder.name) / "data", patients=1, test_patients=1, size=SIDE, seed=0)
    return data.read(Path(folder.name) / "data").train[0]


cases: list[tempfile.TemporaryDirectory[str]] = []


def usual_decode() -> tuple[NDArray[np.uint8], Planes]:
    image = cv2.imread(str(case().image), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    planes = np.zeros((len(BONES), SIDE, SIDE), np.uint8)
    content = json.loads(Path(str(case().annotation)).read_text(encoding="utf-8"))
    for one in content["annotations"]:
        cv2.fillPoly(planes[BONES.index(one["label"])], [np.array(one["points"])], (1,))
    small = cv2.resize(image, (IMAGE, IMAGE), interpolation=cv2.INTER_AREA)
    return small.astype(np.uint8, copy=False), planes


def ours_decode() -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    return data.Cache(BONES, IMAGE, SIDE, 1 << 30)(case())


def usual_sample(image: NDArray[np.uint8], planes: Planes, limits: augment.Settings, seed: int) -> Sample:
    """The same random numbers as ours, so that both sides do the same work."""
    for_warp, _, _, for_grey, _ = np.random.default_rng(seed).spawn(5)
    matrix = augment._draw_matrix(limits, for_warp)

    def warped(picture: NDArray, side: int, method: int) -> NDArray:
        middle = (side - 1) / 2
        offset = middle - matrix[:, :2] @ [middle, middle] + matrix[:, 2] * side
        inverse = np.column_stack([matrix[:, :2], offset])
        return cv2.warpAffine(picture, inverse, (side, side), flags=method | cv2.WARP_INVERSE_MAP)

    targets = np.stack([warped(plane, SIDE, cv2.INTER_NEAREST) for plane in planes]).astype(np.float32)
    grey = warped(image, IMAGE, cv2.INTER_LINEAR).astype(np.float32) / 255
    gamma, contrast, brightness = for_grey.uniform(-1, 1, 3)
    noise = for_grey.random(3)[0] * limits.noise
    grey = np.power(grey, (1 + limits.gamma) ** gamma) * (1 + limits.contrast) ** contrast
    grey = np.clip(grey + brightness * limits.brightness, 0, 1)
    if noise:
        grey = np.clip(grey + for_grey.normal(0, noise, grey.shape), 0, 1)
    return grey.astype(np.float32), targets


def equal(theirs: Sample, mine: Sample) -> str:
    differing = int((label_map.pack(theirs[1].astype(bool)) != mine[1]).sum())
    apart = float(np.abs(theirs[0] - mine[0]).max())
    # The usual way interpolates the 8-bit image and then works in float32, ours looks up a table: rounding apart.
    return require(differing == 0 and apart < 1e-5, f"labels equal, image within {apart:.0e}")


def equal_decoded(theirs: tuple[NDArray, Planes], mine: tuple[NDArray, NDArray]) -> str:
    same = np.array_equal(theirs[0], mine[0]) and np.array_equal(label_map.pack(theirs[1].astype(bool)), mine[1])
    return require(same, "image and labels equal")


def comparisons(quick: bool) -> Iterator[Comparison]:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield Comparison("decode a case, PNG + JSON", usual_decode, ours_decode, equal_decoded)
        image, planes = usual_decode()
        cache = data.Cache(BONES, IMAGE, SIDE, 1 << 30)
        cache(case())

        def ours(limits: augment.Settings, seed: int) -> Sample:
            return augment.apply(*cache(case()), limits, np.random.default_rng(seed))

        yield Comparison(
            "a training sample, warp alone",
            lambda: usual_sample(image, planes, WARP_ONLY, 1),
            lambda: ours(WARP_ONLY, 1),
            equal,
        )

        def equal_labels(theirs: Sample, mine: Sample) -> str:
            # The noise is drawn in another way, so that only its size can be compared.
            spread = abs(float(theirs[0].std() - mine[0].std()))
            differing = int((label_map.pack(theirs[1].astype(bool)) != mine[1]).sum())
            return require(differing == 0 and spread < 1e-2, f"labels equal, image's SD within {spread:.0e}")

        yield Comparison(
            "a training sample, all changes",
            lambda: usual_sample(image, planes, LIMITS, 1),
            lambda: ours(LIMITS, 1),
            equal_labels,
        )
    finally:
        cv2.setNumThreads(threads)
