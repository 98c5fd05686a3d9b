"""`carpus pseudo`: predictions to a training folder in the competition's layout, and what is to be believed of it.

::

    OUT/train/DCM/ID040/image9.png              the image, linked or copied
    OUT/train/outputs_json/ID040/image9.json    the whole prediction, pixel for pixel
    OUT/train/pseudo/ID040/image9.json          which bones and pixels count, why not, and all measures (see `trust`)
    OUT/train/pseudo/ID040/image9.npz           with `soft`: the mean probabilities of the runs, in 8 bits
    OUT/provenance.json                         sources, rules, quality out of fold (see `provenance`)

The annotation holds every bone, kept or not: a selection is an opinion about labels, and any other tool, or a person in
the viewer, may have another. Dimension key: N images, K classes.
"""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carpus import data, kernels, run
from carpus.data import LAYOUT
from carpus.errors import ConfigError, DataError
from carpus.formats import annotations, files, images, once, probabilities, safe_name, stem, submission, trees
from carpus.formats.sizes import Sizes
from carpus.kernels import Runs, codes
from carpus.labels import BONES, Classes
from carpus.predict import Options, in_turn
from carpus.pseudo import provenance, quality, selection, trust
from carpus.pseudo.criteria import MEASURES
from carpus.pseudo.measures import Floats, doubtful, measure, unsure
from carpus.pseudo.quality import Quality
from carpus.pseudo.selection import Rules, Selected
from carpus.pseudo.sources import Prediction, Sources


@dataclass(frozen=True)
class Summary:
    """What was made.

    Args:
        images: how many.
        bones: labels in all, and how many of them are kept.
        kept: see `bones`.
        reasons: how often each spoke against a label.
        by_class: class name -> share that is kept.
        doubtful: share of all pixels that are in doubt.
        quality: out of fold; None where it could not be measured, as of a vote with submissions.
        provenance: of the folder.
    """

    images: int
    bones: int
    kept: int
    reasons: Counter[str]
    by_class: dict[str, float]
    doubtful: float
    quality: Quality | None
    provenance: provenance.Provenance


@dataclass(frozen=True)
class Choices:
    """How pseudo-labels are made.

    Args:
        band: whether pixels in doubt are left out.
        soft: whether the mean probabilities are written besides; takes runs alone.
        device, options, calibration: as in `predict`, for runs.
        seen: the patients that made the submissions, and the local weights that runs started from; None where nobody
            knows.
        student: a run that learnt from annotations alone, which the labels are compared with.
        truth: the data folder of the runs; None for where they were trained.
    """

    band: bool = True
    soft: bool = False
    device: str = "auto"
    options: Options | None = None
    calibration: Path | None = None
    seen: Sequence[str] | None = None
    student: Path | None = None
    truth: Path | None = None


def make(
    predictions: Sequence[Path],
    folder: Path,
    out: Path,
    *,
    classes: Classes = BONES,
    choices: Choices | None = None,
    progress: Callable[[str, int, int], object] | None = None,
) -> Summary:
    """Make a folder of pseudo-labelled images, whole or not at all.

    Args:
        predictions: submission CSVs and run folders.
        folder: the images; where there are submissions, those that they have.
        out: the folder to make; new or empty.
        classes: the class list, where there is no run.
        choices: see `Choices`.
        progress: called with (what is done, images done, images in all).

    Raises:
        DataError: a source or image that cannot be read, images that the sources do not have, an `out` in use.
        ConfigError: sources that do not fit together, or choices for runs where there are submissions.
    """
    chosen = choices or Choices()
    _refuse_unheeded(predictions, chosen)
    told = progress or (lambda *_: None)
    sizes = Sizes(folder)
    sources = Sources(
        predictions,
        classes,
        lambda name: sizes.find(name, str(folder))[1],
        device=chosen.device,
        options=chosen.options,
        calibration=chosen.calibration,
        seen=chosen.seen,
    )
    paths = _images(folder, sources)
    with trees.replacing(out) as temporary:
        rules, measured, tuned_on = selection.fixed(len(sources.classes)), None, []
        if sources.runs:
            student = run.read(chosen.student) if chosen.student else None
            root = chosen.truth or Path(sources.runs[0].manifest["data"]["path"])
            known = quality.out_of_fold(
                sources,
                root,
                student=student,
                device=chosen.device,
                options=chosen.options,
                progress=lambda done, total: told("out of fold", done, total),
            )
            rules = quality.rules(known)
            who = f"the run {chosen.student.name}" if chosen.student else "the first run"
            who += " (which learnt from pseudo-labels itself)" if (student or sources.runs[0]).pseudo_images else ""
            measured, tuned_on = quality.judge(known, who, sources.classes), sorted(set(known.patients))
        predicted = list(_predict(sources, paths, temporary if chosen.soft else None, told))
        selected = selection.select(np.stack([each.measures for each in predicted]), rules)
        pixels, digests, annotated = _write(temporary, paths, predicted, selected, sources.classes, chosen.band, told)
        quality_of = "runs_alone" if sources.mixed else "quality"
        content = _content(sources, rules, selected, chosen) | {
            "quality": None,
            quality_of: measured.as_json() if measured else None,
            "tuned_on": tuned_on,
            "images": digests,
            "annotations": annotated,
        }
        files.write_json(temporary / provenance.FILE, content, indent=1)
    return _summary(out, sources.classes, selected, predicted, pixels, None if sources.mixed else measured)


@dataclass(frozen=True)
class _Predicted:
    """A prediction without its probabilities; the image's hash, the measures (K, M), and what is unsure by class."""

    size: tuple[int, int]
    image: str
    runs: list[Runs]
    measures: Floats
    unsure: list[Runs] = field(repr=False)


def _images(folder: Path, sources: Sources) -> dict[str, Path]:
    """The images to label, by name below DCM; of two by one name a `DataError`."""
    found = images.find(folder)
    root = folder if folder.is_dir() else folder.parent
    paths = {path.relative_to(root).as_posix(): path for path in found}
    known = sources.names()
    if known is not None:
        paths = {name: path for name, path in paths.items() if submission.image_name(name) in known}
        sources.complete([submission.image_name(name) for name in paths])
        bases = list(once(list(paths), str(folder), str, submission.image_name))
        left = sorted(known - {submission.image_name(name) for name in bases})
        if left:
            raise DataError(f"{folder}: {left[0]}: there is no such image ({len(left)} such in the submissions)")
    if not paths:
        raise DataError(f"{folder}: holds no image to label")
    for name in once(list(paths), str(folder), str):
        safe_name(name, str(folder))
        if Path(LAYOUT["test"][0]).name in name.split("/"):
            raise DataError(
                f"{folder}: {name}: its folder shall be its patient; give the folder DCM itself as --images"
            )
    return paths


def _refuse_unheeded(predictions: Sequence[Path], chosen: Choices) -> None:
    """Raise a `ConfigError` for choices that submissions, or submissions alone, cannot heed."""
    tables = [path for path in predictions if not path.is_dir()]
    if chosen.soft and tables:
        raise ConfigError(f"--soft: {tables[0]} is no run; a submission has labels, but no probabilities")
    given = {
        "--student": chosen.student,
        "--data": chosen.truth,
        "--calibration": chosen.calibration,
        "--flip": chosen.options and len(chosen.options.views) > 1,
        "--device": chosen.device != "auto",
    }
    unheeded = [name for name, value in given.items() if value]
    if unheeded and len(tables) == len(predictions):
        raise ConfigError(f"{', '.join(unheeded)}: submissions alone have no use for it; give a run folder, too")


def _predict(
    sources: Sources, paths: dict[str, Path], soft: Path | None, told: Callable[[str, int, int], object]
) -> Iterator[_Predicted]:
    """What is said of every image; its probabilities go to the data folder `soft`."""

    def judged(found: Prediction, image: NDArray[np.uint8]) -> _Predicted:
        digest = images.digest_of(image)
        return _Predicted(found.size, digest, found.runs, measure(found, sources.classes), unsure(found))

    def voted(name: str, path: Path) -> _Predicted:
        image = images.read(path)
        return judged(sources.predict(submission.image_name(name), image), image)

    if sources.runs:
        items = ((name, lambda path=path: data.read_image(path)) for name, path in paths.items())
        for done, (name, image) in enumerate(in_turn(lambda pixels: pixels, items), start=1):
            found = sources.predict(submission.image_name(name), image)
            if soft and found.probabilities is not None:
                path, content = trust.soft_path(soft, stem(name)), codes.encoded(found.probabilities)
                probabilities.write_codes(path, content, found.size, sources.classes)
            yield judged(found, image)
            told("predict", done, len(paths))
        return
    with ThreadPoolExecutor(run.threads(), thread_name_prefix="measure") as pool:
        for done, each in enumerate(pool.map(voted, paths, paths.values()), start=1):
            yield each
            told("predict", done, len(paths))


def _write(
    root: Path,
    paths: dict[str, Path],
    predicted: Sequence[_Predicted],
    selected: Selected,
    classes: Classes,
    band: bool,
    told: Callable[[str, int, int], object],
) -> tuple[int, dict[str, str], dict[str, str]]:
    """Write every image's three files; returns the pixels in doubt, and the SHA-256 of images and annotations."""
    pictures, annotated = (root / part for part in LAYOUT["train"])

    def write(item: tuple[int, tuple[str, Path]]) -> tuple[int, str, str]:
        n, (name, path) = item
        each, case = predicted[n], stem(name)
        _link(path, pictures / name)
        parent = case.rpartition("/")[0]
        annotations.write(
            annotated / f"{case}.json",
            kernels.decode(each.runs, each.size),
            classes,
            name.rsplit("/", 1)[-1],
            f"/{parent}" if parent else "",
        )
        pixels = doubtful(each.unsure, selected.kept[n]) if band else np.empty((0, 2), np.int64)
        bones = {
            bone: trust.Bone(bool(selected.kept[n, k]), selected.reasons(n, k), _by_name(each.measures[k]))
            for k, bone in enumerate(classes)
        }
        trust.write(root, case, trust.Found(each.image, bones, pixels))
        return int(pixels[:, 1].sum()), each.image, files.sha256(annotated / f"{case}.json")

    total, digests, written = 0, dict[str, str](), dict[str, str]()
    with ThreadPoolExecutor(run.threads(), thread_name_prefix="write") as pool:
        for case, (count, *hashes) in zip(map(stem, paths), pool.map(write, enumerate(paths.items())), strict=True):
            total += count
            digests[case], written[case] = hashes
            told("write", len(digests), len(paths))
    return total, digests, written


def _link(source: Path, target: Path) -> None:
    """A hard link, which readers that refuse links out of a folder take for the file it is; else a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _by_name(values: NDArray[np.float64]) -> dict[str, float | None]:
    return {
        name: round(float(value), 5) if np.isfinite(value) else None
        for name, value in zip(MEASURES, values, strict=True)
    }


def _content(
    sources: Sources,
    rules: Rules,
    selected: Selected,
    chosen: Choices,
) -> dict[str, Any]:
    return {
        "carpus": metadata.version("carpus"),
        "classes": list(sources.classes.names),
        "sources": sources.describe(),
        "settings": {
            "band": chosen.band,
            "soft": chosen.soft,
            "calibration": files.sha256(chosen.calibration) if chosen.calibration else None,
            "views": len(chosen.options.views) if chosen.options else 1,
        },
        "rules": rules.as_json(sources.classes),
        "tuned": int(rules.tuned.sum()),
        "kept": round(float(selected.kept.mean()), 5),
    }


def _summary(
    out: Path,
    classes: Classes,
    selected: Selected,
    predicted: Sequence[_Predicted],
    pixels: int,
    measured: Quality | None,
) -> Summary:
    left_out = np.argwhere(~selected.kept).tolist()
    reasons = Counter(reason for n, k in left_out for reason in selected.reasons(n, k))
    return Summary(
        len(predicted),
        selected.kept.size,
        int(selected.kept.sum()),
        reasons,
        dict(zip(classes, selected.kept.mean(axis=0).tolist(), strict=True)),
        pixels / sum(each.size[0] * each.size[1] for each in predicted),
        measured,
        provenance.read(out),
    )
