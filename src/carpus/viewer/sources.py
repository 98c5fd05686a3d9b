"""What `carpus view` is given: data folders, folders of images, runs, submissions and studies, opened lazily.

An `Entry` is an image that can be shown; a `Layer` gives the label map of an entry, or None where it has none. Listing
reads names only: an image, an annotation or a network is read when it is shown.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from carpus import data, kernels
from carpus.competition import COMPETITION_SIZE
from carpus.data import Case, Patient
from carpus.errors import DataError
from carpus.formats import annotations, files, images, stem, submission
from carpus.labels import BONES, Classes, LabelMap

if TYPE_CHECKING:
    from carpus.predict import Ensemble

Kind = Literal["data", "submission", "run"]

_RUN_FILES = ("manifest.json", "state/begun.json")
_STUDY_FILE = "study.yaml"
_PREDICTIONS_KEPT = 4


@dataclass(frozen=True)
class Entry:
    """One image that can be shown: ``name`` as of a case, ``ID001/image1``; `image` is None where there is only a mask.

    Args:
        name: unique among the entries.
        patient: whose image it is.
        split: "train", "test" or "" where it is in no data folder.
        image: the file.
    """

    name: str
    patient: str
    split: str
    image: Path | None

    @property
    def base(self) -> str:
        """What a submission calls it: ``image1.png``."""
        return submission.image_name(self.name)

    @cached_property
    def size(self) -> tuple[int, int]:
        """(H, W) of the image, or of the competition's where there is none; raises `DataError` for a broken file."""
        return images.size(self.image) if self.image else COMPETITION_SIZE


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


@dataclass(frozen=True)
class Submitted:
    """A submission CSV, parsed as a whole when the first of its images is shown; sizes are those of the entries."""

    path: Path
    classes: Classes
    by_base: Mapping[str, Entry]
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
            return self.by_base[name].size if name in self.by_base else COMPETITION_SIZE

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


@dataclass(frozen=True)
class Workspace:
    """All that was given, together.

    Args:
        entries: the images, by name, training before test; each once.
        layers: by a name that is unique and short; annotations first.
        runs: run folders by the same names.
        studies: study folders by name.
        folders: data folders by name.
        classes: of every layer.
        faults: what listing the folders found wrong; see `carpus check`.
    """

    entries: tuple[Entry, ...]
    layers: Mapping[str, Layer]
    runs: Mapping[str, Path]
    studies: Mapping[str, Path]
    folders: Mapping[str, Path]
    classes: Classes
    faults: tuple[str, ...] = ()

    @cached_property
    def place(self) -> dict[str, int]:
        """The place of an entry in `entries`, by name."""
        return {entry.name: n for n, entry in enumerate(self.entries)}

    @cached_property
    def patients(self) -> dict[str, Patient]:
        """What the data folders' metadata say."""
        known: dict[str, Patient] = {}
        for root in reversed(list(self.folders.values())):
            known |= data.metadata(root)
        return known

    def of_patient(self, entry: Entry) -> list[int]:
        """The places of a patient's entries, in order."""
        return self._by_patient[entry.patient]

    @cached_property
    def _by_patient(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for n, entry in enumerate(self.entries):
            found.setdefault(entry.patient, []).append(n)
        return found


def kind_of(path: Path) -> Literal["data", "submission", "run", "study", "images"]:
    """What a path is, by what it holds.

    Raises:
        DataError: nothing is there, or nothing that can be shown.
    """
    if path.is_file() and path.suffix.lower() == ".csv":
        return "submission"
    if path.is_dir():
        if any((path / name).is_file() for name in _RUN_FILES):
            return "run"
        if (path / _STUDY_FILE).is_file():
            return "study"
        if any((path / pictures).is_dir() for pictures, _ in data.LAYOUT.values()):
            return "data"
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder")
    if images.find(path):
        return "images"
    raise DataError(
        f"{path}: holds nothing to show; expected a data folder, images, a run, a submission CSV or a study"
    )


def open_paths(paths: Sequence[Path | str], classes: Classes | None = None, device: str = "auto") -> Workspace:
    """List what there is; nothing is decoded.

    Args:
        paths: in any order. Of two data folders that hold a case of the same name the first gives the image.
        classes: the class list; None is that of the first run, or the 29 bones.
        device: for runs.

    Raises:
        DataError: a path that is nothing to show, two of them the same, or runs of different classes.
    """
    given = [(kind_of(Path(path)), Path(path)) for path in paths]
    names = _names([path for _, path in given])
    by_kind = {kind: {names[p]: p for k, p in given if k == kind} for kind, _ in given}
    runs = by_kind.get("run", {})
    classes = _classes(runs, classes)
    entries: dict[str, Entry] = {}
    layers: dict[str, Layer] = {}
    faults: list[str] = []
    for name, root in by_kind.get("data", {}).items():
        cases: dict[str, Case] = {}
        for split in data.LAYOUT:
            for case in data.cases(root, split, fault=lambda error: faults.append(str(error))):
                cases.setdefault(case.name, case)
                entries.setdefault(case.name, Entry(case.name, case.patient, split, case.image))
        if not cases:
            raise DataError(f"{root}: no images below train/DCM or test/DCM; is this the folder that holds train/?")
        layers[name] = Annotated(root, cases, classes)
    for root in by_kind.get("images", {}).values():
        for image in images.find(root, fault=lambda error: faults.append(str(error))):
            name = stem(image.relative_to(root if root.is_dir() else root.parent).as_posix())
            entries.setdefault(name, Entry(name, name.rsplit("/", 1)[0], "", image))
    if not entries:
        # Masks without images are better than nothing: they are shown on black.
        for path in by_kind.get("submission", {}).values():
            for base in submission.read(path, classes, COMPETITION_SIZE):
                name = stem(base)
                entries.setdefault(name, Entry(name, name, "", None))
    by_base = {entry.base: entry for entry in reversed(entries.values())}
    layers |= {name: Submitted(path, classes, by_base) for name, path in by_kind.get("submission", {}).items()}
    layers |= {name: Predicted(path, device) for name, path in runs.items()}
    return Workspace(
        tuple(entries.values()),
        layers,
        runs,
        by_kind.get("study", {}),
        by_kind.get("data", {}),
        classes,
        tuple(faults),
    )


def _classes(runs: Mapping[str, Path], given: Classes | None) -> Classes:
    found = given
    for path in runs.values():
        manifest = path / _RUN_FILES[0]
        if not manifest.is_file():
            continue
        content = files.read_json(manifest)
        try:
            of_run = Classes(tuple(content["classes"]), {name: tuple(of) for name, of in content["groups"].items()})
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{manifest}: not a manifest of carpus train ({error!r})") from error
        if found is not None and of_run != found:
            raise DataError(f"{path}: has other classes than the rest; show it alone, or give its list with --classes")
        found = of_run
    return found or BONES


def _names(paths: Sequence[Path]) -> dict[Path, str]:
    """A short name for every path: its own, with as many folders before it as tell it from the others."""
    whole = [path.resolve() for path in paths]
    for n, path in enumerate(whole):
        if path in whole[:n]:
            raise DataError(f"{paths[n]}: is given twice")
    names: dict[Path, str] = {}
    for path, resolved in zip(paths, whole, strict=True):
        parts = resolved.parts
        length = next(
            length
            for length in range(1, len(parts) + 1)
            if sum(other.parts[-length:] == parts[-length:] for other in whole) == 1
        )
        names[path] = "/".join(parts[-length:])
    return names
