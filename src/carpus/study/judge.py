"""Verdicts: every contrast of a study through `stats`, corrected for there being several, with what it would take."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from carpus.formats.submission import image_name
from carpus.report.findings import plural
from carpus.study import planning, stats
from carpus.study.planning import Design
from carpus.study.results import METRICS, TEST, Arm, columns, side_by_side
from carpus.study.spec import Contrast, Study
from carpus.study.stats import Word

SAME_PARAMETERS = 0.02
"""Networks whose numbers of parameters differ by a smaller share count as equally large."""

COLLAPSED = 0.02
"""A run with a lower mean Dice has learned nothing: to call every pixel every bone gives half of that."""

SCATTER = 1e-9
"""Scores whose standard deviations are all below this are the same but for rounding."""


@dataclass(frozen=True)
class Judged:
    """One contrast, judged.

    Args:
        pair: the arm, and what it is compared with.
        dice: the contrast of Dice, over `columns` of the class list.
        others: the contrasts of the other metrics, by name; of the mean over all classes, without a margin.
        p, p_equivalent: of the mean over all classes, Holm-corrected over the study's contrasts; NaN with one seed.
        word: the verdict.
        detectable: the minimal detectable effect of this design with this spread; NaN where the spread is not known.
        needed: the design that would find `effect`; None if it was found, or if no design within reach does.
        effect: the difference that `needed` is for: what was seen, but no less than the margin; NaN where the scores
            hold nothing to judge by, which a flag explains.
        assumed: why the spread was not that of the contrast itself; empty if it was.
        flags: why a difference may come from something else: budget, transductive; or why there is nothing to
            compare: collapsed, no scatter.
    """

    pair: Contrast
    dice: stats.Contrast
    others: Mapping[str, stats.Contrast]
    columns: tuple[str, ...]
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
        return float(self.dice.difference[0])

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of that difference, at 95 %; None with one seed or fewer than five patients."""
        low, high = float(self.dice.low[0]), float(self.dice.high[0])
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
    """

    arms: Mapping[str, Arm]
    judged: tuple[Judged, ...]
    absent: tuple[Contrast, ...]
    splits: tuple[str, ...]
    margin: float


class _Nothing(NamedTuple):
    """Whether there is nothing that a test could judge by, and the flags of runs that learned nothing."""

    empty: bool
    flags: dict[str, str]


def judge(
    arms: Mapping[str, Arm],
    contrasts: Sequence[Contrast],
    *,
    margin: float = stats.MARGIN,
    study: Study | None = None,
) -> Judgement:
    """Judge contrasts on the test images if every arm was scored on some, else all of them on the validation patients.

    Args:
        arms: by name, each with at least one run.
        contrasts: in the order of the table; all of them count for the correction, those without runs too.
        margin: of equivalence, in Dice.
        study: whose flags are to be told.

    Raises:
        DataError: two arms that have no patient in common.
    """
    there = [pair for pair in contrasts if pair.arm in arms and pair.against in arms]
    splits = _splits(arms, there)
    tested = [_contrast(arms, pair, splits, margin) for pair in there]
    found = [dice for dice, _ in tested]
    missing = [math.nan] * (len(contrasts) - len(there))
    p = stats.holm([*(float(each.p[0]) for each in found), *missing])
    p_equivalent = stats.holm([*(float(each.p_equivalent[0]) for each in found), *missing])
    known = planning.pooled([spread for each in found if (spread := each.spread()) is not None])
    level = stats.LEVEL / max(len(contrasts), 1)
    judged = []
    for pair, (dice, nothing), p_of, p_equivalent_of in zip(there, tested, p, p_equivalent, strict=False):
        word = stats.verdict(float(dice.difference[0]), p_of, p_equivalent_of)
        spread, assumed = dice.spread(), ""
        if spread is None and known is not None:
            spread, assumed = known, "the scatter of the study's other contrasts"
        elif spread is None:
            spread = planning.ASSUMED
            assumed = f"an assumed scatter (patients {spread.patient:g}, seeds {spread.seed:g})"
        now = Design(min(dice.seeds), dice.patients)
        effect = math.nan if nothing.empty else max(abs(float(dice.difference[0])), margin)
        judged.append(
            Judged(
                pair,
                dice,
                _others(arms, pair, splits),
                tuple(columns(arms[pair.arm].classes)),
                p_of,
                p_equivalent_of,
                word,
                math.nan if assumed else planning.detectable(now, spread, level),
                planning.enough(effect, now, spread, level) if word == "cannot tell" and not nothing.empty else None,
                effect,
                assumed,
                flags(arms[pair.arm], arms[pair.against], study) | nothing.flags,
            )
        )
    absent = tuple(pair for pair in contrasts if pair not in there)
    return Judgement(arms, tuple(judged), absent, splits, margin)


def _splits(arms: Mapping[str, Arm], pairs: Sequence[Contrast]) -> tuple[str, ...]:
    """What all verdicts of one table are about."""
    return TEST if all(_tested(arms[name]) for pair in pairs for name in pair) else ("val",)


def _tested(arm: Arm) -> bool:
    return bool(set(arm.splits()) & set(TEST))


def left_out(judgement: Judgement) -> list[str]:
    """Test images and seeds that no verdict is about, in sentences."""
    compared = dict.fromkeys(name for each in judgement.judged for name in each.pair)
    untested = [name for name in compared if not _tested(judgement.arms[name])]
    images = f"{', '.join(untested)}: no scores on test images, so that every verdict is about the validation patients"
    seeds = [
        f"{name}: seed {seed} is left out, because it has not every fold that others have"
        for name, arm in judgement.arms.items()
        for seed in arm.seeds
        if (there := arm.scores(judgement.splits)) and seed not in there
    ]
    return [images, *seeds] if 0 < len(untested) < len(compared) else seeds


def flags(arm: Arm, against: Arm, study: Study | None = None) -> dict[str, str]:
    """Why a difference of two arms may come from something else than what they are named after.

    Args:
        arm, against: what is compared.
        study: a study file that knows both arms and tells what their folders do not.

    Returns:
        By kind, "budget" or "transductive", what differs.
    """
    found = study.flags(Contrast(arm.name, against.name)) if study is not None else {}
    saw = {one.name: told for one in (arm, against) if (told := _seen(one))}
    if len(saw) == 1 and "transductive" not in found:
        ((name, told),) = saw.items()
        found["transductive"] = told if name == arm.name else f"{name}: {told}"
    ours, theirs = budget(arm), budget(against)
    differs = [
        f"{name} {ours[name]:,.0f} against {theirs[name]:,.0f}"
        for name in ours
        if abs(ours[name] - theirs[name]) > (SAME_PARAMETERS * theirs[name] if name == "parameters" else 0.5)
    ]
    if differs:
        found["budget"] = "; ".join(([found["budget"]] if "budget" in found else []) + differs)
    return found


def budget(arm: Arm) -> dict[str, float]:
    """What an arm was given, means over its runs; NaN where a run does not tell."""
    runs = arm.runs
    of_settings = {
        "images a step": [
            run.settings.train.batch_size * run.settings.train.accumulate for run in runs if run.settings
        ],
        "image size": [run.settings.data.image_size for run in runs if run.settings],
        "label size": [run.settings.data.label_size for run in runs if run.settings],
        "training patients": [len(run.manifest["train_patients"]) for run in runs if "train_patients" in run.manifest],
    }
    found = {"steps": sum(run.steps for run in runs) / len(runs), "parameters": arm.fact("parameters")}
    return found | {name: sum(of) / len(of) if of else math.nan for name, of in of_settings.items()}


def _seen(arm: Arm) -> str:
    """Whether any of the test images were learnt from with predictions for labels, in words; empty if none."""
    scored = {
        image_name(case)
        for run in arm.runs
        for case in run.table.loc[run.table["split"].isin(TEST), "case"].unique().tolist()
    }
    shared = len(scored & frozenset[str]().union(*(run.learnt for run in arm.runs)))
    return f"learnt from {shared} of the {len(scored)} test images, with predictions for labels" if shared else ""


def _contrast(
    arms: Mapping[str, Arm], pair: Contrast, splits: Sequence[str], margin: float
) -> tuple[stats.Contrast, _Nothing]:
    """The contrast of Dice, without tests where there is nothing to test."""
    a, b, same_trainings = side_by_side(arms[pair.arm], arms[pair.against], splits)
    found = stats.contrast(a, b, paired=same_trainings, margin=margin)
    low = {name: values[:, :, 0].mean(axis=1) < COLLAPSED for name, values in zip(pair, (a, b), strict=True)}
    collapsed = [
        f"{name}: {of.sum()} of {plural(len(of), 'run')} below a mean Dice of {COLLAPSED:g}"
        for name, of in low.items()
        if of.any()
    ]
    told = {"collapsed": "; ".join(collapsed)} if collapsed else {}
    still = np.max([found.patient, found.seed, found.residual], axis=0) < SCATTER
    if all(of.all() for of in low.values()):
        still[:] = True
    elif still[0]:
        told["no scatter"] = "scores do not differ between seeds, nor their difference between patients"
    blank = {
        name: np.where(still, math.nan, getattr(found, name))
        for name in ("low", "high", "p", "p_equivalent", "patient", "seed", "residual")
    }
    return replace(found, **blank), _Nothing(bool(still[0]), told)


def _others(arms: Mapping[str, Arm], pair: Contrast, splits: Sequence[str]) -> dict[str, stats.Contrast]:
    found = {}
    for metric in METRICS[1:]:
        if all(arms[name].scores(splits, metric) for name in pair):
            a, b, same_trainings = side_by_side(arms[pair.arm], arms[pair.against], splits, metric)
            found[metric] = stats.contrast(a[:, :, :1], b[:, :, :1], paired=same_trainings)
    return found
