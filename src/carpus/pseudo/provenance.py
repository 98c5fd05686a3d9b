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
started from, and so on back, and those that its calibration was fitted on; null where nobody knows. A network that
learns from such labels has been told about these patients, so they can no longer judge it. The patients that the rules
were tuned on may: of them the labels have a few limits of each class. `tuned` counts these limits; the last `kept` is
of the labels in this folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Provenance:
    """What is known about the labels of a folder.

    Args:
        root: the folder.
        content: of its provenance.json.
        seen: the patients that made the labels; None if nobody knows.
        images: SHA-256 of the pixels (see `images.digest`) by the name of a case.
        annotations: SHA-256 of the annotation file by the name of a case, as it was made.
    """

    root: Path
    content: dict[str, Any]
    seen: frozenset[str] | None
    images: dict[str, str]
    annotations: dict[str, str]

    @property
    def advice(self) -> str:
        """One line on whether the labels are worth learning from, as measured out of fold."""
        quality = self.content.get("quality")
        kept = f"{len(self.images)} pseudo-labelled images, {self.content['kept']:.1%} of their bones kept"
        return f"{kept}; {advice(quality)}"


def write(
    root: Path,
    *,
    classes: Classes,
    sources: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    rules: Rules,
    measured: Quality | None,
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
        "quality": measured.as_json() if measured else None,
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
        known = [source["seen"] for source in content["sources"]]
        seen = None if not known or None in known else frozenset(str(one) for each in known for one in each)
        pictures, annotated = (
            {str(name): str(digest) for name, digest in content[part].items()} for part in ("images", "annotations")
        )
        float(content["kept"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{path}: not a provenance of `carpus pseudo` ({error!r})") from error
    return Provenance(root, content, seen, pictures, annotated)


def seen_by(trained: run.Run, unknown: Sequence[str] | None = None) -> list[str] | None:
    """The patients whose labels made a run, those of the makers of its pseudo-labels and first weights included.

    Args:
        trained: the run.
        unknown: the patients to take where the run does not know.

    Returns:
        Sorted names; None where nobody knows.
    """
    manifest = trained.manifest
    start = manifest["start"] if "start" in manifest else taught(trained.settings.model.weights)
    labels = manifest["pseudo"]["seen"] if manifest.get("pseudo") else []
    found: set[str] = set()
    for part in (manifest["train_patients"], start, labels):
        known = unknown if part is None else part
        if known is None:
            return None
        found.update(known)
    return sorted(found)


def taught(weights: str | None) -> list[str] | None:
    """The patients whose labels made `model.weights`: none for pretrained weights of a hub, those of the run it is of.

    None, for nobody knows, where a file is not that of a finished run.
    """
    from carpus import config, run  # and with them torch, which nobody needs who only reads where labels come from

    path = config.weights_path(weights, Path()) if weights else None
    if path is None:
        return []
    if path.name != run.WEIGHTS:
        return None
    try:
        return seen_by(run.read(path.parent))
    except DataError:
        return None


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
        unverified: go on although nobody knows who made the labels.

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
    if labels.seen is None:
        if not unverified:
            raise DataError(
                f"{labels.root / FILE}: sources: nobody knows which patients made these labels, so the validation "
                "patients may be among them; say it with `carpus pseudo --seen FILE`, or set "
                "data.pseudo.unverified=true"
            )
        return
    for kind, cases in (("validation", held_out), ("test", test)):
        told = sorted({case.patient for case in cases} & labels.seen)
        if told:
            raise DataError(
                f"{labels.root / FILE}: sources: were trained or calibrated on patient {told[0]} ({len(told)} {kind} "
                "patients), so the pseudo-labels tell about patients that shall judge; make them with runs that held "
                f"out the same {'fold' if kind == 'validation' else 'patients'}, without a calibration fitted on them"
            )


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


def advice(quality: dict[str, Any] | None) -> str:
    """What the quality measured out of fold, see `quality.Quality`, says about learning from the labels."""
    if not quality:
        return "never measured out of fold, so nobody knows whether they help"
    ends = ["unknown" if quality[end] is None else f"{quality[end]:+.4f}" for end in ("low", "high")]
    gain = f"{quality['gain']:+.4f} ({' to '.join(ends)})"
    told = f"out of fold their Dice is {quality['kept_dice']:.4f}, {gain} beside {quality['student']}"
    if (quality["low"] or 0) <= 0:
        told = f"{told}: not above it beyond chance, advised against"
    if quality["in_sample"]:
        told = f"{told}; the calibration was fitted on these patients, so the Dice of both is optimistic"
    if poor := quality["poor"]:
        more = f" and {len(poor) - 3} more" if len(poor) > 3 else ""
        told = f"{told}; hardly ever right: {', '.join(poor[:3])}{more}"
    return told
