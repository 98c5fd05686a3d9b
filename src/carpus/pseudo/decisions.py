"""What people decided about labels, bone by bone: DATA/decisions.csv, kept beside the data and honoured by training.

::

    image,bone,decision,by,at
    ID040/image1661319116107,Lunate,accept,kim,2025-03-01T09:30:00+00:00
    ID040/image1661319116107,Pisiform,ignore,,

`image` is the path below DCM without suffix, as `data.Case.name` has it; `by` and `at` may be empty or missing. A bone
without a row is as the selection of `carpus pseudo` left it, or as it was drawn.
"""

import csv
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, cast, get_args

from carpus.errors import DataError
from carpus.formats import files
from carpus.formats.cells import escaped, table

Verdict = Literal["accept", "reject", "ignore"]
"""accept: the label counts, whatever a selection said of it. ignore: it does not count in the loss, but stays where it
is. reject: the label is wrong; its mask is taken out, and the bone does not count in the loss, since nobody knows where
it is."""

FILE = "decisions.csv"
COLUMNS = ("image", "bone", "decision")
_OPTIONAL = ("by", "at")


@dataclass(frozen=True)
class Decision:
    """A verdict on one bone of one image, by whom, and when in ISO 8601; both may be empty."""

    verdict: Verdict
    by: str = ""
    at: str = ""


Decisions = dict[tuple[str, str], Decision]
"""By (image, bone): the name of a case and that of a class."""


def read(root: Path | str) -> Decisions:
    """The decisions of a data folder; none where there is no file.

    Raises:
        DataError: naming the file and line: no readable table, another verdict, or a bone decided twice.
    """
    path = Path(root) / FILE
    if not path.exists():
        return {}
    found: Decisions = {}
    for line, (image, bone, verdict, by, at) in table(path, COLUMNS, _OPTIONAL):
        if verdict not in get_args(Verdict):
            raise DataError(f"{path}: line {line}: decision: expected accept, reject or ignore, has {verdict!r:.40}")
        if not image or not bone:
            raise DataError(f"{path}: line {line}: {'bone' if image else 'image'}: is empty")
        if (image, bone) in found:
            raise DataError(f"{path}: line {line}: a second decision on {bone} of {image}")
        found[image, bone] = Decision(cast(Verdict, verdict), by, at)
    return found


def write(root: Path | str, decisions: Mapping[tuple[str, str], Decision]) -> None:
    """Write all decisions of a data folder in place of those that are there, whole or not at all, sorted by image.

    Args:
        root: the data folder.
        decisions: by (image, bone); those of one image stay in their order.
    """
    with files.atomic(Path(root) / FILE) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow((*COLUMNS, *_OPTIONAL))
        for (image, bone), each in sorted(decisions.items(), key=lambda item: item[0][0]):
            writer.writerow(map(escaped, (image, bone, each.verdict, each.by, each.at)))


def decide(root: Path | str, image: str, bone: str, verdict: Verdict | None, by: str = "") -> Decision | None:
    """Decide on one bone, or take the decision back; other processes may decide at the same time.

    Args:
        root: the data folder.
        image: the name of a case, as "ID040/image1661319116107".
        bone: the name of a class.
        verdict: None takes the decision back.
        by: who decides.

    Returns:
        What was decided before, None for nothing.

    Raises:
        DataError: as `read`.
    """
    return change(root, {(image, bone): now(verdict, by) if verdict else None})[image, bone]


def now(verdict: Verdict, by: str = "") -> Decision:
    """A decision made at this moment."""
    return Decision(verdict, by, datetime.now(UTC).isoformat(timespec="seconds"))


Changes = Mapping[tuple[str, str], Decision | None]
"""By (image, bone): what is decided; None takes a decision back."""


def change(root: Path | str, decisions: Changes) -> dict[tuple[str, str], Decision | None]:
    """Put decisions beside those that are there, in one write, see `decide`.

    Args:
        root: the data folder.
        decisions: by (image, bone); None takes one back.

    Returns:
        What was decided on each of these before: see `undo`.
    """
    with _locked(Path(root)):
        return _change(Path(root), read(root), decisions)


def undo(root: Path | str, made: Changes, before: Changes) -> list[tuple[str, str]]:
    """Take a `change` back where nobody has decided anew since; other processes may decide at the same time.

    Args:
        root: the data folder.
        made: what `change` was given.
        before: what it returned.

    Returns:
        The (image, bone) on which somebody decided anew: these are left.
    """
    with _locked(Path(root)):
        known = read(root)
        ours = {key: each for key, each in before.items() if known.get(key) == made[key]}
        _change(Path(root), known, ours)
    return [key for key in before if key not in ours]


def _change(root: Path, known: Decisions, decisions: Changes) -> dict[tuple[str, str], Decision | None]:
    before = {key: known.get(key) for key in decisions}
    left = {key: each for key, each in known.items() if key not in decisions}
    left |= {key: each for key, each in decisions.items() if each}
    if left:
        write(root, left)
    elif known:
        # A table without rows would say the same, but the folder would no longer be what it was before.
        (root / FILE).unlink()
    return before


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Hold the file of decisions against others; the lock is the folder's own, so that no file is left."""
    if os.name == "nt":  # a folder cannot be opened there: the last to write wins
        yield
        return
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    handle = os.open(root, os.O_RDONLY)
    try:
        files.hold(handle, wait=True)
        yield
    finally:
        os.close(handle)
