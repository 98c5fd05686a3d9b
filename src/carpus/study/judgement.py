"""What may be said about the arms of a study: every contrast as it was compared, and as it was judged."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from carpus.study import stats
from carpus.study.flags import Flag, Kind
from carpus.study.pairing import ALL
from carpus.study.planning import Design
from carpus.study.results import TEST, Arm
from carpus.study.spec import Pair
from carpus.study.stats import Word


@dataclass(frozen=True, eq=False, kw_only=True)
class Compared:
    """Two arms side by side, by themselves: before it counts how many other contrasts there are.

    Args:
        pair: the arm, and what it is compared with.
        dice: the contrast of Dice in every column.
        columns: the names of its columns, see `pairing.columns`.
        others: the contrasts of the other metrics, by name; of the mean over all classes, without a margin.
        empty: whether the scores hold nothing to judge by, which a flag explains.
        flags: why the difference may have another cause, then what is lacking to compare by.
    """

    pair: Pair
    dice: stats.Contrast
    columns: tuple[str, ...]
    others: Mapping[str, stats.Contrast]
    empty: bool
    flags: tuple[Flag, ...]

    @property
    def difference(self) -> float:
        """Of the mean over all classes."""
        return float(self.dice.difference[ALL])

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of that difference, at 95 %; None with one seed or fewer than five patients."""
        low, high = float(self.dice.low[ALL]), float(self.dice.high[ALL])
        return (low, high) if math.isfinite(low) else None

    def flagged(self, kind: Kind) -> bool:
        """Whether one of the flags is of a kind."""
        return any(flag.kind is kind for flag in self.flags)


@dataclass(frozen=True, eq=False, kw_only=True)
class Judged(Compared):
    """One contrast among those of its study.

    Args:
        p, p_equivalent: of the mean over all classes, Holm-corrected over the study's contrasts; NaN with one seed.
        word: the verdict.
        detectable: the minimal detectable effect of this design with this spread; NaN where the spread is not known.
        needed: the design that would find `effect`; None if it was found, or if no design within reach does.
        effect: the difference that `needed` is for: what was seen, but no less than the margin; NaN where the scores
            are empty.
        assumed: why the spread was not that of the contrast itself; empty if it was.
    """

    p: float
    p_equivalent: float
    word: Word
    detectable: float
    needed: Design | None
    effect: float
    assumed: str


@dataclass(frozen=True)
class Judgement:
    """All arms of a study and what may be said about them.

    Args:
        arms: in the study's order; those without a run are absent.
        judged: the contrasts both of whose arms have runs.
        absent: the others.
        splits: what the verdicts are about: `results.TEST` or `results.VAL`.
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

    @property
    def on_test(self) -> bool:
        """Whether the verdicts are about test images, and not about the patients held out."""
        return self.splits == TEST
