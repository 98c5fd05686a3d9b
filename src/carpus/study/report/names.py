"""Names of arms and contrasts in a drawing, in full: one cut short can read like another."""

import textwrap
from collections.abc import Sequence

from carpus.report.markup import Markup, element, join
from carpus.study.judgement import Judged, Judgement

LINE = 13.0
"""Height of a line of 12 units."""


def contrast(judgement: Judgement, each: Judged) -> list[str]:
    """The arm, and what it is compared with where that is not the same for all."""
    against = {other.pair.against for other in judgement.judged}
    return [each.pair.arm] if len(against) == 1 else [each.pair.arm, f"– {each.pair.against}"]


def wrapped(name: str, most: int) -> list[str]:
    """`name` in lines of at most `most` characters."""
    return textwrap.wrap(name, most, break_on_hyphens=False) or [name]


def block(lines: Sequence[str], x: float, middle: float, class_: str | None = None) -> Markup:
    """Lines one below the other, around the height `middle`."""
    first = middle + 4 - LINE * (len(lines) - 1) / 2
    return join(*(element("text", told, x=x, y=first + LINE * n, class_=class_) for n, told in enumerate(lines)))
