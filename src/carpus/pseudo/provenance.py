"""Where the labels of a folder come from, and who may learn from them: DATA/provenance.json.

::

    {"carpus": "0.1.0", "classes": [...],
     "sources": [{"kind": "run", "path": "...", "sha256": {...}, "seen": ["ID001", ...]}, ...],
     "settings": {...},
     "rules": {"Lunate": {"agreement": 0.91, ..., "quota": 0.95}, ...}, "tuned": 143,
     "quality": {"images": 160, "patients": 80, "dice": 0.951, "kept_dice": 0.957, "kept": 0.93, ...}, "kept": 0.92,
     "tuned_on": ["ID001", ...],
     "images": {"ID040/image9": "<SHA-256 of the pixels>", ...},
     "annotations": {"ID040/image9": "<SHA-256 of the file>", ...}}

`seen` are the patients whose labels made a source, those of the makers of its own pseudo-labels and of the weights it
started from, and so on back, and those that its calibration was fitted on; with a null at the end where there may be
others of whom nobody knows, see `Seen`. A network that learns from such labels has been told about these patients, so
they can no longer judge it. The patients that the rules were tuned on may: of them the labels have a few limits of each
class. `tuned` counts these limits; the last `kept` is of the labels in this folder. Where submissions vote beside runs,
`quality` is null and `runs_alone` is that of the runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carpus import data
from carpus.data import Case
from carpus.errors import DataError, warn
from carpus.formats import files, images
from carpus.labels import Classes

if TYPE_CHECKING:
    from carpus import run
    from carpus.pseudo.quality import Quality
    from carpus.pseudo.selection import Rules

FILE = data.PROVENANCE

FAR = 0.15
"""Shares of labels kept that differ by more are of other labels, or of other images."""


@dataclass(frozen=True)
class Seen:
    """The patients whose labels made something.

    Args:
        patients: those that are known.
        unknown: whether there may be others, of whom nobody knows.
    """

    patients: frozenset[str] = frozenset()
    unknown: bool = False

    @classmethod
    def read(cls, content: Sequence[str | None] | None) -> Seen:
        """What `as_json` wrote; a null alone, as files of before have it, is nobody known and others unknown."""
        names = (None,) if content is None else content
        return cls(frozenset(str(name) for name in names if name is not None), None in names)

    def as_json(self) -> list[str | None]:
        """Sorted names, and a null at the end for the unknown."""
        return [*sorted(self.patients), *([None] if self.unknown else [])]

    def __or__(self, other: Seen) -> Seen:
        return Seen(self.patients | other.patients, self.unknown or other.unknown)

    def told(self, unknown: Sequence[str] | None) -> Seen:
        """The same where somebody says who the unknown are; None says nothing."""
        return Seen(self.patients | frozenset(unknown)) if self.unknown and unknown is not None else self


@dataclass(frozen=True)
class Provenance:
    """What is known about the labels of a folder.

    Args:
        root: the folder.
        content: of its provenance.json.
        seen: the patients that made the labels.
        images: SHA-256 of the pixels (see `images.digest`) by the name of a case.
        annotations: SHA-256 of the annotation file by the name of a case, as it was made.
    """

    root: Path
    content: dict[str, Any]
    seen: Seen
    images: dict[str, str]
    annotations: dict[str, str]

    def advice(self, *, selection: bool = True) -> str:
        """One line on whether the labels are worth learning from, as measured out of fold.

        Args:
            selection: whether only those are learnt from that are kept.
        """
        quality, kept = self.content.get("quality"), self.content["kept"]
        count = f"{kept:.1%} of their bones kept" if selection else "all of their bones count, selected or not"
        if alone := self.content.get("runs_alone"):
            told = f"out of fold the runs alone reach a Dice of {alone['dice']:.4f}; of the vote nobody knows"
        else:
            told = advice(quality, selection=selection)
            if selection and quality and abs(quality["kept"] - kept) > FAR:
                told = f"{told}; the two shares kept lie far apart, so this need not be the quality of these labels"
        held_out = set(self.content.get("tuned_on", ()))
        if held_out and held_out <= self.seen.patients:
            told = f"{told}; every patient that was held out made some of them, so no fold of these can train with them"
        return f"{len(self.images)} pseudo-labelled images, {count}; {told}"


def write(
    root: Path,
    *,
    classes: Classes,
    sources: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    rules: Rules,
    measured: Quality | None,
    mixed: bool,
    kept: float,
    tuned_on: Sequence[str],
    hashes: Mapping[str, tuple[str, str]],
) -> None:
    """Write the provenance of a folder.

    Args:
        root: the folder.
        classes: the class list.
        sources: see `sources.Sources.describe`.
        settings: the choices by which the labels were made.
        rules: by which they were selected.
        measured: their quality out of fold; None where it could not be measured.
        mixed: whether submissions voted, too, so that what was measured is the quality of runs alone.
        kept: share of the labels that is kept.
        tuned_on: the patients that rules and quality are from.
        hashes: SHA-256 of the pixels and of the annotation file by the name of a case.
    """
    content = {
        "carpus": metadata.version("carpus"),
        "classes": list(classes.names),
        "sources": sources,
        "settings": settings,
        "rules": rules.as_json(classes),
        "tuned": int(rules.tuned.sum()),
        "quality": None,
        "runs_alone" if mixed else "quality": measured.as_json() if measured else None,
        "kept": round(kept, 5),
        "tuned_on": tuned_on,
        "images": {case: image for case, (image, _) in hashes.items()},
        "annotations": {case: annotation for case, (_, annotation) in hashes.items()},
    }
    files.write_json(root / FILE, content, indent=1)


def read(root: Path) -> Provenance:
    """The provenance of a folder.

    Raises:
        DataError: it has none, or another file in its place.
    """
    path = root / FILE
    if not path.is_file():
        raise DataError(f"{path}: is missing; expected a folder of `carpus pseudo`, which says where labels come from")
    content = files.read_json(path)
    try:
        known = [Seen.read(source["seen"]) for source in content["sources"]]
        seen = reduce(Seen.__or__, known, Seen(unknown=not known))
        pictures, annotated = (
            {str(name): str(digest) for name, digest in content[part].items()} for part in ("images", "annotations")
        )
        float(content["kept"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{path}: not a provenance of `carpus pseudo` ({error!r})") from error
    return Provenance(root, content, seen, pictures, annotated)


def seen_by(trained: run.Run, unknown: Sequence[str] | None = None) -> Seen:
    """The patients whose labels made a run, those of the makers of its pseudo-labels and first weights included.

    Args:
        trained: the run.
        unknown: the patients to take where the run does not know.
    """
    manifest = trained.manifest
    start = Seen.read(manifest["start"]) if "start" in manifest else taught(trained.settings.model.weights).seen
    labels = Seen.read(manifest["pseudo"]["seen"]) if manifest.get("pseudo") else Seen()
    return (Seen.read(manifest["train_patients"]) | start | labels).told(unknown)


@dataclass(frozen=True)
class Taught:
    """What first weights bring with them: the patients whose labels made them, and the images they learnt from with
    predictions for labels, see `run.pseudo_images`.
    """

    seen: Seen = Seen()
    images: run.Pictures = frozenset()


def taught(weights: str | None) -> Taught:
    """What `model.weights` bring with them: nothing if they are pretrained ones of a hub, else what their run was told.

    Seen is unknown where a file is not that of a finished run.
    """
    from carpus import config, run  # and with them torch, which nobody needs who only reads where labels come from

    path = config.weights_path(weights, Path()) if weights else None
    if path is None:
        return Taught()
    if path.name != run.WEIGHTS:
        return Taught(Seen(unknown=True))
    try:
        trained = run.read(path.parent)
    except DataError:
        return Taught(Seen(unknown=True))
    return Taught(seen_by(trained), trained.pseudo_images)


def refuse_taught(weights: str | None, held_out: Sequence[Case], test: Sequence[Case]) -> Taught:
    """What `model.weights` bring with them, see `taught`; for the cases see `refuse_judges`.

    Raises:
        DataError: labels of a patient who validates, or of an annotated test patient, made the weights.
    """
    found = taught(weights)
    for kind, told in _told(found.seen, held_out, test):
        raise DataError(
            f"model.weights: {weights}: were trained on patient {told[0]} ({len(told)} {kind} patients), so the "
            f"network would know patients that shall judge it; start from a run that held out the same {kind} "
            "patients. If these are others by the same names, start from a copy of the file outside the run's folder"
        )
    return found


def refuse_judges(
    labels: Provenance, pseudo: Sequence[Case], held_out: Sequence[Case], test: Sequence[Case], *, unverified: bool
) -> None:
    """Raise unless the patients that will judge a network have had no part in its pseudo-labels; warn where these have
    changed since they were made.

    Args:
        labels: where the pseudo-labels come from.
        pseudo: the pseudo-labelled cases.
        held_out: the cases that validate.
        test: the annotated test cases. Their images may be among the pseudo-labelled ones, which makes a score on them
            transductive; their annotations may not have made the labels.
        unverified: go on although others may have made the labels of whom nobody knows.

    Raises:
        DataError: naming a patient or an image that the provenance does not know, and how to go on.
    """
    judges = {case.patient for case in held_out}
    there = sorted(judges & {case.patient for case in pseudo})
    patients = {case.name: case.patient for case in held_out}
    patient_of = {digest: patients[name] for name, digest in _digests(held_out).items()}
    digests = _digests(pseudo)
    twins = [patient_of[digest] for digest in digests.values() if digest in patient_of]
    if there or twins:
        who = (there or twins)[0]
        raise DataError(
            f"{labels.root}: holds images of patient {who} ({max(len(there), len(twins))} such), who validates: the "
            "network would learn from them; make pseudo-labels of other images"
        )
    _refuse_strangers(labels, pseudo, digests)
    for kind, told in _told(labels.seen, held_out, test):
        raise DataError(
            f"{labels.root / FILE}: sources: were trained or calibrated on patient {told[0]} ({len(told)} {kind} "
            "patients), so the pseudo-labels tell about patients that shall judge; make them with runs that held "
            f"out the same {'fold' if kind == 'validation' else 'patients'}, without a calibration fitted on them"
        )
    if labels.seen.unknown and not unverified:
        raise DataError(
            f"{labels.root / FILE}: sources: nobody knows which patients made these labels, so the validation "
            "patients may be among them; say it with `carpus pseudo --seen FILE`, or set data.pseudo.unverified=true"
        )


def warn_of_annotated(labels: Provenance, pseudo: Sequence[Case], learn: Sequence[Case]) -> None:
    """Warn where an image is learnt with its annotation and with a prediction besides, in folders of its patient."""
    patients, digests = {case.patient for case in pseudo}, {labels.images[case.name] for case in pseudo}
    found = _digests(case for case in learn if case.patient in patients)
    twice = [name for name, digest in found.items() if digest in digests]
    if twice:
        warn(
            f"{labels.root}: holds {twice[0]}, which is annotated in --data ({len(twice)} such): the network learns "
            "both labels; make pseudo-labels of other images"
        )


def _told(seen: Seen, held_out: Sequence[Case], test: Sequence[Case]) -> Iterator[tuple[str, list[str]]]:
    """The patients that judge and were seen: "validation" or "test", and their names, where there are any."""
    for kind, cases in (("validation", held_out), ("test", test)):
        if told := sorted({case.patient for case in cases} & seen.patients):
            yield kind, told


def _refuse_strangers(labels: Provenance, pseudo: Sequence[Case], digests: dict[str, str]) -> None:
    """Raise if an image is not the one whose labels were made; warn where annotations have changed since."""
    strange = [name for name, digest in digests.items() if labels.images.get(name) != digest]
    if strange:
        raise DataError(
            f"{labels.root}: {strange[0]}: {FILE} does not know this image ({len(strange)} such), so nobody can tell "
            "who made its labels; take it out, or make the folder anew with `carpus pseudo`"
        )
    changed = [
        case.name
        for case in pseudo
        if case.annotation and files.sha256(case.annotation) != labels.annotations.get(case.name)
    ]
    if changed:
        warn(
            f"{labels.root}: the annotation of {changed[0]} is not what `carpus pseudo` wrote ({len(changed)} such); "
            "selection and quality are of labels that were there before"
        )


def _digests(cases: Iterable[Case]) -> dict[str, str]:
    """SHA-256 of the pixels by name: a file saved anew is the same image."""
    from carpus import run

    named = {case.name: case.image for case in cases}
    with ThreadPoolExecutor(run.threads(), thread_name_prefix="digest") as pool:
        return dict(zip(named, pool.map(images.digest, named.values()), strict=True))


def advice(quality: Mapping[str, Any] | None, *, selection: bool = True) -> str:
    """What the quality measured out of fold, see `quality.Quality`, says about learning from the labels.

    Args:
        quality: as in provenance.json.
        selection: whether only those are learnt from that are kept, or all.
    """
    if not quality:
        return "never measured out of fold, so nobody knows whether they help"
    if not selection:
        told = f"out of fold the Dice of all is {quality['dice']:.4f}, {_gain(quality, 'all_')}"
    elif quality["kept_dice"] is None:
        told = f"out of fold no label would be kept (Dice of all: {quality['dice']:.4f}), advised against"
    else:
        told = f"out of fold {quality['kept']:.1%} are kept, whose Dice is {quality['kept_dice']:.4f}, {_gain(quality)}"
    if quality["in_sample"]:
        told = f"{told}; the calibration was fitted on these patients, so the Dice of both is optimistic"
    if poor := quality["poor"]:
        more = f" and {len(poor) - 3} more" if len(poor) > 3 else ""
        told = f"{told}; hardly ever right: {', '.join(poor[:3])}{more}"
    return told


def _gain(quality: Mapping[str, Any], of: str = "") -> str:
    """In words; of all labels, where `of` is "all_", which files of before do not tell."""
    if quality.get(f"{of}gain") is None:
        why = "no patient held out shows it" if f"{of}gain" in quality else "it was not measured"
        return f"unknown how much above {quality['student']}: {why}"
    low, high = quality[f"{of}low"], quality[f"{of}high"]
    ends = ["unknown" if end is None else f"{end:+.4f}" for end in (low, high)]
    told = f"{quality[f'{of}gain']:+.4f} ({' to '.join(ends)}) beside {quality['student']}"
    return told if (low or 0) > 0 else f"{told}: not above it beyond chance, advised against"
