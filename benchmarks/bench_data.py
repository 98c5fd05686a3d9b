"""From a case to a training batch of one image at label resolution 2048, and the first decoding of a case.

The usual way: `cv2.imread`, one `cv2.fillPoly` a class into 29 planes, resized image, then for every sample one
`warpAffine` a plane and the changes of intensity in float32, as albumentations makes them (`Affine`, `RandomGamma`,
`GaussNoise`, `ToTensor`). Both sides draw the same warp. All on one core, whose images a second they are.

Each side ends in what its own loss takes: the usual in (1, 29, L, L) float32, ours in (1, L, L) int32. Ours are
unpacked to planes and compared pixel for pixel before anything is timed. Unpacking is no part of our time, because no
step of ours needs planes; what is left of the gain where one does is the row that ends in planes on both sides.
"""

import json
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import cv2
import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.measure import Comparison, require
from carpus import augment, data, phantom
from carpus import labels as label_map
from carpus.batches import Batches
from carpus.labels import BONES

SIDE, IMAGE = 2048, 1024
LIMITS = augment.Settings(
    rotation_deg=45, scale=0.15, shift=0.06, flip=True, gamma=0.25, contrast=0.2, brightness=0.05, noise=0.03
)
WARP_ONLY = augment.Settings(rotation_deg=45, scale=0.15, shift=0.06, flip=True)

Planes = NDArray[np.uint8]
Sample = tuple[Tensor, Tensor]
"""Images (1, 1, S, S) float32 in 0..1, and labels as the loss of the side takes them."""

SEED = 1


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


def usual_sample(image: NDArray[np.uint8], planes: Planes, limits: augment.Settings) -> Sample:
    """The same random numbers as ours, so that both sides do the same work."""
    for_warp, _, _, for_grey, _ = np.random.default_rng([SEED, 1, 0]).spawn(5)
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
    return torch.from_numpy(grey.astype(np.float32))[None, None], torch.from_numpy(targets)[None]


def ours_sample(cache: data.Cache, limits: augment.Settings) -> Sample:
    batch = Batches([case()], cache, limits, batch_size=1, seed=SEED)(0)
    return batch.images, batch.labels


def in_planes(labels: Tensor) -> Tensor:
    """(1, L, L) int32 to (1, 29, L, L) float32."""
    return torch.from_numpy(label_map.unpack(labels[0].numpy(), len(BONES)).astype(np.float32))[None]


def equal(theirs: Sample, mine: Sample) -> str:
    labels = mine[1] if mine[1].ndim == 4 else in_planes(mine[1])
    apart = float((theirs[0] - mine[0]).abs().max())
    spread = abs(float(theirs[0].std() - mine[0].std()))
    # The usual way interpolates the 8-bit image and then works in float32, ours looks up a table: rounding apart. Noise
    # is drawn in another way, so that only its size can be compared.
    image = f"image within {apart:.0e}" if apart < 1e-5 else f"image's SD within {spread:.0e}"
    return require(torch.equal(theirs[1], labels) and spread < 1e-2, f"29 planes equal, {image}")


def equal_decoded(theirs: tuple[NDArray, Planes], mine: tuple[NDArray, NDArray]) -> str:
    same = np.array_equal(theirs[0], mine[0]) and np.array_equal(theirs[1], label_map.unpack(mine[1], len(BONES)))
    return require(same, "image and 29 planes equal")


def comparisons(quick: bool) -> Iterator[Comparison]:
    threads = cv2.getNumThreads(), torch.get_num_threads(), numba.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    try:
        yield Comparison("decode a case, PNG + JSON", usual_decode, ours_decode, equal_decoded, images=1)
        image, planes = usual_decode()
        cache = data.Cache(BONES, IMAGE, SIDE, 1 << 30)
        cache(case())
        for name, limits in {"warp alone": WARP_ONLY, "all changes": LIMITS}.items():
            yield Comparison(
                f"a training sample, {name}; both decoded before",
                lambda limits=limits: usual_sample(image, planes, limits),
                lambda limits=limits: ours_sample(cache, limits),
                equal,
                images=1,
            )

        def ours_in_planes() -> Sample:
            grey, labels = ours_sample(cache, LIMITS)
            return grey, in_planes(labels)

        yield Comparison(
            "the same, both ending in float32 planes",
            lambda: usual_sample(image, planes, LIMITS),
            ours_in_planes,
            equal,
            images=1,
        )
        yield Comparison(
            "a training sample, all changes; usual from the files, ours from the cache",
            lambda: usual_sample(*usual_decode(), LIMITS),
            lambda: ours_sample(cache, LIMITS),
            equal,
            images=1,
        )
    finally:
        cv2.setNumThreads(threads[0])
        torch.set_num_threads(threads[1])
        numba.set_num_threads(threads[2])
