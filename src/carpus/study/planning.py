"""How many seeds and patients a difference needs: the power of `stats.contrast`, worked out before anything runs.

Dimension key: S seeds an arm, P patients.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from carpus.study.stats import LEVEL, PATIENTS_NEEDED, SEEDS_NEEDED, Spread

POWER = 0.8

MOST_SEEDS, MOST_PATIENTS = 1000, 100_000
"""The largest numbers that are looked at."""

MOST_ADVISED = 50
"""More seeds an arm than these count as out of reach, unless there are that many."""

ASSUMED = Spread(patient=0.006, seed=0.0007, residual=0.003)
"""Of competition-sized studies of the hand (144 patients, 29 bones), where no pilot tells better."""

_QUANTILES = (np.arange(32) + 0.5) / 32


@dataclass(frozen=True)
class Design:
    """A number of seeds in each arm and of patients that both score."""

    seeds: int
    patients: int


def power(effect: float, design: Design, spread: Spread, level: float = LEVEL) -> float:
    """The chance that a true difference is found, with the right sign.

    Args:
        effect: the true difference, 0 or more.
        design: at least 2 seeds and 5 patients, else the power is 0.
        spread: the standard deviations.
        level: two-sided; of several contrasts, `LEVEL` over their number is on the safe side.

    Returns:
        From 0 to 1, averaged over what the estimated variances may come out as.
    """
    if design.seeds < SEEDS_NEEDED or design.patients < PATIENTS_NEEDED:
        return 0.0
    both = 2 * spread.residual**2 / (design.seeds * design.patients)
    of_patients = spread.patient**2 / design.patients + both
    of_seeds = 2 * spread.seed**2 / design.seeds + both
    free_patients, free_seeds = design.patients - 1, design.seeds - 1
    found_patients = of_patients * stats.chi2.ppf(_QUANTILES, free_patients)[:, None] / free_patients
    found_seeds = of_seeds * stats.chi2.ppf(_QUANTILES, free_seeds) / free_seeds
    free = np.full_like(found_seeds, free_seeds)
    if not spread.paired:
        # Each arm's own variance is estimated, and Welch's degrees of freedom with them: two more dimensions, made one.
        first, second = (of_arm.ravel() for of_arm in np.meshgrid(found_seeds / 2, found_seeds / 2))
        found_seeds = first + second
        free = np.minimum((free_seeds + 2) * found_seeds**2 / (first**2 + second**2) - 2, 2 * free_seeds)
    q = special.stdtrit(free_patients, 1 - level / 2)
    t = special.stdtrit(free, 1 - level / 2)
    square = q**2 * found_patients + t**2 * found_seeds - q * t * both
    bound = np.sqrt(np.maximum(square, q**2 * found_patients))
    error = math.sqrt(of_patients + of_seeds - both)
    if error == 0:
        return float(effect > 0)
    return float(special.ndtr((effect - bound) / error).mean())


def detectable(design: Design, spread: Spread, level: float = LEVEL, wanted: float = POWER) -> float:
    """The minimal detectable effect: the smallest true difference found with power `wanted`; inf with one seed."""
    low, high = 0.0, 1.0
    if power(high, design, spread, level) < wanted:
        return math.inf
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if power(middle, design, spread, level) < wanted else (low, middle)
    return high


def seeds(effect: float, patients: int, spread: Spread, level: float = LEVEL, wanted: float = POWER) -> int | None:
    """The smallest number of seeds an arm that finds `effect` on so many patients; None if none does."""
    return _smallest(SEEDS_NEEDED, MOST_SEEDS, lambda n: power(effect, Design(n, patients), spread, level) >= wanted)


def patients(effect: float, seeds: int, spread: Spread, level: float = LEVEL, wanted: float = POWER) -> int | None:
    """The smallest number of patients on which so many seeds find `effect`; None if none does."""
    return _smallest(PATIENTS_NEEDED, MOST_PATIENTS, lambda n: power(effect, Design(seeds, n), spread, level) >= wanted)


def alone(effect: float, spread: Spread, level: float = LEVEL, wanted: float = POWER) -> tuple[int | None, int | None]:
    """Seeds an arm, if patients were without end, and patients, if seeds were: a real design needs more than both.

    Returns:
        The sizes of a two-sample (one-sample, if paired) and of a one-sample t-test.
    """

    samples = 1 if spread.paired else 2

    def found(error: float, freedom: int) -> bool:
        limit = special.stdtrit(freedom, 1 - level / 2)
        return error == 0 or float(stats.nct.sf(limit, freedom, effect / error)) >= wanted

    return (
        _smallest(SEEDS_NEEDED, MOST_SEEDS, lambda n: found(spread.seed * math.sqrt(2 / n), (n - 1) * samples)),
        _smallest(PATIENTS_NEEDED, MOST_PATIENTS, lambda n: found(spread.patient / math.sqrt(n), n - 1)),
    )


def enough(effect: float, now: Design, spread: Spread, level: float = LEVEL, wanted: float = POWER) -> Design | None:
    """The cheapest larger design that finds `effect`: more seeds with the same patients, else more of both.

    Args:
        effect: the true difference to find.
        now: what there is.
        spread, level, wanted: see `power`.

    Returns:
        The design: with the same patients up to four times the seeds, or 20; else up to `MOST_ADVISED` seeds, or as
        many as there are, with up to `MOST_PATIENTS` patients. None if none of these does.
    """
    needed = seeds(effect, now.patients, spread, level, wanted)
    if needed is not None and needed <= 4 * max(now.seeds, 5):
        return Design(max(needed, now.seeds), now.patients)
    designs = []
    for number in sorted({now.seeds, 3, 5, 8, 12, 20, 32, MOST_ADVISED}):
        more = patients(effect, number, spread, level, wanted)
        if number >= now.seeds and more is not None:
            designs.append(Design(number, max(more, now.patients)))
    # A seed costs a training on top of predicting every patient; patients cost annotation: neither may explode.
    return min(designs, key=lambda d: (d.seeds / max(now.seeds, 3)) * (d.patients / now.patients), default=None)


def pooled(spreads: Sequence[Spread]) -> Spread | None:
    """The root mean square of several, as of a pilot's contrasts; of paired ones only if all are. None of none."""
    alike = [of for of in spreads if not of.paired] or spreads
    if not alike:
        return None
    patient, seed, residual = np.sqrt(np.mean([(of.patient**2, of.seed**2, of.residual**2) for of in alike], axis=0))
    return Spread(float(patient), float(seed), float(residual), alike[0].paired)


def _smallest(first: int, last: int, enough: Callable[[int], bool]) -> int | None:
    """The smallest number from `first` to `last` that is enough, where more is never less; None if none is."""
    if not enough(last):
        return None
    while first < last:
        middle = (first + last) // 2
        first, last = (first, middle) if enough(middle) else (middle + 1, last)
    return first
