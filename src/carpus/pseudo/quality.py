"""How good pseudo-labels are where the truth is known: on patients that their makers never saw.

Dimension key: N images, K classes, M measures.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from carpus import crossfit, data, kernels, metrics
from carpus.errors import ConfigError, DataError
from carpus.kernels import Runs
from carpus.labels import Classes
from carpus.predict import Ensemble, Options, Predictor
from carpus.pseudo.criteria import MEASURES
from carpus.pseudo.measures import Floats, measure
from carpus.pseudo.provenance import seen_by
from carpus.pseudo.selection import Bools, Rules, restricted, select, tune
from carpus.pseudo.sources import Sources
from carpus.run import WEIGHTS, Run

POOR = 0.5
"""Labels of a class with a lower mean Dice are hardly ever right, which comparing them with one another cannot tell."""


@dataclass(frozen=True)
class OutOfFold:
    """Labels whose truth is known.

    Args:
        patients: N names.
        measures: (N, K, M), see `measures.measure`.
        dice: (N, K) of the label.
        student: (N, K) of what the student says itself; NaN where it saw the patient, or where it is the only one of
            several members that did not, and would be held against itself.
        in_sample: whether the calibration was fitted on some of them, or on nobody knows whom.
        mixed: whether submissions will vote, too, which say nothing of these patients: the labels are the runs' alone.
    """

    patients: Sequence[str]
    measures: Floats
    dice: Floats
    student: Floats
    in_sample: bool = False
    mixed: bool = False


@dataclass(frozen=True)
class Quality:
    """What came of it.

    Args:
        images, patients: how many.
        dice: mean over images, then classes.
        kept_dice: the same of the labels that are kept; NaN if none is.
        kept: their share.
        gain, low, high: by how much the kept labels are better than what the student says of the same bones: mean over
            patients, and its 95 % interval. The rules were tuned on other patients. NaN where no patient shows it.
        all_gain, all_low, all_high: the same of all labels, as one learns from who heeds no selection.
        student: who the student is, in words.
        in_sample: whether the calibration was fitted on some of these patients, so that Dice is optimistic.
        poor: the classes whose mean Dice is below `POOR`.
    """

    images: int
    patients: int
    dice: float
    kept_dice: float
    kept: float
    gain: float
    low: float
    high: float
    all_gain: float
    all_low: float
    all_high: float
    student: str
    in_sample: bool
    poor: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """As it stands in provenance.json; what is unknown, and an interval without end, is null."""
        return {
            name: None if isinstance(value, float) and not np.isfinite(value) else value
            for name, value in asdict(self).items()
        }


def out_of_fold(
    sources: Sources,
    root: Path,
    *,
    student: Run | None = None,
    device: str = "auto",
    options: Options | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> OutOfFold:
    """Predict every patient that the runs of `sources` held out, with those among them that never saw the patient.

    So an ensemble of folds is measured by one member at a time, which is no more than it can do together.

    Args:
        sources: with runs.
        root: the data folder of the runs.
        student: a run that has learnt from annotations alone; None for the first member.
        device, options: for the student, who gets the calibration of `sources`, too.
        progress: called with (images done, images in all).

    Raises:
        DataError: not the data that the runs held out, not one image that a run never saw, or a student of whom nobody
            knows what it saw.
        ConfigError: a student of other classes.
    """
    learnt, own = set[str](), None
    if student:
        known = seen_by(student)
        if known.unknown:
            raise DataError(
                f"{student.path}: nobody knows which patients this student has learnt from; give one that started from "
                "pretrained weights and learnt from annotations alone"
            )
        if student.classes != sources.classes:
            raise ConfigError(f"{student.path}: has other classes than {sources.runs[0].path}")
        learnt = set(known.patients)
        predictor = Predictor.of(student, device, options)
        own = Ensemble([predictor], student.classes, calibration=sources.calibration)
    members = sources.held_out(data.read(root))
    if not members:
        raise DataError(
            f"{root}: no annotated image of which it is known that a run never saw its patient; if that is for a local "
            "file of weights that the runs started from, say whose labels made it with --seen FILE"
        )
    classes = sources.classes
    rows, dice, beside = [], [], []
    for done, (case, asked) in enumerate(members.items(), start=1):
        image = data.read_image(case.image)
        size = image.shape[0], image.shape[1]
        truth = kernels.encode(data.read_labels(case, classes), len(classes))
        found = sources.predict("", image, asked)
        rows.append(measure(found, classes))
        dice.append(_dice(found.runs, truth))
        if case.patient in learnt or (len(asked) < len(sources.runs) and _is_student(asked, sources, student)):
            beside.append(np.full(len(classes), np.nan))
        elif own is None:
            beside.append(_dice(found.members[0], truth))
        else:
            beside.append(_dice(own.runs(own.look(image), size), truth))
        if progress:
            progress(done, len(members))
    patients = [case.patient for case in members]
    fitted = sources.calibration.fitted_on if sources.calibration else ()
    in_sample = fitted is None or not set(fitted).isdisjoint(patients)
    return OutOfFold(patients, np.array(rows), np.array(dice), np.array(beside), in_sample, sources.mixed)


def _is_student(asked: Sequence[int], sources: Sources, student: Run | None) -> bool:
    """Whether the only member that is asked is the student."""
    weights = [sources.runs[n].manifest["files"][WEIGHTS] for n in asked]
    return len(weights) == 1 and (student is None or student.manifest["files"][WEIGHTS] == weights[0])


def judge(found: OutOfFold, student: str, classes: Classes) -> Quality:
    """The quality of the labels that rules tuned on other patients keep.

    Args:
        found: labels whose truth is known.
        student: who the student is, in words.
        classes: the K classes.
    """
    kept = np.zeros(found.dice.shape, bool)
    for out, rules_of_others in _rounds(found)[1]:
        kept[out] = select(found.measures[out], rules_of_others).kept
    of_kept = [found.dice[kept[:, k], k].mean() for k in range(len(kept[0])) if kept[:, k].any()]
    return Quality(
        len(found.patients),
        len(set(found.patients)),
        float(found.dice.mean()),
        float(np.mean(of_kept)) if of_kept else np.nan,
        float(kept.mean()),
        *_gain(found, kept),
        *_gain(found, np.ones_like(kept)),
        student,
        found.in_sample,
        tuple(name for name, dice in zip(classes, found.dice.mean(axis=0), strict=True) if dice < POOR),
    )


def rules(found: OutOfFold) -> Rules:
    """Rules tuned on all of it, by which those are tuned, too, whose labels `judge` measures.

    A limit is tuned only where every four fifths of the patients can tune it, too, on four fifths of the labels; else
    it stays as it is, or what is measured would be another selection. How far runs agree with one another says nothing
    of how far they agree with submissions.
    """
    return _rounds(found)[0]


def _rounds(found: OutOfFold) -> tuple[Rules, list[tuple[Bools, Rules]]]:
    """Rules tuned on all; and for every fifth of the patients, its images (N,) and the rules tuned on all others.

    The same limits are tuned in all of them.
    """
    dealt = crossfit.rounds_of(np.array(found.patients))
    outs = [dealt == n for n in np.unique(dealt)]
    of_all = tune(found.measures, found.dice)
    share = 1 - 1 / crossfit.ROUNDS
    of_others = [tune(found.measures[~out], found.dice[~out], share) for out in outs]
    where = np.logical_and.reduce([each.tuned for each in (of_all, *of_others)])
    if found.mixed:
        where[:, list(MEASURES).index("agreement")] = False
    return restricted(of_all, where), [
        (out, restricted(each, where)) for out, each in zip(outs, of_others, strict=True)
    ]


def _gain(found: OutOfFold, labels: Bools) -> tuple[float, float, float]:
    """By how much labels (N, K) are better than the student, with the interval; see `Quality.gain`."""
    compared = labels & np.isfinite(found.student)
    any_of = compared.any(axis=1)
    if not any_of.any():
        return np.nan, -np.inf, np.inf
    gains = np.where(compared, found.dice - found.student, 0).sum(axis=1)[any_of] / compared[any_of].sum(axis=1)
    return crossfit.interval(gains, np.array(found.patients)[any_of], 0.05)


def _dice(label: Sequence[Runs], truth: Sequence[Runs]) -> Floats:
    return metrics.dice(np.array([kernels.overlap_runs(ours, own) for ours, own in zip(label, truth, strict=True)]))
