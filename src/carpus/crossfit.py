"""What helps: candidates chosen on some patients, measured on others, and kept only beyond chance.

A candidate, such as a threshold of 0.35 for the Lunate, is chosen on four fifths of the patients and measured on the
last fifth, in turn; it is kept only if its effect there is above zero beyond chance, with the level shared among all
classes and kinds of step (Bonferroni). Dimension key: N images, C candidates, T temperatures, K classes, M members.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from carpus.labels import BONES, Classes
from carpus.phantom import anatomy
from carpus.postprocess import Step

LEVEL = 0.05
"""Of all that is kept together, the chance that any of it does not help, were there nothing that helps."""

ROUNDS = 5

LOSS = "temperature"
"""The one kind of step that is chosen by likelihood; all others are by Dice."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tried:
    """One kind of step for a class: its effect on patients it was not chosen on, and its interval there.

    Args:
        name: the class.
        kind: the field of `Step`.
        value: the best it could be set to; None where to do nothing was best.
        measure: "dice", or "nll" for the negative log-likelihood of a pixel near the bone, whose fall is the effect.
        effect, low, high: of choosing on some patients and measuring on others, in turn.
        kept: whether it helps beyond chance.
    """

    name: str
    kind: str
    value: float | bool | tuple[float, ...] | None
    measure: str
    effect: float
    low: float
    high: float
    kept: bool


@dataclass(frozen=True)
class Measured:
    """Every image under every candidate.

    Args:
        patients: (N,) whose image it is.
        dice: (N, C, K), the candidates in the order of `families`; candidate 0 does nothing.
        loss: (N, 1 + T, K) negative log-likelihood at no temperature, then at those of `families`.
    """

    patients: NDArray[np.str_]
    dice: Floats
    loss: Floats

    def of(self, chosen: NDArray[np.bool_]) -> "Measured":
        """The images of `chosen` (N,)."""
        return Measured(self.patients[chosen], self.dice[chosen], self.loss[chosen])


def families(members: int) -> dict[str, tuple[Step, ...]]:
    """The candidates of every kind of step for an ensemble of so many members; doing nothing is always one more.

    `Step.least` is here a share of the class's usual area, see `for_class`.
    """
    thresholds = tuple(round(0.2 + 0.05 * n, 2) for n in range(13) if n != 6)
    found = {
        LOSS: tuple(Step(temperature=round(2 ** (n / 4), 3)) for n in range(-4, 13) if n),
        "threshold": tuple(Step(threshold=threshold) for threshold in thresholds),
        "largest": (Step(largest=True),),
        "fill": (Step(fill=True),),
        "least": tuple(Step(least=share) for share in (0.05, 0.2, 0.5)),
    }
    if members > 1:
        found["weights"] = tuple(Step(weights=weights) for weights in _weights(members))
    return found


def candidates(members: int) -> tuple[Step, ...]:
    """Doing nothing, and the candidates of all families in their order."""
    return (Step(), *(step for steps in families(members).values() for step in steps))


def for_class(step: Step, usual: float) -> Step:
    """A candidate as it is for a class that usually has a share `usual` of the pixels of all bones."""
    return replace(step, least=round(step.least * usual, 6))


def usual_shares(classes: Classes) -> Floats:
    """(K,) of the pixels of all classes: the bones' as their mean outlines have it, any other class's alike."""
    if classes != BONES:
        return np.full(len(classes), 1 / len(classes))
    areas = np.array([anatomy.polygon_area(bone.outline) for bone in anatomy.bones("straight").values()])
    return areas / areas.sum()


def _weights(members: int) -> list[tuple[float, ...]]:
    """One member that counts nothing, twice, four times, half, or alone; no two that are the same."""
    found: dict[tuple[float, ...], tuple[float, ...]] = {}
    for factor in (0.0, 2.0, 4.0, 0.5, math.inf):
        for member in range(members):
            rest = 0.0 if factor == math.inf else 1.0
            weights = [rest] * members
            weights[member] = 1.0 if factor == math.inf else factor
            found.setdefault(tuple(round(each / sum(weights), 9) for each in weights), tuple(weights))
    return list(found.values())


def fit(measured: Measured, classes: Classes, members: int = 1) -> tuple[dict[str, Step], tuple[Tried, ...]]:
    """Choose among candidates and keep what helps on patients it was not chosen on.

    Args:
        measured: of the candidates of so many members.
        classes: the K classes.
        members: M.

    Returns:
        The steps by class name, and what came of every kind for every class.
    """
    kinds, patients, usual = families(members), measured.patients, usual_shares(classes)
    rounds = rounds_of(patients)
    level = LEVEL / (len(classes) * len(kinds))
    steps: dict[str, Step] = {}
    tried: list[Tried] = []
    first = 1
    for kind, steps_of_kind in kinds.items():
        chosen = [0, *range(first, first + len(steps_of_kind))]
        first += len(steps_of_kind)
        dice = measured.dice[:, chosen]
        good = -measured.loss if kind == LOSS else dice
        best = good.mean(axis=0).argmax(axis=0)
        gains, of_dice = np.zeros((2, len(patients), len(classes)))
        for n in range(ROUNDS):
            out = rounds == n
            if out.any() and not out.all():
                choice = good[~out].mean(axis=0).argmax(axis=0)[None, None]
                gains[out] = np.take_along_axis(good[out], choice, axis=1)[:, 0] - good[out, 0]
                of_dice[out] = np.take_along_axis(dice[out], choice, axis=1)[:, 0] - dice[out, 0]
        for k, name in enumerate(classes):
            effect, low, high = interval(gains[:, k], patients, level)
            value = getattr(for_class(steps_of_kind[best[k] - 1], usual[k]), kind) if best[k] else None
            # A likelihood may rise at the cost of the score.
            kept = low > 0 and value is not None and interval(of_dice[:, k], patients, level)[0] >= 0
            if kept:
                steps[name] = replace(steps.get(name, Step()), **{kind: value})
            tried.append(Tried(name, kind, value, "nll" if kind == LOSS else "dice", effect, low, high, kept))
    return {name: _together(step) for name, step in steps.items()}, tuple(tried)


def _together(step: Step) -> Step:
    """A threshold was found without the temperature: moved with it, it cuts where it did."""
    if step.threshold == Step.threshold:
        return step
    logit = math.log(step.threshold / (1 - step.threshold)) / step.temperature
    return replace(step, threshold=1 / (1 + math.exp(-logit)))


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
    half = float(stats.t.ppf(1 - level / 2, count - 1)) * float(of_patient.std(ddof=1)) / math.sqrt(count)
    return mean, mean - half, mean + half


def rounds_of(patients: NDArray[np.str_]) -> NDArray[np.int64]:
    """Which fifth (N,) an image is in; all images of a patient are in one."""
    names, which = np.unique(patients, return_inverse=True)
    dealt = np.random.default_rng(0).permutation(len(names)) % ROUNDS
    return dealt[which]
