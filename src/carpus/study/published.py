"""The report's own claims, judged from the numbers it published: one run an arm, on three splits.

One run tells nothing of the seeds, so that by the rule of `stats` nothing could be told. What can be told is how large
the scatter over seeds would have to be to make a difference a matter of luck, and whether it is that large:

- Public and private are other patients and the same runs. How far a contrast's two differences lie apart, over all
  contrasts, is the scatter of the patients: half that distance (RMS) is the standard error of their mean.
- A difference d of two runs is beyond chance as long as d² > t² (SE² + 2 SD²), with SD the scatter over seeds and t of
  as many degrees of freedom as there are contrasts, at Holm's level. `Found.holds_to` is that SD.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats as scipy_stats

from carpus.report import Listing
from carpus.study.spec import Cause, Pair, Published, Study
from carpus.study.stats import LEVEL

SEED_SD = (0.0005, 0.0007, 0.0015)
"""The scatter of a run's mean Dice over seeds as it is measured: lowest, usual, highest."""

Carried = Literal["carried", "likely", "not carried", "confounded", "no numbers"]


@dataclass(frozen=True)
class Found:
    """One published contrast.

    Args:
        study: the study's name.
        pair: the two arms.
        differences: on val, public and private; NaN where the report has no number.
        test: the mean of public and private.
        holds_to: the scatter over seeds up to which `test` is beyond chance; 0 if the patients alone explain it.
        word: carried, if that is more than any scatter that is measured; likely, if more than the usual one.
        why: what else there is to say: signs that disagree, a budget that differs.
    """

    study: str
    pair: Pair
    differences: tuple[float, float, float]
    test: float
    holds_to: float
    word: Carried
    why: str


def judge(studies: Sequence[Study]) -> tuple[list[Found], float]:
    """Judge all contrasts between published rows.

    Args:
        studies: all of the report's at once: what the splits disagree by is estimated over all of them.

    Returns:
        The contrasts in order, and the RMS distance of the differences on public and private.
    """
    rows = [(study, pair, _differences(study, pair)) for study in studies for pair in study.contrasts]
    rows = [row for row in rows if all(row[0].arms[name].published for name in row[1])]
    apart = np.array([public - private for _, _, (_, public, private) in rows])
    apart = apart[np.isfinite(apart)]
    if not len(apart):
        return [_unknown(*row) for row in rows], math.nan
    rms = float(np.sqrt((apart**2).mean()))
    tests = [float(np.mean(differences[1:])) for _, _, differences in rows]
    order = sorted((n for n, test in enumerate(tests) if math.isfinite(test)), key=lambda n: -abs(tests[n]))
    rank = {n: place for place, n in enumerate(order)}
    found, reach = [], math.inf
    by_row: dict[int, Found] = {}
    for n in order:
        limit = float(scipy_stats.t.isf(LEVEL / 2 / (len(order) - rank[n]), len(apart)))
        reach = min(reach, math.sqrt(max(0.0, (tests[n] / limit) ** 2 - (rms / 2) ** 2) / 2))  # as Holm steps down
        by_row[n] = _found(*rows[n], tests[n], reach)
    for n, row in enumerate(rows):
        found.append(by_row.get(n) or _unknown(*row))
    return found, rms


def _found(study: Study, pair: Pair, differences: tuple[float, float, float], test: float, reach: float) -> Found:
    word: Carried = "carried" if reach >= SEED_SD[2] else "likely" if reach >= SEED_SD[1] else "not carried"
    why = []
    signs = {math.copysign(1, value) for value in differences if math.isfinite(value) and value}
    if len(signs) > 1:
        why.append("the splits disagree about the sign")
        word = "not carried"
    told = study.flags(pair)
    steps = [of.iterations for name in pair if (of := study.arms[name].published)]
    if Cause.BUDGET in told:
        why.append(told[Cause.BUDGET])
        word = "confounded"
    elif len(steps) == 2 and None not in steps and steps[0] != steps[1]:
        why.append(f"{steps[0]:,} iterations against {steps[1]:,}")
        word = "confounded"
    if Cause.TRANSDUCTIVE in told:
        why.append(told[Cause.TRANSDUCTIVE])
    return Found(study.name, pair, differences, test, reach, word, "; ".join(why))


def _unknown(study: Study, pair: Pair, differences: tuple[float, float, float]) -> Found:
    return Found(study.name, pair, differences, math.nan, math.nan, "no numbers", "public and private are not given")


def _differences(study: Study, pair: Pair) -> tuple[float, float, float]:
    a, b = (study.arms[name].published or Published() for name in pair)

    def less(first: float | None, second: float | None) -> float:
        return math.nan if first is None or second is None else first - second

    return less(a.val, b.val), less(a.public, b.public), less(a.private, b.private)


def listings(studies: Sequence[Study], found: Sequence[Found], apart: float) -> list[Listing]:
    """What was found as tables: every claim, then every contrast."""
    by_pair = {(each.study, each.pair): each for each in found}
    claims = []
    for study in studies:
        for claim in study.claims:
            words: list[Carried] = [each.word for pair in claim.contrasts if (each := by_pair.get((study.name, pair)))]
            named = [str(pair) for pair in claim.contrasts]
            claims.append([study.name, claim.text, "; ".join(named), _overall(words)])
    rows = [
        [
            each.study,
            str(each.pair),
            *map(_signed, (*each.differences, each.test)),
            f"{each.holds_to:.4f}" if math.isfinite(each.holds_to) else "–",
            each.word,
            each.why,
        ]
        for each in found
    ]
    low, usual, high = SEED_SD
    told = (
        f"Differences of one run each. Public and private disagree by {apart:.4f} (RMS, over all of the report's "
        "contrasts that have both numbers, of all studies: those that share an arm, which are not independent, and the "
        f"confounded ones included). Holds to: the scatter over "
        f"seeds up to which the test difference is beyond chance, Holm-corrected; measured scatter is {low:g} to "
        f"{high:g}, usually {usual:g}. Carried: holds above {high:g}; likely: above {usual:g}. None of it replaces a "
        "second seed."
    )
    claim_told = "A claim is carried if all contrasts that have to bear it are."
    return [
        Listing("The report's claims", claim_told, ["Study", "Claim", "Contrasts", "By its own numbers"], claims),
        Listing(
            "The report's contrasts",
            told,
            ["Study", "Contrast", "Val", "Public", "Private", "Test", "Holds to", "By its own numbers", "Why"],
            rows,
        ),
    ]


def _overall(words: Sequence[Carried]) -> str:
    """The weakest of what a claim stands on."""
    order: tuple[Carried, ...] = ("confounded", "not carried", "no numbers", "likely", "carried")
    return min(words, key=order.index) if words else "no numbers"


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−") if math.isfinite(value) else "–"
