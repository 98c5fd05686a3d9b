"""An interval over patients and seeds: 10,000 resamples of 144 patients x 8 seeds x 29 classes.

The usual way draws patients with replacement, gathers their scores and takes mean and standard error, one resample
after the other. Both resample the same patients, so that their intervals are the same.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Comparison, require
from carpus.study import stats

PATIENTS, SEEDS, CLASSES = 144, 8, 29
Values = NDArray[np.float64]


def arms() -> tuple[Values, Values]:
    draw = np.random.default_rng(0)
    shared = 0.93 + 0.02 * draw.standard_normal((1, PATIENTS, CLASSES))
    a, b = (shared + 0.006 * draw.standard_normal((SEEDS, PATIENTS, CLASSES)) for _ in range(2))
    return a + 0.002, b


def usual(a: Values, b: Values, resamples: int) -> Values:
    """(2, C) the 2.5 and 97.5 % quantiles of the studentised mean of resampled patients."""
    center = a.mean(axis=(0, 1)) - b.mean(axis=(0, 1))
    chosen = np.random.default_rng(0).integers(0, PATIENTS, (resamples, PATIENTS))
    found = []
    for patients in chosen:
        difference = (a[:, patients] - b[:, patients]).mean(axis=0)
        found.append((difference.mean(axis=0) - center) / (difference.std(axis=0) / np.sqrt(PATIENTS - 1)))
    return np.quantile(found, [0.025, 0.975], axis=0)


def interval(quantiles: Values, a: Values, b: Values, known: stats.Contrast) -> tuple[Values, Values]:
    """The bounds that follow from the quantiles, with the seeds' part of `stats`."""
    shares = 2 / SEEDS
    both = known.residual**2 * shares / PATIENTS
    patients = (a.mean(axis=0) - b.mean(axis=0)).var(axis=0, ddof=1) / PATIENTS
    of_a, of_b = (arm.mean(axis=1).var(axis=0, ddof=1) / SEEDS for arm in (a, b))
    runs, freedom = of_a + of_b, (SEEDS + 1) * (of_a + of_b) ** 2 / (of_a**2 + of_b**2) - 2  # Welch's
    t = stats.special.stdtrit(np.minimum(freedom, 2 * SEEDS - 2), 1 - stats.LEVEL / 2)
    low, high = (
        np.sqrt(np.maximum(q**2 * patients + t**2 * runs - q * t * both, q**2 * patients))
        for q in (quantiles[1], -quantiles[0])
    )
    return known.difference - low, known.difference + high


def comparisons(quick: bool) -> Iterator[Comparison]:
    a, b = arms()
    resamples = 1000 if quick else 10_000

    def equal(theirs: Values, mine: stats.Contrast) -> str:
        low, high = interval(theirs, a, b, mine)
        close = np.allclose(low, mine.low, atol=2e-6) and np.allclose(high, mine.high, atol=2e-6)
        return require(close, "the same intervals")

    yield Comparison(
        f"study, {resamples:,} resamples, 8 seeds", lambda: usual(a, b, resamples),
        lambda: stats.contrast(a, b, resamples=resamples), equal,
    )  # fmt: skip
