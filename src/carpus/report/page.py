"""The page: from tables, pictures and facts to one HTML file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from carpus.labels import BONES, Classes
from carpus.pictures import PREDICTION, TRUTH
from carpus.report import charts, findings
from carpus.report.cases import Pictured, gallery
from carpus.report.document import Listing, document, listed, next_commands, repeat, tile
from carpus.report.markup import Markup, element, join
from carpus.report.numbers import SPLITS, Curves, Poses, Scores, grouped, read_curves, read_poses, read_scores

if TYPE_CHECKING:
    import pandas as pd


def write(
    path: Path | str,
    *,
    title: str,
    scores: pd.DataFrame,
    lead: str | None = None,
    summary: Mapping[str, float | str] | None = None,
    metrics: pd.DataFrame | None = None,
    axes: pd.DataFrame | None = None,
    pictures: Sequence[Pictured] = (),
    facts: Mapping[str, object] | None = None,
    commands: Sequence[str] = (),
    tables: Sequence[Listing] = (),
    classes: Classes = BONES,
) -> None:
    """Write the report of a run as one HTML file that needs no other.

    What is not given is left out, its heading too. All text is escaped. NaN is a value that was not measured: it
    is left out of every mean, and the page says how many there are.

    Args:
        path: the file, written whole or not at all.
        title: the heading.
        scores: columns case, patient, split ("val" or "test"), class, metric, value (Dice, 0 to 1); rows of other
            metrics are passed over. A class without a value is shown as such.
        lead: a sentence or two below the title: what was trained on what.
        summary: further headline numbers after those of the scores, such as ``{"Public": 0.9592}``.
        metrics: columns step, loss, val_dice, and if there are any learning_rate and images_per_second.
        axes: columns case, split ("train", "val" or "test"), axis_deg: the hand's axis in degrees from the vertical.
        pictures: the cases to show, see `choose`.
        facts: how to repeat the run, such as ``{"Command": ..., "Seed": 0, "torch": "2.11"}``.
        commands: what to run next, one shell command each; what follows " # " is set as a comment.
        tables: what else is to be listed, each under a heading of its own, after the classes.
        classes: the classes of the scores and of the pictures.

    Raises:
        DataError: a table lacks a column, names an unknown split or class, or has a value that is no Dice; a picture
            that has no scores or whose maps do not fit together.
    """
    by_split = read_scores(scores, classes)
    groups = grouped(classes)
    body = [
        _header(title, lead, by_split, summary or {}, groups),
        _cases(pictures, by_split, classes),
        _figures(by_split, groups, metrics, axes),
        _classes(by_split, groups),
        *(listed(place, listing) for place, listing in enumerate(tables, start=2)),
        repeat(facts or {}),
        next_commands(commands),
    ]
    document(path, title, *body)


def _header(
    title: str,
    lead: str | None,
    scores: Mapping[str, Scores],
    summary: Mapping[str, float | str],
    groups: Mapping[str, Sequence[str]],
) -> Markup:
    tiles = []
    for split, of_split in scores.items():
        name = element("span", SPLITS[split], class_=split)
        images, patients = len(of_split.cases), len(set(of_split.patients))
        told = f"{findings.plural(images, 'image')}, {findings.plural(patients, 'patient')}"
        tiles.append(tile(name, of_split.mean(), _interval(of_split.interval()), told))
    for split, of_split in scores.items():
        if "carpals" in groups:
            name = join("Carpals, ", element("span", SPLITS[split].lower(), class_=split))
            told = _interval(of_split.interval(groups["carpals"]))
            tiles.append(tile(name, of_split.mean(groups["carpals"]), told))
    tiles += [tile(name, value) for name, value in summary.items()]
    missing = sum(of_split.missing for of_split in scores.values())
    method = "Dice at the annotation's resolution, mean over images, then over classes; a class empty in both counts 1."
    if any(of_split.interval() for of_split in scores.values()):
        method += (
            " The interval is a bootstrap over patients: it holds for this one trained model, not for a second seed."
        )
    if missing:
        method += f" Missing and left out: {findings.plural(missing, 'value')}."
    return element(
        "header",
        element("h1", title),
        element("p", lead, class_="lead") if lead else None,
        element("p", findings.overall(scores), class_="lead"),
        element("dl", *tiles, class_="headline"),
        element("p", method, class_="note"),
    )


def _interval(interval: tuple[float, float] | None) -> str | None:
    return f"95 %: {interval[0]:.4f}–{interval[1]:.4f}" if interval else None


def _cases(pictures: Sequence[Pictured], scores: Mapping[str, Scores], classes: Classes) -> Markup | None:
    if not pictures:
        return None
    keys = [
        key(TRUTH, "", "annotation"),
        key(PREDICTION, "", "prediction"),
        key(TRUTH, " block", "missed"),
        key(PREDICTION, " block", "predicted without being there"),
    ]
    return element(
        "section",
        element("h2", "Best, median and worst"),
        element("p", "Cases by their mean Dice over classes. ", join(*keys, between=" · "), ".", class_="note"),
        gallery(pictures, scores, classes),
    )


def key(colour: tuple[int, int, int], kind: str, name: str) -> Markup:
    """A sample of a colour and what it stands for; `kind` " block" is for an area."""
    # Bright outlines for dark radiographs: on a light page the sample needs no more contrast than a swatch.
    sample = element("span", style=f"background: rgb{colour}", class_=f"key{kind}")
    return element("span", sample, name, class_="named")


def _figures(
    scores: Mapping[str, Scores],
    groups: Mapping[str, Sequence[str]],
    metrics: pd.DataFrame | None,
    axes: pd.DataFrame | None,
) -> Markup | None:
    curves: Curves | None = read_curves(metrics) if metrics is not None and len(metrics) else None
    poses: Poses | None = read_poses(axes) if axes is not None and len(axes) else None
    left: list[tuple[str, str, Markup]] = []
    right: list[tuple[str, str, Markup]] = []
    if scores:
        left.append(("Dice by class.", findings.by_class(scores, groups), charts.dice_by_class(scores, groups)))
    if curves and (np.isfinite(curves.loss).any() or np.isfinite(curves.val_dice).any()):
        right.append(("Learning curves.", findings.learned(curves), charts.learning(curves)))
    if poses and any(len(points) for points in charts.pose_points(poses, scores).values()):
        right.append(("Dice by pose.", findings.by_pose(poses, scores), charts.dice_by_pose(poses, scores)))
    if poses and len(poses.cases):
        right.append(("Pose shift.", findings.pose_shift(poses), charts.pose_histogram(poses)))
    if not left and not right:
        return None
    figures = [
        element("figure", element("figcaption", element("b", f"Figure {place}. {name}"), " ", told), chart)
        for place, (name, told, chart) in enumerate(left + right, start=1)
    ]
    sides = [element("div", *side) for side in (figures[: len(left)], figures[len(left) :]) if side]
    return element("section", element("h2", "Figures"), element("div", *sides, class_="figures"))


def _classes(scores: Mapping[str, Scores], groups: Mapping[str, Sequence[str]]) -> Markup | None:
    if not scores:
        return None
    head = [element("th", "Class", scope="col")]
    for split in scores:
        head += [element("th", SPLITS[split], scope="col", class_=split), element("th", "SD", scope="col")]
    if len(scores) == 2:
        head.append(element("th", "Difference", scope="col"))
    last = list(scores)[-1]
    head += [
        element("th", f"Lowest, {SPLITS[last].lower()}", scope="col"),
        element("th", "in case", scope="col", class_="name"),
    ]
    bodies = []
    for group, names in groups.items():
        rows = [element("tr", element("th", group, scope="rowgroup"), *_cells(scores, names), class_="group")]
        rows += [element("tr", element("th", name, scope="row"), *_cells(scores, [name])) for name in names]
        bodies.append(element("tbody", *rows))
    every = [name for names in groups.values() for name in names]
    bodies.append(
        element("tbody", element("tr", element("th", "all", scope="row"), *_cells(scores, every), class_="group"))
    )
    told = "Mean Dice over images, its standard deviation over images, and the lowest single value."
    caption = element("figcaption", element("b", "Table 1. Classes."), " ", told)
    table = element("table", element("thead", element("tr", *head)), *bodies, aria_label="Dice by class")
    scrolled = element("div", table, class_="scroll", role="region", aria_label="Table 1", tabindex=0)
    return element("section", element("h2", "Classes"), element("figure", caption, scrolled))


def _cells(scores: Mapping[str, Scores], names: Sequence[str]) -> list[Markup]:
    cells, means = [], [of_split.mean(names) for of_split in scores.values()]
    for of_split, value in zip(scores.values(), means, strict=True):
        by_case = list(of_split.by_case(names).values())
        spread = float(np.std(by_case, ddof=1)) if len(by_case) > 1 else math.nan
        cells += [element("td", _dice(value)), element("td", _dice(spread))]
    if len(means) == 2:
        step = means[1] - means[0]
        cells.append(element("td", findings.difference(step) if math.isfinite(step) else "–"))
    lowest = list(list(scores.values())[-1].by_case(names).items())[-1:]
    case, value = lowest[0] if lowest else ("", math.nan)
    return [*cells, element("td", _dice(value)), element("td", element("bdi", case), title=case, class_="name")]


def _dice(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "–"
