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
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from carpus import data, kernels, run
from carpus.data import LAYOUT
from carpus.errors import ConfigError, DataError
from carpus.formats import annotations, files, images, once, probabilities, safe_name, stem, submission, trees
from carpus.formats.sizes import Sizes
from carpus.kernels import Runs, codes
from carpus.labels import BONES, Classes
from carpus.predict import Options, decoded
from carpus.pseudo import provenance, quality, selection, trust
from carpus.pseudo.criteria import MEASURES
from carpus.pseudo.measures import Floats, doubtful, measure, unsure
from carpus.pseudo.quality import Quality
from carpus.pseudo.selection import Rules, Selected
from carpus.pseudo.sources import Prediction, Sources

Item = TypeVar("Item")

_PICTURES = Path(LAYOUT["test"][0]).name
"""The folder of images in the competition's layout, below which an image's folder is its patient."""


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
    found = _images(folder, sources)
    with trees.replacing(out) as temporary:
        rules, measured, tuned_on = _tuned(sources, chosen, told)
        answers = (
            _by_runs(sources, found, temporary if chosen.soft else None) if sources.runs else _by_votes(sources, found)
        )
        predicted = list(_counted("predict", answers, len(found), told))
        selected = selection.select(np.stack([each.measures for each in predicted]), rules)
        writing = _write(temporary, predicted, selected, sources.classes, chosen.band)
        written = list(_counted("write", writing, len(found), told))
        provenance.write(
            temporary,
            classes=sources.classes,
            sources=sources.describe(),
            settings=_settings(chosen),
            rules=rules,
            measured=measured,
            mixed=sources.mixed,
            kept=float(selected.kept.mean()),
            tuned_on=tuned_on,
            hashes={each.case: (each.image, each.annotation) for each in written},
        )
    return _summary(out, sources.classes, selected, predicted, written, None if sources.mixed else measured)


@dataclass(frozen=True)
class _Image:
    """An image to label: where it lies, and its name below DCM."""

    path: Path
    name: str

    @property
    def case(self) -> str:
        """The name of its case."""
        return stem(self.name)

    @property
    def submitted(self) -> str:
        """Its name in a submission."""
        return submission.image_name(self.name)


@dataclass(frozen=True)
class _Predicted:
    """A prediction without its probabilities.

    Args:
        image: of what.
        digest: SHA-256 of its pixels.
        size: its (H, W).
        runs: K runs, the label.
        measures: (K, M).
        unsure: K runs of what is in doubt.
    """

    image: _Image
    digest: str
    size: tuple[int, int]
    runs: list[Runs]
    measures: Floats
    unsure: list[Runs] = field(repr=False)


@dataclass(frozen=True)
class _Written:
    """The SHA-256 of a case's pixels and of its annotation file, and how many pixels are in doubt."""

    case: str
    image: str
    annotation: str
    doubtful: int


def _images(folder: Path, sources: Sources) -> list[_Image]:
    """The images to label: all of the folder, or those that the submissions have."""
    root = folder if folder.is_dir() else folder.parent
    found = [_Image(path, path.relative_to(root).as_posix()) for path in images.find(folder)]
    found = _restricted(found, sources, folder)
    if not found:
        raise DataError(f"{folder}: holds no image to label")
    _refuse_names(found, folder)
    return found


def _restricted(found: list[_Image], sources: Sources, folder: Path) -> list[_Image]:
    """The images that the submissions have, each of which must be there and once; without submissions all."""
    known = sources.names()
    if known is None:
        return found
    found = [image for image in found if image.submitted in known]
    sources.complete([image.submitted for image in found])
    found = list(once(found, str(folder), _name, submission.image_name))
    left = sorted(known - {image.submitted for image in found})
    if left:
        raise DataError(f"{folder}: {left[0]}: there is no such image ({len(left)} such in the submissions)")
    return found


def _name(image: _Image) -> str:
    return image.name


def _refuse_names(found: Sequence[_Image], folder: Path) -> None:
    """Raise a `DataError` for a name that no data folder can have, or two that would be one."""
    for image in once(found, str(folder), _name):
        safe_name(image.name, str(folder))
        if _PICTURES in image.name.split("/"):
            raise DataError(
                f"{folder}: {image.name}: its folder shall be its patient; give the folder {_PICTURES} itself as "
                "--images"
            )


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


def _tuned(
    sources: Sources, chosen: Choices, told: Callable[[str, int, int], object]
) -> tuple[Rules, Quality | None, list[str]]:
    """The rules, the quality out of fold, and the patients that both are from: without runs fixed rules alone."""
    if not sources.runs:
        return selection.fixed(len(sources.classes)), None, []
    student = run.read(chosen.student) if chosen.student else None
    known = quality.out_of_fold(
        sources,
        chosen.truth or Path(sources.runs[0].manifest["data"]["path"]),
        student=student,
        device=chosen.device,
        options=chosen.options,
        progress=lambda done, total: told("out of fold", done, total),
    )
    who = f"the run {student.path.name}" if student else "the first run"
    who += " (which learnt from pseudo-labels itself)" if (student or sources.runs[0]).pseudo_images else ""
    return quality.rules(known), quality.judge(known, who, sources.classes), sorted(set(known.patients))


def _by_runs(sources: Sources, found: Sequence[_Image], soft_root: Path | None) -> Iterator[_Predicted]:
    """What runs, and submissions besides, say of every image; their probabilities go to the data folder `soft_root`."""
    items = ((image, partial(data.read_image, image.path)) for image in found)
    for image, reading in decoded(items):
        pixels = reading.result()
        said = sources.predict(image.submitted, pixels)
        if soft_root and said.probabilities is not None:
            path, content = trust.soft_path(soft_root, image.case), codes.encoded(said.probabilities)
            probabilities.write_codes(path, content, said.size, sources.classes)
        yield _judged(image, pixels, said, sources.classes)


def _by_votes(sources: Sources, found: Sequence[_Image]) -> Iterator[_Predicted]:
    """What submissions say of every image; as no network is at work, many images at a time."""

    def voted(image: _Image) -> _Predicted:
        pixels = images.read(image.path)
        return _judged(image, pixels, sources.predict(image.submitted, pixels), sources.classes)

    with ThreadPoolExecutor(run.threads(), thread_name_prefix="measure") as pool:
        yield from pool.map(voted, found)


def _judged(image: _Image, pixels: NDArray[np.uint8], said: Prediction, classes: Classes) -> _Predicted:
    return _Predicted(image, images.digest_of(pixels), said.size, said.runs, measure(said, classes), unsure(said))


def _write(
    root: Path, predicted: Sequence[_Predicted], selected: Selected, classes: Classes, band: bool
) -> Iterator[_Written]:
    """Write every image, its annotation, and what is to be believed of it."""
    pictures, annotated = (root / part for part in LAYOUT["train"])

    def write(n: int, each: _Predicted) -> _Written:
        case, annotation = each.image.case, annotated / f"{each.image.case}.json"
        _link(each.image.path, pictures / each.image.name)
        parent, _, name = each.image.name.rpartition("/")
        annotations.write(
            annotation, kernels.decode(each.runs, each.size), classes, name, f"/{parent}" if parent else ""
        )
        pixels = doubtful(each.unsure, selected.kept[n]) if band else np.empty((0, 2), np.int64)
        bones = {
            bone: trust.Bone(bool(selected.kept[n, k]), selected.reasons(n, k), _by_name(each.measures[k]))
            for k, bone in enumerate(classes)
        }
        trust.write(root, case, trust.Found(each.digest, bones, pixels))
        return _Written(case, each.digest, files.sha256(annotation), int(pixels[:, 1].sum()))

    with ThreadPoolExecutor(run.threads(), thread_name_prefix="write") as pool:
        yield from pool.map(write, range(len(predicted)), predicted)


def _counted(step: str, items: Iterable[Item], total: int, told: Callable[[str, int, int], object]) -> Iterator[Item]:
    """The same items; tells how many of them are done."""
    for done, item in enumerate(items, start=1):
        yield item
        told(step, done, total)


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


def _settings(chosen: Choices) -> dict[str, Any]:
    """What provenance.json says about the choices."""
    return {
        "band": chosen.band,
        "soft": chosen.soft,
        "calibration": files.sha256(chosen.calibration) if chosen.calibration else None,
        "views": len(chosen.options.views) if chosen.options else 1,
    }


def _summary(
    out: Path,
    classes: Classes,
    selected: Selected,
    predicted: Sequence[_Predicted],
    written: Sequence[_Written],
    measured: Quality | None,
) -> Summary:
    left_out = np.argwhere(~selected.kept).tolist()
    pixels = sum(each.size[0] * each.size[1] for each in predicted)
    return Summary(
        images=len(written),
        bones=selected.kept.size,
        kept=int(selected.kept.sum()),
        reasons=Counter(reason for n, k in left_out for reason in selected.reasons(n, k)),
        by_class=dict(zip(classes, selected.kept.mean(axis=0).tolist(), strict=True)),
        doubtful=sum(each.doubtful for each in written) / pixels,
        quality=measured,
        provenance=provenance.read(out),
    )
