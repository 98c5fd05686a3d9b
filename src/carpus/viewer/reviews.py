"""Decisions of one session: written beside the data at once, and taken back one after the other."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import get_args

from carpus.errors import DataError
from carpus.labels import Classes
from carpus.pseudo import decisions
from carpus.pseudo.decisions import Changes, Decisions, Verdict
from carpus.viewer.layers import Annotated, Entry
from carpus.viewer.sources import Workspace


@dataclass(frozen=True)
class Undone:
    """What was taken back: the image it was about, and the bones that somebody else has decided on since."""

    image: str
    left: tuple[str, ...]


class Reviews:
    """The decisions of a data folder, and how to undo those of this session.

    Other sessions may decide at the same time; every change is one atomic write, and `read` sees theirs.

    Args:
        root: the data folder.
        classes: its classes.
        by: who decides.
    """

    def __init__(self, root: Path, classes: Classes, by: str = "") -> None:
        self.root, self.by = root, by
        self._classes = classes
        self._undo: list[tuple[Changes, Changes]] = []

    def read(self) -> Decisions:
        """All decisions that are there now; raises `DataError` for a damaged file."""
        return decisions.read(self.root)

    def decide(self, image: str, bones: Sequence[str], verdict: Verdict | None) -> None:
        """Decide on bones of an image alike; None takes their decisions back.

        Raises:
            DataError: an unknown bone or verdict, or a damaged file.
        """
        if verdict is not None and verdict not in get_args(Verdict):
            raise DataError(f"decision: expected accept, reject or ignore, has {verdict!r:.40}")
        for bone in bones:
            self._classes.index(bone)
        one = decisions.now(verdict, self.by) if verdict else None
        made = {(image, bone): one for bone in bones}
        self._undo.append((made, decisions.change(self.root, made)))

    @property
    def can_undo(self) -> bool:
        """Whether this session has a decision to take back."""
        return bool(self._undo)

    def undo(self) -> Undone | None:
        """Take this session's last decision back; None where there is none."""
        if not self._undo:
            return None
        made, before = self._undo[-1]
        left = decisions.undo(self.root, made, before)
        self._undo.pop()
        return Undone(next(iter(made))[0], tuple(bone for _, bone in left))


def folders(workspace: Workspace, layers: Sequence[str]) -> list[str]:
    """The data folders among some layers, pseudo-labelled ones first: those are what people decide about."""
    names = [name for name in layers if name in workspace.folders]
    return sorted(names, key=lambda name: name not in workspace.selections)


def folder_of(workspace: Workspace, names: Iterable[str], entry: Entry) -> str:
    """The data folder in which an entry is decided on: the first that has labels of it; empty where none has."""
    return next((name for name in names if workspace.layers[name].has(entry)), "")


@dataclass(frozen=True)
class Decided:
    """What was decided in the data folders that are shown.

    Args:
        workspace: all that was given.
        known: the decisions by the name of their folder, in the order of `folders`.
    """

    workspace: Workspace
    known: Mapping[str, Decisions]

    def folder_of(self, entry: Entry) -> str:
        """See `folder_of`."""
        return folder_of(self.workspace, self.known, entry)

    def marks(self, entry: Entry) -> Mapping[str, Verdict]:
        """The verdicts on the bones of an entry."""
        return self._by_image.get(self.folder_of(entry), {}).get(entry.name, {})

    @cached_property
    def _by_image(self) -> dict[str, dict[str, dict[str, Verdict]]]:
        found: dict[str, dict[str, dict[str, Verdict]]] = {}
        for folder, known in self.known.items():
            of_folder = found.setdefault(folder, {})
            for (image, bone), each in known.items():
                of_folder.setdefault(image, {})[bone] = each.verdict
        return found

    def open(self, entry: Entry) -> list[str]:
        """The bones of an entry that have a mask where it is decided on, and no decision; raises `DataError`."""
        there = self._labelled(entry) - set(self.marks(entry))
        return [bone for bone in self.workspace.classes if bone in there]

    def count(self, entry: Entry) -> tuple[int, int]:
        """How many bones of an entry have a decision, and how many could have one: those with a mask and those decided.

        Of an image without a decision that is the number of classes: its labels are not read.
        """
        marks, classes = self.marks(entry), len(self.workspace.classes)
        if not marks or len(marks) == classes:
            return len(marks), classes
        try:
            return len(marks), len(self._labelled(entry) | set(marks))
        except DataError:  # the picture says so
            return len(marks), classes

    def waits(self, entry: Entry) -> bool:
        """Whether bones of an entry have no decision, and could have one."""
        decided, count = self.count(entry)
        return bool(self.folder_of(entry)) and decided < count

    def mark(self, entry: Entry) -> str:
        """What was decided: "3/29" as long as bones are open, then the verdict on all of them, or "mixed"."""
        decided, count = self.count(entry)
        if decided < count:
            return f"{decided}/{count}" if decided else ""
        verdicts = set(self.marks(entry).values())
        return verdicts.pop() if len(verdicts) == 1 else "mixed"

    def progress(self, folder: str, entries: Iterable[Entry]) -> tuple[int, int, float]:
        """Of the entries that are decided on in a folder: how many are done, how many there are, the share of bones."""
        counts = [self.count(entry) for entry in entries if self.folder_of(entry) == folder]
        bones = sum(count for _, count in counts)
        done = sum(decided == count for decided, count in counts)
        return done, len(counts), sum(decided for decided, _ in counts) / bones if bones else 0.0

    def _labelled(self, entry: Entry) -> frozenset[str]:
        layer = self.workspace.layers.get(self.folder_of(entry))
        return layer.bones(entry) if isinstance(layer, Annotated) else frozenset()
