"""DICOM radiographs as grey images: modality table, VOI table or window, MONOCHROME1 inverted.

Dimension key: H rows, W columns.

Only the elements that pixels need are parsed. No message contains a value of the file beyond sizes and the names
that the standard gives to transfer syntaxes and classes, and what pydicom warns or logs is kept silent, because it
quotes values, and values may be patient data.
The 128 bytes before "DICM" are ignored, whatever program they may contain, and never written.
"""

import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread, uid
from pydicom.dataset import FileDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array

from carpus.errors import DataError, warn
from carpus.formats import check_size
from carpus.formats.grey import Grey, luma
from carpus.formats.quiet import quiet

_IMAGE: list[str] = [
    "SOPClassUID", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows",
    "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelSpacing",
    "ImagerPixelSpacing",
]  # fmt: skip
_PIXELS: list[str] = [
    *_IMAGE, "ModalityLUTSequence", "RescaleSlope", "RescaleIntercept", "VOILUTSequence", "VOILUTFunction",
    "WindowCenter", "WindowWidth", "PixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths",
    "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData", "LUTDescriptor", "LUTData",
]  # fmt: skip
_SAMPLES = {
    "MONOCHROME1": 1, "MONOCHROME2": 1, "PALETTE COLOR": 1, "RGB": 3, "YBR_FULL": 3, "YBR_FULL_422": 3, "YBR_ICT": 3,
    "YBR_RCT": 3,
}  # fmt: skip
_PACKAGES = {
    uid.JPEGBaseline8Bit: "pylibjpeg[libjpeg]",
    uid.JPEGExtended12Bit: "pylibjpeg[libjpeg]",
    uid.JPEGLossless: "pylibjpeg[libjpeg]",
    uid.JPEGLosslessSV1: "pylibjpeg[libjpeg]",
    uid.JPEGLSLossless: "pylibjpeg[libjpeg]",
    uid.JPEGLSNearLossless: "pylibjpeg[libjpeg]",
    uid.JPEG2000Lossless: "pylibjpeg[openjpeg]",
    uid.JPEG2000: "pylibjpeg[openjpeg]",
    uid.HTJ2KLossless: "pylibjpeg[openjpeg]",
    uid.HTJ2KLosslessRPCL: "pylibjpeg[openjpeg]",
    uid.HTJ2K: "pylibjpeg[openjpeg]",
}
_SEGMENTATIONS = "1.2.840.10008.5.1.4.1.1.66."  # and registrations; some are younger than pydicom's dictionary
_MAX_INFLATED = 1 << 30
_META_BYTES = 1 << 14  # the transfer syntax stands within the first few hundred


Window = tuple[int, int]
"""The grey levels that are shown black and white, of 0 to 65535 and beyond."""

_WHOLE: Window = (0, 65535)


def read(path: Path, content: bytes) -> NDArray[np.uint16]:
    """Read the first frame of a DICOM file as grey.

    Args:
        path: the file, for messages.
        content: its bytes.

    Returns:
        (H, W) uint16; with a window or VOI table 0 to 65535 is its range, without one it is the range of the
        pixels present (padding left out). An image of one value is 0, or 65535 if MONOCHROME1.

    Raises:
        DataError: a segmentation, a report or another class that is no image, no pixel data, not as long as
            Rows x Columns needs, a decoder is missing, or damaged.
    """
    return _read(path, content, windowed=True)[0]


def unwindowed(path: Path, content: bytes) -> tuple[NDArray[np.uint16], Window]:
    """As `read`, with what lies outside of the file's window, and that window.

    0 to 65535 is the range of the pixels present. A VOI table or a window that is no line is applied, as in `read`, and
    then the window is the whole range.
    """
    return _read(path, content, windowed=False)


def _read(path: Path, content: bytes, windowed: bool) -> tuple[NDArray[np.uint16], Window]:
    with errors(path):
        dataset = _dataset(path, content, _PIXELS)
        frames = int(dataset.get("NumberOfFrames") or 1)
        _check_pixels(path, dataset, frames)
        stored = _decode(path, dataset)
        stored = stored.reshape(dataset.Rows, dataset.Columns, -1)
        kind, window = str(dataset.PhotometricInterpretation), _WHOLE
        if kind == "PALETTE COLOR":
            coloured = apply_color_lut(stored[..., 0], dataset)
            grey = _wide(luma(coloured), 8 * coloured.dtype.itemsize)
        elif stored.shape[2] == 3:
            grey = _wide(luma(stored), int(dataset.BitsStored))
        else:
            grey, window = _shown(path, stored[..., 0], dataset, windowed)
            if kind == "MONOCHROME1":
                grey, window = ~grey, (65535 - window[1], 65535 - window[0])
    if frames > 1:
        warn(f"{path}: has {frames} frames; only the first is read")
    return grey, window


def size(path: Path) -> tuple[int, int]:
    """(Rows, Columns) of a DICOM file from its header."""
    with errors(path):
        dataset = _dataset(path, path, _IMAGE)
        return int(dataset.Rows), int(dataset.Columns)


def spacing_mm(path: Path) -> tuple[float, float] | None:
    """PixelSpacing, or ImagerPixelSpacing (at the detector, not in the hand), in mm as (row, column); None without."""
    with errors(path):
        dataset = _dataset(path, path, _IMAGE)
        for name in ("PixelSpacing", "ImagerPixelSpacing"):
            values = dataset.get(name)
            if not values:
                continue
            row, column = (float(value) for value in values)
            if not (0 < row < 1000 and 0 < column < 1000):
                raise DataError(f"{path}: {name}: expected two positive numbers in mm, has {row} and {column}")
            return row, column
    return None


def _dataset(path: Path, source: bytes | Path, tags: list[str]) -> FileDataset:
    file: Any = io.BytesIO(source) if isinstance(source, bytes) else source
    _check_inflated(path, source)
    dataset = dcmread(file, specific_tags=list(tags), stop_before_pixels=tags is _IMAGE)
    require_image_class(path, str(dataset.get("SOPClassUID")))
    for name in ("Rows", "Columns"):
        if not isinstance(dataset.get(name), int) or dataset.get(name) <= 0:
            raise DataError(f"{path}: {name}: is missing or not a positive number; is this an image?")
    check_size((dataset.Rows, dataset.Columns), str(path))
    return dataset


def require_image_class(path: Path, stated: str) -> None:
    """Refuse what has pixels that are no picture, such as a segmentation or a dose; private classes are believed.

    The standard calls every class of pictures an image: Digital X-Ray Image Storage, Segmentation Storage.
    """
    name = uid.UID(stated).name
    if name == stated:
        name = "a segmentation or registration" if stated.startswith(_SEGMENTATIONS) else "Image"
    if "Image" not in name:
        raise DataError(f"{path}: SOPClassUID: is {name}; expected a radiograph")


def _check_inflated(path: Path, source: bytes | Path) -> None:
    """Refuse a deflated file that would not fit into memory before pydicom inflates all of it."""
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        head = file.read(_META_BYTES)
        if uid.DeflatedExplicitVRLittleEndian.encode() not in head:
            return
        # The deflated part starts after the group 2 elements; their length is the first one's value.
        file.seek(144 + int.from_bytes(head[140:144], "little"))
        inflater, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while not inflater.eof and (rest := inflater.unconsumed_tail or file.read(1 << 16)):
            total += len(inflater.decompress(rest, 1 << 20))
            if total > _MAX_INFLATED:
                raise DataError(f"{path}: inflates to more than {_MAX_INFLATED >> 20} MiB")


def _check_pixels(path: Path, dataset: FileDataset, frames: int) -> None:
    pixels: Any = dataset.get_item("PixelData")  # as read, with the length that the file claims
    claimed, present = getattr(pixels, "length", 0), len(getattr(pixels, "value", None) or b"")
    if present < claimed != 0xFFFFFFFF:
        raise DataError(f"{path}: PixelData: claims {claimed} bytes where the file holds {present}")
    if not dataset.get("PixelData"):
        raise DataError(f"{path}: PixelData: is missing; expected a radiograph")
    if dataset.get("BitsAllocated") not in (1, 8, 16):
        raise DataError(f"{path}: BitsAllocated: expected 8 or 16")
    stored, highest = (dataset.get(name) for name in ("BitsStored", "HighBit"))
    if stored is not None and highest is not None and highest != stored - 1:
        raise DataError(f"{path}: HighBit: expected {stored - 1}, one less than BitsStored, has {highest}")
    samples = _SAMPLES.get(str(dataset.get("PhotometricInterpretation")))
    if samples is None or samples != dataset.get("SamplesPerPixel"):
        raise DataError(
            f"{path}: PhotometricInterpretation: expected MONOCHROME1 or MONOCHROME2 of one sample or RGB of three"
        )
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax not in uid.AllTransferSyntaxes:
        raise DataError(f"{path}: TransferSyntaxUID: is missing or private; expected one of the standard's")
    if not syntax.is_compressed or syntax == uid.DeflatedExplicitVRLittleEndian:
        per_pixel = int(dataset.BitsAllocated) * samples
        if dataset.PhotometricInterpretation == "YBR_FULL_422":
            per_pixel = per_pixel * 2 // 3
        expected = (int(dataset.Rows) * int(dataset.Columns) * frames * per_pixel + 7) // 8
        if not expected <= len(dataset.PixelData) <= expected + expected % 2:
            raise DataError(
                f"{path}: PixelData: has {len(dataset.PixelData)} bytes, but {dataset.Columns} x {dataset.Rows} pixels"
                f" of {per_pixel} bits in {frames} frames need {expected}"
            )
        return
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise DataError(f"{path}: TransferSyntaxUID: {syntax.name} is not a still image's compression") from None
    if not decoder.is_available:
        raise DataError(
            f"{path}: PixelData: is compressed as {syntax.name}; to read it: pip install '{_package(syntax)}'"
        )


def _decode(path: Path, dataset: FileDataset) -> NDArray[Any]:
    try:
        return pixel_array(dataset, index=0)
    except RuntimeError:  # every installed decoder gave up
        syntax = dataset.file_meta.TransferSyntaxUID
        hint = f"its {syntax.name} needs another decoder: pip install '{_package(syntax)}'"
        raise DataError(f"{path}: PixelData: is damaged, or {hint}") from None


def _package(syntax: uid.UID) -> str:
    return _PACKAGES.get(syntax, "pylibjpeg[all]")


def _shown(path: Path, stored: NDArray[Any], dataset: FileDataset, windowed: bool) -> tuple[NDArray[np.uint16], Window]:
    """Stored values to presentation values, 0 to 65535, and the file's window where it is not applied.

    Every step is a function of the stored value alone, so it is computed once for each value there is (at most
    65536) and looked up for each pixel.
    """
    lowest, highest = int(stored.min()), int(stored.max())
    steps = np.arange(lowest, highest + 1)
    padding = dataset.get("PixelPaddingValue")
    values = _modality(path, steps, dataset)
    if not np.isfinite(values).all():
        raise DataError(f"{path}: RescaleSlope: leads out of the numbers that can be computed with")
    present = stored[stored != padding] if padding is not None else stored
    # As Python's numbers, since a difference of two of 16 bits, signed, need not have room in 16.
    ends = tuple(values[int(end) - lowest] for end in (present.min(), present.max())) if present.size else (0, 0)
    bottom, top, window = min(ends), max(ends), _WHOLE
    framed = dataset.get("WindowCenter") is not None and dataset.get("WindowWidth") is not None
    if dataset.get("VOILUTSequence"):
        unit = _table(path, values, dataset, "VOILUTSequence", scale=True)
    elif framed and (windowed or top <= bottom or _line(dataset) is None):
        unit = _window(path, values, dataset)
    else:
        unit = np.clip((values - bottom) / (top - bottom), 0, 1) if top > bottom else np.zeros(len(values))
        if framed:
            _window(path, values, dataset)  # refuses what is no window
            black, white = (np.clip((end - bottom) / (top - bottom), -1e4, 1e4) for end in _line(dataset) or ends)
            window = round(65535 * float(black)), round(65535 * float(white))
    shades = np.rint(unit * 65535).astype(np.uint16)
    return shades[stored.astype(np.int32) - np.int32(lowest)], window


def _modality(path: Path, steps: NDArray[np.int64], dataset: FileDataset) -> NDArray[Any]:
    if dataset.get("ModalityLUTSequence"):
        return _table(path, steps, dataset, "ModalityLUTSequence", scale=False)
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    return steps * float(1 if slope is None else slope) + float(intercept or 0)


def _table(path: Path, values: NDArray[Any], dataset: FileDataset, name: str, scale: bool) -> NDArray[np.float64]:
    """The first table of a sequence (PS3.3 C.11.1, C.11.2); values beyond its ends take the first or last entry."""
    item = dataset[name].value[0]
    entries, first, bits = (int(number) for number in item.LUTDescriptor)
    entries, data = entries or 1 << 16, item.LUTData
    if isinstance(data, bytes):
        word = "u1" if len(data) < 2 * entries else "<u2" if dataset.original_encoding[1] else ">u2"
        data = np.frombuffer(data, word)
    table = np.atleast_1d(np.asarray(data, np.float64))[:entries]
    if not 1 <= bits <= 16 or len(table) < entries:
        raise DataError(f"{path}: {name}: expected {entries} entries of 1 to 16 bits, has {len(table)} of {bits}")
    found = table[np.clip(np.rint(values) - first, 0, entries - 1).astype(np.int64)]
    return np.clip(found / ((1 << bits) - 1), 0, 1) if scale else found


def _window(path: Path, values: NDArray[np.float64], dataset: FileDataset) -> NDArray[np.float64]:
    """The first window of the file (PS3.3 C.11.2.1.2 and C.11.2.1.3), as 0 to 1."""
    center, width = (float(np.atleast_1d(dataset[name].value)[0]) for name in ("WindowCenter", "WindowWidth"))
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    if not (np.isfinite(center) and np.isfinite(width)) or width < (1 if function == "LINEAR" else 1e-9):
        raise DataError(f"{path}: WindowWidth: expected a positive number, has {width} around {center}")
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
        if width == 0:
            return (values > center).astype(np.float64)
    elif function != "LINEAR_EXACT":
        raise DataError(f"{path}: VOILUTFunction: expected LINEAR, LINEAR_EXACT or SIGMOID")
    return np.clip((values - center) / width + 0.5, 0, 1)


def _line(dataset: FileDataset) -> tuple[float, float] | None:
    """The values that the first window of the file shows black and white; None where between them there is no line."""
    center, width = (float(np.atleast_1d(dataset[name].value)[0]) for name in ("WindowCenter", "WindowWidth"))
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    if function not in ("LINEAR", "LINEAR_EXACT") or not width > 0:
        return None
    return center - width / 2, center + width / 2


def _wide(pixels: Grey, bits: int) -> NDArray[np.uint16]:
    """Values of `bits` bits to 0 to 65535."""
    top = (1 << bits) - 1
    return (np.minimum(pixels, top).astype(np.uint32) * 65535 // top).astype(np.uint16)


@contextmanager
def errors(path: Path) -> Iterator[None]:
    """Silence pydicom and turn what its parsing raises into one `DataError` that quotes nothing."""
    try:
        with quiet(), np.errstate(all="ignore"):
            yield
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except MemoryError:
        raise DataError(f"{path}: needs more memory than there is (DICOM)") from None
    except RecursionError:
        raise DataError(f"{path}: sequences are nested too deeply for a radiograph") from None
    except EOFError:
        raise DataError(f"{path}: is truncated (DICOM)") from None
    except Exception as error:
        raise DataError(f"{path}: is truncated or damaged (DICOM: {type(error).__name__})") from None
