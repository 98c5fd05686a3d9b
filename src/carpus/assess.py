"""`carpus evaluate`: a run against the truth as one table and one page of HTML."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pandas

from carpus import breakdown, data, evaluate, report, run
from carpus.data import Case
from carpus.formats import images
from carpus.labels import LabelMap
from carpus.phantom import anatomy
from carpus.predict import Options


def assess(
    trained: run.Run,
    root: Path,
    split: str,
    page: Path | None = None,
    *,
    device: str = "auto",
    options: Options | None = None,
    calibration: Path | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> tuple[pandas.DataFrame, list[report.Listing]]:
    """Evaluate a run (see `evaluate.evaluate`) and write a page about it.

    Args:
        trained: a finished run.
        root: the data folder.
        split: "val" or "test".
        page: the HTML file to write, whole or not at all; None writes none. It holds the best, the median and the worst
            case as pictures.
        device, options, calibration, progress: see `evaluate.evaluate`.

    Returns:
        The table, and what the page lists: all metrics, kinds of images, bones taken for others.
    """
    classes, dataset = trained.classes, data.read(root)
    kinds: defaultdict[str, dict[str, str]] = defaultdict(dict)
    axes: list[tuple[str, str, float]] = []
    confusions = breakdown.Confusions(classes)

    def keep(case: Case, truth: LabelMap, found: LabelMap) -> None:
        for kind, value in breakdown.kinds_of(case, truth, classes, dataset.patients).items():
            kinds[kind][case.name] = value
        axes.append((case.name, split, anatomy.hand_axis_deg(truth, classes)))
        confusions.add(truth, found)

    given = {"device": device, "options": options, "calibration": calibration}
    table = evaluate.evaluate(trained, dataset, split, progress=progress, keep=keep, **given)  # type: ignore[arg-type]
    shared = set(table.attrs[evaluate.TRANSDUCTIVE])
    if shared:
        kinds["pseudo-labelled"] = {
            case: "yes, transductive" if case in shared else "no" for case in set(table["case"])
        }
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
        report.write(
            page,
            title=f"{trained.path.name} on {split}",
            lead=f"{trained.settings.model.name}, {trained.settings.model.encoder}, against the annotations."
            + (f" {told(len(shared), table)}" if shared else ""),
            scores=table,
            axes=pandas.DataFrame(axes, columns=["case", "split", "axis_deg"]),
            pictures=_pictured(trained, dataset, split, table, device, options, calibration),
            tables=listings,
            facts={"Command": f"carpus evaluate {trained.path} --data {root} --split {split}", **run.versions()},
            classes=classes,
        )
    return table, listings


def told(count: int, table: pandas.DataFrame) -> str:
    """One sentence on so many transductive images among those of a table."""
    return (
        f"Transductive: {count} of {table['case'].nunique()} images were learnt from with predictions for labels, so "
        "the score says little about new ones."
    )


def _pictured(
    trained: run.Run,
    dataset: data.Dataset,
    split: str,
    table: pandas.DataFrame,
    device: str,
    options: Options | None,
    calibration: Path | None,
) -> list[report.Pictured]:
    """The cases that the page shows, predicted once more: keeping the maps of all would fill the memory."""
    chosen = set(report.choose(table, trained.classes)[split].values())
    predictor = evaluate.predictor(trained, device, options, calibration)
    shown = []
    for case in (*dataset.train, *dataset.test):
        if case.name in chosen and case.annotation:
            image = images.read(case.image)
            truth = data.read_labels(case, trained.classes)
            shown.append(report.Pictured(case.name, split, image, truth, predictor(image)))
    return shown
