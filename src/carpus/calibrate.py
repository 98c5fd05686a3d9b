"""`carpus calibrate`: what helps after the networks, fitted on predictions of patients that they never saw.

Every image is predicted by runs that held its patient out, so nothing is fitted to what a network has learned by
heart. `crossfit` says how a step is chosen and what it takes to be kept. The effect of the whole procedure is measured
by yet another round: chosen and kept on four fifths of the patients, applied to the last.

Dimension key: N images, C candidates, T temperatures, K classes, M members, h w logit resolution.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from carpus import crossfit, data, evaluate, kernels, metrics, reliability, run
from carpus.blend import Kind, weighted
from carpus.crossfit import LEVEL, ROUNDS, Floats, Measured, Tried
from carpus.data import Case
from carpus.errors import ConfigError
from carpus.labels import LabelMap
from carpus.postprocess import Calibration, Step
from carpus.predict import Options, Predictor, in_turn, labels_of

LEAST_PATIENTS = 10


@dataclass(frozen=True)
class Effect:
    """What the whole procedure does to patients it was not fitted on, over all classes.

    Args:
        measure: "dice", or "nll" and "ece" near the bones, see `reliability`.
        before, after: its mean over images, then classes.
        gain: how much better it is after: more Dice, less of the others.
        low, high: the 95 % interval of the gain over patients; None for "ece", which no single image has.
    """

    measure: str
    before: float
    after: float
    gain: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Result:
    """What was found.

    Args:
        calibration: the steps that are kept.
        tried: what came of every kind of step for every class.
        images, patients: how many it was fitted on.
        members: the folders of the runs of each; the folds of one recipe are a member.
        effects: of the whole procedure on "dice", "nll" and "ece".
    """

    calibration: Calibration
    tried: tuple[Tried, ...]
    images: int
    patients: int
    members: tuple[tuple[Path, ...], ...]
    effects: tuple[Effect, ...]

    @property
    def kept(self) -> tuple[Tried, ...]:
        """What helps."""
        return tuple(each for each in self.tried if each.kept)


@dataclass(frozen=True)
class _Team:
    """One run of every member, and the cases that all of them held out."""

    runs: tuple[run.Run, ...]
    cases: tuple[Case, ...]


def calibrate(
    runs: Sequence[run.Run],
    root: Path,
    out: Path,
    *,
    device: str = "auto",
    options: Options | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Result:
    """Find out what helps, and write it for `carpus predict --calibration`.

    Args:
        runs: runs of the same classes with different validation folds, usually the folds of one recipe. Where patients
            are held out more than once, runs whose settings differ in the fold only are one member of an ensemble, and
            the members' weights are fitted, too.
        root: the data folder they were trained on.
        out: the JSON file to write; it is written even if nothing helps, and then does nothing.
        device: auto, cpu or cuda.
        options: tiles, views and blend, as they will be used in prediction.
        progress: called with (images done, images in all); every image comes twice.

    Raises:
        DataError: not the data that the runs held out, or `out` is there and is no calibration.
        ConfigError: no run, runs of different classes or of overlapping folds, members with other patients, fewer than
            ten patients held out, weights, which it fits, or votes, which have no probability.
    """
    if not runs:
        raise ConfigError("calibrate: expected at least one run")
    Calibration.require_place(out)
    classes, options = runs[0].classes, options or Options()
    for each in runs:
        if each.classes != classes:
            raise ConfigError(f"{each.path}: has other classes than {runs[0].path}")
    if options.weights:
        raise ConfigError("weights: are what calibrate fits; leave them out")
    members, teams = _teams(runs, data.read(root))
    if options.blend == "votes" and len(members) > 1:
        raise ConfigError("calibrate: votes have no probability; blend probabilities or logits")
    kind: Kind = "logits" if options.blend == "logits" else "probabilities"
    hashes = [[each.manifest["files"][run.WEIGHTS] for each in of] for of in members]
    fitted_on = sorted({case.patient for team in teams for case in team.cases})
    total, done = 2 * sum(len(team.cases) for team in teams), 0

    def shown() -> Iterator[tuple[Case, _Image]]:
        nonlocal done
        for team in teams:
            networks = [Predictor.of(each, device, options) for each in team.runs]
            items = ((case, lambda case=case: data.read_image(case.image)) for case in team.cases)
            answers = in_turn(lambda image, networks=networks: [network.logits(image) for network in networks], items)
            for case, found in answers:
                yield case, _Image(found, data.read_labels(case, classes), kind)
                done += 1
                if progress:
                    progress(done, total)

    def calibration(steps: dict[str, Step]) -> Calibration:
        return Calibration(steps, classes, hashes, options.facts(), fitted_on=fitted_on)

    usual = dict(zip(classes, crossfit.usual_shares(classes), strict=True))
    every = [
        calibration({name: crossfit.for_class(step, usual[name]) for name in classes})
        for step in crossfit.candidates(len(members))
    ]
    tempered = [each for each in every if each.steps[0].temperature != 1]
    # Only in a mean of probabilities does a temperature move what is above one half.
    unmoved = [every[0], *(tempered if len(members) == 1 or kind == "logits" else ())]
    patients, dice, loss = [], [], []
    for case, image in shown():
        patients.append(case.patient)
        plain = image.dice(every[0])
        dice.append([plain if each in unmoved else image.dice(each) for each in every])
        loss.append([image.loss(each) for each in (every[0], *tempered)])
    measured = Measured(np.array(patients), np.array(dice), np.array(loss))
    steps, tried = crossfit.fit(measured, classes, len(members))
    effects = _effects(measured, (image for _, image in shown()), calibration, len(members))
    folders = tuple(tuple(each.path for each in of) for of in members)
    result = Result(calibration(steps), tried, len(patients), len(set(patients)), folders, effects)
    result.calibration.write(
        out,
        images=result.images,
        patients=result.patients,
        effects=[asdict(effect) for effect in effects],
        tried=[asdict(each) for each in tried],
    )
    return result


class _Image:
    """One image: what the members say of it, and the truth.

    Args:
        answers: M logits (1, K, h, w).
        truth: (H, W).
        kind: how they become one.
    """

    def __init__(self, answers: Sequence[Tensor], truth: LabelMap, kind: Kind) -> None:
        self._answers, self._truth = answers, truth
        self._kind: Kind = kind
        self._plain = self._mean(None)
        self._near = reliability.regions(self._plain, truth)

    def dice(self, calibration: Calibration) -> Floats:
        """(K,)"""
        found = labels_of(self._logits(calibration), calibration.thresholds(), self._truth.shape)
        return metrics.dice(kernels.overlap(calibration.repaired(found), self._truth, len(calibration.classes)))

    def loss(self, calibration: Calibration) -> Floats:
        """(K,) negative log-likelihood near the bones."""
        return reliability.loss(self._logits(calibration), self._near)

    def bins(self, calibration: Calibration) -> Floats:
        """(K, B, 3), see `reliability.bins`."""
        return reliability.bins(self._logits(calibration), self._near)

    def _logits(self, calibration: Calibration) -> Tensor:
        mixed = any(step.temperature != 1 or step.weights for step in calibration.steps)
        return self._mean(calibration) if mixed else self._plain

    def _mean(self, calibration: Calibration | None) -> Tensor:
        answers = [calibration.tempered(each) for each in self._answers] if calibration else self._answers
        if len(answers) == 1:
            return answers[0]
        weights = calibration.weights() if calibration else np.ones((len(answers), answers[0].shape[1]))
        return weighted(answers, weights, self._kind)


def _effects(
    measured: Measured,
    images: Iterator[_Image],
    calibration: Callable[[dict[str, Step]], Calibration],
    members: int,
) -> tuple[Effect, ...]:
    """What is kept on four fifths of the patients, applied to the last."""
    rounds = crossfit.rounds_of(measured.patients)
    classes = calibration({}).classes
    fitted = [calibration(crossfit.fit(measured.of(rounds != n), classes, members)[0]) for n in range(ROUNDS)]
    dice, loss, bins = [], [], 0.0
    for image, n in zip(images, rounds, strict=True):
        both = calibration({}), fitted[n]
        dice.append([float(image.dice(each).mean()) for each in both])
        loss.append([float(image.loss(each).mean()) for each in both])
        bins += np.stack([image.bins(each) for each in both])
    found = []
    for measure, table, sign in (("dice", np.array(dice), 1), ("nll", np.array(loss), -1)):
        gains = sign * (table[:, 1] - table[:, 0])
        before, after = (float(column.mean()) for column in table.T)
        found.append(Effect(measure, before, after, *crossfit.interval(gains, measured.patients, LEVEL)))
    before, after = (reliability.calibration_error(counted) for counted in np.asarray(bins))
    return *found, Effect("ece", before, after, before - after)


def _teams(runs: Sequence[run.Run], dataset: data.Dataset) -> tuple[list[list[run.Run]], list[_Team]]:
    """The members, each the folds of one recipe, and every case with one run of each member that held it out."""
    cases = {each.path: evaluate.held_out(dataset, each, "val") for each in runs}
    patients = {path: {case.patient for case in held} for path, held in cases.items()}
    members = [list(runs)]
    if sum(map(len, patients.values())) > len(set().union(*patients.values())):
        recipes: defaultdict[str, list[run.Run]] = defaultdict(list)
        for each in runs:
            # What a fold starts from may be a fold, too.
            recipe = each.settings.model_dump_json(exclude={"data": {"fold"}, "model": {"weights"}})
            recipes[recipe].append(each)
        members = list(recipes.values())
    holders = [_holders(member, patients) for member in members]
    for member, held in zip(members, holders, strict=True):
        for patient in sorted(held.keys() ^ holders[0].keys()):
            raise ConfigError(
                f"{member[0].path}: its recipe and that of {members[0][0].path} do not hold out the same patients, "
                f"{patient} only one of them; give the same folds of each"
            )
    if len(holders[0]) < LEAST_PATIENTS:
        raise ConfigError(
            f"calibrate: {len(holders[0])} patients are held out by these runs; {LEAST_PATIENTS} are the least"
        )
    together: defaultdict[tuple[Path, ...], list[Case]] = defaultdict(list)
    for first in members[0]:
        for case in cases[first.path]:
            together[tuple(held[case.patient].path for held in holders)].append(case)
    opened = {each.path: each for each in runs}
    return members, [_Team(tuple(opened[path] for path in paths), tuple(held)) for paths, held in together.items()]


def _holders(member: Sequence[run.Run], patients: dict[Path, set[str]]) -> dict[str, run.Run]:
    """The run that held a patient out."""
    found: dict[str, run.Run] = {}
    for each in member:
        for patient in sorted(patients[each.path]):
            if found.setdefault(patient, each) is not each:
                raise ConfigError(
                    f"{each.path}: holds out {patient}, as {found[patient].path} does; give runs of different folds"
                )
    return found
