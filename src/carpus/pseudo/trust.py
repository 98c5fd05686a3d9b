"""How far the labels of a data folder are trusted: what a selection left out, and what people decided.

A folder of `carpus pseudo` has, beside every annotation, what was found about it::

    DATA/train/pseudo/ID040/image9.json
    {"image": "<SHA-256>",
     "bones": {"Lunate": {"kept": false, "reasons": ["agreement"], "measures": {"agreement": 0.81, ...}}, ...},
     "doubtful": "5213 4 7261 6"}

`doubtful` are pixels in which nobody is sure, as run lengths of a submission. A bone that is not kept, and a pixel that
is doubtful, do not count in the loss: they are neither bone nor background. Where labels are soft, image9.npz besides
holds the probabilities, see `formats.probabilities`.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from carpus import data, kernels
from carpus import labels as label_map
from carpus.data import Case, Doubt
from carpus.errors import ConfigError, DataError
from carpus.formats import files, images, rle, stem
from carpus.kernels import Runs, text
from carpus.labels import MAX_CLASSES, Classes
from carpus.pseudo import decisions
from carpus.pseudo.decisions import Verdict

FOLDER = "train/pseudo"
"""Where the files lie below the data folder."""


@dataclass(frozen=True)
class Bone:
    """What was found about one label.

    Args:
        kept: whether it counts in the loss.
        reasons: the measures that spoke against it, and "quota".
        measures: by name, None where it could not be measured; see `pseudo.criteria`.
    """

    kept: bool
    reasons: tuple[str, ...] = ()
    measures: dict[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """What was found about the labels of one image: the SHA-256 of its pixels, see `images.digest`, every bone, and the
    pixels in which nobody is sure.
    """

    image: str
    bones: dict[str, Bone]
    doubtful: Runs


def path_of(root: Path | str, name: str) -> Path:
    """The file about the case `name`."""
    return Path(root) / FOLDER / f"{name}.json"


def soft_path(root: Path | str, name: str) -> Path:
    """The probabilities of the case `name`."""
    return path_of(root, name).with_suffix(".npz")


def write(root: Path | str, name: str, found: Found) -> None:
    """Write what was found about the case `name`."""
    bones = {
        bone: {"kept": one.kept, "reasons": list(one.reasons), "measures": one.measures}
        for bone, one in found.bones.items()
    }
    content = {"image": found.image, "bones": bones, "doubtful": text(found.doubtful)}
    files.write_json(path_of(root, name), content)


def read(root: Path | str, name: str, size: tuple[int, int], classes: Classes) -> Found | None:
    """What was found about the case `name`, whose image has `size` (H, W); None if nothing was.

    Raises:
        DataError: naming the file: not such a file, an unknown class, or pixels out of the image.
    """
    path = path_of(root, name)
    if not path.is_file():
        return None
    content = files.read_json(path)
    try:
        bones = {
            bone: Bone(one["kept"] is True, tuple(map(str, one["reasons"])), dict(one["measures"]))
            for bone, one in content["bones"].items()
        }
        image, doubtful = str(content["image"]), content["doubtful"]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{path}: not a file of `carpus pseudo` ({error!r})") from error
    for bone in bones:
        if bone not in classes:
            raise DataError(f"{path}: bones: unknown class {bone!r:.40}; is the class list the right one?")
    return Found(image, bones, rle.parse(doubtful, size, f"{path}: doubtful"))


def trusted(
    cases: Iterable[Case], root: Path, classes: Classes, *, selection: bool = True, soft: bool = False
) -> list[Case]:
    """The same cases, each with what of its annotation does not count.

    Args:
        cases: annotated cases of `root`.
        root: the data folder.
        classes: the class list.
        selection: whether what `carpus pseudo` left out counts for nothing; what people decided always does.
        soft: whether probabilities are learnt instead of labels.

    Raises:
        DataError: as `read` and `decisions.read`, a decision about an unknown bone or image, or a folder of
            `carpus pseudo` where what was found about an image is missing.
        ConfigError: doubtful pixels where all bits of a label map are classes, or probabilities that are not there.
    """
    decided = decisions.read(root)
    for image, bone in decided:
        if bone not in classes:
            raise DataError(f"{root / decisions.FILE}: {image}: bone: unknown class {bone!r:.40}")
    _refuse_unknown({image for image, _ in decided}, root)
    verdicts: defaultdict[str, dict[str, Verdict]] = defaultdict(dict)
    for (image, bone), each in decided.items():
        verdicts[image][bone] = each.verdict
    return [
        replace(
            case,
            doubt=_doubt(case, root, classes, verdicts[case.name], selection),
            soft=_soft(case, root) if soft else None,
        )
        for case in cases
    ]


def _soft(case: Case, root: Path) -> Path:
    path = soft_path(root, case.name)
    if not path.is_file():
        raise ConfigError(
            f"data.pseudo.soft: {path} is missing; make the labels with `carpus pseudo RUN... --soft`, or set "
            "data.pseudo.soft=false"
        )
    return path


def _refuse_unknown(decided: set[str], root: Path) -> None:
    """Raise a `DataError` if the data folder has not all the images that are decided on, in whatever split."""
    there = {case.name for split in data.LAYOUT for case in data.cases(root, split)} if decided else set[str]()
    if unknown := sorted(decided - there):
        hint = f"; without suffix it is {stem(unknown[0])}" if stem(unknown[0]) in there else ""
        raise DataError(f"{root / decisions.FILE}: image: there is no {unknown[0]!r} ({len(unknown)} such){hint}")


def _doubt(case: Case, root: Path, classes: Classes, verdicts: Mapping[str, Verdict], selection: bool) -> Doubt | None:
    has_file = selection and path_of(root, case.name).is_file()
    if selection and not has_file and (root / data.PROVENANCE).is_file():
        raise DataError(
            f"{path_of(root, case.name)}: is missing, so nobody knows what of the labels counts; make the folder anew, "
            "or set data.pseudo.selection=false to let all of it count"
        )
    found = read(root, case.name, images.size(case.image), classes) if has_file else None
    left_out = {bone for bone, one in found.bones.items() if not one.kept} if found else set[str]()
    pixels = found.doubtful if found else np.empty((0, 2), np.int64)
    if len(pixels) and len(classes) == MAX_CLASSES:
        raise ConfigError(
            f"{path_of(root, case.name)}: doubtful: {MAX_CLASSES} classes leave no bit for such pixels; make the "
            "pseudo-labels with --no-band"
        )
    accepted = {bone for bone, verdict in verdicts.items() if verdict == "accept"}
    left_out -= accepted
    if accepted and len(pixels):
        pixels = _outside(pixels, case, [classes.index(bone) for bone in accepted], classes)
    left_out |= {bone for bone, verdict in verdicts.items() if verdict != "accept"}
    if not left_out and not len(pixels):
        return None
    rejected = {bone for bone, verdict in verdicts.items() if verdict == "reject"}
    return Doubt(frozenset(map(classes.index, left_out)), frozenset(map(classes.index, rejected)), pixels)


def _outside(pixels: Runs, case: Case, accepted: Iterable[int], classes: Classes) -> Runs:
    """The pixels that are in none of the accepted bones: there somebody is sure."""
    labels = data.read_labels(case, classes)
    left = kernels.decode([pixels], (labels.shape[0], labels.shape[1]))
    for k in accepted:
        left[label_map.has(labels, k)] = 0
    return kernels.encode(left, 1)[0]


def fingerprint(root: Path, cases: Iterable[Case]) -> dict[str, Any]:
    """SHA-256 of all that decides what is learnt from a data folder: images, annotations, findings, decisions, and the
    soft labels that `cases` have.
    """
    cases = list(cases)
    paths = [path for case in cases for path in (path_of(root, case.name), case.soft) if path]
    beside = [files.sha256(path) if path.is_file() else "" for path in (*paths, root / decisions.FILE)]
    return {**data.fingerprint(cases)._asdict(), "trust": hashlib.sha256("\n".join(beside).encode()).hexdigest()}
