"""Flags: a difference may have another cause than what its arms are named after, or scores lack what is compared.

Dimension key: S seeds, P patients, C columns, see `pairing`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from carpus.formats.submission import image_name
from carpus.report.findings import plural
from carpus.study import budget, stats
from carpus.study.pairing import ALL, SideBySide
from carpus.study.results import TEST, Arm, Values
from carpus.study.spec import Cause, Pair, Study

COLLAPSED = 0.02
"""A run with a lower mean Dice has learned nothing: to call every pixel every bone gives half of that."""

SCATTER = 1e-9
"""Scores whose standard deviations are all below this are the same but for rounding."""


class Lack(StrEnum):
    """What scores lack to be compared by."""

    COLLAPSED = "collapsed"
    NOTHING_FITTED = "nothing fitted"
    NO_SCATTER = "no scatter"


Kind = Cause | Lack


@dataclass(frozen=True)
class Flag:
    """What a reader of a difference must know beside its verdict.

    Args:
        kind: what is the matter.
        why: what was seen of it, in words.
    """

    kind: Kind
    why: str

    @property
    def other_cause(self) -> bool:
        """Whether the difference may have this cause; if not, this is what is lacking to compare by."""
        return isinstance(self.kind, Cause)


def other_causes(arm: Arm, against: Arm, study: Study | None = None) -> tuple[Flag, ...]:
    """Why a difference of two arms may come from something else than what they are named after.

    Args:
        arm, against: what is compared.
        study: a study file that knows both arms and tells what their folders do not.

    Returns:
        At most one flag a cause.
    """
    found = study.flags(Pair(arm.name, against.name)) if study is not None else {}
    ours, theirs = _seen(arm), _seen(against)
    if bool(ours) != bool(theirs):
        found.setdefault(Cause.TRANSDUCTIVE, ours or f"{against.name}: {theirs}")
    if differs := budget.differences(budget.of(arm), budget.of(against)):
        found[Cause.BUDGET] = "; ".join(filter(None, [found.get(Cause.BUDGET), *differs]))
    return tuple(Flag(cause, why) for cause, why in found.items())


def learnt_from_test(pair: Pair, arms: Mapping[str, Arm], study: Study | None) -> bool:
    """Whether an arm of a pair learnt from the test images, or from some of them, as far as that is known."""
    told = [name for name in pair if study is not None and Cause.TRANSDUCTIVE in study.arms[name].flags]
    return bool(told) or any(_seen(arms[name]) for name in pair if name in arms)


def _seen(arm: Arm) -> str:
    """Whether any of the test images were learnt from with predictions for labels, in words; empty if none."""
    scored = {
        image_name(case)
        for run in arm.runs
        for case in run.table.loc[run.table["split"].isin(TEST), "case"].unique().tolist()
    }
    shared = len(scored & frozenset[str]().union(*(run.lineage.learnt for run in arm.runs)))
    return f"learnt from {shared} of the {len(scored)} test images, with predictions for labels" if shared else ""


def lacks(arm: Arm, against: Arm, scores: SideBySide, dice: stats.Contrast) -> tuple[Flag, ...]:
    """What the scores of two arms lack: runs that learned something, or a scatter that tells chance from a difference.

    Args:
        arm, against: what is compared.
        scores: of both.
        dice: their contrast.
    """
    found = []
    collapsed = {name: _collapsed(of) for name, of in ((arm.name, scores.a), (against.name, scores.b))}
    if told := [
        f"{name}: {of.sum()} of {plural(len(of), 'run')} below a mean Dice of {COLLAPSED:g}"
        for name, of in collapsed.items()
        if of.any()
    ]:
        found.append(Flag(Lack.COLLAPSED, "; ".join(told)))
    if not _constant(dice)[ALL]:
        return tuple(found)
    if scores.same_trainings and not dice.difference[ALL] and (fitted := _fitted(arm) or _fitted(against)):
        found.append(Flag(Lack.NOTHING_FITTED, fitted))
    elif not all(of.all() for of in collapsed.values()):
        told = "differences of the same training do" if scores.same_trainings else "scores do"
        found.append(Flag(Lack.NO_SCATTER, f"{told} not differ between seeds, nor the difference between patients"))
    return tuple(found)


def nothing_to_test(scores: SideBySide, dice: stats.Contrast) -> NDArray[np.bool_]:
    """(C,) the columns that do not scatter; all of them, where no run of either arm has learned anything."""
    return _constant(dice) | (_collapsed(scores.a).all() and _collapsed(scores.b).all())


def _collapsed(scores: Values) -> NDArray[np.bool_]:
    """(S,) the runs that have learned nothing, of scores (S, P, C)."""
    return scores[:, :, ALL].mean(axis=1) < COLLAPSED


def _constant(dice: stats.Contrast) -> NDArray[np.bool_]:
    """(C,) the columns that are the same over patients and seeds but for rounding."""
    return np.max([dice.patient, dice.seed, dice.residual], axis=0) < SCATTER


def _fitted(arm: Arm) -> str:
    """That what was fitted for an arm after training has changed no score, in words; empty if nothing was tried."""
    kept = [outcome.fitted for outcome in arm.runs if outcome.fitted is not None]
    told = f"{sum(kept)} in {plural(len(kept), 'run')}, without a change of any score" if any(kept) else "none"
    return (
        f"{arm.name}: thresholds and repairs that helped beyond chance on the patients held out: {told}" if kept else ""
    )
