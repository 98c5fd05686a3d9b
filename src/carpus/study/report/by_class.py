"""The figure of differences by class: a column a contrast, a row a class, a frame around what is beyond chance."""

import math
from collections.abc import Sequence

from carpus.report.charts import WIDTH, shorten, svg
from carpus.report.markup import Markup, element, join
from carpus.study import stats
from carpus.study.judgement import Judgement
from carpus.study.pairing import ALL
from carpus.study.report import names

_LEFT, _HEIGHT, _LETTER, _LINE = 92.0, 17.0, 5.4, 11.0
_SLANTED = 24
"""Names up to so many characters are slanted where columns are wide; others stand upright."""


def classes(judgement: Judgement) -> Markup:
    """The differences in thousandths of Dice."""
    rows = judgement.judged
    model = next(iter(judgement.arms.values())).classes
    hard_first = sorted(model.groups, key=lambda group: group != "carpals")
    shown = [name for group in hard_first for name in (group, *model.groups[group])]
    shown = ["all", *shown, *(name for name in model if name not in shown)]
    width = min(64.0, (WIDTH - _LEFT - 4) / len(rows))
    heads, top = _heads([names.contrast(judgement, each) for each in rows], width)
    scale = max(_quantile([abs(float(value)) for each in rows for value in each.dice.difference]), judgement.margin)
    parts: list[Markup] = [heads]
    for column, (each, certain) in enumerate(zip(rows, beyond_chance(judgement), strict=True)):
        for row, name in enumerate(shown):
            value = float(each.dice.difference[each.columns.index(name)])
            x, y = _LEFT + width * column, top + _HEIGHT * row
            told = f"{name}, {each.pair}: {value:+.4f}"
            parts.append(_cell(x, y, width, value, min(abs(value) / scale, 1.0), name in certain, told))
    for row, name in enumerate(shown):
        strong = name == "all" or (name in model.groups and name not in model)
        y = top + _HEIGHT * (row + 0.72)
        parts.append(element("text", shorten(name, 14), x=_LEFT - 8, y=y, class_="end strong" if strong else "end"))
    end = top + _HEIGHT * len(shown)
    notes = (
        "Thousandths of Dice. Framed: beyond chance; groups and classes only where",
        "the mean of all is, corrected for their number and for the contrasts chosen.",
    )
    parts += [element("text", note, x=0.0, y=end + 18 + 15 * n) for n, note in enumerate(notes)]
    return svg("Differences by class", "Difference of Dice by class and contrast.", end + 42, *parts)


def beyond_chance(judgement: Judgement) -> list[set[str]]:
    """What is framed in the column of every contrast.

    The mean over all classes by the p-value of the verdict. Groups and classes only where that is beyond chance, by
    Holm over them all, at the level times the share of contrasts that are: so that within the contrasts chosen, errors
    stay as rare on average as if none had been chosen (Benjamini and Bogomolov, J. R. Statist. Soc. B 76, 2014).
    """
    chosen = [each.p < stats.LEVEL for each in judgement.judged]
    level = stats.LEVEL * sum(chosen) / max(len(judgement.judged) + len(judgement.absent), 1)
    found = []
    for each, is_chosen in zip(judgement.judged, chosen, strict=True):
        parts = stats.holm(each.dice.p[ALL + 1 :].tolist())
        certain = {name for name, p in zip(each.columns[ALL + 1 :], parts, strict=True) if p < level}
        found.append({each.columns[ALL], *certain} if is_chosen else set())
    return found


def _heads(told: Sequence[Sequence[str]], width: float) -> tuple[Markup, float]:
    """The names above the columns, and where the columns begin."""
    joined = [[" ".join(lines)] for lines in told]
    longest = max(len(name) for (name,) in joined)
    if width >= 40 and longest <= _SLANTED:
        top = longest * _LETTER / 2 + 20
        return join(*(_head(name, width, n, top, -30.0) for n, name in enumerate(joined))), top
    lines = told if width >= 2 * _LINE else joined
    top = max(len(line) for of in lines for line in of) * _LETTER + 14
    return join(*(_head(of, width, n, top, -90.0) for n, of in enumerate(lines))), top


def _head(lines: Sequence[str], width: float, column: int, top: float, turn: float) -> Markup:
    middle, y = _LEFT + width * (column + 0.5), top - 6
    first = middle + (3 if turn == -90 else 0) - _LINE * (len(lines) - 1) / 2
    return join(
        *(
            element("text", told, x=x, y=y, class_="small ink", transform=f"rotate({turn:g} {x:.1f} {y:.1f})")
            for n, told in enumerate(lines)
            for x in (first + _LINE * n,)
        )
    )


def _cell(x: float, y: float, width: float, value: float, share: float, framed: bool, told: str) -> Markup:
    box = element(
        "rect",
        x=x + 0.5,
        y=y + 0.5,
        width=width - 1,
        height=_HEIGHT - 1,
        class_="cell",
        fill_opacity=0.08 + 0.5 * share,
    )
    frame = element("rect", x=x + 1, y=y + 1, width=width - 2, height=_HEIGHT - 2, class_="framed") if framed else None
    whole = width < 30 or abs(value) >= 0.0995
    thousandths = f"{value * 1000:+.0f}" if whole else f"{value * 1000:+.1f}"
    text = thousandths.replace("-", "−")
    ink = element(
        "text",
        text,
        x=x + width / 2,
        y=y + _HEIGHT * 0.72,
        class_=f"middle {'tiny' if width < 40 else 'small'} cellink",
    )
    coloured = element("g", element("title", told), box, frame, class_="val" if value > 0 else "test")
    return join(coloured, ink)


def _quantile(values: Sequence[float]) -> float:
    """So that a single large difference does not pale all others."""
    return sorted(values)[math.floor(0.95 * (len(values) - 1))]
