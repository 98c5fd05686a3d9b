"""`carpus calibrate`: thresholds and repairs of shape that help, fitted on predictions of patients a run never saw.

Dimension key: N images, P patients, C candidates, K classes.

Every image is predicted by a run that held its patient out, so nothing is fitted to what a network has learned by
heart. A candidate, such as a threshold of 0.35 for the Lunate, is chosen on four fifths of the patients and measured on
the last fifth, in turn; it is kept only if its effect there is above zero beyond chance, with the level shared among
all classes and kinds of step (Bonferroni). The effect of the whole procedure is measured by yet another round: chosen
and kept on four fifths, applied to the last.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray

from carpus import data, evaluate, kernels, metrics, run
from carpus.data import Case
from carpus.errors import ConfigError
from carpus.labels import Classes, LabelMap
from carpus.postprocess import Calibration, Step
from carpus.predict import Options, Predictor, in_turn, labels_of

LEVEL = 0.05
"""Of all that is kept together, the chance that any of it does not help, were there nothing that helps."""

ROUNDS = 5
LEAST_PATIENTS = 10

FAMILIES: dict[str, tuple[Step, ...]] = {
    "threshold": tuple(Step(threshold=round(0.2 + 0.05 * n, 2)) for n in range(13) if n != 6),
    "largest": (Step(largest=True),),
    "fill": (Step(fill=True),),
    "least": tuple(Step(least=share) for share in (0.0005, 0.001, 0.002)),
}
"""The candidates of every kind of step; doing nothing is always one more."""

CANDIDATES = (Step(), *(step for steps in FAMILIES.values() for step in steps))

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Kept:
    """One step that helps a class: its effect on Dice on patients it was not chosen on, and its interval there."""

    name: str
    kind: str
    value: float | bool
    effect: float
    low: float
    high: float


@dataclass(frozen=True)
class Result:
    """What was found.

    Args:
        calibration: the steps that are kept.
        kept: their effects one by one.
        images, patients: how many it was fitted on.
        effect: of the whole procedure on the mean Dice, on patients it was not fitted on.
        low, high: its 95 % interval over patients.
    """

    calibration: Calibration
    kept: tuple[Kept, ...]
    images: int
    patients: int
    effect: float
    low: float
    high: float


def calibrate(
    runs: Sequence[run.Run],
    root: Path,
    out: Path,
    *,
    device: str = "auto",
    options: Options | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Result:
    """Find out which thresholds and repairs help, and write them for `carpus predict --calibration`.

    Args:
        runs: runs of the same classes with different validation folds, usually the folds of one recipe.
        root: the data folder they were trained on.
        out: the JSON file to write; it is written even if nothing helps, and then does nothing.
        device: auto, cpu or cuda.
        options: tiles and views, as they will be used in prediction.
        progress: called with (images done, images in all); every image comes twice.

    Raises:
        DataError: not the data that the runs held out.
        ConfigError: runs of different classes or of overlapping folds, or fewer than ten patients held out.
    """
    classes = runs[0].classes
    dataset = data.read(root)
    held_out: list[tuple[run.Run, list[Case]]] = []
    seen: dict[str, Path] = {}
    for each in runs:
        if each.classes != classes:
            raise ConfigError(f"{each.path}: has other classes than {runs[0].path}")
        held_out.append((each, evaluate.held_out(dataset, each, "val")))
        for patient in {case.patient for case in held_out[-1][1]}:
            if seen.setdefault(patient, each.path) != each.path:
                raise ConfigError(
                    f"{each.path}: holds out {patient}, as {seen[patient]} does; give runs of different folds"
                )
    if len(seen) < LEAST_PATIENTS:
        raise ConfigError(f"calibrate: {len(seen)} patients are held out by these runs; {LEAST_PATIENTS} are the least")
    total, done = 2 * sum(len(cases) for _, cases in held_out), 0

    def predictions() -> Iterator[tuple[Case, torch.Tensor, LabelMap]]:
        nonlocal done
        for each, cases in held_out:
            predictor = Predictor.of(each, device, options)
            items = ((case, lambda case=case: data.read_image(case.image)) for case in cases)
            for case, logits in in_turn(predictor.logits, items):
                yield case, logits, data.read_labels(case, classes)
                done += 1
                if progress:
                    progress(done, total)

    table, patients = _measure(predictions(), classes)
    rounds = rounds_of(patients)
    steps, kept = fit(table, patients, classes)
    fitted = [Calibration(fit(table[rounds != n], patients[rounds != n], classes)[0], classes) for n in range(ROUNDS)]
    gains = np.array(
        [
            float((_dice(logits, truth, fitted[rounds[n]]) - table[n, 0]).mean())
            for n, (_, logits, truth) in enumerate(predictions())
        ]
    )
    effect, low, high = interval(gains, patients, LEVEL)
    calibration = Calibration(steps, classes)
    result = Result(calibration, kept, len(table), len(seen), effect, low, high)
    calibration.write(
        out,
        images=result.images,
        patients=result.patients,
        effect={"dice": effect, "low": low, "high": high},
        kept=[asdict(each) for each in kept],
        runs=[each.manifest["files"] for each in runs],
    )
    return result


def fit(table: Floats, patients: NDArray[np.str_], classes: Classes) -> tuple[dict[str, Step], tuple[Kept, ...]]:
    """Choose among candidates and keep what helps on patients it was not chosen on.

    Args:
        table: (N, C, K) Dice of every image, candidate and class; candidate 0 does nothing.
        patients: (N,) whose image it is.
        classes: the K classes.

    Returns:
        The steps by class name, and what each is kept for.
    """
    rounds = rounds_of(patients)
    level = LEVEL / (len(classes) * len(FAMILIES))
    steps: dict[str, Step] = {}
    kept: list[Kept] = []
    first = 1
    for kind, members in FAMILIES.items():
        chosen = [0, *range(first, first + len(members))]
        first += len(members)
        of_kind = table[:, chosen]
        best = of_kind.mean(axis=0).argmax(axis=0)
        gains = np.zeros((len(table), len(classes)))
        for n in range(ROUNDS):
            out = rounds == n
            if out.any() and not out.all():
                choice = of_kind[~out].mean(axis=0).argmax(axis=0)
                gains[out] = np.take_along_axis(of_kind[out], choice[None, None], axis=1)[:, 0] - of_kind[out, 0]
        for k, name in enumerate(classes):
            effect, low, high = interval(gains[:, k], patients, level)
            if low > 0 and best[k]:
                value = getattr(members[best[k] - 1], kind)
                steps[name] = replace(steps.get(name, Step()), **{kind: value})
                kept.append(Kept(name, kind, value, effect, low, high))
    return steps, tuple(kept)


def interval(gains: Floats, patients: NDArray[np.str_], level: float) -> tuple[float, float, float]:
    """The mean of paired differences with its Student interval over patients.

    Args:
        gains: (N,) a difference an image.
        patients: (N,) whose image it is; the images of one are averaged first.
        level: of both sides together: 0.05 gives 95 %.

    Returns:
        Mean, low, high; of one patient the interval is infinite.
    """
    _, which = np.unique(patients, return_inverse=True)
    of_patient = np.bincount(which, gains) / np.bincount(which)
    mean, count = float(of_patient.mean()), len(of_patient)
    if count < 2:
        return mean, -math.inf, math.inf
    half = _student(1 - level / 2, count - 1) * float(of_patient.std(ddof=1)) / math.sqrt(count)
    return mean, mean - half, mean + half


def _student(probability: float, freedom: int) -> float:
    """Quantile of Student's t: the expansion of Abramowitz and Stegun, 26.7.5; 1 % off at 9 degrees of freedom."""
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, start=1))


def _measure(
    predictions: Iterator[tuple[Case, torch.Tensor, LabelMap]], classes: Classes
) -> tuple[Floats, NDArray[np.str_]]:
    """Dice (N, C, K) of every image under every candidate, and the patients (N,)."""
    every = [Calibration(dict.fromkeys(classes, step), classes) for step in CANDIDATES]
    rows, patients = [], []
    for case, logits, truth in predictions:
        rows.append([_dice(logits, truth, candidate) for candidate in every])
        patients.append(case.patient)
    return np.array(rows), np.array(patients)


def _dice(logits: torch.Tensor, truth: LabelMap, calibration: Calibration) -> Floats:
    found = calibration.repaired(labels_of(logits, calibration.thresholds(), truth.shape))
    return metrics.dice(kernels.overlap(found, truth, len(calibration.classes)))


def rounds_of(patients: NDArray[np.str_]) -> NDArray[np.int64]:
    """Which fifth (N,), counted from 0, an image is in; all images of a patient (N,) are in one."""
    names, which = np.unique(patients, return_inverse=True)
    dealt = np.random.default_rng(0).permutation(len(names)) % ROUNDS
    return dealt[which]
