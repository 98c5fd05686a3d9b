"""A data set with planted faults, and a submission of moved bones."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from carpus import data, kernels, labels, phantom
from carpus.data import Case
from carpus.formats import submission
from carpus.labels import BONES
from carpus.pseudo import make as pseudo_labels

MADE_UP = (60, 90)
"""Row and column of a square that the submission calls finger-1 in the last training image, whose Radius it misses."""


def make(root: Path) -> Path:
    """A data set in which one annotation has two bones exchanged and another lacks one, and sub.csv beside it."""
    phantom.write(root, patients=3, test_patients=1, size=1024, seed=3)
    dataset = data.read(root)
    submission.write(root.parent / "sub.csv", _moved(dataset.train + dataset.test, 5, dataset.train[-1]), BONES)
    first, second = sorted((root / "train/outputs_json").rglob("*.json"))[2:4]
    _relabel(first, {"Lunate": "Capitate", "Capitate": "Lunate"})
    _relabel(second, {"Pisiform": None})
    return root


def pseudo(root: Path) -> Path:
    """Pseudo-labels of the test images, by two members that do not agree on every bone."""
    members = [root.parent / f"member{seed}.csv" for seed in (1, 2)]
    for seed, path in enumerate(members):
        submission.write(path, _moved(data.read(root).test, seed), BONES)
    pseudo_labels.make(members, root / "test/DCM", root.parent / "pseudo")
    return root.parent / "pseudo"


def _relabel(path: Path, names: dict[str, str | None]) -> None:
    content = json.loads(path.read_text())
    kept = [shape for shape in content["annotations"] if names.get(shape["label"], "") is not None]
    for shape in kept:
        shape["label"] = names.get(shape["label"]) or shape["label"]
    path.write_text(json.dumps(content | {"annotations": kept}))


def _moved(cases: Sequence[Case], seed: int, blunder: Case | None = None) -> Iterator[tuple[str, list[kernels.Runs]]]:
    """The annotations, every bone a few pixels from its place, and now and then one that is not found."""
    random = np.random.default_rng(seed)
    for case in cases:
        truth = data.read_labels(case)
        found = labels.empty((truth.shape[0], truth.shape[1]))
        for k in range(len(BONES)):
            right, down = random.normal(0, 3.5 if 19 <= k < 27 else 1.5, 2)
            mask = labels.has(truth, k).astype(np.uint8)
            moved = cv2.warpAffine(
                mask, np.array([[1, 0, right], [0, 1, down]]), mask.shape[::-1], flags=cv2.INTER_NEAREST
            )
            if random.random() > 0.02:
                labels.paint(found, k, moved.astype(bool))
        if case is blunder:  # nobody can overlook this
            labels.erase(found, BONES.index("Radius"))
            labels.paint(found, BONES.index("finger-1"), np.ones((80, 80), bool), *MADE_UP)
        yield submission.image_name(case.name), kernels.encode(found, len(BONES))
