"""A synthetic data set in the competition's layout, its traps included.

    OUT/train/DCM/ID001/image<13 digits>_R.png     OUT/train/outputs_json/ID001/image<13 digits>_R.json
    OUT/test/DCM/ID005/image<13 digits>.png        OUT/test_labels/outputs_json/ID005/image<13 digits>.json
    OUT/meta_data.xlsx                             OUT/test_labels/submission.csv, OUT/test_labels/public.txt

Every image has a generator of its own, seeded by (seed, split, patient, hand), so an image does not depend on how
many others there are, nor on the threads that make them.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from carpus.errors import ConfigError, DataError
from carpus.formats import annotations, files, images, submission
from carpus.kernels import Runs, encode
from carpus.labels import BONES, LabelMap
from carpus.phantom import table
from carpus.phantom.anatomy import Points, Side, Wrist
from carpus.phantom.hands import Hand, filled, hand, outward_normals, within
from carpus.phantom.skeleton import Patient, patient

BENT_SHARE = {"train": 0.115, "test": 0.576}
"""How many hands are bent in the real training and test images."""

SMALLEST, LARGEST = 64, 8192
"""Sides of an image in pixels; larger ones take gigabytes each while they are drawn."""

_SPLITS = ("train", "test")
_TEST_OF_15 = (5, 8, 10, 13)
_FIRST_STAMP = 1_661_130_000_000
_STAMP_STEP = 4_800_000


@dataclass(frozen=True)
class Summary:
    """What `write` wrote: base names of the images, in the order of folder and file."""

    out: Path
    train: tuple[str, ...]
    test: tuple[str, ...]
    public: tuple[str, ...]


@dataclass(frozen=True)
class _Case:
    split: str
    number: int
    side: Side
    wrist: Wrist
    name: str
    who: Patient
    generator: np.random.Generator


def write(
    out: Path | str,
    *,
    patients: int = 20,
    test_patients: int = 8,
    size: int = 2048,
    seed: int = 0,
    annotation_noise_px: float = 0.0,
    domain_shift: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> Summary:
    """Write a synthetic data set in the competition's layout, whole or not at all.

    Two hands a patient. Test labels lie apart, in OUT/test_labels, with the truth as a submission and the names
    of the public half of the test images (whole patients); the others are private. At a `size` other than 2048
    the same hands are drawn.

    Args:
        out: the folder to make; it must not exist or be empty.
        patients: of the training split, at least 1.
        test_patients: of the test split, 0 or more.
        size: width and height of the images in pixels.
        seed: the same seed gives the same bytes; more patients do not change the first ones.
        annotation_noise_px: sigma of a smooth displacement of the outlines in the written *training* labels, in
            pixels of the written image.
        domain_shift: 0 to 1, how much exposure, blur and noise of the *test* images differ.
        progress: called with (images done, images in all).

    Raises:
        DataError: `out` is a file or has content.
        ConfigError: a number out of range.
    """
    out = Path(out)
    if patients < 1 or test_patients < 0:
        raise ConfigError(f"patients: expected at least 1 and 0 test patients, got {patients} and {test_patients}")
    if not SMALLEST <= size <= LARGEST:
        raise ConfigError(f"size: expected {SMALLEST} to {LARGEST} pixels, got {size}")
    if annotation_noise_px < 0:
        raise ConfigError(f"annotation_noise_px: expected 0 or more, got {annotation_noise_px}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: exists and is not an empty folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    cases = sorted(
        (*_cases("train", patients, seed), *_cases("test", test_patients, seed)),
        key=lambda c: (c.split, c.number, c.name),
    )
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        truth: dict[str, list[Runs]] = {}

        def make(case: _Case) -> tuple[_Case, list[Runs] | None]:
            shift = domain_shift if case.split == "test" else 0.0
            noise = annotation_noise_px if case.split == "train" else 0.0
            return case, _write_case(work, case, size, noise, shift)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for done, (case, runs) in enumerate(pool.map(make, cases), start=1):
                if runs is not None:
                    truth[f"{case.name}.png"] = runs
                if progress is not None:
                    progress(done, len(cases))
        test = [case for case in cases if case.split == "test"]
        public = tuple(f"{case.name}.png" for case in test if _is_public(case.number))
        (work / "test" / "DCM").mkdir(parents=True, exist_ok=True)
        submission.write(work / "test_labels" / "submission.csv", truth.items(), BONES)
        files.write_text(work / "test_labels" / "public.txt", "".join(f"{name}\n" for name in public))
        table.write(work, [(case.number, case.who) for case in cases if case.side == "right"], seed)
        work.chmod(0o755)
        if out.exists():
            out.rmdir()
        work.replace(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    train = tuple(f"{case.name}.png" for case in cases if case.split == "train")
    return Summary(out, train, tuple(truth), public)


def _cases(split: str, patients: int, seed: int) -> Iterator[_Case]:
    numbers = _numbers(split)
    # Evenly spread over the patients, so that a small set has its share of bent wrists too.
    start = float(np.random.default_rng(np.random.SeedSequence([seed, _SPLITS.index(split)])).random())
    for index in range(patients):
        number = next(numbers)
        shared = np.random.default_rng(np.random.SeedSequence([seed, _SPLITS.index(split), number]))
        who = patient(shared)
        bent = (start + index * 0.6180339887) % 1 < BENT_SHARE[split]
        stamp = _FIRST_STAMP + number * _STAMP_STEP + int(shared.integers(2_000_000))
        for which, side in enumerate(("right", "left")):
            generator = np.random.default_rng(np.random.SeedSequence([seed, _SPLITS.index(split), number, which]))
            # Now and then only one of a patient's hands is bent.
            wrist: Wrist = "bent" if bent != (generator.random() < 0.02) else "straight"
            suffix = f"_{'RL'[which]}" if number == 1 else ""
            name = f"image{stamp + which * int(generator.integers(20_000, 60_000))}{suffix}"
            yield _Case(split, number, side, wrist, name, who, generator)


def _numbers(split: str) -> Iterator[int]:
    """The patients' numbers of a split: 11 of 15 train, 4 test, mixed, and the same however many are wanted."""
    number = 1
    while True:
        if (number % 15 in _TEST_OF_15) == (split == "test"):
            yield number
        number += 1


def _is_public(number: int) -> bool:
    return number % 15 in _TEST_OF_15[::2]


def _write_case(work: Path, case: _Case, size: int, noise_px: float, domain_shift: float) -> list[Runs] | None:
    """Write one image and its labels; the runs of a test image."""
    drawing, writing = case.generator.spawn(2)
    made = hand(drawing, size, wrist=case.wrist, side=case.side, patient=case.who, domain_shift=domain_shift)
    folder = f"ID{case.number:03}"
    images.write(work / case.split / "DCM" / folder / f"{case.name}.png", made.image, rgb=True)
    labels = made.labels if noise_px == 0 else _disturbed(made, noise_px, writing)
    labelled = work / ("train" if case.split == "train" else "test_labels")
    path = labelled / "outputs_json" / folder / f"{case.name}.json"
    files.write_json(
        path, _trapped(json.loads(annotations.to_text(labels, BONES, f"{case.name}.jpg", f"/{folder}")), writing)
    )
    return None if case.split == "train" else encode(made.labels, len(BONES))


def _trapped(content: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """An annotation with what readers of the real files stumble over: no order and a wrong size."""
    order = rng.permutation(len(content["annotations"])).tolist()
    return content | {
        "annotations": [content["annotations"][i] for i in order],
        "metadata": {"height": 3060, "width": 3060},
    }


def _disturbed(made: Hand, sigma_px: float, rng: np.random.Generator) -> LabelMap:
    """The outlines moved along their normals by a smooth periodic noise of sd `sigma_px`, as an annotator errs."""
    size = len(made.labels)
    return filled(tuple(within(moved(outline, sigma_px, rng), size) for outline in made.outlines), size)


def moved(outline: Points, sigma_px: float, rng: np.random.Generator) -> Points:
    """An outline (N, 2) moved along its normals by a smooth periodic noise of sd `sigma_px`."""
    waves = np.arange(1, 9)
    weight = 1 / waves
    weight = weight * sigma_px / np.sqrt((weight**2).sum())
    turn = 2 * np.pi * np.arange(len(outline))[:, None] / len(outline) * waves
    # A cosine and a sine of equal normal weight: at every point of the outline the displacement has the same sd.
    cosine, sine = rng.standard_normal((2, len(waves)))
    shift = np.cos(turn) @ (weight * cosine) + np.sin(turn) @ (weight * sine)
    return outline + shift[:, None] * outward_normals(outline)
