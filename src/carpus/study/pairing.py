"""Two arms side by side: the scores of both on the same images, and whether their runs share trainings.

Dimension key: S seeds, P patients, K classes, C columns: the mean over all classes, the mean of every group, every
class.
"""

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas

from carpus.errors import DataError, warn
from carpus.labels import Classes
from carpus.study.results import Arm, Images, Values, same_lists

ALL = 0
"""The first of `columns`: the mean over all classes."""


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
    if not same_lists(a.classes, b.classes):
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
    told = [run.pixels(splits, metric) for arm, of in ((a, ours), (b, theirs)) for run in arm.runs if run.seed in of]
    common = _common(f"{a.name}, {b.name}", scored, _of_several(told))
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
            f"{names}: {len(several)} of {len(common)} images of the same patient and name have other pixels, as in "
            f"another data set or read by another version (patient {patient}, {name})"
        )
        if several == common:
            raise DataError(f"{told}; compare runs that `carpus evaluate` scored on the same data")
        warn(f"{told} and are left out")
    return common - several


def _of_several(told: Iterable[frozenset[tuple[tuple[str, str], str]]]) -> Images:
    """The patients and names under which runs scored different images, as far as these tell: `Outcome.pixels`."""
    counts = Counter(image for image, _ in frozenset[tuple[tuple[str, str], str]]().union(*told))
    return Images(image for image, count in counts.items() if count > 1)


def _columns(table: pandas.DataFrame, classes: Classes) -> Values:
    """(P, C) of a table (P, K)."""
    means = [table[list(members)].to_numpy(np.float64).mean(axis=1) for members in columns(classes).values()]
    return np.stack(means, axis=1)


def _trainings(arm: Arm, seeds: Container[int]) -> dict[tuple[int, int | None], frozenset[str]]:
    """By seed and fold, the trainings that a run comes from."""
    return {(one.seed, one.fold): one.lineage.trainings for one in arm.runs if one.seed in seeds}


def _share_trainings(
    ours: Mapping[tuple[int, int | None], frozenset[str]], theirs: Mapping[tuple[int, int | None], frozenset[str]]
) -> bool:
    return bool(ours) and ours.keys() == theirs.keys() and all(ours[key] & theirs[key] for key in ours)
