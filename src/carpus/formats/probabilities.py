"""Probabilities of an image as a compressed NumPy archive (`numpy.load`).

Dimension key: K classes, H W image resolution, h w logit resolution.

It holds ``probabilities`` (K, h, w) float16, or of soft labels ``codes`` (K, h, h) uint8, see `kernels.codes`; ``size``
(H, W) of the image and ``classes``. The array covers the square whose upper left part the image is: pixel (y, x) of the
image lies at ((y + 0.5) h / max(H, W) - 0.5, (x + 0.5) w / max(H, W) - 0.5). Equal content gives equal bytes.
"""

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carpus.errors import DataError
from carpus.formats import files
from carpus.labels import Classes


def write(path: Path, probabilities: NDArray[np.floating], size: tuple[int, ...], classes: Classes) -> None:
    """Write (K, h, w) probabilities of an image of `size` (H, W), whole or not at all."""
    _write(path, {"probabilities": probabilities.astype(np.float16)}, size, classes)


def write_codes(path: Path, codes: NDArray[np.uint8], size: tuple[int, ...], classes: Classes) -> None:
    """Write soft labels (K, h, h) of an image of `size` (H, W), whole or not at all."""
    _write(path, {"codes": codes}, size, classes)


def read_codes(path: Path, classes: Classes) -> NDArray[np.uint8]:
    """The soft labels (K, h, h) in a file.

    Raises:
        DataError: naming the file: it cannot be read, is of other classes, or holds anything else.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            found, names = kept["codes"], kept["classes"].tolist()
    except (OSError, KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: no soft labels as `carpus pseudo --soft` writes them ({error})") from error
    if names != list(classes.names):
        raise DataError(f"{path}: classes: are others than those of this training")
    side = found.shape[-1] if found.ndim else 0
    if not side or found.shape != (len(classes), side, side) or found.dtype != np.uint8:
        raise DataError(f"{path}: codes: expected ({len(classes)}, h, h) uint8, has {found.shape} {found.dtype}")
    return found


def are_in(path: Path) -> bool:
    """Whether a file is an archive as `write` leaves it, by the names in it."""
    try:
        with zipfile.ZipFile(path) as zipped:
            return zipped.namelist() == ["probabilities.npy", "size.npy", "classes.npy"]
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def _write(path: Path, array: dict[str, NDArray[np.generic]], size: tuple[int, ...], classes: Classes) -> None:
    arrays = {**array, "size": np.array(size, np.int64), "classes": np.array(classes.names)}
    with (
        files.atomic(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as zipped,
    ):
        for name, content in arrays.items():
            encoded = io.BytesIO()
            np.lib.format.write_array(encoded, content, allow_pickle=False)
            # Without a date, which would make the same content two files.
            zipped.writestr(zipfile.ZipInfo(f"{name}.npy"), encoded.getvalue(), zipfile.ZIP_DEFLATED, 1)
