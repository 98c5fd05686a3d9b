"""PNG decoded straight to grey, for the files that a data set of radiographs consists of.

Dimension key: H rows, W columns.

A grey image stored as three equal channels is three times the work for a general decoder. Equal channels stay equal
through PNG's filters, which act on each channel alone, so here one channel is unfiltered and the others only
compared: 12 MiB inflated, 4 MiB unfiltered for 2048 x 2048. Besides, inflating stops at the size that the header
promises, text and colour profiles are never inflated at all, and nothing is printed about damage.
Palettes, 1 to 4 bits, transparency by colour, interlacing and animation are left to Pillow.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numba import njit
from numpy.typing import NDArray
from PIL.Image import Exif
from zlib_ng import zlib_ng as zlib  # inflates in 0.6 of the time

from carpus.formats.grey import orientation

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_MAX_EXIF = 1 << 16
_HEADER_END = 33  # the signature and the first chunk
_PIECE = 1 << 13
_MAX_RATIO = 1100  # deflate reaches 1032


class DamagedError(ValueError):
    """What is wrong with a PNG file, without its name."""


@dataclass
class Header:
    """What stands in a PNG file besides its pixels.

    Args:
        width, height: in pixels, before the orientation is applied.
        depth: bits a channel.
        channels: 1 grey or palette, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
        plain: whether `decode` can read it.
        orientation: the EXIF orientation, 1 to 8.
    """

    width: int
    height: int
    depth: int
    channels: int
    plain: bool
    orientation: int = 1


def header(file: BinaryIO) -> Header:
    """Read the header and walk over the pixels to what may follow them; raises `DamagedError`."""
    result: Header | None = None
    for kind, data in _chunks(file, {b"IHDR", b"eXIf"}):
        if kind == b"IHDR":
            result = _first(data)
        elif result is None:
            break
        elif kind in (b"tRNS", b"acTL"):
            result.plain = False
        elif kind == b"eXIf":
            result.orientation = _orientation(data)
    if result is None:
        raise DamagedError("the header is missing")
    return result


def decode(content: bytes, header: Header) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Decode a file whose header is `plain`.

    Returns:
        (H, W) uint8 or uint16 of a grey file or of equal 8-bit channels, else (H, W, channels); not yet upright.

    Raises:
        DamagedError: a checksum fails, or there are fewer pixels than the header promises.
    """
    step = header.depth // 8
    stride = 1 + header.width * header.channels * step
    if header.height * stride > _MAX_RATIO * len(content):  # before memory is set aside for it
        raise DamagedError(f"{len(content)} bytes cannot hold {header.width} x {header.height} pixels")
    filtered = bytearray(header.height * stride)
    lines = np.frombuffer(filtered, np.uint8).reshape(header.height, stride)
    one = np.empty((header.height, header.width * step), np.uint8)
    equal = header.channels == 1 or (header.channels, step) == (3, 1)
    inflater, filled, done = zlib.decompressobj(), 0, 0
    try:
        for piece in _pieces(content):
            if filled == len(filtered):
                break
            part = inflater.decompress(piece, len(filtered) - filled)
            filtered[filled : filled + len(part)] = part
            filled += len(part)
            if equal:  # while the lines are still in the processor's cache
                ready = filled // stride
                equal, done = _unfilter(lines, done, ready, header.channels, step, one), ready
    except zlib.error as error:  # pyright: ignore[reportGeneralTypeIssues] (its stub says Exception, not type)
        raise DamagedError(str(error)) from error
    if filled < len(filtered):
        raise DamagedError(f"the pixels end in row {filled // stride} of {header.height}")
    if lines[:, 0].max() > 4:
        raise DamagedError("a row has an unknown filter")
    if not equal:
        one = np.empty((header.height, stride - 1), np.uint8)
        _unfilter(lines, 0, header.height, 1, header.channels * step, one)
    pixels = one if step == 1 else one.view(">u2").astype(np.uint16)
    return pixels if equal else pixels.reshape(header.height, header.width, header.channels)


def text(keyword: str, value: str) -> bytes:
    """A chunk of text, both in Latin-1."""
    data = b"tEXt" + keyword.encode("latin-1") + b"\0" + value.encode("latin-1")
    return (len(data) - 4).to_bytes(4, "big") + data + zlib.crc32(data).to_bytes(4, "big")


def with_chunk(content: bytes, chunk: bytes) -> bytes:
    """A file's content with one more chunk, right after the header."""
    return content[:_HEADER_END] + chunk + content[_HEADER_END:]


def has_chunk(file: BinaryIO, chunk: bytes) -> bool:
    """Whether `with_chunk` put `chunk` there."""
    return file.read(_HEADER_END + len(chunk))[_HEADER_END:] == chunk


def _pieces(content: bytes) -> Iterator[memoryview]:
    """The compressed pixels, in pieces so small that what they inflate to stays in the cache and on the heap."""
    for kind, data in _chunks(io.BytesIO(content), {b"IDAT"}):
        if kind == b"IDAT":
            view = memoryview(data)
            yield from (view[start : start + _PIECE] for start in range(0, len(view), _PIECE))


def _chunks(file: BinaryIO, wanted: set[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield every chunk's name, and its data where it is wanted, else nothing; check what is wanted."""
    file.seek(8)
    while True:
        start = file.read(8)
        length, kind = int.from_bytes(start[:4], "big"), start[4:]
        if len(start) < 8 or length >= 1 << 31:
            raise DamagedError("the file ends within the image" if len(start) < 8 else "a chunk's length is impossible")
        if kind not in wanted:
            yield kind, b""
            file.seek(length, io.SEEK_CUR)
            check = file.read(4)
        else:
            data = file.read(length)
            check = file.read(4)
            if len(check) == 4 and int.from_bytes(check, "big") != zlib.crc32(data, zlib.crc32(kind)):
                raise DamagedError(f"the checksum of {kind.decode('ascii', 'replace')} is wrong")
            if len(data) == length:
                yield kind, data
        if len(check) < 4:
            raise DamagedError("the file ends within the image")
        if kind == b"IEND":
            return


def _first(data: bytes) -> Header:
    if len(data) != 13:
        raise DamagedError("the header has the wrong length")
    width, height = int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big")
    depth, colour, compression, filters, interlace = data[8:]
    if not width or not height or depth not in _DEPTHS.get(colour, ()) or compression or filters or interlace > 1:
        raise DamagedError("the header contradicts itself")
    return Header(width, height, depth, _CHANNELS[colour], plain=colour != 3 and depth >= 8 and not interlace)


def _orientation(data: bytes) -> int:
    exif = Exif()
    try:
        exif.load(data[:_MAX_EXIF])
    except Exception:  # a broken EXIF block leaves the pixels as they are
        return 1
    return orientation(exif)


@njit(cache=True, nogil=True)
def _unfilter(lines, first, last, channels, step, out):  # pragma: no cover (compiled)
    """Undo the filters (PNG 3rd edition, section 9) of rows `first` to `last` of the first channel.

    Args:
        lines: (H, 1 + W * channels * step) uint8, a filter number at the head of each row.
        channels: 1, or 3 of one byte, to be compared.
        step: bytes a pixel, of the first channel.
        out: (H, W * step) uint8, rows before `first` already done.

    Returns:
        False as soon as a row has unequal channels.
    """
    count = out.shape[1]
    nothing = np.zeros(count, np.uint8)
    for y in range(first, last):
        kind, line, row = lines[y, 0], lines[y, 1:], out[y]
        up = out[y - 1] if y > 0 else nothing
        if channels == 1:
            for i in range(count):
                row[i] = line[i]
        else:
            unequal = np.uint8(0)
            for i in range(count):
                value = line[3 * i]
                unequal |= (value ^ line[3 * i + 1]) | (value ^ line[3 * i + 2])
                row[i] = value
            if unequal:
                return False
        head = min(step, count)
        if kind == 1:
            for i in range(step, count):
                row[i] += row[i - step]
        elif kind == 2:
            for i in range(count):
                row[i] += up[i]
        elif kind == 3:
            for i in range(head):
                row[i] += up[i] >> 1
            for i in range(step, count):
                row[i] += (np.int32(row[i - step]) + np.int32(up[i])) >> 1
        elif kind == 4:
            for i in range(head):
                row[i] += up[i]
            for i in range(step, count):
                row[i] += _paeth(np.int32(row[i - step]), np.int32(up[i]), np.int32(up[i - step]))
    return True


@njit(nogil=True)
def _paeth(left, above, corner):  # pragma: no cover (compiled)
    """The neighbour nearest to left + above - corner, without a branch that a processor could mispredict."""
    low, high, far = min(left, above), max(left, above), 3 * corner - left - above
    return high if far <= low else (low if far >= high else corner)
