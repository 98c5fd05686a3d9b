"""One file a format: reading, writing and validation together. Every format meets the others in the label map."""

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from carpus.errors import DataError
from carpus.formats import files
from carpus.labels import LabelMap

MAX_PIXELS = 1 << 28
"""More than 16384 x 16384: no radiograph is larger, and a label map of it would take over 1 GiB."""

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".dcm", ".dicom"})
"""What the name of an image file may end in, in lower case."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Labelled:
    """The labels of one image, as every reader yields them and every writer takes them.

    Args:
        name: the image, relative to its folder of images, as in "ID001/image1.png"; "/" on every system.
        labels: (H, W) int32 label map of the image's size.
        image: the image's file, where it is known; only a format that refers to the image itself needs it.
    """

    name: str
    labels: LabelMap
    image: Path | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.labels.shape[0], self.labels.shape[1]


def check_size(size: tuple[int, int], source: str) -> tuple[int, int]:
    """Return `size` (H, W) if an image can have it, else raise `DataError` naming `source`."""
    height, width = size
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise DataError(f"{source}: expected 1 to {MAX_PIXELS} pixels, has {height} x {width}")
    return size


def safe_name(name: object, source: str) -> str:
    """A relative path that every system can hold, with "/" between its parts; raises `DataError` naming `source`."""
    if not isinstance(name, str) or len(name) > 1000:
        raise DataError(f"{source}: expected a file name, has {name!r:.80}")
    # Nothing lies below a file, so no link on this machine takes part in the decision.
    files.inside(__file__, name, source)
    return PurePosixPath(name.replace("\\", "/")).as_posix()


def stem(name: str) -> str:
    """`name` without the suffix of an image: "ID001/a.png" is "ID001/a"; the dots of a DICOM UID are no suffix."""
    base, _, suffix = name.rpartition(".")
    return base if base and f".{suffix.lower()}" in SUFFIXES else name


def folded(name: str) -> str:
    """What is equal for names that some system cannot tell apart: those that differ in case or Unicode form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _name(item: Labelled) -> str:
    return item.name


def once(
    items: Iterable[Item], source: str, name: Callable[[Item], str] = _name, file: Callable[[str], str] = stem
) -> Iterator[Item]:
    """The same items; a name that some system cannot tell from an earlier one is a `DataError`.

    Names equal up to case or Unicode form are one file on Windows and macOS, and the later would replace the earlier.

    Args:
        items: anything that has a name.
        source: what is written, for the error.
        name: the name of an item.
        file: what becomes of the name where it is written.
    """
    seen: dict[str, str] = {}
    for item in items:
        key = folded(file(name(item)))
        if key in seen:
            raise DataError(f"{source}: {name(item)!r} and {seen[key]!r} would be one file; rename one of them")
        seen[key] = name(item)
        yield item
