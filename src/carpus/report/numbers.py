"""The numbers of a report: tidy tables checked and turned into arrays, and what is read off them.

A mean Dice is the mean over images, then over classes. Missing values (NaN) are left out and counted.

Dimension key: N cases, K classes, M logged steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from carpus.errors import DataError
from carpus.labels import Classes

if TYPE_CHECKING:
    import pandas as pd

Values = NDArray[np.float64]

SPLITS = {"train": "Training", "val": "Validation", "test": "Test"}
"""The splits and what the report calls them."""

BENT_DEG = 15.0
"""From here on a hand counts as bent: its axis is this far from the vertical."""

_RESAMPLES = 2000
_PATIENTS_NEEDED = 5


@dataclass(frozen=True)
class Scores:
    """The Dice of one split.

    Args:
        cases: N names.
        patients: the patient of every case.
        classes: the K classes.
        dice: (N, K), 0 to 1 or NaN.
    """

    cases: tuple[str, ...]
    patients: tuple[str, ...]
    classes: Classes
    dice: Values

    def mean(self, names: Sequence[str] | None = None) -> float:
        """The mean over images, then over classes (all, or these); NaN where nothing was measured."""
        return float(mean(mean(self._of(names), axis=0)))

    def of_class(self, name: str) -> Values:
        """The values of one class, those that are missing left out."""
        column = self.dice[:, self.classes.index(name)]
        return column[~np.isnan(column)]

    def by_case(self, names: Sequence[str] | None = None) -> dict[str, float]:
        """The mean over classes (all, or these) of every case, best first; cases without a value are left out."""
        of_case = zip(self.cases, mean(self._of(names), axis=1).tolist(), strict=True)
        return dict(sorted((pair for pair in of_case if pair[1] == pair[1]), key=lambda pair: -pair[1]))

    def interval(self, names: Sequence[str] | None = None) -> tuple[float, float] | None:
        """The 95 % bootstrap interval of the mean over patients; None below five patients."""
        patient = dict(zip(self.cases, self.patients, strict=True))
        by_case = self.by_case(names)
        number = {name: i for i, name in enumerate(sorted({patient[case] for case in by_case}))}
        if len(number) < _PATIENTS_NEEDED:
            return None
        owner = np.array([number[patient[case]] for case in by_case])
        sums, counts = np.bincount(owner, list(by_case.values())), np.bincount(owner)
        draws = np.random.default_rng(0).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), _RESAMPLES)
        low, high = np.quantile((draws @ sums) / (draws @ counts), [0.025, 0.975])
        return float(low), float(high)

    @property
    def missing(self) -> int:
        """Values that are NaN or absent."""
        return int(np.isnan(self.dice).sum())

    def _of(self, names: Sequence[str] | None) -> Values:
        return self.dice if names is None else self.dice[:, [self.classes.index(name) for name in names]]


@dataclass(frozen=True)
class Poses:
    """The angle of the hand of every case: N names and splits, and degrees from the vertical, 0 or more."""

    cases: tuple[str, ...]
    splits: tuple[str, ...]
    degrees: Values

    def of(self, split: str) -> Values:
        """The degrees of the cases of `split`."""
        return self.degrees[np.array([each == split for each in self.splits], bool)]

    def bent(self, split: str) -> float:
        """The share of bent hands in `split`, 0 to 1; NaN without a case."""
        return float(mean((self.of(split) > BENT_DEG).astype(float)))


@dataclass(frozen=True)
class Curves:
    """What was logged during training: (M,) arrays in the order of the steps, NaN where not measured."""

    step: Values
    loss: Values
    val_dice: Values
    learning_rate: Values
    images_per_second: Values


def read_scores(table: pd.DataFrame, classes: Classes) -> dict[str, Scores]:
    """Check the tidy table and give the Dice by split, validation first; a split without cases is absent.

    Args:
        table: columns case, patient, split ("val" or "test"), class, metric, value; rows of metrics other than
            "dice" are passed over.
        classes: the classes, in the order of the report.

    Raises:
        DataError: a column is missing, a split or class unknown, a value outside 0 to 1, a row there twice.
    """
    _require(table, "scores", ("case", "patient", "split", "class", "metric", "value"))
    table = table.loc[table["metric"] == "dice"]
    case, patient, split, name = (_texts(table, column) for column in ("case", "patient", "split", "class"))
    value = _numbers(table, "value", "scores")
    _known(split, ("val", "test"), "scores: split")
    _known(name, classes.names, "scores: class")
    found: dict[str, Scores] = {}
    for wanted in ("val", "test"):
        rows = [i for i, each in enumerate(split) if each == wanted]
        patients = {case[i]: patient[i] for i in rows}
        number = {each: n for n, each in enumerate(patients)}
        dice = np.full((len(patients), len(classes)), np.nan)
        seen: set[tuple[str, str]] = set()
        for i in rows:
            if (case[i], name[i]) in seen:
                raise DataError(f"scores: {case[i]}, {wanted}, {name[i]}: there twice, expected once")
            if value[i] < 0 or value[i] > 1 + 1e-9:
                raise DataError(f"scores: {case[i]}, {name[i]}: value: a Dice is 0 to 1, has {value[i]:g}")
            seen.add((case[i], name[i]))
            dice[number[case[i]], classes.index(name[i])] = value[i]
        if rows:
            found[wanted] = Scores(tuple(patients), tuple(patients.values()), classes, dice)
    return found


def read_poses(table: pd.DataFrame) -> Poses:
    """Check a table of hand axes; left and right lean the same way, so the sign is dropped, and NaN as well.

    Args:
        table: columns case, split ("train", "val" or "test"), axis_deg (degrees from the vertical).

    Raises:
        DataError: a column is missing or a split unknown.
    """
    _require(table, "axes", ("case", "split", "axis_deg"))
    case, split, degrees = _texts(table, "case"), _texts(table, "split"), np.abs(_numbers(table, "axis_deg", "axes"))
    _known(split, tuple(SPLITS), "axes: split")
    there = np.flatnonzero(np.isfinite(degrees)).tolist()
    return Poses(tuple(case[i] for i in there), tuple(split[i] for i in there), degrees[there])


def read_curves(table: pd.DataFrame) -> Curves:
    """Check a table of logged values.

    Args:
        table: columns step, loss, val_dice, and if there are any learning_rate and images_per_second.

    Raises:
        DataError: a column is missing or holds something else than numbers.
    """
    _require(table, "metrics", ("step", "loss", "val_dice"))
    step = _numbers(table, "step", "metrics")
    order = np.argsort(step, kind="stable")
    absent = np.full(len(step), np.nan)
    loss, val_dice, learning_rate, speed = (
        _numbers(table, column, "metrics")[order] if column in table.columns else absent
        for column in ("loss", "val_dice", "learning_rate", "images_per_second")
    )
    return Curves(step[order], loss, val_dice, learning_rate, speed)


def grouped(classes: Classes) -> dict[str, tuple[str, ...]]:
    """The classes by group, each once and in class order; those of no group last, under "other" or "classes"."""
    left = list(classes.names)
    result: dict[str, tuple[str, ...]] = {}
    for group, members in classes.groups.items():
        inside = tuple(name for name in left if name in members)
        if inside:
            result[group] = inside
            left = [name for name in left if name not in members]
    if left:
        result["other" if result else "classes"] = tuple(left)
    return result


def mean(values: Values, axis: int | None = None) -> Values:
    """The mean without NaN; NaN, silently, where there is no other value."""
    there = np.isfinite(values)
    count = there.sum(axis=axis)
    total = np.where(there, values, 0).sum(axis=axis)
    return np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)


def _require(table: pd.DataFrame, name: str, columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise DataError(f"{name}: columns: {', '.join(missing)} missing, expected {', '.join(columns)}")


def _known(values: Sequence[str], allowed: Sequence[str], name: str) -> None:
    strange = sorted(set(values) - set(allowed))
    if strange:
        raise DataError(f"{name}: unknown {', '.join(map(repr, strange))}, expected one of {', '.join(allowed)}")


def _texts(table: pd.DataFrame, column: str) -> list[str]:
    return [str(value) for value in table[column]]


def _numbers(table: pd.DataFrame, column: str, name: str) -> Values:
    try:
        return np.array(list(table[column]), np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: {column}: expected numbers ({error})") from error
