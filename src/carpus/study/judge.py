"""Verdicts: every contrast of a study through `stats`, corrected for there being several, with what it would take."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from carpus.formats.submission import image_name
from carpus.report.findings import plural
from carpus.study import budget, planning, stats
from carpus.study.planning import Design
from carpus.study.results import ALL, METRICS, TEST, Arm, columns, side_by_side
from carpus.study.spec import Pair, Study
from carpus.study.stats import Spread, Word

VAL = ("val",)
"""The split of the patients held out: no training saw them, but one may have chosen its checkpoint on them."""

COLLAPSED = 0.02
"""A run with a lower mean Dice has learned nothing: to call every pixel every bone gives half of that."""

SCATTER = 1e-9
"""Scores whose standard deviations are all below this are the same but for rounding."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Judged:
    """One contrast, judged.

    Args:
        pair: the arm, and what it is compared with.
        dice: the contrast of Dice in every column.
        columns: the names of its columns, see `results.columns`.
        others: the contrasts of the other metrics, by name; of the mean over all classes, without a margin.
        p, p_equivalent: of the mean over all classes, Holm-corrected over the study's contrasts; NaN with one seed.
        word: the verdict.
        detectable: the minimal detectable effect of this design with this spread; NaN where the spread is not known.
        needed: the design that would find `effect`; None if it was found, or if no design within reach does.
        effect: the difference that `needed` is for: what was seen, but no less than the margin; NaN where the scores
            hold nothing to judge by, which a flag explains.
        assumed: why the spread was not that of the contrast itself; empty if it was.
        flags: why a difference may come from something else: budget, transductive; or why there is nothing to
            compare: collapsed, nothing fitted, no scatter.
    """

    pair: Pair
    dice: stats.Contrast
    columns: tuple[str, ...]
    others: Mapping[str, stats.Contrast]
    p: float
    p_equivalent: float
    word: Word
    detectable: float
    needed: Design | None
    effect: float
    assumed: str
    flags: Mapping[str, str]

    @property
    def difference(self) -> float:
        """Of the mean over all classes."""
        return float(self.dice.difference[ALL])

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of that difference, at 95 %; None with one seed or fewer than five patients."""
        low, high = float(self.dice.low[ALL]), float(self.dice.high[ALL])
        return (low, high) if math.isfinite(low) else None


@dataclass(frozen=True)
class Judgement:
    """All arms of a study and what may be said about them.

    Args:
        arms: in the study's order; those without a run are absent.
        judged: the contrasts both of whose arms have runs.
        absent: the others.
        splits: what the verdicts are about.
        margin: differences of Dice below this are as good as none.
        tests: that p is corrected for: all contrasts, and those that are judged on Val besides.
        on_val: of verdicts on test images, the contrasts with an arm that learnt from these: the same on the patients
            held out, whose images it never saw.
    """

    arms: Mapping[str, Arm]
    judged: tuple[Judged, ...]
    absent: tuple[Pair, ...]
    splits: tuple[str, ...]
    margin: float
    tests: int
    on_val: tuple[Judged, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class _Tested:
    """One contrast before the correction; see `Judged`.

    Args:
        empty: whether the scores hold nothing to judge by.
    """

    pair: Pair
    dice: stats.Contrast
    columns: tuple[str, ...]
    others: Mapping[str, stats.Contrast]
    empty: bool
    flags: Mapping[str, str]


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
    splits = _splits(arms, there)
    twice = [pair for pair in contrasts if splits == TEST and _learnt(pair, arms, study)]
    again = [pair for pair in twice if pair in there and all("val" in arms[name].splits() for name in pair)]
    tests = len(contrasts) + sum(pair in again or pair not in there for pair in twice)
    tested = [_test(pair, arms, splits, margin, study) for pair in there]
    on_val = [_test(pair, arms, VAL, margin, study) for pair in again]
    judged = _corrected([tested, on_val], margin, tests)
    absent = tuple(pair for pair in contrasts if pair not in there)
    return Judgement(arms, judged[0], absent, splits, margin, tests, judged[1])


def _corrected(groups: Sequence[Sequence[_Tested]], margin: float, tests: int) -> list[tuple[Judged, ...]]:
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


def _splits(arms: Mapping[str, Arm], pairs: Sequence[Pair]) -> tuple[str, ...]:
    """What all verdicts of one table are about."""
    return TEST if all(_has_test(arms[name]) for pair in pairs for name in pair) else VAL


def _fitted(arm: Arm) -> str:
    """That what was fitted for an arm after training has changed no score, in words; empty if nothing was tried."""
    kept = [outcome.fitted for outcome in arm.runs if outcome.fitted is not None]
    told = f"{sum(kept)} in {plural(len(kept), 'run')}, without a change of any score" if any(kept) else "none"
    return (
        f"{arm.name}: thresholds and repairs that helped beyond chance on the patients held out: {told}" if kept else ""
    )


def planned_tests(study: Study) -> int:
    """How many tests `judge` will correct for: a contrast with an arm that learns from test images has two."""
    return len(study.contrasts) + sum(_learnt(pair, {}, study) for pair in study.contrasts)


def _learnt(pair: Pair, arms: Mapping[str, Arm], study: Study | None) -> bool:
    """Whether an arm of a pair learnt from the test images, or from some of them, as far as that is known."""
    told = [name for name in pair if study is not None and "transductive" in study.arms[name].flags]
    return bool(told) or any(_seen(arms[name]) for name in pair if name in arms)


def _has_test(arm: Arm) -> bool:
    return bool(set(arm.splits()) & set(TEST))


def _test(pair: Pair, arms: Mapping[str, Arm], splits: Sequence[str], margin: float, study: Study | None) -> _Tested:
    """A contrast by itself, without tests where there is nothing to test."""
    arm, against = arms[pair.arm], arms[pair.against]
    a, b, same_trainings = side_by_side(arm, against, splits)
    dice = stats.contrast(a, b, paired=same_trainings, margin=margin)
    collapsed = {name: of[:, :, ALL].mean(axis=1) < COLLAPSED for name, of in zip(pair, (a, b), strict=True)}
    all_collapsed = all(of.all() for of in collapsed.values())
    constant = np.max([dice.patient, dice.seed, dice.residual], axis=0) < SCATTER
    nothing: dict[str, str] = {}
    if told := [
        f"{name}: {of.sum()} of {plural(len(of), 'run')} below a mean Dice of {COLLAPSED:g}"
        for name, of in collapsed.items()
        if of.any()
    ]:
        nothing["collapsed"] = "; ".join(told)
    if constant[ALL] and same_trainings and not dice.difference[ALL] and (fitted := _fitted(arm) or _fitted(against)):
        nothing["nothing fitted"] = fitted
    elif constant[ALL] and not all_collapsed:
        told = "differences of the same training do" if same_trainings else "scores do"
        nothing["no scatter"] = f"{told} not differ between seeds, nor the difference between patients"
    untested = constant | all_collapsed
    untouched = ("transductive",) if tuple(splits) == VAL else ()  # the patients held out are nobody's
    return _Tested(
        pair=pair,
        dice=dice.untested(untested),
        columns=tuple(columns(arm.classes)),
        others=_others(arm, against, splits),
        empty=bool(untested[ALL]),
        flags={kind: why for kind, why in flags(arm, against, study).items() if kind not in untouched} | nothing,
    )


def _others(arm: Arm, against: Arm, splits: Sequence[str]) -> dict[str, stats.Contrast]:
    found = {}
    for metric in METRICS[1:]:
        if arm.scores(splits, metric) and against.scores(splits, metric):
            a, b, same_trainings = side_by_side(arm, against, splits, metric)
            of_all = slice(ALL, ALL + 1)
            found[metric] = stats.contrast(a[:, :, of_all], b[:, :, of_all], paired=same_trainings)
    return found


def _judged(
    tested: _Tested, p: float, p_equivalent: float, *, known: Spread | None, margin: float, level: float
) -> Judged:
    """The verdict, and what it would take to reach one.

    Args:
        tested: the contrast.
        p, p_equivalent: corrected.
        known: the spread of all contrasts of the study; None where none of them tells.
        margin: of equivalence, in Dice.
        level: of the contrast among those of its study.
    """
    dice = tested.dice
    difference = float(dice.difference[ALL])
    word = stats.verdict(difference, p, p_equivalent)
    spread, assumed = _spread(dice, known)
    now = Design(min(dice.seeds), dice.patients)
    effect = math.nan if tested.empty else max(abs(difference), margin)
    undecided = word == "cannot tell" and not tested.empty
    return Judged(
        pair=tested.pair,
        dice=dice,
        columns=tested.columns,
        others=tested.others,
        p=p,
        p_equivalent=p_equivalent,
        word=word,
        detectable=math.nan if assumed else planning.detectable(now, spread, level),
        needed=planning.enough(effect, now, spread, level) if undecided else None,
        effect=effect,
        assumed=assumed,
        flags=tested.flags,
    )


def _spread(dice: stats.Contrast, known: Spread | None) -> tuple[Spread, str]:
    """The spread to plan with, and why it is not that of the contrast itself; empty if it is."""
    if (own := dice.spread(ALL)) is not None:
        return own, ""
    if known is not None:
        return known, "the scatter of the study's other contrasts"
    spread = planning.ASSUMED
    return spread, f"an assumed scatter (patients {spread.patient:g}, seeds {spread.seed:g})"


def left_out(judgement: Judgement) -> list[str]:
    """Test images and seeds that no verdict is about, in sentences."""
    compared = dict.fromkeys(name for each in judgement.judged for name in each.pair)
    untested = [name for name in compared if not _has_test(judgement.arms[name])]
    images = f"{', '.join(untested)}: no scores on test images, so that every verdict is about the validation patients"
    val = [name for each in judgement.on_val for name in each.pair]
    seeds = [
        f"{name}: seed {seed} is left out{where}, because it has not every fold that others have"
        for where, splits, names in (("", judgement.splits, judgement.arms), (" on Val", VAL, dict.fromkeys(val)))
        for name in names
        for seed in judgement.arms[name].seeds
        if (there := judgement.arms[name].scores(splits)) and seed not in there
    ]
    seeds += [
        f"{each.pair}: seed {seed} of {name} is left out, because the other arm has no run of its training"
        for each in judgement.judged
        if each.dice.paired
        for name, other in (each.pair, tuple(reversed(each.pair)))
        for seed in judgement.arms[name].scores(judgement.splits)
        if seed not in judgement.arms[other].scores(judgement.splits)
    ]
    found = [images, *seeds] if 0 < len(untested) < len(compared) else seeds
    again = {each.pair for each in judgement.on_val}
    found += [
        f"{each.pair}: learnt from test images, and not every run has Val, which would "
        "say what an arm is worth on images it never saw"
        for each in judgement.judged
        if "transductive" in each.flags and each.pair not in again and judgement.splits == TEST
    ]
    return found


def flags(arm: Arm, against: Arm, study: Study | None = None) -> dict[str, str]:
    """Why a difference of two arms may come from something else than what they are named after.

    Args:
        arm, against: what is compared.
        study: a study file that knows both arms and tells what their folders do not.

    Returns:
        By kind, "budget" or "transductive", what differs.
    """
    found = study.flags(Pair(arm.name, against.name)) if study is not None else {}
    ours, theirs = _seen(arm), _seen(against)
    if bool(ours) != bool(theirs):
        found.setdefault("transductive", ours or f"{against.name}: {theirs}")
    if differs := budget.differences(budget.of(arm), budget.of(against)):
        found["budget"] = "; ".join(filter(None, [found.get("budget"), *differs]))
    return found


def _seen(arm: Arm) -> str:
    """Whether any of the test images were learnt from with predictions for labels, in words; empty if none."""
    scored = {
        image_name(case)
        for run in arm.runs
        for case in run.table.loc[run.table["split"].isin(TEST), "case"].unique().tolist()
    }
    shared = len(scored & frozenset[str]().union(*(run.learnt for run in arm.runs)))
    return f"learnt from {shared} of the {len(scored)} test images, with predictions for labels" if shared else ""
