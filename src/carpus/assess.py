"""`carpus evaluate`: one run, or several as an ensemble, against the truth as one table and one page of HTML."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas

from carpus import breakdown, data, evaluate, report, run
from carpus.data import Case
from carpus.formats import images
from carpus.labels import LabelMap
from carpus.phantom import anatomy
from carpus.predict import Options

WORST = 3
"""Cases of a split that the page shows because they are the worst."""


def assess(
    runs: Sequence[run.Run],
    root: Path,
    split: str,
    page: Path | None = None,
    *,
    command: str = "",
    device: str = "auto",
    options: Options | None = None,
    calibration: Path | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> tuple[pandas.DataFrame, list[report.Listing]]:
    """Evaluate runs (see `evaluate.evaluate`) and write a page about them.

    Args:
        runs: one or more finished runs.
        root: the data folder.
        split: "val" or "test".
        page: the HTML file to write, whole or not at all; None writes none. It holds the best, the median and the worst
            cases as pictures.
        command: what the page shall say is to be typed to repeat it.
        device, options, calibration, progress: see `evaluate.evaluate`.

    Returns:
        The table, and what the page lists: all metrics, kinds of images, bones taken for others.

    Raises:
        DataError, ConfigError: see `evaluate.evaluate`, and `report.require_place` before any work.
    """
    if page is not None:
        report.require_place(page)
    classes, dataset = runs[0].classes, data.read(root)
    kinds: defaultdict[str, dict[str, str]] = defaultdict(dict)
    axes: list[tuple[str, str, float]] = []
    confusions = breakdown.Confusions(classes)

    def keep(case: Case, truth: LabelMap, found: LabelMap) -> None:
        for kind, value in breakdown.kinds_of(case, truth, classes, dataset.patients).items():
            kinds[kind][case.name] = value
        axes.append((case.name, split, anatomy.hand_axis_deg(truth, classes)))
        confusions.add(truth, found)

    given = {"device": device, "options": options, "calibration": calibration}
    table = evaluate.evaluate(runs, dataset, split, progress=progress, keep=keep, **given)  # type: ignore[arg-type]
    for told, kind, yes in (
        (evaluate.TRANSDUCTIVE, "pseudo-labelled", "yes, transductive"),
        (evaluate.FITTED_ON, "calibrated on", "yes, optimistic"),
    ):
        if shared := set(table.attrs[told]):
            kinds[kind] = {case: yes if case in shared else "no" for case in set(table["case"])}
    listings = [
        listing
        for listing in (
            breakdown.by_class(table, classes),
            breakdown.by_kind(table, kinds, classes),
            confusions.listing(),
        )
        if listing is not None
    ]
    if page is not None:
        networks = dict.fromkeys(f"{each.settings.model.name}, {each.settings.model.encoder}" for each in runs)
        report.write(
            page,
            title=f"{', '.join(each.path.name for each in runs)} on {split}",
            lead=" ".join([f"{'; '.join(networks)}, against the annotations.", *doubts(table)]),
            scores=table,
            axes=pandas.DataFrame(axes, columns=["case", "split", "axis_deg"]),
            pictures=_pictured(runs, dataset, split, table, device, options, calibration),
            tables=[*listings, *filter(None, [breakdown.intervals(table, classes)])],
            facts={**({"Command": command} if command else {}), **run.versions()},
            classes=classes,
        )
    return table, listings


def doubts(table: pandas.DataFrame) -> list[str]:
    """Sentences on images that were learnt from, or that the calibration was fitted on; none where there are none."""
    count = table["case"].nunique()
    told = []
    if shared := table.attrs.get(evaluate.TRANSDUCTIVE):
        told.append(
            f"Transductive: {len(shared)} of {count} images were learnt from with predictions for labels, so the score "
            "says little about new ones."
        )
    if fitted := table.attrs.get(evaluate.FITTED_ON):
        told.append(
            f"Optimistic: the calibration was fitted on the labels of {len(fitted)} of {count} images; `carpus "
            "calibrate` says what it does to patients that it was not fitted on."
        )
    return told


def _pictured(
    runs: Sequence[run.Run],
    dataset: data.Dataset,
    split: str,
    table: pandas.DataFrame,
    device: str,
    options: Options | None,
    calibration: Path | None,
) -> list[report.Pictured]:
    """The cases that the page shows, predicted once more: keeping the maps of all would fill the memory."""
    classes = runs[0].classes
    chosen = set(report.choose(table, classes, worst=WORST)[split])
    predictor = evaluate.predictor(runs, device, options, calibration)
    shown = []
    for case in (*dataset.train, *dataset.test):
        if case.name in chosen and case.annotation:
            image = images.read(case.image)
            truth = data.read_labels(case, classes)
            shown.append(report.Pictured(case.name, split, image, truth, predictor(image)))
    return shown
