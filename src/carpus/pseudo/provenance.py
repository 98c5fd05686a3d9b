"""Where the labels of a folder come from, and who may learn from them: DATA/provenance.json.

::

    {"carpus": "0.1.0", "classes": [...], "settings": {...},
     "sources": [{"kind": "run", "path": "...", "sha256": {...}, "seen": ["ID001", ...]}, ...],
     "rules": {"Lunate": {"agreement": 0.91, ..., "quota": 0.95}, ...},
     "quality": {"images": 160, "patients": 80, "dice": 0.951, "kept_dice": 0.957, "kept": 0.93, ...},
     "images": {"ID040/image9": "<SHA-256>", ...}}

`seen` are the patients whose labels made a source, and those of the makers of its own pseudo-labels, and so on back;
null where nobody knows. A network that learns from such labels has been told about these patients, so they can no
longer judge it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carpus.data import Case
from carpus.errors import DataError
from carpus.formats import files

FILE = "provenance.json"


@dataclass(frozen=True)
class Provenance:
    """What is known about the labels of a folder.

    Args:
        root: the folder.
        content: of its provenance.json.
        seen: the patients that made the labels; None if nobody knows.
        images: SHA-256 by the name of a case.
    """

    root: Path
    content: dict[str, Any]
    seen: frozenset[str] | None
    images: dict[str, str]

    @property
    def advice(self) -> str:
        """One line on whether the labels are worth learning from, as measured out of fold."""
        quality = self.content.get("quality")
        kept = f"{len(self.images)} pseudo-labelled images, {self.content['kept']:.1%} of their bones kept"
        return f"{kept}; {advice(quality)}"


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
        images = {str(name): str(digest) for name, digest in content["images"].items()}
        float(content["kept"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{path}: not a provenance of `carpus pseudo` ({error!r})") from error
    return Provenance(root, content, seen, images)


def refuse_judges(
    labels: Provenance, pseudo: Sequence[Case], held_out: Sequence[Case], test: Sequence[Case], *, unverified: bool
) -> None:
    """Raise unless the patients that will judge a network have had no part in its pseudo-labels.

    Args:
        labels: where the pseudo-labels come from.
        pseudo: the pseudo-labelled cases.
        held_out: the cases that validate.
        test: the annotated test cases. Their images may be among the pseudo-labelled ones, which makes a score on them
            transductive; their annotations may not have made the labels.
        unverified: go on although nobody knows who made the labels.

    Raises:
        DataError: naming a patient and how to go on.
    """
    judges = {case.patient for case in held_out}
    there = sorted(judges & {case.patient for case in pseudo})
    patient_of = {files.sha256(case.image): case.patient for case in held_out}
    twins = [patient_of[digest] for case in pseudo if (digest := files.sha256(case.image)) in patient_of]
    if there or twins:
        who = (there or twins)[0]
        raise DataError(
            f"{labels.root}: holds images of patient {who} ({max(len(there), len(twins))} such), who validates: the "
            "network would learn from them; make pseudo-labels of other images"
        )
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
                f"{labels.root / FILE}: sources: were trained on patient {told[0]} ({len(told)} {kind} patients), so "
                "the pseudo-labels tell about patients that shall judge; make them with runs that held out the same "
                f"{'fold' if kind == 'validation' else 'patients'}"
            )


def advice(quality: dict[str, Any] | None) -> str:
    """What the quality measured out of fold, see `quality.Quality`, says about learning from the labels."""
    if not quality:
        return "never measured out of fold, so nobody knows whether they help"
    ends = ["unknown" if quality[end] is None else f"{quality[end]:+.4f}" for end in ("low", "high")]
    gain = f"{quality['gain']:+.4f} ({' to '.join(ends)})"
    told = f"out of fold their Dice is {quality['kept_dice']:.4f}, {gain} beside {quality['student']}"
    return told if (quality["low"] or 0) > 0 else f"{told}: not above it beyond chance, advised against"
