"""One label format into another, pixel for pixel, one image at a time: every format meets the others in the label map.

A format is a module with two functions: `read_all` yields the images of a file or folder, `write_all` writes what
is yielded. So memory holds one label map (and of a CSV or COCO file its run lengths), however many images there are.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import ModuleType

from carpus import labels as label_map
from carpus.errors import ConfigError, DataError
from carpus.formats import (
    Labelled,
    annotations,
    coco,
    dicomseg,
    files,
    labelme,
    masks,
    once,
    safe_name,
    stem,
    submission,
    trees,
)
from carpus.formats.images import refuse
from carpus.formats.sizes import Sizes
from carpus.labels import BONES, Classes

FORMATS: dict[str, ModuleType] = {
    "competition": annotations,
    "submission": submission,
    "coco": coco,
    "labelme": labelme,
    "masks": masks,
    "dicomseg": dicomseg,
}

_FILES = {"submission": ".csv", "coco": ".json"}


@dataclass
class Summary:
    """What a conversion did.

    Args:
        source_format, target_format: names from `FORMATS`.
        images: how many were converted.
        empty: class name -> in how many images it was nowhere; classes that were in all are left out.
    """

    source_format: str
    target_format: str
    images: int = 0
    empty: Counter[str] = field(default_factory=Counter)


def convert(
    source: Path | str,
    target: Path | str,
    *,
    source_format: str | None = None,
    target_format: str | None = None,
    images: Path | str | None = None,
    size: tuple[int, int] | None = None,
    classes: Classes = BONES,
    skip: Sequence[str] = (),
    progress: Callable[[int], object] | None = None,
) -> Summary:
    """Convert label files; the target is written whole or not at all.

    Args:
        source: a file or folder.
        target: a file (`.csv` for a submission, `.json` for COCO) or a new folder (competition, Labelme, masks, DICOM
            segmentations).
        source_format: a name from `FORMATS`; None finds it out from the content.
        target_format: a name from `FORMATS`; None takes it from the suffix, a folder being the competition's layout.
        images: the folder of images; gives names and sizes, against what label files say.
        size: (H, W) of all images, where there is no folder of images and the format does not tell.
        classes: the class list of both sides.
        skip: labels of the source to leave out.
        progress: called after every image with the number of images done.

    Returns:
        A `Summary`.

    Raises:
        DataError: the source is damaged or of no known format, or the target is there and would be lost. An existing
            file is replaced only by one of its own format, a folder only if it is empty.
        ConfigError: a format that does not exist.
    """
    source, target = Path(source), Path(target)
    if not source.exists():
        raise DataError(f"{source}: there is no such file or folder")
    summary = Summary(
        _known(source_format) if source_format else guess(source, classes),
        format_of(target, target_format),
    )
    sizes = Sizes(images, size)
    items = FORMATS[summary.source_format].read_all(source, classes, sizes, skip)
    items = (replace(item, image=sizes.path(item.name)) for item in items)
    write(target, _counted(items, classes, summary, progress), classes, target_format=summary.target_format)
    return summary


def write(
    target: Path | str,
    items: Iterable[Labelled],
    classes: Classes = BONES,
    *,
    target_format: str | None = None,
    fault: Callable[[DataError], object] = refuse,
) -> None:
    """Write labels in any format, whole or not at all; `items` is not touched if the target may not be written.

    Args:
        target: a file or a new folder, see `convert`.
        items: one `Labelled` an image, taken one at a time.
        classes: the class list.
        target_format: a name from `FORMATS`; None takes it from the suffix.
        fault: called with what is wrong with an image, where the format refers to it; it is then left out.

    Raises:
        DataError, ConfigError: see `convert`, or what `fault` raises.
    """
    target = Path(target)
    target_format = ready(target, classes, target_format=target_format)
    write_all = FORMATS[target_format].write_all
    if target_format == "dicomseg":
        write_all = partial(write_all, fault=fault)
    if target_format in _FILES:
        write_all(target, items, classes)
    else:
        with trees.replacing(target) as temporary:
            write_all(temporary, items, classes)


def ready(
    target: Path | str, classes: Classes = BONES, *, target_format: str | None = None, names: Sequence[str] = ()
) -> str:
    """The format that `write` would write, if it may: what it refuses is refused here, before the work.

    Args:
        target, classes, target_format: as in `write`.
        names: what the items will be called, where that is known: names that cannot be written are then refused
            before the first item is made, which may have taken an hour when the last one is refused.

    Raises:
        DataError, ConfigError: see `convert`.
    """
    target = Path(target)
    target_format = format_of(target, target_format)
    _refuse_loss(target, target_format, classes)
    for name in once(names, str(target), str, naming(target_format)):
        safe_name(name, str(target))
    return target_format


def format_of(target: Path | str, target_format: str | None = None) -> str:
    """The format of a target: as named, or else by its suffix; raises `ConfigError` for a name that is none."""
    return _known(target_format) if target_format else _by_suffix(Path(target))


def naming(target_format: str) -> Callable[[str], str]:
    """What becomes of an image's name in a format: equal for images that it cannot tell apart."""
    return submission.image_name if target_format == "submission" else stem


def is_file(target_format: str) -> bool:
    """Whether a format is one file for all images, and not a folder."""
    return target_format in _FILES


def guess(path: Path | str, classes: Classes = BONES) -> str:
    """The format of a file or folder, from what is in it: a name from `FORMATS`.

    Raises:
        DataError: an archive, or nothing that is known.
    """
    path = Path(path)
    if path.is_dir():
        return _guess_folder(path, classes)
    try:
        with path.open("rb") as stream:
            head = stream.read(1024)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if head[128:132] == b"DICM":
        return "dicomseg"
    if head.startswith((b"PK\x03\x04", b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!")):
        raise DataError(f"{path}: is an archive; unpack it and give the folder")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: is UTF-16 text; save it as UTF-8")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith((b"{", b"[")):
        return _guess_json(path)
    if all(column.encode() in text.split(b"\n")[0] for column in submission.COLUMNS):
        return "submission"
    raise DataError(f"{path}: is of no known format: {_expected()}")


def _guess_folder(path: Path, classes: Classes) -> str:
    root = annotations.layout(path)
    if root != path:
        return "competition"
    found = trees.walk(path)
    first = next((file for file, name in found if name.lower().endswith(".json")), None)
    if first is not None:
        known = _guess_json(first)
        if known == "coco":
            raise DataError(f"{path}: holds COCO files; give one of them, such as {first}")
        return known
    if any(file.suffix == ".png" and file.stem in classes for file, _ in found):
        return "masks"
    if any(dicomseg.is_segmentation(file) for file, name in found if name.lower().endswith((".dcm", ".dicom"))):
        return "dicomseg"
    table = next((file for file, name in found if name.lower().endswith(".csv")), None)
    if table is not None:
        raise DataError(f"{path}: is a folder; give the file itself, such as {table}")
    raise DataError(f"{path}: holds no label files: {_expected()}")


def _guess_json(path: Path) -> str:
    content = files.read_json(path)
    if isinstance(content, dict):
        if "categories" in content and "images" in content:
            return "coco"
        if "shapes" in content:
            return "labelme"
        if "annotations" in content:
            return "competition"
    raise DataError(f"{path}: is JSON of no known format: {_expected()}")


def _by_suffix(target: Path) -> str:
    if target.is_dir():
        return "competition"
    by_suffix = {suffix: name for name, suffix in _FILES.items()}
    suffix = target.suffix.lower()
    if suffix in (".zip", ".gz", ".tar", ".7z"):
        raise DataError(f"{target}: archives are not written; give a folder")
    return by_suffix.get(suffix, "competition")


def _refuse_loss(target: Path, target_format: str, classes: Classes) -> None:
    """Before the work, not after it; the writers refuse again when they put the result in its place."""
    if not target.exists():
        return
    if target_format not in _FILES:
        if not target.is_dir() or any(target.iterdir()):
            raise DataError(f"{target}: is there already; give a new or an empty folder")
        return
    if target.is_dir():
        raise DataError(f"{target}: is a folder, expected the name of a {_FILES[target_format]} file")
    try:
        there = guess(target, classes)
    except DataError:
        there = "something else"
    if there != target_format:
        raise DataError(f"{target}: is there already and is {there}, not {target_format}; it is not replaced")


def _counted(
    items: Iterable[Labelled], classes: Classes, summary: Summary, progress: Callable[[int], object] | None
) -> Iterator[Labelled]:
    for item in items:
        for label, box in zip(classes, label_map.boxes(item.labels, len(classes)), strict=True):
            summary.empty[label] += box is None
        yield item
        summary.images += 1
        if progress is not None:
            progress(summary.images)
    summary.empty = +summary.empty


def _known(name: str) -> str:
    if name not in FORMATS:
        raise ConfigError(f"format: expected {', '.join(FORMATS)}, has {name!r}")
    return name


def _expected() -> str:
    return (
        "expected the competition's annotation files, a submission CSV (image_name,class,rle), COCO or Labelme JSON,"
        " DICOM segmentations, or folders with one PNG a class"
    )
