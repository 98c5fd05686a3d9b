"""Radiographs as one grey channel: PNG, JPEG, BMP, TIFF and DICOM, recognised by content and never by suffix.

Dimension key: H rows, W columns.

Grey levels fill the type that comes back: the highest value a file can hold becomes 255 (or 65535), the lowest 0;
DICOM goes through its tables or its window (see `dicom`). Colour becomes luma (ITU-R 601), three equal channels
that channel exactly. Transparent pixels are laid on black, with a warning. Of several pages or frames the first is
read, with a warning. The EXIF orientation is applied once. An image that claims more than `MAX_PIXELS` is refused
before it is decoded.

16-bit colour keeps its 16 bits in PNG without interlacing and in TIFF without alpha, else the upper 8.
"""

import hashlib
import io
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, NoReturn, overload

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carpus.errors import DataError, DataWarning, warn
from carpus.formats import MAX_PIXELS, SUFFIXES, check_size, files, folded, png
from carpus.formats.grey import Grey, luma, on_black, orientation, scale, turned, upright
from carpus.formats.quiet import muted, quiet

MAX_BYTES = 1 << 31
"""Larger files are not opened: no image within `MAX_PIXELS` has reason to be larger."""

# Pillow's own limit, at which it warns, must not come before ours.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS

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


@overload
def read(path: Path | str, bits: Literal[8] = 8) -> NDArray[np.uint8]: ...
@overload
def read(path: Path | str, bits: Literal[16]) -> NDArray[np.uint16]: ...
def read(path: Path | str, bits: Literal[8, 16] = 8) -> Grey:
    """Read an image file as one grey channel.

    Args:
        path: a PNG, JPEG, BMP, TIFF or DICOM file of 1 to 16 bits a channel and at most `MAX_PIXELS` pixels.
        bits: 8 for uint8, 16 for uint16; the file's range is scaled to the whole range, never wrapped.

    Returns:
        (H, W) uint8 or uint16, upright, MONOCHROME1 inverted.

    Raises:
        DataError: the file is missing, empty, truncated, damaged, too large or of another format.
    """
    path = Path(path)
    if bits not in (8, 16):
        raise ValueError(f"bits: expected 8 or 16, got {bits}")
    content = _content(path)
    if _kind(path, content[:_HEAD]) == "DICOM":
        from carpus.formats import dicom  # its import takes as long as all others, and few images need it

        return scale(dicom.read(path, content), bits)
    return scale(_decoded(path, content), bits)


def unwindowed(path: Path | str) -> tuple[Grey, tuple[int, int]]:
    """As `read`, at the depth of the file, with what lies outside of a DICOM file's window.

    Returns:
        (H, W) uint8 or uint16, and the grey levels that are black and white, which may lie beyond the type's range.
    """
    path = Path(path)
    content = _content(path)
    if _kind(path, content[:_HEAD]) == "DICOM":
        from carpus.formats import dicom

        return dicom.unwindowed(path, content)
    pixels = _decoded(path, content)
    return pixels, (0, int(np.iinfo(pixels.dtype).max))


def _decoded(path: Path, content: bytes) -> Grey:
    kind = _kind(path, content[:_HEAD])
    pixels = _png(path, content) if kind == "PNG" else _pillow(path, kind, content)
    if pixels.dtype == np.uint16 and 0 < pixels.max() < 1 << 12:
        warn(f"{path}: uses at most 12 of its 16 bits and is read nearly black; multiply its pixels by 16")
    return pixels


def digest(path: Path | str) -> str:
    """SHA-256 of the size and the 8-bit pixels of an image, in hexadecimal: the same however the file was written."""
    return digest_of(read(path))


def digest_of(pixels: NDArray[np.uint8]) -> str:
    """`digest` of an image that `read` gave before."""
    return hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest()


def size(path: Path | str) -> tuple[int, int]:
    """The (H, W) of the array that `read` would return, from the header alone; raises `DataError` as `read` does."""
    path = Path(path)
    kind = _kind(path, _content(path, _HEAD))
    if kind == "DICOM":
        from carpus.formats import dicom

        return dicom.size(path)
    with path.open("rb") as file:
        if kind == "PNG":
            header = _png_header(path, file)
            return turned((header.height, header.width), header.orientation)
        with _open(path, kind, file) as image:
            turn = orientation(image.getexif()) if kind == "JPEG" else 1
            return turned((image.height, image.width), turn)


def told_apart(
    paths: Sequence[Path], name: Callable[[Path], str], left_out: Callable[[DataError], object]
) -> list[Path]:
    """Files without those that share a name and, their headers say, are no images: as a DICOM segmentation beside one.

    Args:
        paths: image files, as of `find`.
        name: what a file is known by; equal but for case and Unicode form is equal.
        left_out: called with what is wrong with a file.
    """
    names = {path: folded(name(path)) for path in paths}
    shared = Counter(names.values())
    kept = []
    for path in paths:
        if shared[names[path]] > 1:
            try:
                size(path)
            except DataError as error:
                left_out(error)
                continue
        kept.append(path)
    return kept


def spacing_mm(path: Path | str) -> tuple[float, float] | None:
    """The distance between rows and between columns in mm, where a DICOM file states one; else None."""
    path = Path(path)
    if _kind(path, _content(path, _HEAD)) != "DICOM":
        return None
    from carpus.formats import dicom

    return dicom.spacing_mm(path)


def is_dicom(path: Path | str) -> bool:
    """Whether `path` is a DICOM file, by its first bytes; raises `DataError` as `read` does."""
    path = Path(path)
    return _kind(path, _content(path, _HEAD)) == "DICOM"


def write(path: Path | str, image: Grey, rgb: bool = False, chunk: bytes = b"") -> None:
    """Write a PNG file, whole or not at all, compressed fast rather than small.

    Args:
        path: the file to write; it is a PNG whatever its suffix.
        image: (H, W) grey or (H, W, 3) RGB, uint8 or uint16, not empty.
        rgb: write grey as three equal channels, as the competition's images are.
        chunk: one more chunk for the file, see `png.text`.
    """
    if image.dtype not in (np.uint8, np.uint16) or image.size == 0 or image.shape[2:] not in ((), (3,)):
        raise DataError(f"{path}: image: expected (H, W) or (H, W, 3) uint8 or uint16, got {image.dtype} {image.shape}")
    pixels = np.ascontiguousarray(image)
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    elif rgb:
        pixels = cv2.merge([pixels] * 3)
    # Half the time of the defaults at the same size, and one of the filters that are undone fastest.
    settings = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_SUB]
    done, encoded = cv2.imencode(".png", pixels, settings)
    if not done:
        raise DataError(f"{path}: image: cannot be encoded as PNG")
    with files.atomic(path) as temporary:
        temporary.write_bytes(png.with_chunk(encoded.tobytes(), chunk) if chunk else encoded.data)


def refuse(error: DataError) -> NoReturn:
    """Raise `error`: what `find` does with a fault unless told otherwise."""
    raise error


def ignored(name: str) -> bool:
    """Whether `find` skips files and folders of this name: hidden ones and __MACOSX."""
    return name.startswith(".") or name == "__MACOSX"


def require(image: object) -> NDArray[np.uint8]:
    """`image`, if it is one as `read` gives it: (H, W) uint8 with pixels; raises `DataError` otherwise."""
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 2 and image.size:
        return image
    told = f"{image.dtype} of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
    raise DataError(f"image: expected uint8 of shape (H, W), has {told}; carpus.read gives that for any file")


def find(root: Path | str, *, fault: Callable[[DataError], object] = refuse) -> list[Path]:
    """All image files below a folder, sorted by path, or the one file that `root` names.

    A file counts by its suffix, or, if that says nothing, by its first bytes. Hidden files and folders and __MACOSX
    are skipped; links to folders are not followed. An empty folder gives an empty list.

    Args:
        root: a folder or an image file.
        fault: called with what is wrong with one file or folder below `root`, which is then left out; raises it by
            default. A link that leads out of `root` or nowhere, a folder that cannot be read, and a name that equals
            another in its folder up to case or Unicode form, so that some systems could not tell them apart.

    Raises:
        DataError: `root` is missing, or what `fault` raises.
    """
    root = Path(root)
    try:
        if root.is_file():
            return [root]
        return sorted(_below(root, root.resolve(strict=True), fault), key=lambda path: path.as_posix())
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{root}: cannot be read ({_reason(error)})") from error


def _below(folder: Path, root: Path, fault: Callable[[DataError], object]) -> Iterator[Path]:
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        fault(DataError(f"{folder}: cannot be read ({_reason(error)})"))
        return
    seen: dict[str, str] = {}
    for path in paths:
        name = path.name
        if ignored(name):
            continue
        if path.is_symlink() and (stray := _stray(path, root)):
            fault(stray)
            continue
        is_folder = path.is_dir()
        if not is_folder and not _looks_like_image(path):
            continue
        key = folded(name)
        if key in seen:
            fault(DataError(f"{path}: differs from {seen[key]!r} only in case or Unicode form; rename one of them"))
            continue
        seen[key] = name
        if not is_folder:
            yield path
        elif not path.is_symlink():
            yield from _below(path, root, fault)


def _stray(link: Path, root: Path) -> DataError | None:
    """What is wrong with a link below `root`, if anything."""
    try:
        inside = link.resolve(strict=True).is_relative_to(root)
    except (OSError, RuntimeError):  # RuntimeError: a link to itself
        return DataError(f"{link}: is a link that leads nowhere")
    if inside:
        return None
    return DataError(f"{link}: is a link that leads out of {root.name}; copy what it points to into the folder")


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
            raise DataError(f"{path}: is a folder or device; expected an image file")
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
            # The first element of group 2 or 8, little endian: what stands after the preamble of a DICOM file.
            bare = head[:4] in (b"\x02\0\0\0", b"\x08\0\0\0", b"\x08\0\x05\0", b"\x08\0\x08\0")
            found = "perhaps DICOM, but has no preamble" if bare else found
        if found is None:
            found = "text" if all(byte >= 32 or byte in b"\t\r\n" for byte in head) else "unknown content"
        raise DataError(f"{path}: is {found}; expected PNG, JPEG, BMP, TIFF or DICOM")
    return kind


def _png_header(path: Path, file: BinaryIO) -> png.Header:
    try:
        header = png.header(file)
    except png.DamagedError as error:
        raise DataError(f"{path}: is truncated or damaged (PNG: {error})") from None
    check_size((header.height, header.width), str(path))
    return header


def _png(path: Path, content: bytes) -> Grey:
    header = _png_header(path, io.BytesIO(content))
    if not header.plain:
        return upright(_pillow(path, "PNG", content), header.orientation)
    try:
        pixels = png.decode(content, header)
    except png.DamagedError as error:
        raise DataError(f"{path}: is truncated or damaged (PNG: {error})") from None
    if pixels.ndim == 3:
        grey = luma(pixels) if header.channels > 2 else pixels[..., 0]
        pixels = _opaque(path, grey, pixels[..., -1]) if header.channels in (2, 4) else grey
    return upright(pixels, header.orientation)


def _pillow(path: Path, kind: str, content: bytes) -> Grey:
    """Decode with Pillow; a TIFF or JPEG comes upright, a PNG as stored."""
    with _open(path, kind, io.BytesIO(content)) as image:
        with quiet():
            # A JPEG's further pictures are previews, which cameras add.
            pages = getattr(image, "n_frames", 1) if kind != "JPEG" else 1
            turn = orientation(image.getexif()) if kind == "JPEG" else 1
        if kind == "JPEG":
            image.draft("L", image.size)  # luma is what is stored, so the colours need no decoding
        pixels = _tiff(path, image, content) if kind == "TIFF" else _grey(path, image)
    if pages > 1:
        warn(f"{path}: has {pages} pages; only the first is read")
    return upright(pixels, turn)


def _tiff(path: Path, image: Image.Image, content: bytes) -> Grey:
    tags: Any = getattr(image, "tag_v2", {})  # gone, in part, once the pixels are loaded
    depths, photometric, signs, turn = (tags.get(tag) for tag in (258, 262, 339, 274))
    if image.mode in ("I", "F") or set(signs or (1,)) != {1}:
        raise DataError(f"{path}: is signed or has more than 16 bits a channel; expected 1 to 16 bits, unsigned")
    with muted():  # libtiff
        image.load()
    if depths == (16, 16, 16):
        # Pillow has no mode for it.
        with muted():
            colours = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        if colours is None or colours.dtype != np.uint16 or colours.shape[2:] != (3,):
            raise DataError(f"{path}: is a 16-bit colour TIFF of a kind that is not read; save it as grey")
        return upright(luma(colours[..., ::-1]), turn if turn in range(1, 9) else 1)
    if image.mode != "I;16":
        return _grey(path, image)
    pixels = np.asarray(image).astype(np.uint16)
    if depths == (12,):
        pixels = (pixels.astype(np.uint32) * 65535 // 4095).astype(np.uint16)
    return ~pixels if photometric == 0 else pixels  # white is 0; Pillow inverts 8 bits only


def _grey(path: Path, image: Image.Image) -> Grey:
    if image.mode.startswith("I"):
        return np.asarray(image).astype(np.uint16)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return _opaque(path, np.asarray(image.convert("RGB").convert("L")), np.asarray(image.getchannel("A")))
    if image.mode not in ("L", "1"):
        image = image.convert("RGB")
    return np.asarray(image.convert("L"))


def _opaque(path: Path, pixels: Grey, alpha: Grey) -> Grey:
    if alpha.min() == np.iinfo(alpha.dtype).max:
        return pixels
    warn(f"{path}: is partly transparent; laid on black")
    return on_black(pixels, alpha)


@contextmanager
def _open(path: Path, kind: str, source: BinaryIO) -> Iterator[Image.Image]:
    """Open with the one decoder that the magic bytes name, check the size, turn what it raises into `DataError`."""
    try:
        with quiet():
            image = Image.open(source, formats=[kind])
        with image:
            check_size((image.height, image.width), str(path))
            yield image
    except (DataError, DataWarning):
        raise
    except Image.DecompressionBombError:
        raise DataError(f"{path}: expected 1 to {MAX_PIXELS} pixels, claims more") from None
    except MemoryError:
        raise DataError(f"{path}: needs more memory than there is ({kind})") from None
    except Exception as error:  # Pillow's decoders raise whatever their parsing stumbles over
        raise DataError(f"{path}: is truncated or damaged ({kind}: {_reason(error)})") from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or next(iter(str(error).splitlines()), type(error).__name__)
