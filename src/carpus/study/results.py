"""What arms came to: their runs' scores as arrays, learning curves, and what each run took.

Dimension key: S seeds, P patients, K classes, C columns: the mean over all classes, the mean of every group, every
class.
"""

import math
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas
from numpy.typing import NDArray

from carpus import config, evaluate, run
from carpus.errors import DataError, warn
from carpus.formats import files
from carpus.formats.submission import image_name
from carpus.labels import Classes
from carpus.study import tasks

Values = NDArray[np.float64]

Images = frozenset[tuple[str, str]]
"""Patient and name, as a submission has it, of every image."""

TEST = ("public", "private", "test")
"""The splits that no training saw and no checkpoint was chosen on; a verdict is about them together."""

SPLITS = ("val", *TEST)

ALL = 0
"""The first of `columns`: the mean over all classes."""

METRICS = ("dice", "nsd_2px", "hd95_px")


@dataclass(frozen=True, eq=False, kw_only=True)
class Outcome:
    """One run of an arm.

    Args:
        path: its folder, or its submission.
        seed, fold: of its training; the fold is None where there is none.
        table: the scores, the columns of `evaluate.COLUMNS`, splits of `SPLITS`, metrics of `METRICS`.
        classes: its class list.
        settings: of its training; None of a submission.
        manifest: of its folder; empty for a submission.
        steps, seconds: behind its weights: its own, and those of the runs that it started from; NaN of a submission.
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
    seconds: float = math.nan
    learnt: frozenset[str] = frozenset()
    trainings: frozenset[str] = frozenset()

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

    @cached_property
    def pixels(self) -> frozenset[tuple[tuple[str, str], str]]:
        """Of every image that it scored and tells: patient and name, and the digest of its pixels."""
        if evaluate.PIXELS not in self.table:
            return frozenset()
        known = self._named[["patient", "image", evaluate.PIXELS]].drop_duplicates().itertuples(index=False)
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
            if not _same_lists(outcome.classes, first.classes):
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
        return float(np.mean([outcome.seconds for outcome in self.runs]))

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
    """The scores of two arms on the images that every seed of both scored; of shared trainings, of seeds of both.

    A patient of the same name is not enough: of other images, the difference would be theirs. Nor are a patient and an
    image of the same names where the scores tell that their pixels differ, as those of two data sets do.

    Args:
        a, b: the arms.
        splits: the patients' splits, of `SPLITS`.
        metric: one of `METRICS`.

    Raises:
        DataError: other classes, or no image that both scored.

    Warns:
        DataWarning: of images that are left out.
    """
    if not _same_lists(a.classes, b.classes):
        raise DataError(f"{a.name}, {b.name}: have other classes, or other groups of them")
    ours, theirs = a.scores(splits, metric), b.scores(splits, metric)
    for arm, tables in ((a, ours), (b, theirs)):
        if not tables:
            told = f"no {metric} of {', '.join(splits)}; `carpus evaluate RUN --data DATA` adds it"
            raise DataError(f"{arm.name}: {told}")
    both = ours.keys() & theirs.keys()
    same_trainings = _share_trainings(_trainings(a, both), _trainings(b, both))
    if same_trainings:  # the luck of a training that only one of them has would be taken for the difference
        ours, theirs = ({seed: of[seed] for seed in of if seed in both} for of in (ours, theirs))
    scored = [arm.images(splits, metric)[seed] for arm, of in ((a, ours), (b, theirs)) for seed in of]
    common = _common(f"{a.name}, {b.name}", scored, _of_several(a, b))
    if all(images == common for images in scored):
        common = None
    # Sorted by patient, of whom all have the same.
    ours, theirs = (
        {seed: arm.scores(splits, metric, common)[seed] for seed in of} for arm, of in ((a, ours), (b, theirs))
    )
    return SideBySide(
        a=np.stack([_columns(table, a.classes) for table in ours.values()]),
        b=np.stack([_columns(table, b.classes) for table in theirs.values()]),
        same_trainings=same_trainings,
    )


def _common(names: str, scored: Sequence[Images], several: Images) -> Images:
    """The images that all scored, but those that are `several`; raises `DataError` without any, warns of others."""
    common, every = Images.intersection(*scored), Images.union(*scored)
    if not common:
        raise DataError(
            f"{names}: no image was scored by both, going by patient and name; compare runs of the same fold, or on "
            "the same test"
        )
    if beyond := len(every - common):
        warn(f"{names}: {beyond} of {len(every)} images were not scored by every seed of both and are left out")
    if several := common & several:
        patient, name = min(several)
        told = (
            f"{names}: {len(several)} of {len(common)} images of the same patient and name have other pixels in "
            f"another data set (patient {patient}, {name})"
        )
        if several == common:
            raise DataError(f"{told}; compare runs that `carpus evaluate` scored on the same data")
        warn(f"{told} and are left out")
    return common - several


def _of_several(a: Arm, b: Arm) -> Images:
    """The patients and names under which the runs of two arms scored different images, as far as they tell."""
    told = frozenset[tuple[tuple[str, str], str]]().union(*(outcome.pixels for outcome in (*a.runs, *b.runs)))
    counts = Counter(image for image, _ in told)
    return Images(image for image, count in counts.items() if count > 1)


def _columns(table: pandas.DataFrame, classes: Classes) -> Values:
    """(P, C) of a table (P, K)."""
    means = [table[list(members)].to_numpy(np.float64).mean(axis=1) for members in columns(classes).values()]
    return np.stack(means, axis=1)


def _trainings(arm: Arm, seeds: Container[int]) -> dict[tuple[int, int | None], frozenset[str]]:
    """By seed and fold, the trainings that a run comes from."""
    return {(one.seed, one.fold): one.trainings for one in arm.runs if one.seed in seeds}


def _share_trainings(
    ours: Mapping[tuple[int, int | None], frozenset[str]], theirs: Mapping[tuple[int, int | None], frozenset[str]]
) -> bool:
    return bool(ours) and ours.keys() == theirs.keys() and all(ours[key] & theirs[key] for key in ours)


def _same_lists(a: Classes, b: Classes) -> bool:
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
    line = _lineage(path)
    return Outcome(
        path=path,
        seed=settings.train.seed if seed is None else seed,
        fold=settings.data.fold if fold is None else fold,
        table=table[table["split"].isin(SPLITS) & table["metric"].isin(METRICS)],
        classes=classes,
        settings=settings,
        manifest=manifest,
        steps=sum(one.get("steps", math.nan) for one in line),
        seconds=sum(one.get("seconds", math.nan) for one in line),
        learnt=frozenset(image_name(name) for one in line for name, _ in run.pseudo_images(one)),
        trainings=frozenset(
            of["identity"] for one in line for of in (one, one.get("continued") or {}) if "identity" in of
        ),
    )


def _lineage(path: Path) -> list[Mapping[str, Any]]:
    """The manifests of a run and of those whose weights it started from, the latest first."""
    found: dict[Path, Mapping[str, Any]] = {}
    here: Path | None = path
    while here:
        found[here.resolve()] = run.read_manifest(here)[0]
        here = _parent(here, found)
    return list(found.values())


def _parent(path: Path, known: Mapping[Path, Mapping[str, Any]]) -> Path | None:
    """The run that a run started from; None of one that started from none, or from one that is not there any more.

    Args:
        path: the run.
        known: the manifests of it and of those that started from it, by where they lie; none of them is its parent.
    """
    weights = Path(config.load([path / run.CONFIG]).model.weights or "")
    if weights.name != run.WEIGHTS:
        return None
    sha256 = known[path.resolve()].get("start_sha256")  # None: made before it was recorded
    # In a study that was moved they still lie side by side.
    for folder in (weights.parent, path.resolve().parent / weights.parent.name):
        if (folder / run.MANIFEST).is_file() and folder.resolve() not in known:
            manifest, _ = run.read_manifest(folder)
            if sha256 in (None, manifest.get("files", {}).get(run.WEIGHTS)):
                return folder
    if not weights.is_file() or (weights.parent / run.MANIFEST).is_file():
        warn(
            f"{path}: the run that it started from, {weights.parent}, is not there; its steps and time are not counted"
        )
    return None
