"""Verdicts: every contrast of a study through `stats`, corrected for there being several, with what it would take."""

import math
from collections.abc import Mapping, Sequence

from carpus.study import flags, planning, stats
from carpus.study.judgement import Compared, Judged, Judgement
from carpus.study.pairing import ALL, columns, side_by_side
from carpus.study.planning import Design
from carpus.study.results import METRICS, TEST, VAL, Arm
from carpus.study.spec import Cause, Pair, Study
from carpus.study.stats import Spread


def judge(
    arms: Mapping[str, Arm],
    contrasts: Sequence[Pair],
    *,
    margin: float = stats.MARGIN,
    study: Study | None = None,
) -> Judgement:
    """Judge contrasts on the test images if every arm was scored on some, else all of them on the validation patients.

    Where an arm learnt from the test images, these say nothing of images it never saw: on Val it is judged besides. So
    there are more tests than contrasts, and p is corrected for all of them together: one page tells all the verdicts.

    Args:
        arms: by name, each with at least one run.
        contrasts: in the order of the table; all of them count for the correction, those without runs too, and twice
            if they are to be judged twice.
        margin: of equivalence, in Dice.
        study: whose flags are to be told.

    Returns:
        The contrasts both of whose arms are there, in the same order, and the others.

    Raises:
        DataError: two arms that have no patient in common.
    """
    there = [pair for pair in contrasts if pair.arm in arms and pair.against in arms]
    absent = tuple(pair for pair in contrasts if pair not in there)
    # All verdicts of one table are about the same images.
    splits = TEST if all(arms[name].has_test for pair in there for name in pair) else VAL
    twice = [pair for pair in contrasts if splits == TEST and flags.learnt_from_test(pair, arms, study)]
    again = [pair for pair in twice if pair in there and all("val" in arms[name].splits() for name in pair)]
    tests = len(contrasts) + sum(pair in again or pair not in there for pair in twice)
    compared = [_compare(pair, arms, splits, margin, study) for pair in there]
    compared_on_val = [_compare(pair, arms, VAL, margin, study) for pair in again]
    judged, on_val = _corrected([compared, compared_on_val], margin, tests)
    return Judgement(arms, judged, absent, splits, margin, tests, on_val)


def planned_tests(study: Study) -> int:
    """How many tests `judge` will correct for: a contrast with an arm that learns from test images has two."""
    return len(study.contrasts) + sum(flags.learnt_from_test(pair, {}, study) for pair in study.contrasts)


def _compare(
    pair: Pair, arms: Mapping[str, Arm], splits: Sequence[str], margin: float, study: Study | None
) -> Compared:
    """A contrast by itself, without tests where there is nothing to test."""
    arm, against = arms[pair.arm], arms[pair.against]
    scores = side_by_side(arm, against, splits)
    dice = stats.contrast(scores.a, scores.b, paired=scores.same_trainings, margin=margin)
    untested = flags.nothing_to_test(scores, dice)
    causes = flags.other_causes(arm, against, study)
    if tuple(splits) == VAL:  # nobody learnt from the patients held out
        causes = tuple(flag for flag in causes if flag.kind is not Cause.TRANSDUCTIVE)
    return Compared(
        pair=pair,
        dice=dice.untested(untested),
        columns=tuple(columns(arm.classes)),
        others=_others(arm, against, splits),
        empty=bool(untested[ALL]),
        flags=causes + flags.lacks(arm, against, scores, dice),
    )


def _others(arm: Arm, against: Arm, splits: Sequence[str]) -> dict[str, stats.Contrast]:
    """By name, the contrasts of the metrics besides Dice that both arms have."""
    found = {}
    for metric in METRICS[1:]:
        if arm.scores(splits, metric) and against.scores(splits, metric):
            a, b, same_trainings = side_by_side(arm, against, splits, metric)
            of_all = slice(ALL, ALL + 1)
            found[metric] = stats.contrast(a[:, :, of_all], b[:, :, of_all], paired=same_trainings)
    return found


def _corrected(groups: Sequence[Sequence[Compared]], margin: float, tests: int) -> list[tuple[Judged, ...]]:
    """Groups of contrasts, each of patients of its own, judged as one family of so many tests."""
    every = [each for group in groups for each in group]
    p = iter(stats.holm([float(each.dice.p[ALL]) for each in every], tests=tests))
    p_equivalent = iter(stats.holm([float(each.dice.p_equivalent[ALL]) for each in every], tests=tests))
    level = stats.LEVEL / max(tests, 1)
    judged = []
    for group in groups:
        spreads = [spread for each in group if (spread := each.dice.spread(ALL)) is not None]
        known = planning.pooled([spread for spread in spreads if not spread.paired])
        judged.append(
            tuple(_judged(each, next(p), next(p_equivalent), known=known, margin=margin, level=level) for each in group)
        )
    return judged


def _judged(
    compared: Compared, p: float, p_equivalent: float, *, known: Spread | None, margin: float, level: float
) -> Judged:
    """The verdict, and what it would take to reach one.

    Args:
        compared: the contrast.
        p, p_equivalent: corrected.
        known: the spread of all contrasts of the study; None where none of them tells.
        margin: of equivalence, in Dice.
        level: of the contrast among those of its study.
    """
    word = stats.verdict(compared.difference, p, p_equivalent)
    spread, assumed = _spread(compared.dice, known)
    now = Design(min(compared.dice.seeds), compared.dice.patients)
    effect = math.nan if compared.empty else max(abs(compared.difference), margin)
    undecided = word == "cannot tell" and not compared.empty
    return Judged(
        **vars(compared),
        p=p,
        p_equivalent=p_equivalent,
        word=word,
        detectable=math.nan if assumed else planning.detectable(now, spread, level),
        needed=planning.enough(effect, now, spread, level) if undecided else None,
        effect=effect,
        assumed=assumed,
    )


def _spread(dice: stats.Contrast, known: Spread | None) -> tuple[Spread, str]:
    """The spread to plan with, and why it is not that of the contrast itself; empty if it is."""
    if (own := dice.spread(ALL)) is not None:
        return own, ""
    if known is not None:
        return known, "the scatter of the study's other contrasts"
    spread = planning.ASSUMED
    return spread, f"an assumed scatter (patients {spread.patient:g}, seeds {spread.seed:g})"
