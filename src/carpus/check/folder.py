"""The cases of a data folder, and what its files' names and places alone show."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from carpus import data
from carpus.check.finding import Finding
from carpus.data import Case
from carpus.errors import DataError
from carpus.formats import folded, images


def read(root: Path) -> tuple[list[tuple[str, Case]], list[Finding]]:
    """The cases with their split, and what is wrong with the folder; what `data.read` refuses is a finding here."""
    listed: list[tuple[str, Case]] = []
    findings: list[Finding] = []
    for split in data.LAYOUT:
        faults: list[DataError] = []
        cases = data.cases(root, split, fault=faults.append)
        findings += [Finding(split, "name", "error", str(fault)) for fault in faults]
        listed += [(split, case) for case in cases]
        findings += _unpaired(root, split, cases)
    return listed, [*findings, *_names([case for _, case in listed])]


def _unpaired(root: Path, split: str, cases: Sequence[Case]) -> Iterator[Finding]:
    """Training images without annotation, and annotations without image."""
    _, annotated = data.LAYOUT[split]
    if split == "train":
        for case in cases:
            if case.annotation is None:
                yield Finding(case.name, "no labels", "warning", f"there is no {annotated}/{case.name}.json")
    names = {case.name for case in cases}
    for path in sorted((root / annotated).rglob("*.json")):
        relative = path.relative_to(root / annotated)
        name = relative.with_suffix("").as_posix()
        if name not in names and not any(images.ignored(part) for part in relative.parts):
            yield Finding(name, "no image", "warning", f"{annotated}/{name}.json has no usable image")


def _names(cases: Sequence[Case]) -> Iterator[Finding]:
    """Base names that are equal up to case or Unicode form: a submission, and some systems, cannot tell them apart."""
    known: dict[str, Case] = {}
    for case in cases:
        base = case.name.rsplit("/", 1)[-1]
        other = known.setdefault(folded(base), case)
        if other is not case:
            message = f"{base} is also the name of {other.name}, up to case; a submission goes by this name alone"
            yield Finding(case.name, "name", "error", message)
