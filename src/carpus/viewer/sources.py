"""What `carpus view` is given: data folders, folders of images, runs, submissions, studies and recipes.

Listing reads names only: an image, an annotation or a network is read when it is shown, see `layers`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Literal

from carpus import data
from carpus.competition import COMPETITION_SIZE
from carpus.data import Case
from carpus.errors import REFUSALS, DataError
from carpus.formats import files, images, metadata, stem, submission
from carpus.formats.metadata import Patient
from carpus.labels import BONES, Classes
from carpus.pseudo import trust
from carpus.viewer.layers import Annotated, Entry, Layer, Predicted, Submitted
from carpus.viewer.selections import Selection

_RUN_FILES = ("manifest.json", "state/begun.json")
_STUDY_FILE = "study.yaml"


@dataclass(frozen=True)
class Workspace:
    """All that was given, together.

    Args:
        entries: the images, by name, training before test; each once.
        layers: by a name that is unique and short; annotations first.
        runs: run folders by the same names.
        studies: study folders by name.
        folders: data folders by name.
        selections: what `carpus pseudo` found about the labels of those that it made, by the same names.
        given: recipe files by name.
        classes: of every layer.
        asked: the names of all that was given, in its order.
        faults: what listing the folders found wrong; see `carpus check`.
    """

    entries: tuple[Entry, ...]
    layers: Mapping[str, Layer]
    runs: Mapping[str, Path]
    studies: Mapping[str, Path]
    folders: Mapping[str, Path]
    selections: Mapping[str, Selection]
    given: Mapping[str, Path]
    classes: Classes
    asked: tuple[str, ...]
    faults: tuple[str, ...] = ()

    @property
    def recipes(self) -> dict[str, Path]:
        """The recipes whose augmentation can be shown: those given, those of the runs, those that come with Carpus."""
        from carpus import config

        of_runs = {name: path / "config.yaml" for name, path in self.runs.items()}
        own = {path.stem: path for path in sorted(config.RECIPES.glob("*.yaml"))}
        return {**own, **self.given, **{name: path for name, path in of_runs.items() if path.is_file()}}

    @cached_property
    def place(self) -> dict[str, int]:
        """The place of an entry in `entries`, by name."""
        return {entry.name: n for n, entry in enumerate(self.entries)}

    @cached_property
    def patients(self) -> dict[str, Patient]:
        """What the data folders' metadata say."""
        known: dict[str, Patient] = {}
        for root in reversed(list(self.folders.values())):
            known |= metadata.read(root)
        return known

    def compared(self) -> tuple[str, str]:
        """The layers to begin with: the first two given that label the same image, the annotations of the two as truth.

        Where no two do, the first two; empty names for what is not there.
        """
        given = [name for name in self.asked if name in self.layers]
        pairs = combinations(given, 2) if len(given) > 2 else []
        pair = next((pair for pair in pairs if self._meet(*pair)), given[:2])
        first, second, *_ = *sorted(pair, key=lambda name: self.layers[name].kind != "data"), "", ""
        return first, second

    def _meet(self, first: str, second: str) -> bool:
        """Whether two layers label the same image, or one cannot be read, which is told where it is shown."""
        try:
            return any(self.layers[first].has(entry) and self.layers[second].has(entry) for entry in self.entries)
        except REFUSALS:
            return True

    def of_patient(self, entry: Entry) -> list[int]:
        """The places of a patient's entries, in order."""
        return self._by_patient[entry.patient]

    @cached_property
    def _by_patient(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for n, entry in enumerate(self.entries):
            found.setdefault(entry.patient, []).append(n)
        return found


def kind_of(path: Path) -> Literal["data", "submission", "run", "study", "images", "recipe"]:
    """What a path is, by what it holds.

    Raises:
        DataError: nothing is there, or nothing that can be shown.
        ConfigError: a YAML file that is no recipe.
    """
    if path.is_file():
        suffix = path.suffix.lower()
        if suffix == ".csv":
            return "submission"
        if suffix in (".yaml", ".yml"):
            from carpus import config

            config.load([path])
            return "recipe"
        if suffix == ".json":
            raise DataError(
                f"{path}: labels in JSON are shown once they are a data folder or a submission: "
                f"carpus convert {path} {path.with_suffix('.csv').name}"
            )
        images.size(path)
        return "images"
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
        f"{path}: holds nothing to show; expected a data folder, images, a run, a submission CSV, a study or a recipe"
    )


def open_paths(
    paths: Sequence[Path | str],
    classes: Classes | None = None,
    device: str = "auto",
    size: tuple[int, int] | None = None,
) -> Workspace:
    """List what there is; nothing is decoded.

    Args:
        paths: in any order. Of two data folders that hold a case of the same name the first gives the image.
        classes: the class list; None is that of the first run, or the 29 bones.
        device: for runs.
        size: (H, W) of what a submission labels, where no image is given; None is the competition's.

    Raises:
        DataError: a path that is nothing to show, two of them the same, or runs of different classes.
        ConfigError: a YAML file that is no recipe.
    """
    given = [(kind_of(Path(path)), Path(path)) for path in paths]
    names = _names([path for _, path in given])
    if all(kind == "recipe" for kind, _ in given):
        raise DataError(f"{paths[0]}: is a recipe; give images to try it on, too: carpus view DATA {paths[0]}")
    by_kind = {kind: {names[p]: p for k, p in given if k == kind} for kind, _ in given}
    runs = by_kind.get("run", {})
    classes = _classes(runs, classes)
    entries: dict[str, Entry] = {}
    layers: dict[str, Layer] = {}
    faults: list[str] = []

    def tell(fault: DataError) -> None:
        faults.append(str(fault))

    folders = by_kind.get("data", {})
    for name, root in folders.items():
        cases: dict[str, Case] = {}
        before = len(faults)
        for split in data.LAYOUT:
            for case in data.cases(root, split, fault=tell):
                cases.setdefault(case.name, case)
                entries.setdefault(case.name, Entry(case.name, case.patient, split, case.image))
        if not cases:
            raise DataError(
                faults[before]
                if len(faults) > before
                else f"{root}: no images below train/DCM or test/DCM; is this the folder that holds train/?"
            )
        layers[name] = Annotated(root, cases, classes)
    for root in by_kind.get("images", {}).values():
        above = root if root.is_dir() else root.parent
        name_of = {image: stem(image.relative_to(above).as_posix()) for image in images.find(root, fault=tell)}
        for image in images.told_apart(list(name_of), name_of.__getitem__, tell):
            name = name_of[image]
            entries.setdefault(name, Entry(name, name.rsplit("/", 1)[0], "", image))
    if not entries:
        # Masks without images are better than nothing: they are shown on black.
        for path in by_kind.get("submission", {}).values():
            for base in submission.read(path, classes, size or COMPETITION_SIZE):
                name = stem(base)
                entries.setdefault(name, Entry(name, name, "", None, size))
    by_base = {entry.base: entry for entry in reversed(entries.values())}
    submitted = by_kind.get("submission", {})
    layers |= {name: Submitted(path, classes, by_base, size or COMPETITION_SIZE) for name, path in submitted.items()}
    layers |= {name: Predicted(path, device) for name, path in runs.items()}
    return Workspace(
        tuple(entries.values()),
        layers,
        runs,
        by_kind.get("study", {}),
        folders,
        {name: Selection(root, classes) for name, root in folders.items() if (root / trust.FOLDER).is_dir()},
        by_kind.get("recipe", {}),
        classes,
        tuple(names[path] for _, path in given),
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
