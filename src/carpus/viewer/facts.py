"""What is known of every entry beyond its name, and which entries are shown in which order.

Whatever has to be measured is measured when it is asked for, once, in one pass (`scan`).

Dimension key: N entries, K classes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from carpus import breakdown, kernels, metrics
from carpus import labels as label_map
from carpus.data import Case
from carpus.errors import DataError, DataWarning
from carpus.phantom import anatomy
from carpus.report.numbers import mean
from carpus.viewer.layers import Entry
from carpus.viewer.reviews import Decided
from carpus.viewer.selections import Overview
from carpus.viewer.sources import Workspace
from carpus.viewer.view import View

Values = NDArray[np.float64]

_BY_DICE = ("worst", "mean", "bone")


@dataclass(frozen=True)
class Facts:
    """What a pass over the entries found.

    Args:
        dice: (N, K) between the two layers; NaN where not known.
        missing: classes that the first layer's label map lacks, by entry; entries that were not looked at are absent.
        kinds: what tells images apart (pose, thumb, sex) -> entry -> its kind.
        axes: degrees of the hand from the vertical, by entry.
        confusions: of all entries with both labels; None without a second layer.
        faults: label maps that could not be read, and images whose size could not.
    """

    dice: Values
    missing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    kinds: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    axes: Mapping[str, float] = field(default_factory=dict)
    confusions: breakdown.Confusions | None = None
    faults: tuple[str, ...] = ()

    @classmethod
    def unknown(cls, workspace: Workspace) -> "Facts":
        """Before anything was measured."""
        return cls(np.full((len(workspace.entries), len(workspace.classes)), np.nan))

    def score(self, place: int, bone: int | None = None) -> float:
        """The Dice of a class of an entry, or the mean over classes; NaN where not known."""
        return float(mean(self.dice[place])) if bone is None else float(self.dice[place, bone])

    def worst(self, place: int) -> tuple[int, float] | None:
        """The class of the lowest Dice, and that; None where none is known."""
        row = self.dice[place]
        return (k := int(np.nanargmin(row)), float(row[k])) if np.isfinite(row).any() else None


def scan(
    workspace: Workspace, first: str, second: str = "", progress: Callable[[int, int], object] | None = None
) -> Facts:
    """Read the labels of every entry that has them in the first layer, and compare them with the second.

    Args:
        workspace: all that was given.
        first: a layer.
        second: a layer to compare with; empty for none.
        progress: called with (entries done, entries in all).
    """
    classes, count = workspace.classes, len(workspace.classes)
    dice = np.full((len(workspace.entries), count), np.nan)
    missing: dict[str, tuple[str, ...]] = {}
    kinds: dict[str, dict[str, str]] = {}
    axes: dict[str, float] = {}
    faults: list[str] = []
    confusions = breakdown.Confusions(classes) if second else None
    for n, entry in enumerate(workspace.entries):
        try:
            labels = workspace.layers[first].read(entry)
            other = workspace.layers[second].read(entry) if second and labels is not None else None
            _ = entry.size  # of an image without labels, whether it is one
        except (DataError, DataWarning) as error:
            faults.append(str(error))
            labels = other = None
        if labels is not None:
            area = label_map.area(labels, count)
            missing[entry.name] = tuple(name for name, pixels in zip(classes, area, strict=True) if not pixels)
            case = Case(entry.name, entry.patient, entry.image or workspace.layers[first].path, None)
            for kind, value in breakdown.kinds_of(case, labels, classes, workspace.patients).items():
                kinds.setdefault(kind, {})[entry.name] = value
            axes[entry.name] = anatomy.hand_axis_deg(labels, classes)
        if labels is not None and other is not None and confusions is not None:
            dice[n] = metrics.dice(kernels.overlap(other, labels, count))
            confusions.add(labels, other)
        if progress:
            progress(n + 1, len(workspace.entries))
    return Facts(dice, missing, kinds, axes, confusions, tuple(faults))


def asked(view: View) -> list[str]:
    """What of a view's filters and order is known only once every label was read, in words."""
    words = {
        "pose": view.pose,
        "thumb": view.thumb,
        "missing bones": view.labelled == "missing",
        "Dice": view.low > 0 or view.high < 1,
        "the order": view.order in _BY_DICE,
    }
    return [word for word, set_ in words.items() if set_]


def needs_pair(view: View) -> bool:
    """Whether filters or order are about a Dice, though there is nothing to compare with."""
    return not view.second and (view.low > 0 or view.high < 1 or view.order in _BY_DICE)


def choose(
    workspace: Workspace, facts: Facts, view: View, overview: Overview | None = None, decided: Decided | None = None
) -> list[int]:
    """The places of the entries that the view's filters leave, in its order.

    A filter on something that was not measured leaves all; an entry without a number to sort by comes last, and one
    without a Dice is left out only where `low` or `high` is set.

    Args:
        workspace: all that was given.
        facts: what was measured.
        view: filters and order.
        overview: what `carpus pseudo` left out; None where that is not known.
        decided: what was decided. The entry that is shown stays among those that wait for a verdict when it has its
            last one, or the list would jump.
    """
    bone = workspace.classes.index(view.bone) if view.bone in workspace.classes else None
    chosen = [n for n, entry in enumerate(workspace.entries) if _passes(workspace, facts, view, n, entry, bone)]
    if overview and view.left_out != "any":
        chosen = [n for n in chosen if _left_out(workspace, overview, view, n) == (view.left_out == "yes")]
    if decided and view.judged != "any":
        chosen = [n for n in chosen if _judged(decided, view, workspace.entries[n])]
    if view.order == "name":
        return chosen
    numbers = {n: number(workspace, facts, view, n, overview) for n in chosen}
    sign = -1 if view.order == "left_out" else 1
    return sorted(chosen, key=lambda n: sign * numbers[n] if np.isfinite(numbers[n]) else np.inf)


def number(workspace: Workspace, facts: Facts, view: View, place: int, overview: Overview | None = None) -> float:
    """What an entry is sorted by, see `choose`, and its mean Dice where that is its name; NaN where not known."""
    if view.order in ("left_out", "agreement"):
        if overview is None:
            return math.nan
        of = overview.count if view.order == "left_out" else overview.lowest
        return of(workspace.entries[place].name, _bone(workspace, view))
    if view.order == "worst":
        worst = facts.worst(place)
        return worst[1] if worst else math.nan
    name = _bone(workspace, view) if view.order == "bone" else ""
    return facts.score(place, workspace.classes.index(name) if name else None)


def _bone(workspace: Workspace, view: View) -> str:
    return view.bone if view.bone in workspace.classes else ""


def _left_out(workspace: Workspace, overview: Overview, view: View, place: int) -> bool | None:
    """Whether bones of an entry were left out, or `view.bone` was; None where nothing was found about it."""
    count = overview.count(workspace.entries[place].name, _bone(workspace, view))
    return None if math.isnan(count) else count > 0


def _judged(decided: Decided, view: View, entry: Entry) -> bool:
    if view.judged == "no":
        return decided.waits(entry) or entry.name == view.case
    return bool(decided.folder_of(entry)) and not decided.waits(entry)


def _passes(workspace: Workspace, facts: Facts, view: View, n: int, entry: Entry, bone: int | None) -> bool:
    if view.split and entry.split != view.split:
        return False
    if view.search and view.search.casefold() not in entry.name.casefold():
        return False
    patient = workspace.patients.get(entry.patient) if view.sex else None
    if view.sex and (patient.sex if patient else None) != view.sex:
        return False
    for kind, wanted in (("pose", view.pose), ("thumb", view.thumb)):
        if wanted and facts.kinds and facts.kinds.get(kind, {}).get(entry.name) != wanted:
            return False
    if view.labelled in ("yes", "no") and view.first in workspace.layers:
        if workspace.layers[view.first].has(entry) != (view.labelled == "yes"):
            return False
    elif view.labelled == "missing" and facts.missing:
        missing = facts.missing.get(entry.name, ())
        if not missing or (bone is not None and view.bone not in missing):
            return False
    if (view.low > 0 or view.high < 1) and np.isfinite(facts.dice).any():
        score = facts.score(n, bone)
        return bool(view.low <= score <= view.high)
    return True


def neighbours(chosen: Sequence[int], place: int) -> tuple[int | None, int | None]:
    """The entries before and after one in the chosen order; None at the ends, and both where it is not among them."""
    if place not in chosen:
        return None, None
    at = chosen.index(place)
    return (chosen[at - 1] if at else None), (chosen[at + 1] if at + 1 < len(chosen) else None)
