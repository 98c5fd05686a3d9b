"""Images that can be shown, and what gives their labels: annotations, submissions and runs, each read when it is shown.

An `Entry` is an image that can be shown; a `Layer` gives the label map of an entry, or None where it has none.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from carpus import data, kernels
from carpus.competition import COMPETITION_SIZE
from carpus.data import Case
from carpus.formats import annotations, images, submission
from carpus.labels import Classes, LabelMap

if TYPE_CHECKING:
    from carpus.predict import Ensemble

Kind = Literal["data", "submission", "run"]

_PREDICTIONS_KEPT = 4
_LABELLED_KEPT = 10_000  # a few names an image


@dataclass(frozen=True)
class Entry:
    """One image that can be shown: ``name`` as of a case, ``ID001/image1``; `image` is None where there is only a mask.

    Args:
        name: unique among the entries.
        patient: whose image it is.
        split: "train", "test" or "" where it is in no data folder.
        image: the file.
        given: (H, W) where there is no image, as far as it was said.
    """

    name: str
    patient: str
    split: str
    image: Path | None
    given: tuple[int, int] | None = None

    @property
    def base(self) -> str:
        """What a submission calls it: ``image1.png``."""
        return submission.image_name(self.name)

    @cached_property
    def size(self) -> tuple[int, int]:
        """(H, W) of the image, or that given, or of the competition's images; raises `DataError` for a broken file."""
        return images.size(self.image) if self.image else self.given or COMPETITION_SIZE

    @property
    def assumed(self) -> bool:
        """Whether nobody said how large the image is."""
        return self.image is None and self.given is None


class Layer(Protocol):
    """Label maps by entry."""

    @property
    def path(self) -> Path:
        """Where they come from."""
        ...

    @property
    def kind(self) -> Kind:
        """What they come from."""
        ...

    def has(self, entry: Entry) -> bool:
        """Whether there is a label map of an entry; nothing is decoded for it."""
        ...

    def read(self, entry: Entry) -> LabelMap | None:
        """(H, W) int32 at the image's own size, or None; raises `DataError` where it cannot be read."""
        ...


@dataclass(frozen=True)
class Annotated:
    """The annotations of a data folder."""

    path: Path
    cases: Mapping[str, Case]
    classes: Classes
    kind: Kind = "data"

    def has(self, entry: Entry) -> bool:
        """See `Layer`."""
        case = self.cases.get(entry.name)
        return case is not None and case.annotation is not None

    def read(self, entry: Entry) -> LabelMap | None:
        """See `Layer`."""
        case = self.cases.get(entry.name)
        if case is None or case.annotation is None:
            return None
        return annotations.read(case.annotation, entry.size, self.classes)

    def bones(self, entry: Entry) -> frozenset[str]:
        """The bones that an entry has masks of, read again only where its file has changed; raises `DataError`."""
        case = self.cases.get(entry.name)
        if case is None or case.annotation is None:
            return frozenset()
        return _labelled(case.annotation, case.annotation.stat().st_mtime_ns if case.annotation.exists() else 0)


@dataclass(frozen=True)
class Submitted:
    """A submission CSV, parsed as a whole when the first of its images is shown; sizes are those of the entries.

    Images that are no entry have `size`.
    """

    path: Path
    classes: Classes
    by_base: Mapping[str, Entry]
    size: tuple[int, int] = COMPETITION_SIZE
    kind: Kind = "submission"
    _lock: threading.Lock = field(default_factory=threading.Lock, compare=False)

    def has(self, entry: Entry) -> bool:
        """See `Layer`."""
        return entry.base in self._content()

    def read(self, entry: Entry) -> LabelMap | None:
        """See `Layer`."""
        runs = self._content().get(entry.base)
        return None if runs is None else kernels.decode(runs, entry.size)

    def _content(self) -> submission.Submission:
        with self._lock:
            return self._parsed

    @cached_property
    def _parsed(self) -> submission.Submission:
        def size(name: str) -> tuple[int, int]:
            return self.by_base[name].size if name in self.by_base else self.size

        return submission.read(self.path, self.classes, size)


@dataclass(frozen=True)
class Predicted:
    """A run: its network segments an image when it is shown, and the last few results are kept."""

    path: Path
    device: str = "auto"
    kind: Kind = "run"
    _lock: threading.Lock = field(default_factory=threading.Lock, compare=False)

    def has(self, entry: Entry) -> bool:
        """See `Layer`."""
        return entry.image is not None

    def read(self, entry: Entry) -> LabelMap | None:
        """See `Layer`."""
        if entry.image is None:
            return None
        with self._lock:
            return self._predict(entry.image)

    @cached_property
    def _predict(self) -> Any:
        return lru_cache(_PREDICTIONS_KEPT)(lambda image: self._ensemble(data.read_image(image)))

    @cached_property
    def _ensemble(self) -> "Ensemble":
        from carpus import run
        from carpus.predict import Ensemble

        return Ensemble.of([run.read(self.path)], self.device)


@lru_cache(_LABELLED_KEPT)
def _labelled(path: Path, _changed_ns: int) -> frozenset[str]:
    return annotations.labelled(path)
