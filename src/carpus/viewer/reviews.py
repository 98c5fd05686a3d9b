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
from carpus.viewer.layers import Entry
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

    def marks(self, entry: Entry) -> dict[str, Verdict]:
        """The verdicts on the bones of an entry."""
        known = self.known.get(self.folder_of(entry), {})
        return {bone: each.verdict for (image, bone), each in known.items() if image == entry.name}

    @cached_property
    def images(self) -> dict[str, frozenset[str]]:
        """The images that have a decision on any bone, by folder."""
        return {name: frozenset(image for image, _ in known) for name, known in self.known.items()}

    def begun(self, entry: Entry) -> bool:
        """Whether an entry has a decision on any bone."""
        return entry.name in self.images.get(self.folder_of(entry), ())

    def progress(self, folder: str, entries: Iterable[Entry]) -> tuple[int, int]:
        """How many of the entries that are decided on in a folder have a decision, and how many these are."""
        of_folder = [entry for entry in entries if self.folder_of(entry) == folder]
        return sum(entry.name in self.images[folder] for entry in of_folder), len(of_folder)
