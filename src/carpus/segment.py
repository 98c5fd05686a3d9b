"""A folder of images to labels in files: decoding, networks and writing at the same time; goes on where it stopped.

Finished images wait in a journal beside the target (`OUT.partial`), so memory does not grow with their number, and the
target itself appears whole, at the end.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from carpus import data, journal, kernels, run
from carpus.beside import Beside, require_outside, require_room, write_overlay
from carpus.errors import ConfigError, DataError
from carpus.formats import Labelled, convert, dicomseg, images, probabilities, submission
from carpus.kernels import Runs
from carpus.labels import Classes
from carpus.postprocess import Calibration
from carpus.predict import Ensemble, Options, decoded


@dataclass
class Summary:
    """What a prediction did.

    Args:
        images: how many were predicted, now or before.
        continued: how many of them an interrupted prediction had left.
        faults: what is wrong with those that could not be read; each names its file.
    """

    images: int = 0
    continued: int = 0
    faults: list[DataError] = field(default_factory=list)


def segment(
    runs: Sequence[run.Run],
    source: Path,
    target: Path,
    *,
    device: str = "auto",
    options: Options | None = None,
    calibration: Calibration | None = None,
    beside: Beside | None = None,
    target_format: str | None = None,
    strict: bool = False,
    by: Callable[..., None] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Summary:
    """Predict every image below `source` and write the labels to `target`, whole or not at all.

    Stopped at any moment, the same call goes on where it was: what is finished is in ``target.partial``, which goes
    when the target is there. An image counts as the same if its size in bytes and time of change are when a call
    begins; what was predicted in a call is written, even if the file has been changed or removed since.

    Args:
        runs: finished runs of the same classes; several are an ensemble.
        source: an image file or a folder of them.
        target: a ``.csv`` becomes a submission, a ``.json`` COCO, a folder annotations; see `convert.write`.
        device: auto, cpu or cuda.
        options: tiles, views, blend and weights.
        calibration: thresholds, temperatures and repairs of shape.
        beside: overlays and probabilities.
        target_format: one of the formats of `carpus convert`, where `target` does not tell.
        strict: stop at the first image that cannot be read instead of leaving it out.
        by: what looks at the images: `work`, or what takes the same, as `cluster.work` does.
        progress: called with (images done, images in all).

    Returns:
        A `Summary`; look at its `faults`.

    Raises:
        DataError: no image there, none that can be read, with `strict` one that cannot; another prediction's leftovers.
        ConfigError: runs or options that do not fit together.
    """
    options, beside = options or Options(), beside or Beside()
    if not runs:
        raise ConfigError("predict: expected at least one run")
    # Whoever looks at the images may have another working directory.
    there = [replace(each, path=each.path.absolute()) for each in runs]
    return segment_with(
        partial(Ensemble.of, there, device, options, calibration=calibration),
        runs[0].classes,
        source,
        target,
        identity=_identity(runs, options, calibration, beside),
        beside=beside,
        target_format=target_format,
        strict=strict,
        by=by,
        progress=progress,
    )


def segment_with(
    make: Callable[[], Ensemble],
    classes: Classes,
    source: Path,
    target: Path,
    *,
    identity: str,
    beside: Beside | None = None,
    target_format: str | None = None,
    strict: bool = False,
    by: Callable[..., None] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Summary:
    """`segment` with an ensemble of one's own.

    Args:
        make: gives the ensemble; called if any image is left to predict.
        classes: its class list.
        identity: what tells this prediction from others, for the journal: the same networks and settings, the same
            text.

    The other arguments, returns and raises as `segment`.
    """
    beside, summary = beside or Beside(), Summary()

    def left_out(fault: DataError) -> None:
        if strict:
            raise fault
        summary.faults.append(fault)

    found = images.find(source, fault=left_out)
    if not found:
        nothing = DataError(f"{source}: no image there; expected PNG, JPEG, BMP, TIFF or DICOM files")
        raise next(iter(summary.faults), nothing)
    root = source if source.is_dir() else source.parent
    chosen = convert.format_of(target, target_format)
    naming = convert.naming(chosen)
    found = images.told_apart(found, lambda path: naming(path.relative_to(root).as_posix()), left_out)
    paths = {path.relative_to(root).as_posix(): path for path in found}
    convert.ready(target, classes, target_format=chosen, names=list(paths))
    if not convert.is_file(chosen):
        require_outside(target, source)
    require_room(beside, target, source, paths)
    with journal.opened(target.with_name(f"{target.name}.partial"), identity) as done:
        todo: dict[str, Path] = {}
        for name, path in paths.items():
            try:
                known = done.holds(name, _stamp(path))
            except DataError:  # gone since it was found: whoever looks at it says so
                known = False
            if not known:
                done.forget(name)
                todo[name] = path
        summary.continued = len(paths) - len(todo)
        if progress:
            progress(summary.continued, len(paths))
        if todo:
            told = (lambda count: progress(summary.continued + count, len(paths))) if progress else None
            refuse = partial(dicomseg.require_source, classes=classes) if chosen == "dicomseg" else None
            (by or work)(make, todo, done, beside, left_out, refuse, told)
        # Not by their stamps: what was seen is told, whatever became of the file in the meantime.
        whole = {name: path for name, path in paths.items() if name in done}
        if not whole:
            raise summary.faults[0]
        summary.images = _write(target, chosen, done, whole, classes, left_out)
    return summary


class Finished(Protocol):
    """Where images go that are done: a journal, or what stands for one."""

    def add(self, name: str, stamp: str, size: tuple[int, int], runs: Sequence[Runs], /) -> None:
        """See `journal.Journal.add`."""
        ...


def work(
    make: Callable[[], Ensemble],
    todo: dict[str, Path],
    done: Finished,
    beside: Beside,
    left_out: Callable[[DataError], None],
    refuse: Callable[[Path], object] | None,
    told: Callable[[int], object] | None,
) -> None:
    """Look at images, which are decoded ahead and finished behind the networks, a few at a time.

    Args:
        make: gives the ensemble that looks at them.
        todo: files by name.
        done: takes what was found.
        beside: see `segment`.
        left_out: called with what is wrong with an image.
        refuse: raises a DataError for a file that the target cannot take.
        told: called with how many are done or left out.
    """

    ensemble = make()

    def load(path: Path) -> tuple[NDArray[np.uint8], str]:
        stamp = _stamp(path)  # before its pixels: whoever goes on from here predicts a file that changed in between
        pixels = data.read_image(path)  # first: what is no image, no segmentation can refer to either
        if refuse:
            refuse(path)
        return pixels, stamp

    with ThreadPoolExecutor(1, thread_name_prefix="finish") as pool:
        behind: Future[None] | None = None
        items = ((name, lambda path=path: load(path)) for name, path in todo.items())
        for count, (name, image) in enumerate(decoded(items, ahead=2), start=1):
            try:
                pixels, stamp = image.result()
            except DataError as error:
                left_out(error)
            else:
                looked = ensemble.look(pixels)
                if behind is not None:
                    behind.result()
                behind = pool.submit(_finish, ensemble, name, stamp, pixels, looked, done, beside)
            if told:
                told(count)
        if behind is not None:
            behind.result()


def _finish(
    ensemble: Ensemble,
    name: str,
    stamp: str,
    pixels: NDArray[np.uint8],
    looked: Sequence[Tensor],
    done: Finished,
    beside: Beside,
) -> None:
    size = pixels.shape[0], pixels.shape[1]
    runs = ensemble.runs(looked, size)
    if path := beside.overlay(name):
        write_overlay(path, pixels, runs, ensemble.classes)
    if path := beside.archive(name):
        probabilities.write(path, ensemble.probabilities(looked).numpy(), size, ensemble.classes)
    done.add(name, stamp, size, runs)


def _write(
    target: Path,
    chosen: str,
    done: journal.Journal,
    names: dict[str, Path],
    classes: Classes,
    left_out: Callable[[DataError], None],
) -> int:
    """Write what was found; returns in how many images, as a format that reads them again may leave some out."""
    if chosen == "submission":  # is runs, too: no label map between
        submission.write(target, ((submission.image_name(name), done.read(name)[1]) for name in names), classes)
        return len(names)
    lost: list[DataError] = []

    def fault(error: DataError) -> None:
        left_out(error)
        lost.append(error)

    def labelled() -> Iterator[Labelled]:
        for name, path in names.items():
            size, runs = done.read(name)
            yield Labelled(name, kernels.decode(runs, size), path)
        if len(lost) == len(names):
            raise lost[0]

    convert.write(target, labelled(), classes, target_format=chosen, fault=fault)
    return len(names) - len(lost)


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    return f"{status.st_size}-{status.st_mtime_ns}"


def _identity(
    runs: Sequence[run.Run],
    options: Options,
    calibration: Calibration | None,
    beside: Beside,
) -> str:
    """A hash of all that the labels depend on besides the image."""
    content = {
        "carpus": metadata.version("carpus"),
        "runs": [each.manifest["files"] for each in runs],
        "classes": [each.classes.names for each in runs],
        "options": asdict(options),
        "calibration": [calibration.members, [asdict(step) for step in calibration.steps]] if calibration else None,
        # Folders that are filled on the way belong to it: a call that wants them cannot go on from one that did not.
        "beside": [str(beside.overlays), str(beside.probabilities)],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
