"""Predictions against annotations: one tidy table (case, patient, split, class, metric, value)."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from numpy.typing import NDArray
from pandas import DataFrame

from carpus import data, kernels, metrics, run
from carpus.data import Case, Dataset
from carpus.errors import ConfigError, DataError, warn
from carpus.formats import files, images
from carpus.formats.cells import escaped, plain
from carpus.labels import Classes, LabelMap
from carpus.postprocess import Calibration
from carpus.predict import Ensemble, Options, in_turn

Keep = Callable[[Case, LabelMap, LabelMap], object]
"""Called with (case, truth, prediction), for whoever wants the maps."""

_NAMES = ("case", "patient", "class")

COLUMNS = ("case", "patient", "split", "class", "metric", "value")

PIXELS = "pixels"
"""One more column, of tables that tell: the beginning of the `images.digest` of the case's image, which tells it from
one of the same name in another data set.
"""

_DIGITS = 12

TOLERANCES_PX = (1, 2, 4)
"""At these distances in pixels of the label map the surface Dice is taken, as metric nsd_1px and so on."""

TOLERANCE_MM = 1
"""And at this one in mm, where the image states the distance of its pixels."""

TRANSDUCTIVE = "transductive"
"""Of a table's `attrs`: the cases that `transductive` found."""

FITTED_ON = "fitted on"
"""Of a table's `attrs`: the cases of patients whose labels the calibration was fitted on."""

_SQUARE = 0.01
"""Pixels count as square, and distances can be told in mm, if their sides differ by less than this share."""


def scores(
    predict: Callable[[NDArray[np.uint8]], LabelMap],
    cases: Sequence[Case],
    split: str,
    classes: Classes,
    *,
    borders: bool = False,
    progress: Callable[[int, int], object] | None = None,
    keep: Keep | None = None,
) -> DataFrame:
    """Dice of every case and class at the labels' own resolution, and with `borders` all the other metrics.

    Args:
        predict: image (H, W) uint8 to label map.
        cases: annotated cases.
        split: what the column `split` shall say.
        classes: the class list.
        borders: also iou, nsd_1px, nsd_2px, nsd_4px and hd95_px, and nsd_1mm and hd95_mm of a case whose image states
            the distance of its pixels; see `metrics` for absent classes.
        progress: called with (cases done, cases in all).
        keep: called with (case, truth, prediction), for whoever wants the maps.

    Returns:
        One row a case, class and metric, the columns of `COLUMNS` and `PIXELS`.
    """
    rows = []
    pixels: dict[str, str] = {}

    def read(case: Case) -> NDArray[np.uint8]:
        image = data.read_image(case.image)
        pixels[case.name] = images.digest_of(image)[:_DIGITS]
        return image

    predicted = in_turn(predict, ((case, partial(read, case)) for case in cases))
    for done, (case, labels) in enumerate(predicted, start=1):
        truth = data.read_labels(case, classes)
        counts = kernels.overlap(labels, truth, len(classes))
        found = {"dice": metrics.dice(counts)}
        if borders:
            found |= {"iou": metrics.iou(counts)} | _borders(labels, truth, classes, _spacing_mm(case))
        rows += [
            (case.name, case.patient, split, name, metric, value, pixels[case.name])
            for metric, values in found.items()
            for name, value in zip(classes, values.tolist(), strict=True)
        ]
        if keep:
            keep(case, truth, labels)
        if progress:
            progress(done, len(cases))
    return DataFrame(rows, columns=[*COLUMNS, PIXELS])


def _borders(
    labels: LabelMap, truth: LabelMap, classes: Classes, spacing_mm: float | None
) -> dict[str, NDArray[np.float64]]:
    distances = kernels.surface_distances(labels, truth, len(classes))
    diagonal = float(np.hypot(*truth.shape))
    found = {f"nsd_{tolerance}px": metrics.nsd(distances, tolerance) for tolerance in TOLERANCES_PX}
    found["hd95_px"] = metrics.hd95(distances, diagonal)
    if spacing_mm is not None:
        found[f"nsd_{TOLERANCE_MM}mm"] = metrics.nsd(distances, TOLERANCE_MM / spacing_mm)
        found["hd95_mm"] = found["hd95_px"] * spacing_mm
    return found


def _spacing_mm(case: Case) -> float | None:
    spacing = images.spacing_mm(case.image)
    if spacing is None or abs(spacing[0] / spacing[1] - 1) > _SQUARE:
        return None
    return (spacing[0] + spacing[1]) / 2


def evaluate(
    runs: Sequence[run.Run],
    dataset: Dataset,
    split: str,
    *,
    device: str = "auto",
    options: Options | None = None,
    calibration: Path | None = None,
    progress: Callable[[int, int], object] | None = None,
    keep: Keep | None = None,
) -> DataFrame:
    """Score a finished run, or several as an ensemble, on a split of a data folder.

    The scores of one run as it is go into its scores.csv; those of an ensemble, other views or a calibration do not.

    Args:
        runs: one or more.
        dataset: the data folder, as `data.read` gives it.
        split: "val", the patients that all of the runs held out, or "test".
        device: auto, cpu or cuda.
        options: tiles and views, see `predict.Options`.
        calibration: a file of `carpus calibrate`.
        progress: see `scores`.
        keep: see `scores`.

    Returns:
        See `scores`; its `attrs` name the cases that are transductive, and those that the calibration was fitted on.

    Raises:
        DataError: not the data that the runs held out.
        ConfigError: another split, or runs that held out other patients.
    """
    if split not in ("val", "test"):
        raise ConfigError(f"--split {split}: expected val or test")
    cases = held_out(dataset, runs[0], split)
    for other in runs[1:]:
        if held_out(dataset, other, split) != cases:
            raise ConfigError(
                f"--split val: {other.path} and {runs[0].path} hold out other patients; take --split test"
            )
    predict = predictor(runs, device, options, calibration)
    classes = runs[0].classes
    table = scores(predict, cases, split, classes, borders=True, progress=progress, keep=keep)
    if len(runs) == 1 and options in (None, Options()) and calibration is None:
        save(runs[0].path, table)
    table.attrs[TRANSDUCTIVE] = sorted(set().union(*(transductive(each, cases) for each in runs)))
    fitted_on = set(Calibration.read(calibration, classes).fitted_on or ()) if calibration else set()
    table.attrs[FITTED_ON] = sorted(case.name for case in cases if case.patient in fitted_on)
    return table


def transductive(trained: run.Run, cases: Sequence[Case]) -> set[str]:
    """The cases whose images, with predictions for labels, the run or its first weights learnt from: its scores on
    these say less.
    """
    digests = {digest for _, digest in trained.pseudo_images}
    return {case.name for case in cases if images.digest(case.image) in digests} if digests else set()


def predictor(
    runs: Sequence[run.Run], device: str = "auto", options: Options | None = None, calibration: Path | None = None
) -> Ensemble:
    """What `evaluate` predicts with."""
    steps = Calibration.read(calibration, runs[0].classes) if calibration else None
    return Ensemble.of(runs, device, options, calibration=steps)


def summary(table: DataFrame, classes: Classes) -> dict[str, Any]:
    """Mean Dice over images, then classes: over all, by group and by class, and the number of images.

    "transductive" is there if any is, and says how many of the images are, see `transductive`.
    """
    by_class = table[table["metric"] == "dice"].groupby("class")["value"].mean()
    groups = {name: float(by_class[list(members)].mean()) for name, members in classes.groups.items()}
    shared = len(table.attrs.get(TRANSDUCTIVE, ()))
    return ({TRANSDUCTIVE: shared} if shared else {}) | {
        "images": int(table["case"].nunique()),
        "dice": float(by_class.mean()),
        "groups": groups,
        "classes": {name: float(by_class[name]) for name in classes},
    }


def held_out(dataset: Dataset, trained: run.Run, split: str) -> list[Case]:
    """The annotated cases of a split: `val` is the fold the run held out, `test` the test images with known truth.

    Raises:
        DataError: there are none.
    """
    if split == "val":
        patients = set(trained.manifest["val_patients"])
        found = [case for case in dataset.train if case.patient in patients and case.annotation]
        missing = patients - {case.patient for case in dataset.train}
        if missing:
            raise DataError(
                f"{dataset.root}: patient {min(missing)} of the run's validation fold is not there "
                f"({len(missing)} such patients); is this the data set that {trained.path} was trained on?"
            )
        there, then = data.fingerprint(found), data.Fingerprint(**trained.manifest["data"]["val"])
        if there.images != then.images:
            raise DataError(
                f"{dataset.root}: the images of the validation patients are not those that {trained.path} held out; "
                "it may have been trained on some of these"
            )
        if there.annotations != then.annotations:
            warn(f"{dataset.root}: annotations of the validation patients have changed since {trained.path} was made")
    else:
        found = [case for case in dataset.test if case.annotation]
        data.fingerprint([*dataset.train, *found])  # refuses an image that is in both
    if not found:
        raise DataError(f"{dataset.root}: no annotated {split} images")
    return found


def mean(table: DataFrame, metric: str = "dice") -> float:
    """Mean over images, then over classes, as the competition counts."""
    return float(table[table["metric"] == metric].groupby("class")["value"].mean().mean())


def save(run_path: Path, table: DataFrame) -> None:
    """Put `table` into the run's scores.csv in place of what it held for the same splits."""
    path = run_path / run.SCORES
    if path.is_file():
        old = load(run_path)
        table = pandas.concat([old[~old["split"].isin(table["split"])], table])
    with files.atomic(path) as temporary:
        table.assign(**{name: table[name].map(escaped) for name in _NAMES}).to_csv(temporary, index=False)


def load(run_path: Path, name: str = run.SCORES) -> DataFrame:
    """The table of a run's scores.csv, or of another file of its folder.

    Raises:
        DataError: no such file, other columns, or a value that is no number.
    """
    path = run_path / name
    try:
        table = pandas.read_csv(path, dtype=dict.fromkeys((*COLUMNS[:-1], PIXELS), str), keep_default_na=False)
        if "value" in table:
            table["value"] = table["value"].astype(float)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable table of scores ({error})") from error
    if tuple(table.columns) not in (COLUMNS, (*COLUMNS, PIXELS)):
        expected = f"{', '.join(COLUMNS)} and perhaps {PIXELS}"
        raise DataError(f"{path}: expected the columns {expected}, found {', '.join(table.columns)}")
    return table.assign(**{name: table[name].map(plain) for name in _NAMES})
