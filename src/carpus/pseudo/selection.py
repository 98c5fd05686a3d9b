"""Which pseudo-labels count: limits of every measure and class, and how many of a class at most.

Limits are fixed, or tuned on images whose truth is known and whose patients the members never saw: there it shows
what a good label of a class looks like. A hard class so gets limits of its own, and is not thrown out because it is
hard; and of a class that is often wrong there, no more are kept than were right there, the surest first.

Dimension key: N images, K classes, M measures.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from carpus.labels import Classes
from carpus.pseudo.criteria import MEASURES
from carpus.pseudo.measures import Floats

Bools = NDArray[np.bool_]

WORSE = 3.0
"""A label is wrong if its Dice is so many robust standard deviations below the median of its class."""

LEAST_SPREAD = 0.01
"""The least standard deviation of Dice that is believed."""

TAIL = 0.005
"""Share of the good labels that a tuned limit may cost."""

FEW = 10
"""Good labels of a class for whose small number a tuned limit is as far again from the median."""

ENOUGH = 20
"""Good labels of a class that a limit can be tuned on."""

LEAST_QUOTA = 0.5
"""Of no class fewer than this share are kept for its quota's sake."""

_LOW = np.array([measure.low for measure in MEASURES.values()])
_TUNED = np.array([measure.tuned for measure in MEASURES.values()])


@dataclass(frozen=True)
class Rules:
    """What a label must fulfil.

    Args:
        limits: (K, M), at least or at most, see `MEASURES`.
        quotas: (K,) largest share of the images in which a class is kept.
        tuned: (K, M) which limits were tuned.
    """

    limits: Floats
    quotas: Floats
    tuned: Bools

    def as_json(self, classes: Classes) -> dict[str, dict[str, float]]:
        """By class: every limit, and "quota"."""
        return {
            name: {
                **{measure: round(float(limit), 5) for measure, limit in zip(MEASURES, self.limits[k], strict=True)},
                "quota": round(float(self.quotas[k]), 5),
            }
            for k, name in enumerate(classes)
        }


@dataclass(frozen=True)
class Selected:
    """What is kept.

    Args:
        kept: (N, K).
        failed: (N, K, M) which measures spoke against a label.
    """

    kept: Bools
    failed: Bools

    def reasons(self, n: int, k: int) -> tuple[str, ...]:
        """Why a label is not kept: names of measures, or "quota"; empty for one that is."""
        if self.kept[n, k]:
            return ()
        return tuple(np.array(list(MEASURES))[self.failed[n, k]].tolist()) or ("quota",)


def fixed(classes: int) -> Rules:
    """The limits of `MEASURES` for every class, and no quotas."""
    limits = np.tile([measure.limit for measure in MEASURES.values()], (classes, 1))
    return Rules(limits.astype(np.float64), np.ones(classes), np.zeros(limits.shape, bool))


def tune(measures: Floats, dice: Floats, share: float = 1.0) -> Rules:
    """Limits and quotas from labels whose truth is known.

    A limit becomes what nearly all good labels of the class keep to. Where there are too few of them, it stays fixed.

    Args:
        measures: (N, K, M), see `measures.measure`.
        dice: (N, K) against the truth.
        share: of the images that there are; of fewer, fewer labels are enough.
    """
    rules = fixed(dice.shape[1])
    limits, tuned = rules.limits.copy(), rules.tuned.copy()
    good = right(dice)
    for k in range(dice.shape[1]):
        for m in np.flatnonzero(_TUNED):
            values = measures[good[:, k], k, m]
            values = values[np.isfinite(values)]
            if len(values) >= ENOUGH * share:
                middle, end = np.quantile(values, (0.5, TAIL if _LOW[m] else 1 - TAIL))
                # The farthest of few is not as far as others like it will be.
                limits[k, m] = end + (end - middle) * FEW / len(values)
                tuned[k, m] = True
    # One wrong label of a few is no share yet: as if one more had been right.
    quotas = np.maximum((good.sum(axis=0) + 1) / (len(good) + 1), LEAST_QUOTA) if len(good) else rules.quotas
    return replace(rules, limits=limits, quotas=quotas, tuned=tuned)


def restricted(rules: Rules, where: Bools) -> Rules:
    """The same rules with limits that are tuned only `where` (K, M), and fixed elsewhere."""
    return replace(
        rules,
        limits=np.where(where, rules.limits, fixed(len(rules.limits)).limits),
        tuned=rules.tuned & where,
    )


def right(dice: Floats) -> Bools:
    """(N, K) which labels are good, by their Dice (N, K): not far below what is usual for the class, see `WORSE`."""
    if not len(dice):
        return np.zeros(dice.shape, bool)
    median = np.median(dice, axis=0)
    spread = np.maximum(1.4826 * np.median(np.abs(dice - median), axis=0), LEAST_SPREAD)
    return dice >= median - WORSE * spread


def select(measures: Floats, rules: Rules) -> Selected:
    """Keep the labels that fulfil every rule.

    Args:
        measures: (N, K, M); NaN speaks neither for nor against.
        rules: limits and quotas.
    """
    with np.errstate(invalid="ignore"):
        failed = np.where(_LOW, measures < rules.limits, measures > rules.limits)
    kept: Bools = np.logical_not(failed).all(axis=2)  # pyright: ignore[reportAssignmentType]
    unsure = _unsure(measures)
    for k, quota in enumerate(rules.quotas):
        room = int(np.ceil(quota * len(kept) - 1e-9))
        candidates = np.flatnonzero(kept[:, k])
        if len(candidates) > room:
            # Of two that are as unsure as one another both are kept, or none: the order of files says nothing.
            least = np.sort(unsure[candidates, k])[max(room - 1, 0)]
            kept[:, k] &= unsure[:, k] <= least
    return Selected(kept, failed)


def _unsure(measures: Floats) -> Floats:
    """(N, K) mean rank of a label among those of its class, over the measures that are known; high is unsure.

    Equal values have the mean of their ranks, so that a measure which is the same for all tells none from another.
    """
    against = np.where(_LOW, -measures, measures)
    known = np.isfinite(against)
    ranks = rankdata(np.where(known, against, np.inf), axis=0)
    return np.where(known, ranks, 0).sum(axis=2) / np.maximum(known.sum(axis=2), 1)
