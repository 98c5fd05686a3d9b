"""The worst cases of a study side by side: what every arm made of the same image."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas
from numpy.typing import NDArray

from carpus import data, evaluate, pictures, run
from carpus.errors import DataError
from carpus.formats import images
from carpus.labels import Classes, LabelMap
from carpus.report.cases import data_uri
from carpus.report.markup import Markup, element, join
from carpus.study import tasks
from carpus.study.judgement import Judgement
from carpus.study.results import Arm, Outcome

_LONGEST_PX = 420


@dataclass(frozen=True)
class Shown:
    """One case as all arms see it.

    Args:
        case: its name.
        why: why it is shown.
        image: (H, W) uint8.
        truth: (H, W) label map.
        predictions: by arm.
        dice: by arm, of the run that predicted; the mean over all classes.
    """

    case: str
    why: str
    image: NDArray[np.uint8]
    truth: LabelMap
    predictions: Mapping[str, LabelMap]
    dice: Mapping[str, float]


def collect(
    judgement: Judgement, root: Path, *, device: str = "auto", progress: Callable[[int, int], object] | None = None
) -> list[Shown]:
    """Predict the worst case, and the one that arms agree least about, with the first run of every arm.

    Args:
        judgement: what was judged; arms of submissions, which cannot predict, are left out.
        root: the data folder.
        device: auto, cpu or cuda.
        progress: called with (arms done, arms in all).

    Returns:
        One or two cases; none where no arm has a run that can predict.
    """
    first = {name: outcome for name, arm in judgement.arms.items() if (outcome := _first(arm)) is not None}
    table = pandas.DataFrame({name: _by_case(outcome, judgement.splits) for name, outcome in first.items()}).dropna()
    if table.empty:
        return []
    spread = table.max(axis=1) - table.min(axis=1)
    chosen = {str(table.mean(axis=1).idxmin()): "The lowest mean Dice over all arms"}
    chosen.setdefault(str(spread.idxmax()), "Where the arms differ most")
    dataset = data.read(root)
    cases = {case.name: case for case in (*dataset.train, *dataset.test) if case.annotation}
    absent = [name for name in chosen if name not in cases]
    if absent:
        raise DataError(f"{root}: {absent[0]} is not there; is this the data the runs were scored on?")
    pixels = {name: images.read(cases[name].image) for name in chosen}
    predictions: dict[str, dict[str, LabelMap]] = {name: {} for name in chosen}
    for done, (arm, outcome) in enumerate(first.items(), start=1):
        fitted = outcome.path / tasks.CALIBRATION
        predict = evaluate.predictor([run.read(outcome.path)], device, calibration=fitted if fitted.is_file() else None)
        for name in chosen:
            predictions[name][arm] = predict(pixels[name])
        if progress:
            progress(done, len(first))
    classes = next(iter(first.values())).classes
    return [
        Shown(
            name,
            why,
            pixels[name],
            data.read_labels(cases[name], classes),
            predictions[name],
            {arm: float(table[arm][name]) for arm in first},
        )
        for name, why in chosen.items()
    ]


def gallery(shown: list[Shown], classes: Classes) -> Markup | None:
    """The cases one below the other, the arms side by side; None without any."""
    if not shown:
        return None
    rows = []
    for each in shown:
        rows.append(element("h3", f"{each.why}: ", element("bdi", each.case)))
        group = "carpals" if "carpals" in classes.groups else None
        box = pictures.around(each.truth, classes, group, aspect=5 / 4 if group else 4 / 5)
        cells = []
        for arm, prediction in each.predictions.items():
            drawn = pictures.overlay(
                each.image, prediction, reference=each.truth, classes=classes, box=box, longest=_LONGEST_PX
            )
            height, width = drawn.shape[:2]
            told = f"{each.case}, {arm}: truth and prediction outlined, Dice {each.dice[arm]:.4f}"
            caption = element("p", element("b", arm), element("br"), f"Dice {each.dice[arm]:.4f}")
            picture = element("img", src=data_uri(drawn), alt=told, width=width, height=height)
            cells.append(element("div", caption, picture, class_="arm"))
        rows.append(element("div", *cells, class_="arms"))
    return join(*rows)


def _first(arm: Arm) -> Outcome | None:
    able = [outcome for outcome in arm.runs if (outcome.path / run.WEIGHTS).is_file()]
    return min(able, key=lambda outcome: (outcome.seed, outcome.fold or 0), default=None)


def _by_case(outcome: Outcome, splits: tuple[str, ...]) -> pandas.Series:
    table = outcome.table
    rows = table[table["split"].isin(splits) & (table["metric"] == "dice")]
    return rows.groupby("case")["value"].mean()
