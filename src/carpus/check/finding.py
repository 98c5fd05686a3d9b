"""A finding, and findings as JSON and as a table."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rich.console import Group
from rich.table import Table
from rich.text import Text

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

Kind = Literal[
    "unreadable",
    "image",
    "annotation",
    "no labels",
    "no image",
    "name",
    "leak",
    "duplicate",
    "missing",
    "mirrored",
    "swapped",
    "misplaced",
    "area",
    "shape",
    "size",
    "contrast",
    "components",
    "holes",
]

SHOWN = 30
"""Rows of a severity in the printed table; the JSON has all."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or may be.

    Args:
        case: the case ("ID001/image1"), or the patient or split where there is no case.
        kind: what it is. "name" is a file that not every reader would take, for its name or because it is a link out.
        severity: an error makes training or scores wrong; a warning wants a look; a note is only worth knowing.
        message: one sentence for people.
        bone: the class it is about; the first of several.
        value: the number behind it, by kind; None for all others.
            swapped: how much the exchange lessens the squared distance of the hand from the anatomy.
            misplaced: standard deviations from the bone's place, or without a bone how many are not in their place.
            area, shape: standard deviations from the expected area and elongation, larger and longer positive.
            size: the hand's size as a multiple of the usual one.
            contrast: how much brighter the labelled pixels are than their surroundings, in standard deviations.
            mirrored: how much higher the contrast of the mirrored labels is, where the image says so.
            components, holes: how many.
    """

    case: str
    kind: Kind
    severity: Severity
    message: str
    bone: str | None = None
    value: float | None = None


def to_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """Counts by severity and all findings as plain JSON values, numbers to three digits after the point."""
    rounded = [
        asdict(finding) | {"value": None if finding.value is None else round(finding.value, 3)} for finding in findings
    ]
    return {"counts": _counts(findings), "findings": rounded}


def render(findings: Sequence[Finding]) -> Group:
    """A table by severity, at most `SHOWN` rows of each, and the counts; for rich."""
    parts: list[Table | Text] = []
    for severity, colour in zip(SEVERITIES, ("red", "yellow", "dim"), strict=True):
        chosen = [finding for finding in findings if finding.severity == severity]
        if not chosen:
            continue
        table = Table(title=f"{severity}s: {len(chosen)}", title_style=colour, title_justify="left")
        for column in ("Case", "Kind", "Bone", "What"):
            table.add_column(column, overflow="fold")
        for finding in chosen[:SHOWN]:
            # Text, because names from files may hold what rich takes for markup.
            table.add_row(*(Text(cell) for cell in (finding.case, finding.kind, finding.bone or "", finding.message)))
        parts.append(table)
        if len(chosen) > SHOWN:
            more = Counter(finding.kind for finding in chosen[SHOWN:]).most_common()
            kinds = ", ".join(f"{count} {kind}" for kind, count in more)
            parts.append(Text(f"and {len(chosen) - SHOWN} more ({kinds})"))
    counts = [f"{count} {severity}{'' if count == 1 else 's'}" for severity, count in _counts(findings).items()]
    return Group(*parts, Text(", ".join(counts) if findings else "nothing found"))


def _counts(findings: Sequence[Finding]) -> dict[str, int]:
    return {severity: sum(finding.severity == severity for finding in findings) for severity in SEVERITIES}
