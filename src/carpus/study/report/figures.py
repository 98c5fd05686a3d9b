"""The figures of a study as inline SVG, in the same style as those of a run's report."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from carpus.report.charts import WIDTH, Frame, below, line, number, shorten, svg, ticks
from carpus.report.markup import Markup, element, join
from carpus.study import stats
from carpus.study.judge import Judged, Judgement
from carpus.study.report.tables import NAMES, duration, pair_name, verdict
from carpus.study.results import TEST, Arm

_LABELS = 178.0
_COLOURS = {"better": "val", "worse": "test", "equivalent": "train", "cannot tell": "train"}


def forest(judgement: Judgement) -> Markup:
    """A row a contrast: the difference with its interval, the margin as a band, the verdict as shape and colour."""
    rows = judgement.judged
    ends = [value for each in rows for value in (each.interval or (each.difference, each.difference))]
    reach = max([abs(value) for value in ends] + [judgement.margin * 1.5]) * 1.06
    flagged = any(each.flags for each in rows)
    step, top = 26.0, 44.0 if flagged else 28.0
    frame = Frame(left=_LABELS, top=top, bottom=top + step * len(rows) + 6, x=(-reach, reach))
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
    for place, each in enumerate(rows):
        y = top + 3 + step * (place + 0.5)
        told = f"{pair_name(each.pair)}: {each.difference:+.4f}, {verdict(each)}"
        marks = [element("title", told)]
        if each.interval:
            low, high = each.interval
            marks.append(line(frame.x(low), y, frame.x(high), y, "interval"))
        marks.append(_shape(each.word, frame.x(each.difference), y))
        name = _pair(judgement, each) + (" *" if each.flags else "")
        parts.append(element("text", shorten(name, 31), x=_LABELS - 10, y=y + 4, class_="end ink"))
        parts.append(element("g", *marks, class_=_COLOURS[each.word]))
    label = f"Difference of Dice, {_where(judgement)}; band: ± {margin:g}"
    parts.append(frame.x_axis(label))
    description = "; ".join(f"{pair_name(each.pair)} {each.difference:+.4f} {verdict(each)}" for each in rows)
    return svg("Differences", description, frame.bottom + 40, *parts)


def classes(judgement: Judgement) -> Markup:
    """A column a contrast and a row a class: the difference in thousandths of Dice, framed where beyond chance."""
    rows = judgement.judged
    model = next(iter(judgement.arms.values())).classes
    hard_first = sorted(model.groups, key=lambda group: group != "carpals")
    names = [name for group in hard_first for name in (group, *model.groups[group])]
    names = ["all", *names, *(name for name in model if name not in names)]
    width, height, left, top = min(64.0, (WIDTH - 96) / len(rows)), 17.0, 92.0, 132.0
    every = np.array([each.dice.difference for each in rows])
    scale = max(float(np.quantile(np.abs(every), 0.95)), judgement.margin)
    parts: list[Markup] = []
    for column, each in enumerate(rows):
        x = left + width * (column + 0.5)
        parts.append(
            element(
                "text",
                shorten(_pair(judgement, each), 24),
                x=x + (3 if width < 40 else 0),
                y=top - 6,
                class_="small ink",
                transform=f"rotate({-90 if width < 40 else -30} {x:.1f} {top - 6:.1f})",
            )
        )
        # Beyond chance among the classes: the mean and the groups are of the same values.
        single = [each.columns.index(name) for name in model]
        certain = dict(zip(single, stats.holm(each.dice.p[single].tolist()), strict=True))
        for row, name in enumerate(names):
            place = each.columns.index(name)
            value, y = float(each.dice.difference[place]), top + height * row
            share = min(abs(value) / scale, 1.0)
            sure = certain.get(place, float(each.dice.p[place])) < stats.LEVEL
            parts += _cell(x - width / 2, y, width, height, value, share, sure, f"{name}, {pair_name(each.pair)}")
    for row, name in enumerate(names):
        strong = name == "all" or (name in model.groups and name not in model)
        y = top + height * (row + 0.72)
        parts.append(element("text", shorten(name, 14), x=left - 8, y=y, class_="end strong" if strong else "end"))
    end = top + height * len(names)
    note = "Thousandths of Dice; framed: beyond chance, Holm over the classes."
    parts.append(element("text", note, x=0.0, y=end + 18))
    return svg("Differences by class", "Difference of Dice by class and contrast.", end + 26, *parts)


def seeds(judgement: Judgement) -> Markup:
    """A row an arm: every seed's mean Dice as a dot, their mean as a line."""
    means = {name: arm.mean(judgement.splits) for name, arm in judgement.arms.items()}
    values = np.concatenate(list(means.values()))
    space = max(float(np.ptp(values)) * 0.08, 0.0005)
    step, top = 24.0, 12.0
    frame = Frame(
        left=_LABELS,
        top=top,
        bottom=top + step * len(means) + 4,
        x=(float(values.min()) - space, float(values.max()) + space),
    )
    parts = [line(frame.x(tick), top, frame.x(tick), frame.bottom, "grid") for tick in ticks(*frame.across, 4)]
    for place, (name, of_arm) in enumerate(means.items()):
        y = top + 2 + step * (place + 0.5)
        parts.append(line(frame.left, y, frame.right, y, "row"))
        parts.append(element("text", shorten(name, 27), x=_LABELS - 10, y=y + 4, class_="end ink"))
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
        drawn = frame.path([x for x, _ in inside], [y for _, y in inside], f"curve{_dashed(place)}")
        parts.append(element("g", element("title", name), drawn, class_=_series(place)))
    return svg("Learning", "Mean validation Dice over training steps by arm.", frame.bottom + 40, *parts)


def cost(judgement: Judgement) -> Markup | None:
    """Time of a training against Dice, a point an arm; None where no run tells its time."""
    points = {
        name: (seconds, float(arm.mean(judgement.splits).mean()))
        for name, arm in judgement.arms.items()
        if math.isfinite(seconds := arm.fact("seconds")) and len(arm.mean(judgement.splits))
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
    parts = [keys, frame.y_axis(f"Dice, {_where(judgement)}"), frame.x_axis(f"Time of a training, {name}")]
    for place, (arm, (seconds, value)) in enumerate(points.items()):
        mark = element("circle", cx=frame.x(seconds / unit), cy=frame.y(value), r=5.0, class_=_mark(place))
        parts.append(
            element("g", element("title", f"{arm}: {value:.4f}, {duration(seconds)}"), mark, class_=_series(place))
        )
    return svg("Cost", "Mean Dice of every arm over the time of a training.", frame.bottom + 40, *parts)


def _curve(arm: Arm) -> list[tuple[float, float]]:
    by_step: dict[float, list[float]] = {}
    for outcome in arm.runs:
        if outcome.curve is not None:
            rows = outcome.curve.dropna(subset=["val_dice"])
            for step, value in zip(rows["step"].tolist(), rows["val_dice"].tolist(), strict=True):
                by_step.setdefault(float(step), []).append(float(value))
    return [(step, float(np.mean(of))) for step, of in sorted(by_step.items())]


def _keys(names: Sequence[str]) -> tuple[Markup, float]:
    """A legend in rows of three, and its height."""
    parts = []
    for place, name in enumerate(names):
        x, y = 160.0 * (place % 3), 9.0 + 18 * (place // 3)
        sample = join(
            line(x, y, x + 18, y, f"curve{_dashed(place)}"),
            element("circle", cx=x + 9, cy=y, r=3.5, class_=_mark(place)),
        )
        parts.append(element("g", sample, class_=_series(place)))
        parts.append(element("text", shorten(name, 20), x=x + 24, y=y + 4))
    return join(*parts), 18.0 * math.ceil(len(names) / 3)


def _series(place: int) -> str:
    return f"series{place % 8}"


def _dashed(place: int) -> str:
    return " second" if place >= 8 else ""


def _mark(place: int) -> str:
    return "hollow" if place >= 8 else "mark"


def _cell(
    x: float, y: float, width: float, height: float, value: float, share: float, sure: bool, told: str
) -> list[Markup]:
    box = element(
        "rect", x=x + 0.5, y=y + 0.5, width=width - 1, height=height - 1, class_="cell", fill_opacity=0.08 + 0.5 * share
    )
    frame = element("rect", x=x + 1, y=y + 1, width=width - 2, height=height - 2, class_="framed") if sure else None
    colour = "val" if value > 0 else "test"
    thousandths = f"{value * 1000:+.1f}" if abs(value) < 0.0995 else f"{value * 1000:+.0f}"
    text = thousandths.replace("-", "−")
    ink = element("text", text, x=x + width / 2, y=y + height * 0.72, class_="middle small cellink")
    return [element("g", element("title", f"{told}: {value:+.4f}"), box, frame, class_=colour), ink]


def _pair(judgement: Judgement, each: Judged) -> str:
    """The arm alone where all contrasts are against the same, which the axis then names."""
    against = {other.pair.against for other in judgement.judged}
    return each.pair.arm if len(against) == 1 else f"{each.pair.arm} – {each.pair.against}"


def _where(judgement: Judgement) -> str:
    return "test" if set(judgement.splits) & set(TEST) else NAMES["val"]


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
