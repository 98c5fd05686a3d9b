"""Does arm A differ from arm B? A paired difference with an interval that allows for patients *and* for seeds.

The score of seed s of arm a on patient p is taken apart as

    y[a, s, p] = mean[a] + patient[p] + (arm x patient)[a, p] + seed[a, s] + rest[a, s, p].

The same patients are scored in both arms, so `patient` drops out of the difference d. Seeds of different arms are
not paired: the same seed draws the same batches, but another method makes something else of them, and pairing would
halve the degrees of freedom (docs/studies.md has the simulation). Where the runs of both arms come from the same
trainings (thresholds fitted afterwards, steps added), they are: the differences of every seed are one sample, and all
below holds of it. Three variances can be read off the scores::

    V_P   of the patients' differences, over P                  holds arm x patient and the rest
    V_S   of the runs' means, the sum of every sample's own     holds the seeds and the rest
    V_E   of the rest alone, which both of them hold            var(d) = V_P + V_S - V_E

Patients are resampled and studentised (the bootstrap-t: it follows skewed differences). Two seeds cannot be resampled,
which is why a plain crossed bootstrap finds too much: their quantile is Student's t with Welch's degrees of freedom,
for one method's seeds may scatter ten times as far as another's. Both are crossed as Cochran and Cox cross two
samples: with quantiles q and t of the same level the bound is at

    d -+ sqrt(q² V_P + t² V_S - q t V_E),

which without the rest is never too narrow, whatever the shares of patients and seeds (Banerjee 1960). The p-value is
the level at which the bound touches zero.

Dimension key: S seeds, P patients, C columns (classes, or means over classes), R resamples. Columns are independent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from carpus.errors import DataError

Values = NDArray[np.float64]

LEVEL = 0.05
"""Of every test; intervals hold with 1 - LEVEL."""

MARGIN = 0.001
"""Differences of Dice below this are as good as none, where a study states no other margin."""

SEEDS_NEEDED = 2
PATIENTS_NEEDED = 5

RESAMPLES = 10_000

Side = Literal["low", "high"]
Word = Literal["better", "worse", "equivalent", "cannot tell"]


@dataclass(frozen=True)
class Spread:
    """Where the scores of one method vary, as standard deviations.

    Args:
        patient: of the difference between two arms over patients, with infinitely many seeds.
        seed: of a run's mean over seeds, with infinitely many patients.
        residual: of a single patient's score over seeds, beyond `seed`.
        paired: whether the runs of two arms come from the same trainings; `seed` and `residual` are then what two arms
            would have whose differences scatter as far.
    """

    patient: float
    seed: float
    residual: float = 0.0
    paired: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Contrast:
    """Arm A against arm B; all arrays are (C,), NaN where two seeds or five patients are not there.

    Args:
        difference: mean of A less mean of B.
        low, high: the interval of level 1 - LEVEL.
        p: two-sided, of no difference at all, uncorrected.
        p_equivalent: of a difference of the margin or more (two one-sided tests), uncorrected.
        superiority: the share of pairs of runs, one of A and one of B, in which A's mean is the higher one; a pair is
            of the same training where `paired`.
        seeds: of A and of B.
        patients: how many.
        margin: that of `p_equivalent`, which is NaN without one.
        patient, seed, residual, paired: see `Spread`.
    """

    difference: Values
    low: Values
    high: Values
    p: Values
    p_equivalent: Values
    superiority: Values
    seeds: tuple[int, int]
    patients: int
    margin: float | None
    patient: Values
    seed: Values
    residual: Values
    paired: bool = False

    def spread(self, column: int = 0) -> Spread | None:
        """The standard deviations of one column; None where they cannot be told."""
        patient, seed, residual = (float(of[column]) for of in (self.patient, self.seed, self.residual))
        found = Spread(patient, seed, residual, self.paired)
        return found if np.isfinite([found.patient, found.seed]).all() else None

    def untested(self, where: NDArray[np.bool_]) -> "Contrast":
        """The same without intervals, tests and standard deviations `where` (C,) a column holds nothing to test."""

        def blank(values: Values) -> Values:
            return np.where(where, np.nan, values)

        return replace(
            self,
            low=blank(self.low),
            high=blank(self.high),
            p=blank(self.p),
            p_equivalent=blank(self.p_equivalent),
            patient=blank(self.patient),
            seed=blank(self.seed),
            residual=blank(self.residual),
        )


def contrast(
    a: Values,
    b: Values,
    *,
    paired: bool = False,
    margin: float | None = None,
    resamples: int = RESAMPLES,
    random: int = 0,
) -> Contrast:
    """Compare two arms on the same patients.

    Args:
        a: (S_A, P, C) scores of the first arm: every seed scores every patient, once. Where a seed has several runs
            (folds with patients of their own), their patients stand side by side.
        b: (S_B, P, C) scores of the second, the same patients in the same order.
        paired: whether run s of both comes from the same training; to be decided before the scores are seen.
        margin: half the width of what counts as equivalent, in the unit of the scores; without one, `p_equivalent` is
            NaN.
        resamples: of the patients.
        random: seed of the resampling; the same for the same data gives the same numbers.

    Returns:
        The contrast of every column.

    Raises:
        DataError: shapes that do not fit, or a value that is not finite.

    Source:
        Welch, Biometrika 34 (1947); Cochran and Cox, Experimental Designs (1957), 4.14; Banerjee, Sankhya 22 (1960);
        Efron and Tibshirani, An Introduction to the Bootstrap (1993), 12.5; Schuirmann, J. Pharmacokinet. Biopharm. 15
        (1987).
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 3 or b.ndim != 3 or a.shape[1:] != b.shape[1:] or not a.size or not b.size:
        raise DataError(f"contrast: expected (seeds, patients, columns) of the same patients, got {a.shape}, {b.shape}")
    if paired and len(a) != len(b):
        raise DataError(f"contrast: paired runs are equally many in both arms, got {len(a)} and {len(b)}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise DataError("contrast: a score is missing; every seed has to score every patient")
    runs, seeds, patients = (a.mean(axis=1), b.mean(axis=1)), (len(a), len(b)), a.shape[1]
    difference = runs[0].mean(axis=0) - runs[1].mean(axis=0)
    ahead = np.sign(runs[0] - runs[1])[None] if paired else np.sign(runs[0][:, None] - runs[1][None])
    superiority = (ahead.mean(axis=(0, 1)) + 1) / 2
    unknown = np.full_like(difference, np.nan)
    untested = Contrast(
        difference=difference,
        low=unknown,
        high=unknown,
        p=unknown,
        p_equivalent=unknown,
        superiority=superiority,
        seeds=seeds,
        patients=patients,
        margin=margin,
        patient=unknown,
        seed=unknown,
        residual=unknown,
        paired=paired,
    )
    if min(seeds) < SEEDS_NEEDED or patients < PATIENTS_NEEDED:
        return untested
    by_patient = a.mean(axis=0) - b.mean(axis=0)
    bound = _Bound.of((a - b,) if paired else (a, b), by_patient, resamples, random)
    half = np.full_like(difference, LEVEL / 2)
    p = 2 * np.where(difference > 0, bound.tail(difference, "low"), bound.tail(-difference, "high"))
    if margin is not None:
        p_equivalent = np.maximum(bound.tail(difference + margin, "low"), bound.tail(margin - difference, "high"))
        untested = replace(untested, p_equivalent=p_equivalent)
    shares = 1 / seeds[0] + 1 / seeds[1]
    return replace(
        untested,
        low=difference - bound.distance(half, "low"),
        high=difference + bound.distance(half, "high"),
        p=np.minimum(p, 1.0),
        patient=np.sqrt(np.maximum(bound.of_patients - bound.of_both, 0) * patients),
        seed=np.sqrt(np.maximum(bound.of_seeds - bound.of_both, 0) / shares),
        residual=np.sqrt(bound.of_both * patients / shares),
    )


@dataclass(frozen=True)
class _Bound:
    """How far a one-sided confidence bound lies from the difference.

    Args:
        of_patients, of_seeds, of_both: (C,) the variances V_P, V_S and V_E.
        resampled: (R, C) studentised means of resampled patients, each column sorted.
        freedom: (C,) Welch's degrees of freedom of V_S.
    """

    of_patients: Values
    of_seeds: Values
    of_both: Values
    resampled: NDArray[np.float32]
    freedom: Values

    @classmethod
    def of(cls, samples: Sequence[Values], by_patient: Values, resamples: int, random: int) -> "_Bound":
        """From both arms' scores, or from their differences by seed, each (S, P, C), and those by patient (P, C)."""
        patients = len(by_patient)
        of_seeds, of_both, weight = np.zeros((3, by_patient.shape[1]))
        for sample in samples:
            seeds, free = len(sample), len(sample) - 1
            run = sample.mean(axis=1, keepdims=True) - sample.mean(axis=(0, 1), keepdims=True)
            rest = sample - sample.mean(axis=0, keepdims=True) - run
            own = (run**2).sum(axis=(0, 1)) / (free * seeds)
            of_seeds += own
            weight += own**2 / (free + 2)
            of_both += np.einsum("spc,spc->c", rest, rest) / (free * (patients - 1) * seeds * patients)
        # Welch's, for unbiased estimates. Few seeds that lie together by chance must not borrow another arm's many.
        freedom = np.divide(of_seeds**2, weight, out=np.full_like(weight, 3.0), where=weight > 0) - 2
        freedom = np.minimum(freedom, len(samples) * (min(len(sample) for sample in samples) - 1))
        return cls(
            by_patient.var(axis=0, ddof=1) / patients,
            of_seeds,
            of_both,
            _studentised(by_patient - by_patient.mean(axis=0), resamples, random),
            freedom,
        )

    def distance(self, level: Values, side: Side) -> Values:
        """(C,) from the difference to the bound of one-sided `level` (C,), at most 0.5."""
        last = len(self.resampled) - 1
        place = np.clip(last * (1 - level if side == "low" else level), 0, last)
        below = place.astype(np.intp)
        columns = np.arange(len(level))
        lower, upper = self.resampled[below, columns], self.resampled[np.minimum(below + 1, last), columns]
        q = np.maximum((lower + (upper - lower) * (place - below)) * (1 if side == "low" else -1), 0.0)
        t = special.stdtrit(self.freedom, 1 - level)
        square = q**2 * self.of_patients + t**2 * self.of_seeds - q * t * self.of_both
        return np.sqrt(np.maximum(square, q**2 * self.of_patients))

    def tail(self, distance: Values, side: Side) -> Values:
        """(C,) the one-sided level whose bound lies `distance` (C,) away; not below 1 / R, and 1 beyond the middle."""
        low, high = np.full_like(distance, 1 / len(self.resampled)), np.full_like(distance, 0.5)
        for _ in range(30):
            middle = np.sqrt(low * high)
            beyond = self.distance(middle, side) < distance
            low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
        return np.where(distance > 0, high, 1.0)


def _studentised(deviations: Values, resamples: int, random: int) -> NDArray[np.float32]:
    """(R, C) means over resampled patients in units of their own standard error, each column sorted.

    Args:
        deviations: (P, C) of every patient from the mean.
        resamples: R.
        random: seed.
    """
    patients = len(deviations)
    chosen = np.random.default_rng(random).integers(0, patients, (resamples, patients))
    chosen += np.arange(resamples)[:, None] * patients
    times = np.bincount(chosen.ravel(), minlength=resamples * patients).reshape(resamples, patients)
    weights = (times / patients).astype(np.float32)
    scale = deviations.std(axis=0)
    unit = np.divide(deviations, scale, out=np.zeros_like(deviations), where=scale > 0).astype(np.float32)
    mean, square = weights @ unit, weights @ unit**2
    error = np.sqrt(np.maximum(square - mean**2, 1e-6) / (patients - 1))
    return np.sort((mean / error).astype(np.float32), axis=0)


def holm(p: Sequence[float], *, tests: int | None = None) -> list[float]:
    """p-values corrected for there being several, so that all together are wrong at their level (Holm 1979).

    Args:
        p: of each test; NaN of one that could not be done, which counts as a test all the same.
        tests: how many there are, those included that are not in `p`; None if all are.

    Returns:
        In the same order, at most 1; NaN stays NaN.
    """
    values = np.array(p, np.float64)
    order = np.argsort(values)  # NaN last
    factors = (len(values) if tests is None else tests) - np.arange(len(values))
    corrected = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
    result = np.empty_like(values)
    result[order] = corrected
    return result.tolist()


def verdict(difference: float, p: float, p_equivalent: float) -> Word:
    """One word of four.

    A difference that is proven to lie within the margin is `equivalent`, even if it is proven not to be zero: the
    margin says beforehand what does not matter.

    Args:
        difference: of A to B, more being better.
        p, p_equivalent: corrected for the number of contrasts; NaN where there are too few seeds or patients.
    """
    if p_equivalent < LEVEL:
        return "equivalent"
    if p < LEVEL:
        return "better" if difference > 0 else "worse"
    return "cannot tell"
