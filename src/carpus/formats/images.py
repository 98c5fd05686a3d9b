"""Radiographs as one grey channel: PNG, JPEG, BMP, TIFF and DICOM, recognised by content and never by suffix.

Dimension key: H rows, W columns.

Grey levels fill the type that comes back: the highest value a file can hold is 255 (or 65535), the lowest 0. DICOM
additionally goes through its modality and VOI tables and its window (see `dicom`). Colour becomes luma (ITU-R 601);
three equal channels become that channel exactly. Transparent pixels are laid on black, with a warning.
Of several pages or frames the first is read, with a warning. The EXIF orientation is applied once.
The header is checked before anything is decoded: an image of more than `MAX_PIXELS` is refused.
"""

import io
import stat
import threading
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from carpus.errors import DataError, warn
from carpus.formats import MAX_PIXELS, dicom, files

Grey = NDArray[np.uint8] | NDArray[np.uint16]
"""(H, W) uint8 or uint16, 0 is black."""

MAX_BYTES = 1 << 31
"""Larger files are not opened: no grey or 8-bit image within `MAX_PIXELS` needs more."""

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".dcm", ".dicom"})
"""What `find` takes without opening the file."""

_HEAD = 132
_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
_OTHERS = {
    b"GIF8": "a GIF image",
    b"RIFF": "a RIFF file, perhaps WebP",
    b"\0\0\0\x0cjP": "a JPEG 2000 image",
    b"\xff\x4f\xff\x51": "a JPEG 2000 image",
    b"\x93NUMPY": "a NumPy array",
    b"PK": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"%PDF": "a PDF document",
    b"MZ": "a Windows program",
    b"\x7fELF": "a Linux program",
    b"P5": "a PGM image",
    b"P6": "a PPM image",
}

# Pillow's own limit, which it warns at and doubles to refuse, must not come before ours.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS

# warnings.catch_warnings swaps a list of the whole process; two threads inside at once would leave the wrong one.
_quiet = threading.Lock()


def read(path: Path | str, bits: Literal[8, 16] = 8) -> Grey:
    """Read an image file as one grey channel.

    Args:
        path: a PNG, JPEG, BMP, TIFF or DICOM file of 1 to 16 bits a channel and at most `MAX_PIXELS` pixels.
        bits: 8 for uint8, 16 for uint16; the file's range is scaled to the whole range, never wrapped.

    Returns:
        (H, W) uint8 or uint16, upright (the EXIF orientation is applied), MONOCHROME1 inverted.

    Raises:
        DataError: the file is missing, empty, truncated, damaged, too large or of another format.
    """
    path = Path(path)
    if bits not in (8, 16):
        raise ValueError(f"bits: expected 8 or 16, got {bits}")
    content = _content(path)
    kind = _kind(path, content[:_HEAD])
    if kind == "DICOM":
        return _scale(dicom.read(path, content, MAX_PIXELS), bits)
    with _open(path, kind, content) as image:
        _one_page(path, image)
        pixels = _pixels(path, image)
    if pixels.dtype == np.uint16 and pixels.max(initial=0) < 1 << 12:
        warn(f"{path}: uses at most 12 of its 16 bits and is read nearly black; were its pixels never scaled?")
    return _scale(pixels, bits)


def size(path: Path | str) -> tuple[int, int]:
    """The (H, W) of the array that `read` would return, from the header alone; raises `DataError` as `read` does."""
    path = Path(path)
    head = _content(path, _HEAD)
    kind = _kind(path, head)
    if kind == "DICOM":
        return dicom.size(path, MAX_PIXELS)
    with path.open("rb") as file, _open(path, kind, file) as image:
        return _upright(image)


def spacing_mm(path: Path | str) -> tuple[float, float] | None:
    """The distance between rows and between columns in mm, where a DICOM file states one; else None."""
    path = Path(path)
    if _kind(path, _content(path, _HEAD)) != "DICOM":
        return None
    return dicom.spacing_mm(path)


def write(path: Path | str, image: Grey, rgb: bool = False) -> None:
    """Write a PNG file, whole or not at all, compressed fast rather than small.

    Args:
        path: the file to write; it is a PNG whatever its suffix.
        image: (H, W) grey or (H, W, 3) RGB, uint8 or uint16, not empty.
        rgb: write grey as three equal channels, as the competition's images are.
    """
    if image.dtype not in (np.uint8, np.uint16) or image.size == 0 or image.shape[2:] not in ((), (3,)):
        raise DataError(f"{path}: image: expected (H, W) or (H, W, 3) uint8 or uint16, got {image.dtype} {image.shape}")
    pixels = np.ascontiguousarray(image)
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    elif rgb:
        pixels = cv2.merge([pixels] * 3)
    done, encoded = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise DataError(f"{path}: image: cannot be encoded as PNG")
    with files.atomic(path) as temporary:
        temporary.write_bytes(encoded.data)


def find(root: Path | str) -> list[Path]:
    """All image files below a folder, sorted by path, or the one file that `root` names.

    A file counts by its suffix, or, if that says nothing, by its first bytes. Hidden files and folders and __MACOSX
    are skipped; links to folders are not followed. An empty folder gives an empty list.

    Raises:
        DataError: `root` is missing, a link leads out of it, or two names in one folder are equal up to case or
            Unicode form, so that some systems could not tell them apart.
    """
    root = Path(root)
    try:
        if root.is_file():
            return [root]
        return sorted(_below(root, root.resolve(strict=True)), key=lambda path: path.as_posix())
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{root}: cannot be read ({_reason(error)})") from error


def _below(folder: Path, root: Path) -> Iterator[Path]:
    seen: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        name = path.name
        if name.startswith(".") or name == "__MACOSX":
            continue
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise DataError(f"{path}: is a link that leads out of {root.name}; copy the file or give its own folder")
        is_folder = path.is_dir()
        if not is_folder and not _looks_like_image(path):
            continue
        key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
        if key in seen:
            raise DataError(f"{path}: differs from {seen[key]!r} only in case or Unicode form; rename one of them")
        seen[key] = name
        if not is_folder:
            yield path
        elif not path.is_symlink():
            yield from _below(path, root)


def _looks_like_image(path: Path) -> bool:
    if not path.is_file() or path.name.upper() == "DICOMDIR":
        return False
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return _recognise(file.read(_HEAD)) is not None
    except OSError:
        return False


def _content(path: Path, limit: int | None = None) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{path}: is not a file; expected an image")
        if status.st_size > MAX_BYTES:
            raise DataError(
                f"{path}: has {status.st_size >> 20} MiB; expected an image of at most {MAX_BYTES >> 20} MiB"
            )
        with path.open("rb") as file:
            content = file.read(-1 if limit is None else limit)
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot be read ({_reason(error)})") from error
    if not content:
        raise DataError(f"{path}: is empty; expected an image")
    return content


def _recognise(head: bytes) -> str | None:
    if head[128:132] == b"DICM":  # first, because the 128 bytes before it may pretend to be anything
        return "DICOM"
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)


def _kind(path: Path, head: bytes) -> str:
    kind = _recognise(head)
    if kind is None:
        found = next((other for magic, other in _OTHERS.items() if head.startswith(magic)), None)
        if found is None:
            found = "text" if all(byte >= 32 or byte in b"\t\r\n" for byte in head) else "unknown content"
        raise DataError(f"{path}: is {found}; expected PNG, JPEG, BMP, TIFF or DICOM")
    return kind


@contextmanager
def _open(path: Path, kind: str, content: bytes | io.BufferedReader) -> Iterator[Image.Image]:
    """Open with the one decoder that the magic bytes name, check the size, and turn what it raises into `DataError`."""
    source = io.BytesIO(content) if isinstance(content, bytes) else content
    try:
        with _quiet, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(source, formats=[kind])
        with image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise DataError(f"{path}: claims {width} x {height} pixels; at most {MAX_PIXELS} are read")
            yield image
    except (DataError, MemoryError, Warning):
        raise
    except Exception as error:  # Pillow's decoders raise whatever their parsing stumbles over
        raise DataError(f"{path}: is truncated or damaged ({kind}: {_reason(error)})") from error


def _one_page(path: Path, image: Image.Image) -> None:
    # A JPEG's further pictures are previews that cameras add.
    pages = getattr(image, "n_frames", 1) if image.format != "JPEG" else 1
    if pages > 1:
        warn(f"{path}: has {pages} pages; only the first is read")


def _upright(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    # Pillow's TIFF reader reports the upright size by itself.
    turned = image.format != "TIFF" and image.getexif().get(0x112) in (5, 6, 7, 8)
    return (width, height) if turned else (height, width)


def _pixels(path: Path, image: Image.Image) -> Grey:
    if image.mode in ("F", "I") and image.format == "TIFF":
        raise DataError(f"{path}: has 32 bits a channel; expected 8 or 16")
    if image.format == "JPEG":
        image.draft("L", image.size)  # the luma is stored, so the colours need no decoding
    with _quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            warn(f"{path}: is partly transparent; laid on black")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
        image = image.convert("RGB")
    elif image.mode not in ("L", "RGB", "1"):
        image = image.convert("RGB")
    return np.asarray(image.convert("L"))


def _scale(pixels: Grey, bits: int) -> Grey:
    if pixels.dtype == np.uint8:
        return pixels if bits == 8 else pixels.astype(np.uint16) * np.uint16(257)
    if bits == 16:
        return pixels
    # (v * 255 + 32767) // 65535, the nearest of 256 levels, through a table.
    return _TO_8_BITS[pixels]


_TO_8_BITS = ((np.arange(1 << 16, dtype=np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error).splitlines()[0] if str(error) else type(error).__name__
