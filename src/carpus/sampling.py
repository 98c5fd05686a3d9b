"""How often a case is drawn: bent wrists and hard cases more often than the rest.

The weights are fixed before the first step, so that the batch of a step stays a function of (seed, step). A sampler
that followed the loss would have to remember it, and two devices would disagree.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas

from carpus import config, data, evaluate, pose
from carpus.data import Case
from carpus.errors import ConfigError, DataError
from carpus.labels import BONES, Classes, LabelMap

HARD_SHARE = 0.25
"""Share of the cases with a known Dice that count as hard."""


def weights(cases: Sequence[Case], options: config.Data, classes: Classes) -> list[float] | None:
    """The weight of every case; None where all are alike.

    Args:
        cases: annotated.
        options: `bent_weight`, `hard` and `hard_weight`; a case that is both bent and hard has the product.
        classes: the class list; only the 29 bones tell a bent wrist.

    Raises:
        ConfigError: bent wrists are asked for with other classes.
        DataError: a table of scores that is none, or that knows none of the cases.
    """
    found = np.ones(len(cases))
    if options.bent_weight != 1:
        if classes.names != BONES.names:
            raise ConfigError("data.bent_weight: only the 29 bones of the hand tell a bent wrist; leave it at 1")
        found *= [options.bent_weight if bent(data.read_labels(case)) else 1.0 for case in cases]
    if options.hard is not None:
        found *= [options.hard_weight if worst else 1.0 for worst in _hard(cases, Path(options.hard))]
    return None if np.ptp(found) == 0 else found.tolist()


def bent(labels: LabelMap) -> bool:
    """Whether a label map (H, W) of the 29 bones shows a bent wrist; one with too few bones to tell does not."""
    seen = pose.outlines(labels, BONES)
    fit = pose.fit(seen.centroids, seen.areas, seen.elongations)
    return fit is not None and fit.wrist == "bent"


def _hard(cases: Sequence[Case], path: Path) -> list[bool]:
    table = evaluate.load(path.parent, path.name)
    dice = table[table["metric"] == "dice"].groupby("case")["value"].mean()
    known: pandas.Series = dice[dice.index.isin([case.name for case in cases])]
    if known.empty:
        raise DataError(f"{path}: case: knows none of the {len(cases)} training cases; it must come from another fold")
    worst = set(known.sort_values(kind="stable").index[: max(1, round(HARD_SHARE * len(known)))])
    return [case.name in worst for case in cases]
