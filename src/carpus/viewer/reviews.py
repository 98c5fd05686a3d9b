"""Decisions of one session: written beside the data at once, and taken back one after the other."""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from carpus.errors import DataError
from carpus.labels import Classes
from carpus.pseudo import decisions
from carpus.pseudo.decisions import Decision, Decisions, Verdict

_Changes = dict[tuple[str, str], Decision | None]


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
        self._undo: list[_Changes] = []

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
        made = decisions.now(verdict, self.by) if verdict else None
        self._undo.append(decisions.change(self.root, {(image, bone): made for bone in bones}))

    @property
    def can_undo(self) -> bool:
        """Whether this session has a decision to take back."""
        return bool(self._undo)

    def undo(self) -> str | None:
        """Take this session's last decision back; returns the image it was about, None where there is none."""
        if not self._undo:
            return None
        changes = self._undo.pop()
        decisions.change(self.root, changes)
        return next(iter(changes))[0] if changes else None


def marks(known: Decisions, image: str) -> dict[str, Verdict]:
    """The verdicts on the bones of one image."""
    return {bone: each.verdict for (of, bone), each in known.items() if of == image}


def done(known: Decisions, images: Sequence[str]) -> int:
    """How many of some images have a decision on any bone."""
    decided = {image for image, _ in known}
    return sum(image in decided for image in images)
