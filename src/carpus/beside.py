"""Overlays and probabilities, which a prediction writes beside its labels; and that none of it is written over others.

Whatever lies where an overlay or an archive would go is replaced only if Carpus wrote it as one: overlays are marked.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carpus import kernels, pictures
from carpus.errors import DataError
from carpus.formats import images, png, probabilities, stem
from carpus.kernels import Runs
from carpus.labels import Classes

_LONGEST_OVERLAY = 1024
_MARK = png.text("Software", "carpus predict, overlay")


@dataclass(frozen=True)
class Beside:
    """What else is written for every image, while the target grows.

    Args:
        overlays: a folder for PNGs with the outlines drawn over the image, at most 1024 pixels wide or high.
        probabilities: a folder for compressed arrays, see `formats.probabilities`.
    """

    overlays: Path | None = None
    probabilities: Path | None = None

    def overlay(self, name: str) -> Path | None:
        """Where the overlay of the image `name` goes, if it is wanted."""
        return self.overlays and self.overlays / f"{stem(name)}.png"

    def archive(self, name: str) -> Path | None:
        """Where the probabilities of the image `name` go, if they are wanted."""
        return self.probabilities and self.probabilities / f"{stem(name)}.npz"


def write_overlay(path: Path, pixels: NDArray[np.uint8], runs: Sequence[Runs], classes: Classes) -> None:
    """Draw the outlines of `runs` over an image, (H, W) uint8, and write it with the mark of an overlay."""
    size = pixels.shape[0], pixels.shape[1]
    longest = min(_LONGEST_OVERLAY, max(size))
    drawn = pictures.overlay(pixels, kernels.decode(runs, size), classes=classes, longest=longest)
    images.write(path, drawn, chunk=_MARK)


def require_room(beside: Beside, target: Path, source: Path, paths: Mapping[str, Path]) -> None:
    """Raise `DataError` if what a prediction writes has no place, or would take that of something else.

    Args:
        beside: what is written beside the target.
        target: the file or folder of labels.
        source: what the images were looked for in.
        paths: the images by name.
    """
    inputs = {path.resolve() for path in paths.values()}
    for folder in filter(None, (beside.overlays, beside.probabilities)):
        require_outside(folder, source)
        for other in (target, target.with_name(f"{target.name}.partial")):
            if folder.resolve().is_relative_to(other.resolve()):
                raise DataError(f"{folder}: is, or lies within, {other}, which is written as well; name another folder")
    kinds = (
        ("an overlay", beside.overlay, _is_overlay),
        ("an archive of probabilities", beside.archive, probabilities.are_in),
    )
    parents = {target.parent}
    for what, place, ours in kinds:
        for path in filter(None, map(place, paths)):
            parents.add(path.parent)
            if os.path.lexists(path):
                if path.resolve() in inputs:
                    raise DataError(f"{path}: is one of the images; name another folder for what is written")
                if not ours(path):
                    raise DataError(f"{path}: is there already and is not {what} by Carpus; it is not replaced")
    for parent in sorted(parents):
        _require_folder(parent)


def require_outside(folder: Path, source: Path) -> None:
    """Raise `DataError` if `folder`, which is to be written, lies within that of the images."""
    if source.is_dir() and folder.resolve().is_relative_to(source.resolve()):
        raise DataError(f"{folder}: lies within {source}, where the images are; name a folder outside of it")


def _require_folder(folder: Path) -> None:
    """Raise `DataError` unless `folder` is one that can be written into, or can be made."""
    there = next(path for path in (folder, *folder.parents, Path()) if os.path.lexists(path))
    if not there.is_dir():
        raise DataError(f"{there}: is a file; expected a folder to write into")
    if not os.access(there, os.W_OK | os.X_OK):
        raise DataError(f"{there}: cannot be written into")


def _is_overlay(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return png.has_chunk(file, _MARK)
    except OSError:
        return False
