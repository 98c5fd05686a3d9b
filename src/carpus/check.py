"""What is wrong with a data set: files, labels against the anatomy, labels against their image, leaks.

Every image is decoded and every annotation drawn once. What a case alone shows is judged against the measured
anatomy (see `pose`); from `ENOUGH` cases on, what the data set itself shows as usual counts too.

Dimension key: K classes, N bones of the anatomy, H rows, W columns.
"""

import hashlib
import unicodedata
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Group
from rich.table import Table
from rich.text import Text

from carpus import labels as label_map
from carpus import pose
from carpus.data import Case
from carpus.errors import DataError, DataWarning
from carpus.formats import annotations, images
from carpus.labels import BONES, Classes, LabelMap
from carpus.phantom import anatomy

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

ENOUGH = 20
"""Cases from which on a data set's own median and spread are used."""

SHOWN = 30
"""Rows of a severity in the printed table; the JSON has all."""

_SPLITS = {"train": ("train/DCM", "train/outputs_json"), "test": ("test/DCM", "test_labels/outputs_json")}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or may be.

    Args:
        case: the case ("ID001/image1"), or the file or patient where there is no case.
        kind: unreadable, image, annotation, no labels, no image, name, leak, duplicate, missing, mirrored, swapped,
            misplaced, area, shape, size, contrast, components or holes.
        bone: the class it is about.
        severity: an error makes training or scores wrong; a warning wants a look; a note is only worth knowing.
        message: one sentence for people.
        value: the number behind it: standard deviations, a count, a ratio.
    """

    case: str
    kind: str
    bone: str | None
    severity: Severity
    message: str
    value: float | None = None


@dataclass
class _Seen:
    """What one case showed; the arrays are by bone of the anatomy, NaN where the class list or the case has none."""

    case: Case
    split: str
    digest: str = ""
    image_side: int = 0
    fit: pose.Fit | None = None
    thumb_left: bool | None = None
    mirrored: bool = False
    contrast: float = np.nan
    elongation: NDArray[np.float64] = field(default_factory=lambda: np.full(len(BONES), np.nan))
    lies_on: dict[int, str] = field(default_factory=dict)


def check(
    root: Path | str, *, classes: Classes = BONES, progress: Callable[[int, int], object] | None = None
) -> list[Finding]:
    """Find what is wrong with a data folder in the competition's layout.

    Args:
        root: the folder that holds train/ and test/.
        classes: the class list of the annotations; classes that are bones of the hand, by name, are checked against
            its anatomy.
        progress: called with (cases done, cases in all).

    Returns:
        the findings, errors first, then by case. A class that is missing from a labelled image is one of them.

    Raises:
        DataError: the folder is missing or has no images; everything else is a finding.
    """
    root = Path(root)
    findings: list[Finding] = []
    listed = [(split, case) for split in _SPLITS for case in _list(root, split, findings)]
    if not listed:
        raise DataError(f"{root}: no images below train/DCM or test/DCM; is this the folder that holds train/?")
    findings += _names([case for _, case in listed])
    seen: list[_Seen] = []
    for done, (split, case) in enumerate(listed, start=1):
        one = _Seen(case, split)
        findings += _examine(one, classes)
        seen.append(one)
        if progress:
            progress(done, len(listed))
    findings += _leaks(seen)
    findings += _sides(seen)
    findings += _outliers(seen)
    return sorted(findings, key=lambda finding: (SEVERITIES.index(finding.severity), finding.case))


def to_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """Counts by severity and all findings as plain JSON values."""
    return {"counts": _counts(findings), "findings": [asdict(finding) for finding in findings]}


def render(findings: Sequence[Finding]) -> Group:
    """A table by severity, at most `SHOWN` rows of each, and the counts; for rich."""
    parts: list[Table | Text] = []
    for severity, colour in zip(SEVERITIES, ("red", "yellow", "dim"), strict=True):
        chosen = [finding for finding in findings if finding.severity == severity]
        if not chosen:
            continue
        table = Table(title=f"{severity}s: {len(chosen)}", title_style=colour, title_justify="left")
        for column in ("Case", "Kind", "Bone", "What"):
            table.add_column(column, overflow="fold")
        for finding in chosen[:SHOWN]:
            # Text, because names from files may hold what rich takes for markup.
            table.add_row(*(Text(cell) for cell in (finding.case, finding.kind, finding.bone or "", finding.message)))
        parts.append(table)
        if len(chosen) > SHOWN:
            kinds = ", ".join(
                f"{count} {kind}" for kind, count in Counter(f.kind for f in chosen[SHOWN:]).most_common()
            )
            parts.append(Text(f"and {len(chosen) - SHOWN} more ({kinds})"))
    counts = ", ".join(
        f"{count} {severity}{'' if count == 1 else 's'}" for severity, count in _counts(findings).items()
    )
    return Group(*parts, Text(counts))


def _counts(findings: Sequence[Finding]) -> dict[str, int]:
    return {severity: sum(finding.severity == severity for finding in findings) for severity in SEVERITIES}


def _list(root: Path, split: str, findings: list[Finding]) -> list[Case]:
    """The cases of a split. `data.read` refuses a faulty folder; here its faults are findings."""
    folder, label_folder = (root / part for part in _SPLITS[split])
    paths: list[Path] = []
    try:
        paths = images.find(folder) if folder.is_dir() else []
    except DataError as error:
        findings.append(Finding(split, "name", None, "error", str(error)))
        inside = (path for path in folder.rglob("*") if path.resolve().is_relative_to(folder.resolve()))
        paths = sorted(path for path in inside if path.is_file() and path.suffix.lower() in images.SUFFIXES)
    cases: dict[str, Case] = {}
    for path in paths:
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in cases:
            message = f"{path.name} and {cases[name].image.name} would have the same labels"
            findings.append(Finding(name, "name", None, "error", message))
            continue
        annotation = label_folder / f"{name}.json"
        found = annotation if annotation.is_file() else None
        cases[name] = Case(name, name.rsplit("/", 1)[0], path, found)
        if split == "train" and not found:
            findings.append(Finding(name, "no labels", None, "warning", f"there is no {annotation.relative_to(root)}"))
    for path in sorted(label_folder.rglob("*.json")) if label_folder.is_dir() else []:
        name = path.relative_to(label_folder).with_suffix("").as_posix()
        if name not in cases:
            findings.append(Finding(name, "no image", None, "warning", f"{path.relative_to(root)} has no image"))
    return [cases[name] for name in sorted(cases)]


def _names(cases: Sequence[Case]) -> Iterator[Finding]:
    """Base names that are equal up to case or Unicode form: a submission, and some systems, cannot tell them apart."""
    known: dict[str, Case] = {}
    for case in cases:
        base = case.name.rsplit("/", 1)[-1]
        other = known.setdefault(unicodedata.normalize("NFC", base).casefold(), case)
        if other is not case:
            message = f"{base} is also the name of {other.name}, up to case; a submission goes by this name alone"
            yield Finding(case.name, "name", None, "error", message)


def _examine(seen: _Seen, classes: Classes) -> Iterator[Finding]:
    """Read one case, keep in `seen` what the others are compared with, and yield what the case alone shows."""
    case, image, labels = seen.case, None, None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataWarning)
        try:
            image = images.read(case.image)
        except DataError as error:
            yield Finding(case.name, "unreadable", None, "error", str(error))
        pictured = len(caught)
        if case.annotation and image is not None:
            try:
                labels = annotations.read(case.annotation, (image.shape[0], image.shape[1]), classes)
            except DataError as error:
                yield Finding(case.name, "unreadable", None, "error", str(error))
    for number, warning in enumerate(caught):
        kind = "image" if number < pictured else "annotation"
        yield Finding(case.name, kind, None, "warning", str(warning.message))
    if image is None:
        return
    seen.digest = hashlib.blake2b(np.ascontiguousarray(image).data, key=str(image.shape).encode()).hexdigest()
    seen.image_side = max(image.shape)
    if labels is not None:
        yield from _measure(seen, labels, classes)
        yield from _against_image(seen, image, labels)


def _measure(seen: _Seen, labels: LabelMap, classes: Classes) -> Iterator[Finding]:
    """Place, area and shape of every bone, into `seen`; missing bones, parts and holes."""
    name = seen.case.name
    centroids, areas = np.full((len(BONES), 2), np.nan), np.full(len(BONES), np.nan)
    boxes = label_map.boxes(labels, len(classes))
    for k, (bone, box) in enumerate(zip(classes, boxes, strict=True)):
        if box is None:
            yield Finding(name, "missing", bone, "warning", "not labelled")
            continue
        mask = label_map.has(labels[box], k).astype(np.uint8)
        hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)[1][0]
        holes = int(np.count_nonzero(hierarchy[:, 3] >= 0))
        if (parts := len(hierarchy) - holes) > 1:
            yield Finding(name, "components", bone, "note", f"in {parts} pieces", parts)
        if holes:
            yield Finding(name, "holes", bone, "note", f"with {holes} hole{'s' if holes > 1 else ''}", holes)
        if bone not in BONES:
            continue
        moments = cv2.moments(mask, binaryImage=True)
        n = BONES.index(bone)
        top, left = box[0].start, box[1].start
        centroids[n] = left + moments["m10"] / moments["m00"], top + moments["m01"] / moments["m00"]
        cut = top == 0 or left == 0 or box[0].stop == labels.shape[0] or box[1].stop == labels.shape[1]
        if not cut:
            areas[n], seen.elongation[n] = moments["m00"], pose.elongation(moments)
    yield from _directions(seen, centroids)
    seen.fit = pose.fit(centroids, areas)
    if seen.fit:
        for n in np.flatnonzero(seen.fit.distance > pose.FAR).tolist():
            seen.lies_on |= _beneath(labels, n, classes)


def _beneath(labels: LabelMap, n: int, classes: Classes) -> dict[int, str]:
    """{n: the class that holds most of bone `n`'s pixels besides itself}, or nothing if none holds a fifth."""
    k = classes.index(BONES.names[n])
    shared = label_map.area(labels[label_map.has(labels, k)], len(classes))
    own, shared[k] = shared[k], 0
    return {n: classes.names[int(shared.argmax())]} if shared.max() > own / 5 else {}


def _directions(seen: _Seen, centroids: NDArray[np.float64]) -> Iterator[Finding]:
    """Fingers, carpals and forearm must run from the thumb's to the little finger's side the same way."""
    sides = pose.thumb_left(centroids)
    forearm, hand = sides.pop("forearm", None), set(sides.values())
    if len(hand) < 2:
        # A forearm that alone disagrees is Radius and Ulna exchanged, which is found as such.
        seen.thumb_left = next(iter(hand), forearm)
        return
    odd = "carpals" if sides["fingers"] == forearm else "fingers"
    others = " and ".join(group for group in ("fingers", "carpals", "forearm") if group != odd)
    seen.mirrored = True
    message = f"the {odd} run from the thumb's to the little finger's side the other way than {others}"
    yield Finding(seen.case.name, "mirrored", None, "error", message)


def _against_image(seen: _Seen, image: images.Grey, labels: LabelMap) -> Iterator[Finding]:
    """Bones are brighter than what surrounds them; labels that are not are not on their image's bones."""
    step = max(1, max(image.shape) // 256)
    small = cv2.resize(image, (image.shape[1] // step, image.shape[0] // step), interpolation=cv2.INTER_AREA)
    mask = cv2.resize((labels != 0).astype(np.uint8), small.shape[::-1], interpolation=cv2.INTER_NEAREST)
    contrast, mirrored = _contrast(small, mask), _contrast(small, np.ascontiguousarray(mask[:, ::-1]))
    if mirrored > max(contrast, 0) + 0.2:
        seen.mirrored = True
        message = f"mirrored, the labels would lie on the image's bones (contrast {mirrored:.2f}, now {contrast:.2f})"
        yield Finding(seen.case.name, "mirrored", None, "error", message, round(mirrored - contrast, 3))
    elif contrast < 0:
        message = "labelled pixels are darker than their surroundings: inverted image, or labels of another image?"
        yield Finding(seen.case.name, "contrast", None, "warning", message, round(contrast, 3))
    else:
        seen.contrast = contrast


def _contrast(image: NDArray[Any], mask: NDArray[np.uint8]) -> float:
    """Mean brightness of the mask less that of the surroundings, in standard deviations of both."""
    near = cv2.dilate(mask, np.ones((9, 9), np.uint8)) > 0
    inside, outside = image[mask > 0].astype(np.float64), image[near & (mask == 0)].astype(np.float64)
    if not len(inside) or not len(outside):
        return 0.0
    spread = float(image[near].astype(np.float64).std())
    return float(inside.mean() - outside.mean()) / spread if spread > 0 else 0.0


def _leaks(seen: Sequence[_Seen]) -> Iterator[Finding]:
    """The same pixels twice, and patients in both splits."""
    splits: dict[str, set[str]] = defaultdict(set)
    first: dict[str, _Seen] = {}
    for one in seen:
        splits[one.case.patient].add(one.split)
        if not one.digest:
            continue
        twin = first.setdefault(one.digest, one)
        if twin is one:
            continue
        where = f"the same image as {twin.case.name} ({twin.split})"
        if twin.split != one.split or twin.case.patient != one.case.patient:
            yield Finding(one.case.name, "leak", None, "error", f"{where}, in {one.split}")
        else:
            yield Finding(one.case.name, "duplicate", None, "warning", where)
    for patient, found in splits.items():
        if len(found) > 1:
            yield Finding(patient, "leak", None, "error", f"the patient is in {' and in '.join(sorted(found))}")


def _sides(seen: Sequence[_Seen]) -> Iterator[Finding]:
    """The first image of a patient shows the thumb on the left, the second on the right; or all the other way."""
    of_patient: dict[tuple[str, str], list[_Seen]] = defaultdict(list)
    for one in seen:
        of_patient[one.split, one.case.patient].append(one)
    pairs = [sorted(both, key=lambda one: one.case.name) for both in of_patient.values() if len(both) == 2]
    # Per pair: whether each image, if its labels tell, agrees with the competition's order.
    agree = [
        [None if one.thumb_left is None else one.thumb_left == (place == 0) for place, one in enumerate(pair)]
        for pair in pairs
    ]
    votes = [vote for both in agree for vote in both if vote is not None]
    few = len(votes) < 10
    usual = few or 2 * sum(votes) >= len(votes)
    ordered = few or max(sum(votes), len(votes) - sum(votes)) > 0.75 * len(votes)
    for pair, both in zip(pairs, agree, strict=True):
        wrong = [one for one, vote in zip(pair, both, strict=True) if vote is not None and vote != usual]
        if len(wrong) == 2 and ordered and not any(one.mirrored for one in wrong):
            message = "the thumbs of both images lie on the other side than in other patients: are the files exchanged?"
            yield Finding(wrong[0].case.patient, "mirrored", None, "warning", message)
        elif len(wrong) == 1 and (ordered or None not in both):
            one = wrong[0]
            one.mirrored = True
            thumb = "left" if one.thumb_left else "right"
            place = "first" if one is pair[0] else "second"
            message = f"the labels' thumb is on the image's {thumb}, which is not so in the {place} image of a patient"
            yield Finding(one.case.name, "mirrored", None, "error", message)


def _outliers(seen: Sequence[_Seen]) -> Iterator[Finding]:
    """Labels beside the bones, swapped and misplaced bones, odd areas and shapes, and hands of an odd size."""
    contrasts = np.array([one.contrast for one in seen if one.contrast > 0])
    for one in seen if len(contrasts) >= 5 else ():
        if one.contrast < np.median(contrasts) / 2:
            message = "the labels lie on the image's bones much less well than usual: are they another image's?"
            yield Finding(one.case.name, "contrast", None, "warning", message, round(one.contrast, 3))
    # What a mirrored hand's bones are called is not judged before it is set right.
    fitted = [(one, one.fit) for one in seen if one.fit and not one.mirrored]
    if not fitted:
        return
    white = _usual(np.stack([np.einsum("nij,nj->ni", fit.whiten, fit.residual) for _, fit in fitted]))
    areas = _usual(np.stack([fit.size for _, fit in fitted]))
    mean, sd = pose.elongations()
    shapes = _usual((np.stack([one.elongation for one, _ in fitted]) - mean) / sd)
    scales = np.array([fit.scale_px / one.image_side for one, fit in fitted])
    usual_scale = float(np.median(scales)) if len(scales) >= ENOUGH else anatomy.SCALE_PX / anatomy.FULL_SIZE
    for (one, fit), off, area, shape, scale in zip(fitted, white, areas, shapes, scales, strict=True):
        name = one.case.name
        if not 0.6 < scale / usual_scale < 1.6:
            message = f"the labelled hand is {scale / usual_scale:.2f} times as large as usual: drawn on another size?"
            yield Finding(name, "size", None, "warning", message, round(float(scale / usual_scale), 3))
        distance = np.linalg.norm(off, axis=1)
        lost = np.flatnonzero(distance > pose.FAR)
        present = np.count_nonzero(~np.isnan(distance))
        wrong = len(lost) + 2 * len(fit.swapped)
        if wrong > present / 3:
            message = f"the labels do not form a hand: at least {wrong} of {present} bones are not in their place"
            yield Finding(name, "misplaced", None, "error", message, wrong)
            continue
        for pairs, gain in fit.swapped:
            left, right = (_list_of([BONES.names[pair[side]] for pair in pairs]) for side in range(2))
            message = f"{left} and {right} are exchanged"
            yield Finding(name, "swapped", BONES.names[pairs[0][0]], "error", message, round(gain, 1))
        for n in lost:
            yield _misplaced(one, fit, int(n), float(distance[n]))
        for n in np.flatnonzero((np.abs(area) > pose.FAR) & (distance <= pose.FAR)):
            message = f"much {'larger' if area[n] > 0 else 'smaller'} than the other bones lead one to expect"
            yield Finding(name, "area", BONES.names[n], "warning", message, round(float(area[n]), 1))
        swapped = {n for pairs, _ in fit.swapped for pair in pairs for n in pair}
        for n in np.flatnonzero((np.abs(shape) > pose.FAR) & (distance <= pose.FAR)):
            if n not in swapped:
                message = f"much {'longer' if shape[n] > 0 else 'rounder'} than this bone is"
                yield Finding(name, "shape", BONES.names[n], "warning", message, round(float(shape[n]), 1))


def _misplaced(one: _Seen, fit: pose.Fit, n: int, distance: float) -> Finding:
    units = float(np.hypot(*fit.residual[n]))
    diameter = 2 * np.sqrt(anatomy.expected(fit.wrist).area[n] / np.pi)
    # Within a bone's own width the place may be an anatomy of its own; beyond, the label is on something else.
    sure = distance > 1.5 * pose.FAR or n in one.lies_on
    severity: Severity = "error" if units > diameter and sure else "warning"
    message = f"{units * fit.scale_px:.0f} pixels from where the other bones put it"
    if n in one.lies_on:
        message += f", on {one.lies_on[n]}"
    return Finding(one.case.name, "misplaced", BONES.names[n], severity, message, round(distance, 1))


def _usual(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviations from the anatomy (cases, ...) to those from what the data set shows as usual.

    The data set may shift the centre by at most 3 and the spread by 0.7 to 3, so that a fault that all its labels
    share is still one.
    """
    if len(values) < ENOUGH:
        return values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a bone that no case has is NaN throughout
        centre = np.clip(np.nanmedian(values, axis=0), -3, 3)
        spread = np.clip(1.4826 * np.nanmedian(np.abs(values - centre), axis=0), 0.7, 3)
    return (values - centre) / spread


def _list_of(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
