"""What arms came to: their runs' scores as arrays, learning curves, and what each run took.

Dimension key: S seeds, P patients, C columns: the mean over all classes, the mean of every group, every class.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas
from numpy.typing import NDArray

from carpus import config, evaluate, run
from carpus.errors import DataError, warn
from carpus.formats.submission import image_name
from carpus.labels import Classes

Values = NDArray[np.float64]

TEST = ("public", "private", "test")
"""The splits that no training saw and no checkpoint was chosen on; a verdict is about them together."""

SPLITS = ("val", *TEST)

METRICS = ("dice", "nsd_2px", "hd95_px")


@dataclass(frozen=True)
class Outcome:
    """One run of an arm.

    Args:
        path: its folder, or its submission.
        seed, fold: of its training; the fold is None where there is none.
        table: the scores, the columns of `evaluate.COLUMNS`, splits of `SPLITS`, metrics of `METRICS`.
        classes: its class list.
        settings: of its training; None of a submission.
        manifest: of its folder; empty for a submission.
        steps: behind its weights: its own, and those of the runs that it started from; NaN of a submission.
        learnt: images with predictions for labels that it or those runs learnt from, by their names in a submission.
        trainings: those that its weights come from, its own and of the runs that it started from.
    """

    path: Path
    seed: int
    fold: int | None
    table: pandas.DataFrame
    classes: Classes
    settings: config.Config | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)
    steps: float = math.nan
    learnt: frozenset[str] = frozenset()
    trainings: frozenset[str] = frozenset()

    @cached_property
    def curve(self) -> pandas.DataFrame | None:
        """metrics.csv; None of a submission."""
        path = self.path / run.METRICS
        return pandas.read_csv(path) if path.is_file() else None

    def by_patient(self, splits: Sequence[str], metric: str) -> pandas.DataFrame:
        """The mean over a patient's images: a row a patient, a column a class; empty without such scores."""
        rows = self.table[self.table["split"].isin(splits) & (self.table["metric"] == metric)]
        found = rows.groupby(["patient", "class"], sort=True)["value"].mean().unstack("class")
        return found.reindex(columns=list(self.classes))


@dataclass(frozen=True)
class Arm:
    """A method: its name and its runs, in several seeds and folds."""

    name: str
    runs: tuple[Outcome, ...]

    @property
    def classes(self) -> Classes:
        """The class list of its runs."""
        return self.runs[0].classes

    @property
    def seeds(self) -> tuple[int, ...]:
        """Its seeds in order."""
        return tuple(sorted({outcome.seed for outcome in self.runs}))

    def splits(self) -> tuple[str, ...]:
        """Those that its runs have scores of."""
        there = {split for outcome in self.runs for split in outcome.table["split"].unique()}
        return tuple(split for split in SPLITS if split in there)

    def scores(self, splits: Sequence[str], metric: str = "dice") -> dict[int, pandas.DataFrame]:
        """By seed, a row a patient and a column a class: the mean over the folds that scored the patient.

        A seed whose folds are not all there is left out: it would compare other patients, or other means.
        """
        known = (tuple(splits), metric)
        if known not in self._scores:
            self._scores[known] = self._by_seed(splits, metric)
        return self._scores[known]

    @cached_property
    def _scores(self) -> dict[tuple[tuple[str, ...], str], dict[int, pandas.DataFrame]]:
        return {}

    def _by_seed(self, splits: Sequence[str], metric: str) -> dict[int, pandas.DataFrame]:
        of_seed: dict[int, dict[int | None, pandas.DataFrame]] = {}
        for outcome in self.runs:
            found = outcome.by_patient(splits, metric)
            if len(found):
                of_seed.setdefault(outcome.seed, {})[outcome.fold] = found
        folds = max((set(tables) for tables in of_seed.values()), key=len, default=set())
        return {
            seed: pandas.concat(tables.values()).groupby(level=0, sort=True).mean()
            for seed, tables in sorted(of_seed.items())
            if set(tables) == folds
        }

    def mean(self, splits: Sequence[str], metric: str = "dice") -> Values:
        """(S,) the mean over patients and classes of every seed."""
        return np.array(
            [np.nanmean(table.to_numpy(float)) for table in self.scores(splits, metric).values()], np.float64
        )

    def fact(self, *names: str) -> float:
        """The mean over the runs of a number of the manifest, such as ``fact("steps")``; NaN if a run has none."""
        values = []
        for outcome in self.runs:
            value: Any = outcome.manifest
            for name in names:
                value = value.get(name) if isinstance(value, Mapping) else None
            values.append(float(value) if isinstance(value, int | float) else math.nan)
        return float(np.mean(values)) if values else math.nan


def columns(classes: Classes) -> dict[str, tuple[str, ...]]:
    """What is compared: "all", every group, every class, each with the classes it is the mean of."""
    found = {"all": classes.names} | {name: tuple(members) for name, members in classes.groups.items()}
    return found | {name: (name,) for name in classes if name not in found}


class SideBySide(NamedTuple):
    """Two arms on the same patients.

    Args:
        a, b: (S_A, P, C), (S_B, P, C) scores.
        same_trainings: whether their runs of the same seed and fold share a training: one is made of the other, or both
            of a third.
    """

    a: Values
    b: Values
    same_trainings: bool


def side_by_side(a: Arm, b: Arm, splits: Sequence[str], metric: str = "dice") -> SideBySide:
    """The scores of two arms on the same patients.

    Raises:
        DataError: other classes, or no patient that both scored.
    """
    if a.classes != b.classes:
        raise DataError(f"{a.name}, {b.name}: have other classes")
    tables = [a.scores(splits, metric), b.scores(splits, metric)]
    every = [set(table.index) for of_arm in tables for table in of_arm.values()]
    if not all(tables):
        absent = a.name if not tables[0] else b.name
        raise DataError(f"{absent}: no {metric} of {', '.join(splits)}; `carpus evaluate RUN --data DATA` adds it")
    patients = sorted(set.intersection(*every))
    if not patients:
        raise DataError(f"{a.name}, {b.name}: no patient was scored by both; compare runs of the same fold, or on test")
    beyond = len(set.union(*every)) - len(patients)
    if beyond:
        warn(f"{a.name}, {b.name}: {beyond} patients were not scored by every seed of both and are left out")
    scores = [np.stack([_columns(table.loc[patients], a.classes) for table in of_arm.values()]) for of_arm in tables]
    ours, theirs = (
        {(run.seed, run.fold): run.trainings for run in arm.runs if run.seed in of_arm}
        for arm, of_arm in zip((a, b), tables, strict=True)
    )
    same_trainings = ours.keys() == theirs.keys() and all(ours[key] & theirs[key] for key in ours)
    return SideBySide(scores[0], scores[1], same_trainings)


def _columns(table: pandas.DataFrame, classes: Classes) -> Values:
    values = table.to_numpy(np.float64)
    members = columns(classes).values()
    return np.stack([values[:, [classes.index(name) for name in of]].mean(axis=1) for of in members], axis=1)


def read_run(path: Path, *, seed: int | None = None, fold: int | None = None) -> Outcome:
    """A finished run folder with scores.

    Args:
        path: the folder.
        seed, fold: if not those of its settings.

    Raises:
        DataError: no finished run, or one without scores.
    """
    manifest, classes = run.read_manifest(path)
    if not (path / run.SCORES).is_file():
        raise DataError(f"{path}: has no scores; `carpus evaluate {path} --data DATA --split test` makes them")
    settings = config.load([path / run.CONFIG])
    table = evaluate.load(path)
    line = list(_line(path, settings, manifest))
    return Outcome(
        path,
        settings.train.seed if seed is None else seed,
        settings.data.fold if fold is None else fold,
        table[table["split"].isin(SPLITS) & table["metric"].isin(METRICS)],
        classes,
        settings,
        manifest,
        sum(one.get("steps", math.nan) for one in line),
        frozenset(image_name(name) for one in line for name, _ in run.pseudo_images(one)),
        frozenset(of["identity"] for one in line for of in (one, one.get("continued") or {}) if "identity" in of),
    )


def _line(path: Path, settings: config.Config, manifest: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The manifests of a run and of those whose weights it started from, the latest first."""
    yield manifest
    weights = Path(settings.model.weights or "")
    if weights.name != run.WEIGHTS:
        return
    # In a study that was moved they still lie side by side.
    for folder in (weights.parent, path.resolve().parent / weights.parent.name):
        if (folder / run.MANIFEST).is_file():
            yield from _line(folder, config.load([folder / run.CONFIG]), run.read_manifest(folder)[0])
            return
    if not weights.is_file():
        warn(f"{path}: the run that it started from, {weights.parent}, is not there; its steps are not counted")
