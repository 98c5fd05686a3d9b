"""The figures of a study as inline SVG, in the same style as those of a run's report."""

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np

from carpus.report.charts import Frame, below, line, number, svg, ticks
from carpus.report.markup import Markup, element, join
from carpus.study.judgement import Judged, Judgement
from carpus.study.report import names, words
from carpus.study.report.cells import duration
from carpus.study.report.words import verdict
from carpus.study.results import Arm

_LABELS, _LETTERS = 204.0, 29
"""Width of the names beside a figure, in units and in characters."""

_COLOURS = {"better": "val", "worse": "test", "equivalent": "train", "cannot tell": "train"}


def forest(judgement: Judgement) -> Markup:
    """A row a contrast: the difference with its interval, the margin as a band, the verdict as shape and colour."""
    again = {each.pair: each for each in judgement.on_val}
    rows = [
        (each, where)
        for judged in judgement.judged
        for each, where in ((judged, ""), (again.get(judged.pair), "on Val"))
        if each is not None
    ]
    ends = [value for each, _ in rows for value in (each.interval or (each.difference, each.difference))]
    reach = max([abs(value) for value in ends] + [judgement.margin * 1.5]) * 1.06
    flagged = any(each.flags for each, _ in rows)
    labels = [_label(judgement, each, where) for each, where in rows]
    top = 44.0 if flagged else 28.0
    frame = Frame(left=_LABELS, top=top, bottom=top + _below(labels)[-1] + 6, x=(-reach, reach))
    margin = judgement.margin
    band = element(
        "rect",
        x=frame.x(-margin),
        y=top,
        width=frame.x(margin) - frame.x(-margin),
        height=frame.bottom - top,
        class_="margin",
    )
    parts = [_shapes(flagged), band, line(frame.x(0), top, frame.x(0), frame.bottom, "limit")]
    for (each, where), label, start in zip(rows, labels, _below(labels), strict=False):
        y = top + 3 + start + _height(label) / 2
        told = f"{_named(each, where)}: {each.difference:+.4f}, {verdict(each)}"
        marks = [element("title", told)]
        if each.interval:
            low, high = each.interval
            marks.append(line(frame.x(low), y, frame.x(high), y, "interval"))
        marks.append(_shape(each.word, frame.x(each.difference), y))
        parts.append(names.block(label, _LABELS - 10, y, "end ink"))
        parts.append(element("g", *marks, class_=_COLOURS[each.word]))
    other = " or Val as named" if judgement.on_val else ""
    label = f"Difference of Dice, {_where(judgement)}{other}; band: ± {margin:g}"
    parts.append(frame.x_axis(label))
    description = "; ".join(f"{_named(each, where)} {each.difference:+.4f} {verdict(each)}" for each, where in rows)
    return svg("Differences", description, frame.bottom + 40, *parts)


def seeds(judgement: Judgement) -> Markup:
    """A row an arm: every seed's mean Dice as a dot, their mean as a line."""
    means = {name: arm.mean(judgement.splits) for name, arm in judgement.arms.items()}
    values = np.concatenate(list(means.values()))
    space = max(float(np.ptp(values)) * 0.08, 0.0005)
    top = 12.0
    labels = [names.wrapped(name, _LETTERS) for name in means]
    frame = Frame(
        left=_LABELS,
        top=top,
        bottom=top + _below(labels)[-1] + 4,
        x=(float(values.min()) - space, float(values.max()) + space),
    )
    parts = [line(frame.x(tick), top, frame.x(tick), frame.bottom, "grid") for tick in ticks(*frame.across, 4)]
    for (name, of_arm), label, start in zip(means.items(), labels, _below(labels), strict=False):
        y = top + 2 + start + _height(label) / 2
        parts.append(line(frame.left, y, frame.right, y, "row"))
        parts.append(names.block(label, _LABELS - 10, y, "end ink"))
        marks = [
            element(
                "g",
                element("title", f"{name}, seed {seed}: {value:.4f}"),
                element("circle", cx=frame.x(value), cy=y, r=4.0, class_="mark"),
            )
            for seed, value in zip(judgement.arms[name].scores(judgement.splits), of_arm.tolist(), strict=True)
        ]
        if len(of_arm):
            at = frame.x(float(of_arm.mean()))
            marks.append(line(at, y - 8, at, y + 8, "level"))
        parts.append(element("g", *marks, class_="val"))
    parts.append(_axis(frame, f"Mean Dice of a run, {_where(judgement)}", 4))
    return svg("Seeds", "Mean Dice of every run by arm.", frame.bottom + 40, *parts)


def learning(arms: Mapping[str, Arm]) -> Markup | None:
    """Validation Dice over steps, the mean over an arm's runs; None where no run has been validated."""
    curves = {name: points for name, arm in arms.items() if (points := _curve(arm))}
    if not curves:
        return None
    steps = [x for points in curves.values() for x, _ in points]
    # The second half is where arms differ; the steep beginning would flatten it.
    dice = [y for points in curves.values() for x, y in points if x >= max(steps) / 2]
    lowest = below(min(dice))
    keys, height = _keys(list(curves))
    frame = Frame(
        top=height + 26,
        bottom=height + 226,
        x=(0.0, float(max(steps))),
        y=(lowest, min(1.0, max(dice) + max((max(dice) - lowest) * 0.1, 0.005))),
    )
    parts = [keys, frame.y_axis("Validation Dice"), frame.x_axis("Step")]
    for place, (name, points) in enumerate(curves.items()):
        inside = [(x, y if y >= lowest else math.nan) for x, y in points]
        seen = [(x, y) for x, y in inside if math.isfinite(y)]
        drawn = frame.path([x for x, _ in inside], [y for _, y in inside], f"curve{_dashed(place)}")
        if len(seen) == 1:  # one validation is no line
            drawn = element("circle", cx=frame.x(seen[0][0]), cy=frame.y(seen[0][1]), r=3.5, class_=_mark(place))
        parts.append(element("g", element("title", name), drawn, class_=_series(place)))
    return svg("Learning", "Mean validation Dice over training steps by arm.", frame.bottom + 40, *parts)


def cost(judgement: Judgement) -> Markup | None:
    """Time of the trainings behind a run against Dice, a point an arm; None where no run tells its time."""
    points = {
        name: (seconds, float(arm.mean(judgement.splits).mean()))
        for name, arm in judgement.arms.items()
        if math.isfinite(seconds := arm.seconds) and len(arm.mean(judgement.splits))
    }
    if not points:
        return None
    dice = [y for _, y in points.values()]
    space = max((max(dice) - min(dice)) * 0.12, 0.0005)
    keys, height = _keys(list(points))
    longest = max(x for x, _ in points.values())
    unit, name = (3600.0, "hours") if longest > 7200 else (60.0, "minutes") if longest > 120 else (1.0, "seconds")
    frame = Frame(
        top=height + 26,
        bottom=height + 206,
        x=(0.0, longest / unit * 1.06),
        y=(min(dice) - space, max(dice) + space),
        left=56,
    )
    parts = [keys, frame.y_axis(f"Dice, {_where(judgement)}"), frame.x_axis(f"Time of training, {name}")]
    for place, (arm, (seconds, value)) in enumerate(points.items()):
        mark = element("circle", cx=frame.x(seconds / unit), cy=frame.y(value), r=5.0, class_=_mark(place))
        parts.append(
            element("g", element("title", f"{arm}: {value:.4f}, {duration(seconds)}"), mark, class_=_series(place))
        )
    return svg("Cost", "Mean Dice of every arm over the time of training.", frame.bottom + 40, *parts)


def _curve(arm: Arm) -> list[tuple[float, float]]:
    by_step: dict[float, list[float]] = {}
    for outcome in arm.runs:
        if outcome.curve is not None and outcome.fitted is None:  # else these patients are what was fitted on
            rows = outcome.curve.dropna(subset=["val_dice"])
            for step, value in zip(rows["step"].tolist(), rows["val_dice"].tolist(), strict=True):
                by_step.setdefault(float(step), []).append(float(value))
    return [(step, float(np.mean(of))) for step, of in sorted(by_step.items())]


def _named(each: Judged, where: str) -> str:
    return ", ".join(filter(None, (str(each.pair), where)))


def _label(judgement: Judgement, each: Judged, where: str = "") -> list[str]:
    parts = names.contrast(judgement, each)
    parts = [*parts[:-1], f"{parts[-1]}, {where}"] if where else parts
    whole = " ".join(parts)
    lines = [whole] if len(whole) < _LETTERS else [told for part in parts for told in names.wrapped(part, _LETTERS)]
    return [*lines[:-1], f"{lines[-1]} *"] if each.flags else lines


def _height(label: Sequence[str]) -> float:
    return names.LINE * len(label) + 12


def _below(labels: Sequence[Sequence[str]]) -> list[float]:
    """Where the row of every label begins, and where the last one ends."""
    return [0.0, *accumulate(map(_height, labels))]


def _keys(arms: Sequence[str]) -> tuple[Markup, float]:
    """A legend in rows of three, or of two where names are long, and its height."""
    parts = []
    beside, letters = (3, 21) if max(map(len, arms)) <= 21 else (2, 31)
    rows = [[names.wrapped(arm, letters) for arm in arms[n : n + beside]] for n in range(0, len(arms), beside)]
    tops = [0.0, *accumulate(max(map(len, row)) * names.LINE + 5 for row in rows)]
    for place in range(len(arms)):
        row, column = divmod(place, beside)
        label = rows[row][column]
        x, y = 480.0 / beside * column, tops[row] + 3 + names.LINE * len(label) / 2
        sample = join(
            line(x, y, x + 18, y, f"curve{_dashed(place)}"),
            element("circle", cx=x + 9, cy=y, r=3.5, class_=_mark(place)),
        )
        parts.append(element("g", sample, class_=_series(place)))
        parts.append(names.block(label, x + 24, y))
    return join(*parts), tops[-1]


def _series(place: int) -> str:
    return f"series{place % 8}"


def _dashed(place: int) -> str:
    return " second" if place >= 8 else ""


def _mark(place: int) -> str:
    return "hollow" if place >= 8 else "mark"


def _where(judgement: Judgement) -> str:
    return "test" if judgement.on_test else words.SPLITS["val"]


def _axis(frame: Frame, label: str, most: int) -> Markup:
    marks = [
        element("text", number(tick), x=frame.x(tick), y=frame.bottom + 16, class_="middle")
        for tick in ticks(*frame.across, most)
    ]
    name = element("text", label, x=(frame.left + frame.right) / 2, y=frame.bottom + 33, class_="middle")
    return join(line(frame.left, frame.bottom, frame.right, frame.bottom, "axis"), *marks, name)


def _shape(word: str, x: float, y: float) -> Markup:
    if word == "equivalent":
        return element("rect", x=x - 4.5, y=y - 4.5, width=9.0, height=9.0, class_="mark")
    if word == "worse":
        return element("path", d=f"M{x:.1f} {y - 6:.1f}l6 6l-6 6l-6 -6z", class_="mark")
    return element("circle", cx=x, cy=y, r=4.5, class_="mark" if word == "better" else "hollow")


def _shapes(flagged: bool) -> Markup:
    parts, x = [], 6.0
    for word, colour in _COLOURS.items():
        parts.append(element("g", _shape(word, x, 9.0), class_=colour))
        parts.append(element("text", word, x=x + 10, y=13.0))
        x += 40 + 6.4 * len(word)
    if flagged:
        parts.append(element("text", "* flagged: see the table of flags", x=0.0, y=31.0))
    return join(*parts)
