"""What cases show only beside each other: leaks, the thumb's side, and what is unusual for the data set.

Dimension key: C cases, N bones of the anatomy. Deviations are in standard deviations unless they have a unit.
"""

import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from carpus import pose
from carpus.check.case import Seen
from carpus.check.finding import Finding, Kind, Severity
from carpus.labels import BONES
from carpus.phantom import anatomy

Floats = NDArray[np.float64]

ENOUGH = 20
"""Cases from which on a data set's own centre and spread are used: fewer do not fix a spread."""

ENOUGH_VOTES = 10
"""Images from which on a data set says for itself on which side its thumbs are."""

ENOUGH_CONTRASTS = 5
"""Cases from which on the median contrast is taken for usual."""

ORDERED = 0.75
"""The share of images that must agree on the order of a patient's hands for an exception to be a finding."""

DIM = 0.5
"""The part of the usual contrast below which labels are thought to be another image's."""

SIZES = (0.6, 1.6)
"""How large a hand may be beside the usual one: from a small child's to a large man's."""

NO_HAND = 1 / 3
"""The share of bones out of their place above which the labels form no hand, and single bones are not named."""

SURE = 1.5
"""How many times as far as `pose.FAR` a bone is surely misplaced, and not merely an unusual one."""

_CENTRE, _SPREAD = 3.0, (0.7, 3.0)
"""How far a data set may shift the anatomy's centre and stretch its spread: a fault that all labels share stays one."""

_ODD: Mapping[Kind, tuple[str, str]] = {
    "area": (
        "much larger than the other bones lead one to expect",
        "much smaller than the other bones lead one to expect",
    ),
    "shape": ("much longer than this bone is", "much rounder than this bone is"),
}
"""What an outline is that deviates upwards, and downwards."""


def compare(seen: Sequence[Seen], findings: Sequence[Finding]) -> list[Finding]:
    """What the cases show beside each other.

    Args:
        seen: all cases.
        findings: what they show alone; a hand that is found mirrored is not compared with others bone by bone.
    """
    mirrored = _mirrored(findings)
    sided = list(_sides(seen, mirrored))
    return [*_leaks(seen), *sided, *_dim(seen), *_outliers(seen, mirrored | _mirrored(sided))]


def _mirrored(findings: Sequence[Finding]) -> set[str]:
    """The cases with mirrored labels; a warning is about files, not labels."""
    return {finding.case for finding in findings if finding.kind == "mirrored" and finding.severity == "error"}


def _leaks(seen: Sequence[Seen]) -> Iterator[Finding]:
    """The same pixels twice, and patients in both splits."""
    splits: dict[str, set[str]] = defaultdict(set)
    first: dict[str, Seen] = {}
    for one in seen:
        splits[one.case.patient].add(one.split)
        if not one.digest:
            continue
        twin = first.setdefault(one.digest, one)
        if twin is one:
            continue
        where = f"the same image as {twin.case.name} ({twin.split})"
        if twin.split != one.split or twin.case.patient != one.case.patient:
            yield Finding(one.case.name, "leak", "error", f"{where}, in {one.split}")
        else:
            yield Finding(one.case.name, "duplicate", "warning", where)
    for patient, found in splits.items():
        if len(found) > 1:
            yield Finding(patient, "leak", "error", f"the patient is in {' and in '.join(sorted(found))}")


def _sides(seen: Sequence[Seen], mirrored: set[str]) -> Iterator[Finding]:
    """The first image of a patient shows the thumb on the left, the second on the right; or all the other way."""
    of_patient: dict[tuple[str, str], list[Seen]] = defaultdict(list)
    for one in seen:
        of_patient[one.split, one.case.patient].append(one)
    pairs = [sorted(both, key=lambda one: one.case.name) for both in of_patient.values() if len(both) == 2]
    # Per pair: whether each image, if its labels tell, agrees with the competition's order.
    agree = [
        [None if one.thumb_left is None else one.thumb_left == (place == 0) for place, one in enumerate(pair)]
        for pair in pairs
    ]
    votes = [vote for both in agree for vote in both if vote is not None]
    share = sum(votes) / len(votes) if len(votes) >= ENOUGH_VOTES else 1.0
    usual, ordered = share >= 0.5, max(share, 1 - share) > ORDERED
    for pair, both in zip(pairs, agree, strict=True):
        wrong = [one for one, vote in zip(pair, both, strict=True) if vote is not None and vote != usual]
        if len(wrong) == 2 and ordered and not any(one.case.name in mirrored for one in wrong):
            message = "the thumbs of both images lie on the other side than in other patients: are the files exchanged?"
            yield Finding(wrong[0].case.patient, "mirrored", "warning", message)
        elif len(wrong) == 1 and (ordered or None not in both):
            one = wrong[0]
            thumb = "left" if one.thumb_left else "right"
            place = "first" if one is pair[0] else "second"
            message = f"the labels' thumb is on the image's {thumb}, which is not so in the {place} image of a patient"
            yield Finding(one.case.name, "mirrored", "error", message)


def _dim(seen: Sequence[Seen]) -> Iterator[Finding]:
    """Labels that lie on bones much less well than those of other cases."""
    contrasts = [one.contrast for one in seen if one.contrast > 0]
    if len(contrasts) < ENOUGH_CONTRASTS:
        return
    least = DIM * float(np.median(contrasts))
    for one in seen:
        if one.contrast < least:
            message = "the labels lie on the image's bones much less well than usual: are they another image's?"
            yield Finding(one.case.name, "contrast", "warning", message, value=one.contrast)


def _outliers(seen: Sequence[Seen], mirrored: set[str]) -> Iterator[Finding]:
    """Swapped and misplaced bones, odd areas and shapes, and hands of an odd size."""
    # What a mirrored hand's bones are called is not judged before it is set right.
    fitted = [(one, one.fit) for one in seen if one.fit and one.case.name not in mirrored]
    if not fitted:
        return
    distances = np.linalg.norm(_usual([fit.white for _, fit in fitted]), axis=-1)
    areas, shapes = _usual([fit.size for _, fit in fitted]), _usual([fit.shape for _, fit in fitted])
    scales = np.array([fit.scale_px / one.side_px for one, fit in fitted])
    scales /= np.median(scales) if len(scales) >= ENOUGH else anatomy.SCALE_PX / anatomy.FULL_SIZE
    for (one, fit), scale, distance, area, shape in zip(fitted, scales, distances, areas, shapes, strict=True):
        yield from _judge(one, fit, float(scale), distance, {"area": area, "shape": shape})


def _judge(one: Seen, fit: pose.Fit, scale: float, distance: Floats, odd: Mapping[Kind, Floats]) -> Iterator[Finding]:
    """What is wrong with one hand: its size beside the usual, then its bones' (N,) places, areas and shapes."""
    name = one.case.name
    if not SIZES[0] < scale < SIZES[1]:
        message = f"the labelled hand is {scale:.2f} times as large as usual: drawn on another size?"
        yield Finding(name, "size", "warning", message, value=scale)
    lost, present = np.flatnonzero(distance > pose.FAR).tolist(), np.count_nonzero(~np.isnan(distance))
    wrong = len(lost) + 2 * len(fit.swapped)
    if wrong > NO_HAND * present:
        message = f"the labels do not form a hand: at least {wrong} of {present} bones are not in their place"
        yield Finding(name, "misplaced", "error", message, value=wrong)
        return
    for pairs, gain in fit.swapped:
        left, right = (_list_of([BONES.names[pair[side]] for pair in pairs]) for side in range(2))
        yield Finding(name, "swapped", "error", f"{left} and {right} are exchanged", BONES.names[pairs[0][0]], gain)
    for n in lost:
        yield _misplaced(one, fit, n, float(distance[n]))
    for kind, values in odd.items():
        for n in np.flatnonzero((np.abs(values) > pose.FAR) & (distance <= pose.FAR)):
            message = _ODD[kind][0 if values[n] > 0 else 1]
            yield Finding(name, kind, "warning", message, BONES.names[n], float(values[n]))


def _misplaced(one: Seen, fit: pose.Fit, n: int, distance: float) -> Finding:
    units = float(np.hypot(*fit.residual[n]))
    diameter = 2 * np.sqrt(anatomy.expected(fit.wrist).area[n] / np.pi)
    # Within a bone's own width the place may be an anatomy of its own; beyond, the label is on something else.
    sure = distance > SURE * pose.FAR or n in one.lies_on
    severity: Severity = "error" if units > diameter and sure else "warning"
    message = f"{units * fit.scale_px:.0f} pixels from where the other bones put it"
    if n in one.lies_on:
        message += f", on {one.lies_on[n]}"
    return Finding(one.case.name, "misplaced", severity, message, BONES.names[n], distance)


def _usual(of_cases: Sequence[Floats]) -> Floats:
    """Deviations from the anatomy, an array a case, as (C, ...) deviations from what the data set shows as usual."""
    values = np.stack(of_cases)
    if len(values) < ENOUGH:
        return values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a bone that no case has is NaN throughout
        centre = np.clip(np.nanmedian(values, axis=0), -_CENTRE, _CENTRE)
        # 1.4826 makes a standard deviation of a normal variable's median deviation.
        spread = np.clip(1.4826 * np.nanmedian(np.abs(values - centre), axis=0), *_SPREAD)
    return (values - centre) / spread


def _list_of(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
