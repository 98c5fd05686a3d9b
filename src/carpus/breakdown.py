"""What an evaluation shows beyond its mean: every metric by class, kinds of images apart, bones taken for others.

Dimension key: K classes. Intervals are bootstraps over patients, see `report.numbers.Scores.interval`: they hold for
one trained network and say nothing of another seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from carpus import labels as label_map
from carpus import pose
from carpus.data import Case
from carpus.formats.metadata import Patient
from carpus.labels import BONES, Classes, LabelMap
from carpus.phantom import anatomy
from carpus.report import Listing
from carpus.report.numbers import BENT_DEG, Scores, grouped

if TYPE_CHECKING:
    import pandas

METRICS = {
    "dice": ("Dice", 4),
    "iou": ("IoU", 4),
    "nsd_1px": ("NSD 1 px", 3),
    "nsd_2px": ("NSD 2 px", 3),
    "nsd_4px": ("NSD 4 px", 3),
    "nsd_1mm": ("NSD 1 mm", 3),
    "hd95_px": ("HD95, px", 2),
    "hd95_mm": ("HD95, mm", 2),
}
"""What a metric is called, and its digits."""

_NONE = "–"


def matrix(table: pandas.DataFrame, metric: str, classes: Classes, cases: Sequence[str] | None = None) -> Scores | None:
    """The values of one metric by case and class; None if no case (of `cases`) has any.

    Args:
        table: rows of one split, the columns of `evaluate.COLUMNS`.
        metric: its name in the table.
        classes: the class list.
        cases: only these.
    """
    rows = table[table["metric"] == metric]
    if cases is not None:
        rows = rows[rows["case"].isin(cases)]
    if rows.empty:
        return None
    wide = rows.pivot(index="case", columns="class", values="value").reindex(columns=list(classes))
    patients = dict(zip(rows["case"], rows["patient"], strict=True))
    names = tuple(str(name) for name in wide.index)
    return Scores(names, tuple(str(patients[name]) for name in names), classes, wide.to_numpy(np.float64))


def by_class(table: pandas.DataFrame, classes: Classes) -> Listing:
    """Every metric of all classes, of each group, and of each class."""
    measured = _measured(table, classes)
    rows = []
    for name, members in _rows(classes).items():
        cells = [_shown(METRICS[metric][1], found.mean(members)) for metric, found in measured.items()]
        rows.append([name, *cells[:1], _interval(measured["dice"], members, 4), *cells[1:]])
    columns = ["", "Dice", "95 %", *(METRICS[metric][0] for metric in measured if metric != "dice")]
    told = (
        "Means over images, then over classes. NSD: the share of both borders within so many pixels of the other; "
        "HD95: the 95th percentile of border distances, the larger direction. A class absent in both is perfect; "
        "absent in one, its NSD is 0 and its HD95 the diagonal of the image."
    )
    return Listing("All metrics", told, columns, rows)


def intervals(table: pandas.DataFrame, classes: Classes) -> Listing | None:
    """The 95 % interval over patients of every metric but Dice, whose stands beside its mean; rows as in `by_class`.

    None where there are too few patients for any.
    """
    measured = {metric: found for metric, found in _measured(table, classes).items() if metric != "dice"}
    rows = [
        [name, *(_interval(found, members, METRICS[metric][1]) for metric, found in measured.items())]
        for name, members in _rows(classes).items()
    ]
    if all(cell == _NONE for _, *cells in rows for cell in cells):
        return None
    return Listing("Intervals", "95 %, over patients.", ["", *(METRICS[metric][0] for metric in measured)], rows)


def _measured(table: pandas.DataFrame, classes: Classes) -> dict[str, Scores]:
    return {metric: found for metric in METRICS if (found := matrix(table, metric, classes)) is not None}


def _rows(classes: Classes) -> dict[str, Sequence[str] | None]:
    """What has a row: all classes (None), every group, every class."""
    rows: dict[str, Sequence[str] | None] = {"all": None}
    for group, members in grouped(classes).items():
        rows[f"{group} (all)" if group in classes else group] = members
    return rows | {name: [name] for name in classes}


def by_kind(
    table: pandas.DataFrame, kinds: Mapping[str, Mapping[str, str]], classes: Classes, metric: str = "dice"
) -> Listing | None:
    """Images of different kinds apart; None where nothing tells them apart.

    Args:
        table: see `matrix`.
        kinds: what is told apart -> case -> its kind; a case of unknown kind is left out.
        classes: the class list.
        metric: the one that gets intervals.
    """
    rows = []
    for kind, of_case in kinds.items():
        for value in sorted(set(of_case.values())):
            found = matrix(table, metric, classes, [case for case, its in of_case.items() if its == value])
            if found is None:
                continue
            rows.append(
                [f"{kind}: {value}", str(len(found.cases)), str(len(set(found.patients)))]
                + [_shown(4, found.mean(members)) for members in (None, *grouped(classes).values())]
                + [_interval(found, None, METRICS[metric][1])]
            )
    if not rows:
        return None
    columns = ["", "images", "patients", "Dice", *grouped(classes), "95 %"]
    told = (
        f"Mean Dice. Bent: the hand's axis leans more than {BENT_DEG:.0f}° from the vertical. "
        "Images of unknown kind are left out."
    )
    return Listing("Kinds of images", told, columns, rows)


def kinds_of(case: Case, truth: LabelMap, classes: Classes, patients: Mapping[str, Patient]) -> dict[str, str]:
    """What is known of an image: pose and side from its true labels, sex from the metadata."""
    known: dict[str, str] = {}
    axis = anatomy.hand_axis_deg(truth, classes)
    if np.isfinite(axis):
        known["pose"] = "bent" if abs(axis) > BENT_DEG else "straight"
    if classes == BONES:
        sides = set(pose.thumb_left(anatomy.centroids(truth, classes)).values())
        if len(sides) == 1:
            known["thumb"] = "on the left" if sides.pop() else "on the right"
    sex = patients[case.patient].sex if case.patient in patients else None
    if sex is not None:
        known["sex"] = sex
    return known


class Confusions:
    """Which pairs of bones are taken for each other, and how well their overlaps are found, added up over images."""

    def __init__(self, classes: Classes) -> None:
        self._classes = classes
        count = len(classes)
        self.swapped = np.zeros((count, count), np.int64)
        """(K, K) pixels that are true of the first, not of the second, and predicted the other way round."""
        self.shared = np.zeros((count, count, 3), np.int64)
        """(K, K, 3) pixels of both bones: in truth and prediction, in the prediction, in the truth."""

    def add(self, truth: LabelMap, prediction: LabelMap) -> None:
        """Add one image: two (H, W) label maps."""
        true, found, counts = label_map.combinations(truth, prediction)
        count = len(self._classes)
        is_true = np.stack([label_map.has(true, k) for k in range(count)])
        is_found = np.stack([label_map.has(found, k) for k in range(count)])
        lost, gained = is_true & ~is_found, is_found & ~is_true
        self.swapped += (lost * counts) @ gained.T.astype(np.int64)
        for a, b in combinations(range(count), 2):
            both_true, both_found = is_true[a] & is_true[b], is_found[a] & is_found[b]
            self.shared[a, b] += [counts[both].sum() for both in (both_true & both_found, both_found, both_true)]

    def pairs(self, most: int = 15) -> list[tuple[str, str, int, int, float]]:
        """The pairs with most pixels of error, worst first.

        Returns:
            Two names, pixels taken for the other bone (both ways), pixels of error in the overlap, Dice of the overlap.
        """
        rows = []
        for a, b in combinations(range(len(self._classes)), 2):
            both, found, true = self.shared[a, b].tolist()
            swapped, wrong = int(self.swapped[a, b] + self.swapped[b, a]), found + true - 2 * both
            if swapped + wrong:
                dice = 2 * both / (found + true) if found + true else float("nan")
                rows.append((self._classes.names[a], self._classes.names[b], swapped, wrong, dice))
        return sorted(rows, key=lambda row: (-row[2] - row[3], row[:2]))[:most]

    def listing(self) -> Listing | None:
        """The same as a table; None without any."""
        rows = [
            [f"{a}, {b}", f"{swapped:,}", f"{wrong:,}", _shown(4, dice)] for a, b, swapped, wrong, dice in self.pairs()
        ]
        told = (
            "The pairs of bones with most pixels of error over all images: pixels of one that were given to the other "
            "alone, and pixels where the overlap of the two was missed or made up, with the Dice of that overlap."
        )
        columns = ["Pair", "taken for the other, px", "overlap wrong, px", "Dice of the overlap"]
        return Listing("Bones taken for others", told, columns, rows) if rows else None


def _interval(found: Scores, members: Sequence[str] | None, digits: int) -> str:
    interval = found.interval(members)
    return f"{interval[0]:.{digits}f}–{interval[1]:.{digits}f}" if interval else _NONE


def _shown(digits: int, value: float) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else _NONE
