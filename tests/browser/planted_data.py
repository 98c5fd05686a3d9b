"""A data set with planted faults, and a submission of moved bones."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from carpus import data, kernels, labels, phantom
from carpus.formats import submission
from carpus.labels import BONES
from carpus.pseudo.make import make as make_pseudo

MADE_UP = (60, 90)
"""Row and column of a square that the submission calls finger-1 in the last training image, whose Radius it misses."""


def make(root: Path) -> Path:
    """A data set in which one annotation has two bones exchanged and another lacks one.

    Beside it are sub.csv, of moved bones, truth.csv, of the annotations, and pseudo: labels of the test images, of
    which some are left out.
    """
    phantom.write(root, patients=3, test_patients=1, size=1024, seed=3)
    submission.write(root.parent / "sub.csv", _moved(root), BONES)
    first, second = sorted((root / "train/outputs_json").rglob("*.json"))[2:4]
    _relabel(first, {"Lunate": "Capitate", "Capitate": "Lunate"})
    _relabel(second, {"Pisiform": None})
    dataset = data.read(root)
    submission.write(root.parent / "truth.csv", _drawn(dataset.train + dataset.test), BONES)
    with TemporaryDirectory() as folder:
        members = [Path(folder) / name for name in ("one.csv", "two.csv")]
        submission.write(members[0], _drawn(dataset.test), BONES)
        submission.write(
            members[1], (row for row in _moved(root) if row[0] in {_name(case) for case in dataset.test}), BONES
        )
        make_pseudo(members, root / "test/DCM", root.parent / "pseudo")
    return root


def _relabel(path: Path, names: dict[str, str | None]) -> None:
    content = json.loads(path.read_text())
    kept = [shape for shape in content["annotations"] if names.get(shape["label"], "") is not None]
    for shape in kept:
        shape["label"] = names.get(shape["label"]) or shape["label"]
    path.write_text(json.dumps(content | {"annotations": kept}))


def _drawn(cases: Sequence[data.Case]) -> Iterator[tuple[str, list[kernels.Runs]]]:
    """The annotations."""
    for case in cases:
        yield _name(case), kernels.encode(data.read_labels(case), len(BONES))


def _name(case: data.Case) -> str:
    return submission.image_name(case.name)


def _moved(root: Path) -> Iterator[tuple[str, list[kernels.Runs]]]:
    """The annotations, every bone a few pixels from its place, and now and then one that is not found."""
    random = np.random.default_rng(5)
    dataset = data.read(root)
    for case in dataset.train + dataset.test:
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
        if case is dataset.train[-1]:  # nobody can overlook this
            labels.erase(found, BONES.index("Radius"))
            labels.paint(found, BONES.index("finger-1"), np.ones((80, 80), bool), *MADE_UP)
        yield _name(case), kernels.encode(found, len(BONES))
