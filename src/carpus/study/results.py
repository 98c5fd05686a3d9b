"""What arms came to: runs as their folders tell them, and arms, whose scores are tables of their runs'.

Dimension key: S seeds, P patients, K classes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from numpy.typing import NDArray

from carpus import config, evaluate, run
from carpus.errors import DataError
from carpus.formats import files
from carpus.formats.submission import image_name
from carpus.labels import Classes
from carpus.study import lineage, tasks
from carpus.study.lineage import Lineage

Values = NDArray[np.float64]

Images = frozenset[tuple[str, str]]
"""Patient and name, as a submission has it, of every image."""

TEST = ("public", "private", "test")
"""The splits that no training saw and no checkpoint was chosen on; a verdict is about them together."""

VAL = ("val",)
"""The split of the patients held out: no training saw them, but one may have chosen its checkpoint on them."""

SPLITS = (*VAL, *TEST)

METRICS = ("dice", "nsd_2px", "hd95_px")


@dataclass(frozen=True, eq=False, kw_only=True)
class Outcome:
    """One run of an arm.

    Args:
        path: its folder, or its submission.
        seed, fold: of its training; the fold is None where there is none.
        table: the scores, the columns of `evaluate.COLUMNS` and, if it tells, `PIXELS`; splits of `SPLITS`, metrics of
            `METRICS`.
        classes: its class list.
        settings: of its training; None of a submission.
        manifest: of its folder; empty for a submission.
        lineage: the trainings that its weights come from; unknown of a submission.
    """

    path: Path
    seed: int
    fold: int | None
    table: pandas.DataFrame
    classes: Classes
    settings: config.Config | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)
    lineage: Lineage = field(default_factory=Lineage)

    @cached_property
    def curve(self) -> pandas.DataFrame | None:
        """metrics.csv; None of a submission."""
        path = self.path / run.METRICS
        return pandas.read_csv(path) if path.is_file() else None

    @cached_property
    def fitted(self) -> int | None:
        """How many thresholds and repairs were fitted on the patients held out and kept; None where none was tried."""
        path = self.path / tasks.CALIBRATION
        return len(files.read_json(path).get("kept", ())) if path.is_file() else None

    def images(self, splits: Sequence[str], metric: str) -> Images:
        """What it scored."""
        known = self._named.loc[self._chosen(splits, metric), ["patient", "image"]].drop_duplicates()
        return frozenset(zip(known["patient"], known["image"], strict=True))

    def by_patient(self, splits: Sequence[str], metric: str, images: Images | None = None) -> pandas.DataFrame:
        """The mean over a patient's images: (P, K), a row a patient, a column a class; empty without such scores.

        Args:
            splits, metric: of which scores.
            images: only these; None for all.

        Raises:
            DataError: a class of a patient without a score.
        """
        rows = self._named[self._chosen(splits, metric)]
        if images is not None:
            rows = rows[rows.set_index(["patient", "image"]).index.isin(list(images))]
        found = rows.groupby(["patient", "class"], sort=True)["value"].mean().unstack("class")
        found = found.reindex(columns=list(self.classes))
        if rows["value"].isna().any() or found.isna().to_numpy().any():
            raise DataError(f"{self.path}: a {metric} is missing; every image has to be scored in every class")
        return found

    def pixels(self, splits: Sequence[str], metric: str) -> frozenset[tuple[tuple[str, str], str]]:
        """Of every image that it scored and tells: patient and name, and the digest of its pixels."""
        if evaluate.PIXELS not in self.table:
            return frozenset()
        rows = self._named.loc[self._chosen(splits, metric), ["patient", "image", evaluate.PIXELS]]
        known = rows.drop_duplicates().itertuples(index=False)
        return frozenset(((patient, image), digest) for patient, image, digest in known if digest)

    @cached_property
    def _named(self) -> pandas.DataFrame:
        """The scores with the images' names in a submission, by which runs and submissions know the same."""
        cases = self.table["case"]
        return self.table.assign(image=cases.map({case: image_name(case) for case in cases.unique().tolist()}))

    def _chosen(self, splits: Sequence[str], metric: str) -> pandas.Series:
        return self.table["split"].isin(splits) & (self.table["metric"] == metric)


@dataclass(frozen=True, eq=False)
class Arm:
    """A method: its name and its runs, in several seeds and folds.

    Raises:
        DataError: no runs, or runs of several class lists.
    """

    name: str
    runs: tuple[Outcome, ...]
    _scores: dict[tuple[tuple[str, ...], str, Images | None], dict[int, pandas.DataFrame]] = field(
        default_factory=dict, init=False, repr=False
    )
    _images: dict[tuple[tuple[str, ...], str], dict[int, Images]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.runs:
            raise DataError(f"{self.name}: an arm needs a run")
        first = self.runs[0]
        for outcome in self.runs:
            if not same_lists(outcome.classes, first.classes):
                told = f"has other classes or groups than {first.path}; an arm has one list"
                raise DataError(f"{self.name}: {outcome.path} {told}")

    @property
    def classes(self) -> Classes:
        """The class list of its runs."""
        return self.runs[0].classes

    @property
    def seeds(self) -> tuple[int, ...]:
        """Its seeds in order."""
        return tuple(sorted({outcome.seed for outcome in self.runs}))

    @property
    def has_test(self) -> bool:
        """Whether any of its runs was scored on test images."""
        return bool(set(self.splits()) & set(TEST))

    def splits(self) -> tuple[str, ...]:
        """Those that its runs have scores of."""
        there = {split for outcome in self.runs for split in outcome.table["split"].unique()}
        return tuple(split for split in SPLITS if split in there)

    def images(self, splits: Sequence[str], metric: str = "dice") -> dict[int, Images]:
        """By seed, what its folds scored: of a patient, the images of every fold that scored the patient."""
        known = (tuple(splits), metric)
        if known not in self._images:
            of_seed: dict[int, list[Images]] = {seed: [] for seed in self.seeds}
            for outcome in self.runs:
                of_seed[outcome.seed].append(outcome.images(splits, metric))
            self._images[known] = {seed: _agreed(of_folds) for seed, of_folds in of_seed.items()}
        return self._images[known]

    def scores(
        self, splits: Sequence[str], metric: str = "dice", images: Images | None = None
    ) -> dict[int, pandas.DataFrame]:
        """By seed (P, K), a row a patient and a column a class: the mean over the folds that scored the patient.

        A seed whose folds are not all there is left out: it would compare other patients, or other means. Of `images`
        alone, if these are given.
        """
        known = (tuple(splits), metric, images)
        if known not in self._scores:
            self._scores[known] = self._by_seed(splits, metric, images)
        return self._scores[known]

    def _by_seed(self, splits: Sequence[str], metric: str, images: Images | None) -> dict[int, pandas.DataFrame]:
        of_seed: dict[int, dict[int | None, Outcome]] = {}
        for outcome in self.runs:
            if outcome.images(splits, metric):
                of_seed.setdefault(outcome.seed, {})[outcome.fold] = outcome
        folds = max((set(runs) for runs in of_seed.values()), key=len, default=set())
        found = {}
        for seed, runs in sorted(of_seed.items()):
            if set(runs) == folds:
                agreed = self.images(splits, metric)[seed]
                scored = [outcome.images(splits, metric) for outcome in runs.values()]
                only = agreed if images is None and Images().union(*scored) != agreed else images
                tables = [outcome.by_patient(splits, metric, only) for outcome in runs.values()]
                found[seed] = pandas.concat(tables).groupby(level=0, sort=True).mean()
        return found

    def mean(self, splits: Sequence[str], metric: str = "dice") -> Values:
        """(S,) the mean over patients and classes of every seed."""
        return np.array([table.to_numpy(float).mean() for table in self.scores(splits, metric).values()], np.float64)

    @property
    def seconds(self) -> float:
        """The mean over its runs of the time behind their weights; NaN if a run does not tell."""
        return float(np.mean([outcome.lineage.seconds for outcome in self.runs]))

    def fact(self, *names: str) -> float:
        """The mean over the runs of a number of the manifest, such as ``fact("steps")``; NaN if a run has none."""
        values = []
        for outcome in self.runs:
            value: Any = outcome.manifest
            for name in names:
                value = value.get(name) if isinstance(value, Mapping) else None
            values.append(float(value) if isinstance(value, int | float) else math.nan)
        return float(np.mean(values)) if values else math.nan


def _agreed(of_folds: Sequence[Images]) -> Images:
    """Of every patient, the images that all those folds scored which scored the patient.

    Example:
        >>> sorted(_agreed([Images({("p", "easy"), ("p", "hard"), ("q", "x")}), Images({("p", "easy")})]))
        [('p', 'easy'), ('q', 'x')]
    """
    patients = [{patient for patient, _ in images} for images in of_folds]
    return Images(
        image
        for image in Images().union(*of_folds)
        if all(image in images for images, there in zip(of_folds, patients, strict=True) if image[0] in there)
    )


def same_lists(a: Classes, b: Classes) -> bool:
    """Whether classes and groups are the same, in the same order: columns are both."""
    return a == b and list(a.groups.items()) == list(b.groups.items())


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
    return Outcome(
        path=path,
        seed=settings.train.seed if seed is None else seed,
        fold=settings.data.fold if fold is None else fold,
        table=table[table["split"].isin(SPLITS) & table["metric"].isin(METRICS)],
        classes=classes,
        settings=settings,
        manifest=manifest,
        lineage=lineage.trace(path),
    )
