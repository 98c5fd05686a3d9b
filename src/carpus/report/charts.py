"""The figures of a report as inline SVG: no library, no script, colours from the page's style sheet.

Every chart is 480 units wide with text of 12 units, so that it is readable on a telephone and two fit side by side
on a desktop. Validation is always a blue circle and test an orange diamond: shape and colour both tell.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from carpus.report.markup import Markup, element, join
from carpus.report.numbers import BENT_DEG, SPLITS, Curves, Poses, Scores

WIDTH = 480.0
_LEFT, _RIGHT = 44.0, WIDTH - 8
_MOST_POINTS = 400
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Frame:
    """A rectangle of the drawing with a linear scale on either side.

    Args:
        left, top, right, bottom: in units of the drawing.
        x, y: the lowest and highest value on each axis; y grows upwards.
    """

    def __init__(
        self,
        *,
        top: float,
        bottom: float,
        x: tuple[float, float],
        y: tuple[float, float] = (0.0, 1.0),
        left: float = _LEFT,
        right: float = _RIGHT,
    ) -> None:
        self.left, self.top, self.right, self.bottom = left, top, right, bottom
        self.across, self.up = x, y

    def x(self, value: float) -> float:
        """From a value to a place across."""
        low, high = self.across
        return self.left + (self.right - self.left) * (value - low) / (high - low)

    def y(self, value: float) -> float:
        """From a value to a place down."""
        low, high = self.up
        return self.bottom - (self.bottom - self.top) * (value - low) / (high - low)

    def x_axis(self, label: str, suffix: str = "") -> Markup:
        """The axis below, with its ticks and its label."""
        marks = [
            element("text", f"{number(tick)}{suffix}", x=self.x(tick), y=self.bottom + 16, class_="middle")
            for tick in ticks(*self.across)
        ]
        name = element("text", label, x=(self.left + self.right) / 2, y=self.bottom + 33, class_="middle")
        return join(line(self.left, self.bottom, self.right, self.bottom, "axis"), *marks, name)

    def y_axis(self, label: str, suffix: str = "", most: int = 4) -> Markup:
        """Grid lines with their values on the left, the label above them."""
        parts = []
        for tick in ticks(*self.up, most):
            y = self.y(tick)
            parts.append(line(self.left, y, self.right, y, "grid"))
            parts.append(element("text", f"{number(tick)}{suffix}", x=self.left - 7, y=y + 4, class_="end"))
        return join(*parts, element("text", label, x=0.0, y=self.top - 11, class_="ink"))

    def path(self, xs: Sequence[float], ys: Sequence[float], class_: str) -> Markup:
        """A line through the points; a value that is not finite interrupts it."""
        words, pen = [], "M"
        for x, y in zip(xs, ys, strict=True):
            if math.isfinite(y):
                words.append(f"{pen}{self.x(x):.1f} {self.y(y):.1f}")
            pen = "L" if math.isfinite(y) else "M"
        return element("path", d=" ".join(words), class_=class_)


def dice_by_class(scores: Mapping[str, Scores], groups: Mapping[str, Sequence[str]]) -> Markup:
    """A row a class: the mean Dice of every split, and a bar from the 10th to the 90th percentile of its cases.

    A class without a value keeps its row and says so.
    """
    values = {(s, name): of.of_class(name) for s, of in scores.items() for names in groups.values() for name in names}
    spreads = {key: np.quantile(cases, [0.1, 0.9]).tolist() for key, cases in values.items() if len(cases)}
    lowest = min((low for low, _ in spreads.values()), default=0.0)
    step, top = 24.0, 28.0
    height = sum(len(names) * step + 25 for names in groups.values())
    frame = Frame(left=92, top=top, bottom=top + height, x=(min(0.95, below(lowest)), 1.0))
    parts = [_legend(list(scores), frame.left), frame.x_axis("Dice: mean, and 10th to 90th percentile of the cases")]
    parts += [line(frame.x(tick), top, frame.x(tick), frame.bottom, "grid") for tick in ticks(*frame.across)]
    offsets = dict(zip(scores, (-4.0, 4.0) if len(scores) > 1 else (0.0,), strict=True))
    y = top
    for group, names in groups.items():
        parts.append(element("text", group.capitalize(), x=0.0, y=y + 18, class_="strong"))
        y += 25
        for name in names:
            middle = y + step / 2
            parts.append(line(frame.left, middle, frame.right, middle, "row"))
            parts.append(element("text", shorten(name, 14), x=frame.left - 8, y=middle + 4, class_="end"))
            if not any((split, name) in spreads for split in scores):
                parts.append(element("text", "no value", x=frame.left + 6, y=middle + 4))
            for split in scores:
                if (split, name) not in spreads:
                    continue
                average, (low, high), at = values[split, name].mean(), spreads[split, name], middle + offsets[split]
                tip = f"{name}, {SPLITS[split].lower()}: {average:.4f} ({low:.3f} to {high:.3f})"
                spread = line(frame.x(low), at, frame.x(high), at, "spread")
                mark = _mark(split, frame.x(average), at)
                parts.append(element("g", element("title", tip), spread, mark, class_=split))
            y += step
    means = {split: of_split.mean() for split, of_split in scores.items()}
    description = "; ".join(f"{SPLITS[split]}: mean {value:.4f}" for split, value in means.items() if value == value)
    return svg("Dice by class", description, frame.bottom + 40, *parts)


def learning(curves: Curves) -> Markup:
    """Loss, validation Dice and learning rate over steps, one above the other on one axis; a value of one at least."""
    x = (min(0.0, float(curves.step.min())), max(float(curves.step.max()), 1.0))
    parts: list[Markup] = []
    frame = Frame(top=0, bottom=0, x=x)
    measured = np.isfinite(curves.loss)
    if measured.any():
        low, high = min(0.0, float(curves.loss[measured].min())), float(curves.loss[measured].max())
        frame = Frame(top=24, bottom=124, x=x, y=(low, high + ((high - low) or 1) * 0.04))
        thin = np.unique(np.linspace(0, len(measured) - 1, _MOST_POINTS).round().astype(int))
        steps = curves.step[thin].tolist()
        raw = frame.path(steps, curves.loss[thin].tolist(), "raw")
        smooth = frame.path(steps, _median(curves.loss, thin), "curve")
        parts += [frame.y_axis("Loss", most=3), element("g", raw, smooth, class_="train")]
    validated = np.isfinite(curves.val_dice)
    if validated.any():
        xs, ys = curves.step[validated].tolist(), curves.val_dice[validated].tolist()
        top = frame.bottom + (38 if parts else 24)
        frame = Frame(top=top, bottom=top + 115, x=x, y=(below(min(ys)), min(1.0, max(ys) + 0.05)))
        points = [
            element("g", element("title", f"step {number(x)}: {y:.4f}"), _mark("val", frame.x(x), frame.y(y)))
            for x, y in zip(xs, ys, strict=True)
        ]
        curve = frame.path(xs, ys, "curve")
        shown = points if len(points) <= 60 else points[-1:]
        parts += [frame.y_axis("Validation Dice"), element("g", curve, *shown, class_="val")]
    rated = np.isfinite(curves.learning_rate)
    highest = float(curves.learning_rate[rated].max()) if rated.any() else 0.0
    if highest > 0:
        power = math.floor(math.log10(highest))
        top = frame.bottom + (38 if parts else 24)
        frame = Frame(top=top, bottom=top + 55, x=x, y=(0.0, highest / 10.0**power * 1.04))
        thin = np.unique(np.linspace(0, len(rated) - 1, _MOST_POINTS).round().astype(int))
        curve = frame.path(curves.step[thin].tolist(), (curves.learning_rate[thin] / 10.0**power).tolist(), "curve")
        unit = f" / 10{str(power).translate(_RAISED)}" if power else ""
        parts += [frame.y_axis(f"Learning rate{unit}", most=2), element("g", curve, class_="train")]
    description = "Loss, validation Dice and learning rate over training steps."
    return svg("Learning curves", description, frame.bottom + 40, *parts, frame.x_axis("Step"))


def dice_by_pose(poses: Poses, scores: Mapping[str, Scores]) -> Markup:
    """Every case by the angle of its hand and its Dice, with the mean of straight and of bent hands.

    At least one case has a pose and a Dice.
    """
    points = pose_points(poses, scores)
    every = np.concatenate([pairs for pairs in points.values() if len(pairs)])
    furthest = max(float(every[:, 0].max()) * 1.05, BENT_DEG * 2)
    frame = Frame(top=50, bottom=235, x=(0.0, furthest), y=(below(float(every[:, 1].min())), 1.0))
    shown = [split for split, pairs in points.items() if len(pairs)]
    parts = [_legend(shown, 0.0, "mean, straight and bent"), frame.y_axis("Dice of the case")]
    parts += [frame.x_axis("Hand axis, degrees from the vertical", "°"), _limit(frame)]
    for split in shown:
        names = [case for case in _posed(poses, split) if case in scores[split].by_case()]
        marks = [
            element(
                "g",
                element("title", f"{case}: {degrees:.0f}°, {dice:.4f}"),
                _mark(split, frame.x(degrees), frame.y(dice)),
            )
            for case, (degrees, dice) in zip(names, points[split].tolist(), strict=True)
        ]
        bent = points[split][:, 0] > BENT_DEG
        for chosen, start, stop in ((~bent, 0.0, BENT_DEG), (bent, BENT_DEG, furthest)):
            if chosen.any():
                level = frame.y(float(points[split][chosen, 1].mean()))
                marks.append(line(frame.x(start) + 1, level, frame.x(stop) - 1, level, "level"))
        parts.append(element("g", *marks, class_=split))
    return svg("Dice by pose", "Mean Dice of every case over the angle of its hand.", frame.bottom + 40, *parts)


def pose_points(poses: Poses, scores: Mapping[str, Scores]) -> dict[str, NDArray[np.float64]]:
    """(degrees, Dice) of every case that has both, by split."""
    points: dict[str, NDArray[np.float64]] = {}
    for split, of_split in scores.items():
        dice = of_split.by_case()
        pairs = [(degrees, dice[case]) for case, degrees in _posed(poses, split).items() if case in dice]
        points[split] = np.array(pairs, np.float64).reshape(-1, 2)
    return points


def pose_histogram(poses: Poses) -> Markup:
    """Which share of the training images has which hand axis, in steps of five degrees, and which of the others.

    The others are the test images, or without any the validation images. At least one case.
    """
    there = [split for split in ("train", "test", "val") if len(poses.of(split))][:2]
    edges = np.arange(0.0, max(float(poses.degrees.max()), BENT_DEG * 2) + 5, 5.0)
    shares = {split: np.histogram(poses.of(split), edges)[0] / len(poses.of(split)) * 100 for split in there}
    highest = max(float(share.max()) for share in shares.values())
    frame = Frame(top=50, bottom=175, x=(0.0, float(edges[-1])), y=(0.0, highest * 1.06))
    parts = [_legend(there, 0.0), frame.y_axis("Share of the images", " %", most=3)]
    for place, (split, share) in enumerate(shares.items()):
        told = [f"{edge:.0f}° {percent:.0f} %" for edge, percent in zip(edges[:-1], share, strict=True) if percent]
        drawn = _bars(frame, edges, share) if place == 0 else _steps(frame, edges, share)
        parts.append(element("g", element("title", f"{SPLITS[split]}: {', '.join(told)}"), drawn, class_=split))
    parts += [frame.x_axis("Hand axis, degrees from the vertical", "°"), _limit(frame)]
    return svg("Hand axis", "Histogram of the angle of the hand by split.", frame.bottom + 40, *parts)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round values from `low` to `high`, at most `most` + 1 of them, steps of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    return [round(i * step, 10) for i in range(first, last + 1)]


def number(value: float) -> str:
    """A tick's value: no needless digits, thousands apart."""
    return f"{value:,.0f}".replace(",", "\u202f") if abs(value) >= 1000 else f"{value:.10g}"


def shorten(name: str, most: int) -> str:
    """`name`, its end an ellipsis if it has more than `most` characters."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _posed(poses: Poses, split: str) -> dict[str, float]:
    every = zip(poses.cases, poses.splits, poses.degrees.tolist(), strict=True)
    return {case: degrees for case, of, degrees in every if of == split}


def below(lowest: float) -> float:
    """Where an axis of Dice begins that has to show `lowest`."""
    return max(0.0, math.floor((lowest - 0.005) * 20) / 20)


def _median(values: NDArray[np.float64], at: NDArray[np.int_]) -> list[float]:
    """The running median of what is finite around every index of `at`."""
    reach = max(1, len(values) // 60)
    windows = [values[max(0, i - reach) : i + reach + 1] for i in at.tolist()]
    return [
        float(np.median(window[np.isfinite(window)])) if np.isfinite(window).any() else math.nan for window in windows
    ]


def _bars(frame: Frame, edges: NDArray[np.float64], share: NDArray[np.float64]) -> Markup:
    width = frame.x(float(edges[1])) - frame.x(0.0) - 2
    return join(
        *(
            element("rect", x=frame.x(x) + 1, y=frame.y(y), width=width, height=frame.bottom - frame.y(y), class_="bar")
            for x, y in zip(edges[:-1].tolist(), share.tolist(), strict=True)
            if y
        )
    )


def _steps(frame: Frame, edges: NDArray[np.float64], share: NDArray[np.float64]) -> Markup:
    return frame.path(np.repeat(edges, 2).tolist(), [0.0, *np.repeat(share, 2).tolist(), 0.0], "steps")


def svg(title: str, description: str, height: float, *parts: Markup, width: float = WIDTH) -> Markup:
    """The drawing around the parts, with a title and a description for those who cannot see it."""
    key = title.lower().replace(" ", "-")
    head = element("title", title, id=f"{key}-title"), element("desc", description, id=f"{key}-text")
    box = f"0 0 {width:.0f} {height:.0f}"
    return element("svg", *head, *parts, viewBox=box, role="img", aria_labelledby=f"{key}-title {key}-text")


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def _mark(split: str, x: float, y: float) -> Markup:
    if split == "test":
        return element("path", d=f"M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5z", class_="mark")
    return element("circle", cx=x, cy=y, r=4.0, class_="mark")


def _legend(splits: Sequence[str], left: float, level: str | None = None) -> Markup:
    parts = []
    for split in splits:
        parts.append(element("g", _mark(split, left + 5, 11.0), class_=split))
        parts.append(element("text", SPLITS[split], x=left + 15, y=15.0))
        left += 32 + 6.6 * len(SPLITS[split])
    if level:
        parts.append(element("g", line(left, 11.0, left + 16, 11.0, "level"), class_="train"))
        parts.append(element("text", level, x=left + 22, y=15.0))
    return join(*parts)


def _limit(frame: Frame) -> Markup:
    x = frame.x(BENT_DEG)
    note = element("text", f"bent: over {BENT_DEG:.0f}°", x=frame.right, y=frame.top - 11, class_="end")
    return join(line(x, frame.top - 4, x, frame.bottom, "limit"), note)
