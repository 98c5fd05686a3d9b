"""Every image becomes one upright grey channel, or one error that names the file."""

import io
import itertools
import os
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from carpus.errors import DataError, DataWarning
from carpus.formats import MAX_PIXELS, images

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (37, 53), np.uint8)
WIDE = RNG.integers(0, 65536, (37, 53), np.uint16)
COLOUR = RNG.integers(0, 256, (37, 53, 3), np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(pixels: np.ndarray, filters=(0, 1, 2, 3, 4), extra: bytes = b"", pieces: int = 3) -> bytes:
    """Encode by the book, the filters taken in turn, as the reader's independent counterpart."""
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    step = channels * pixels.itemsize
    rows = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder(">"))).view(np.uint8).reshape(height, -1)
    above = np.zeros(rows.shape[1], np.int64)
    lines = []
    for y, row in enumerate(rows.astype(np.int64)):
        left = np.concatenate([np.zeros(step, np.int64), row])[: len(row)]
        corner = np.concatenate([np.zeros(step, np.int64), above])[: len(row)]
        near = np.abs(np.stack([above - corner, left - corner, left + above - 2 * corner])).argmin(0)
        guesses = [0, left, above, (left + above) // 2, np.choose(near, [left, above, corner])]
        kind = filters[y % len(filters)]
        lines.append(bytes([kind]) + ((row - guesses[kind]) % 256).astype(np.uint8).tobytes())
        above = row
    packed = zlib.compress(b"".join(lines))
    cuts = [len(packed) * k // pieces for k in range(pieces + 1)]
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    head = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, colour, 0, 0, 0)
    data = b"".join(chunk(b"IDAT", packed[a:b]) for a, b in itertools.pairwise(cuts))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + data + chunk(b"IEND", b"")


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def luma(colour: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(colour).convert("L"))


def three(grey: np.ndarray) -> np.ndarray:
    return np.stack([grey] * 3, axis=2)


@pytest.fixture
def put(tmp_path):
    def put(content: bytes, name: str = "image.png"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return put


# What comes back


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_grey_comes_back_exactly_whatever_the_suffix(put, kind):
    path = put(encoded(Image.fromarray(GREY), kind), "image.jpg")
    np.testing.assert_array_equal(images.read(path), GREY)
    np.testing.assert_array_equal(images.read(path, 16), GREY.astype(np.uint16) * 257)
    assert images.size(path) == GREY.shape
    assert images.spacing_mm(path) is None


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_equal_channels_are_that_channel_and_others_their_luma(put, kind):
    np.testing.assert_array_equal(images.read(put(encoded(Image.fromarray(three(GREY)), kind))), GREY)
    np.testing.assert_array_equal(images.read(put(encoded(Image.fromarray(COLOUR), kind))), luma(COLOUR))


@pytest.mark.parametrize("colour", [GREY, three(GREY)])
def test_jpeg_is_what_pillow_decodes(put, colour):
    content = encoded(Image.fromarray(colour), "JPEG", quality=90)
    expected = np.asarray(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(images.read(put(content)), expected if expected.ndim == 2 else expected[..., 0])


@pytest.mark.parametrize("filters", [(0,), (1,), (2,), (3,), (4,), (0, 1, 2, 3, 4), (4, 3, 2, 1, 0)])
@pytest.mark.parametrize("pixels", [GREY, WIDE, three(GREY), three(WIDE)], ids=["8", "16", "rgb8", "rgb16"])
def test_every_png_filter_and_depth_is_undone(put, pixels, filters):
    path = put(png(pixels, filters))
    grey = pixels if pixels.ndim == 2 else pixels[..., 0]
    np.testing.assert_array_equal(images.read(path, 8 * pixels.itemsize), grey)


@given(
    st.integers(1, 12), st.integers(1, 12), st.integers(1, 4), st.sampled_from([np.uint8, np.uint16]), st.integers(1, 9)
)
@settings(max_examples=100, deadline=None)
def test_png_of_every_size_is_read(tmp_path_factory, height, width, channels, dtype, pieces):
    shape = (height, width) if channels == 1 else (height, width, channels)
    pixels = np.random.default_rng(height * 100 + width).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    if channels in (2, 4):
        pixels[..., -1] = np.iinfo(dtype).max
    path = tmp_path_factory.getbasetemp() / "size.png"
    path.write_bytes(png(pixels, pieces=pieces))
    found = images.read(path, 8 * pixels.itemsize)
    colours = pixels.reshape(height, width, channels)[..., : 1 if channels < 3 else 3].astype(np.float64)
    expected = colours @ ([0.299, 0.587, 0.114] if channels > 2 else [1.0])
    np.testing.assert_allclose(found, expected, atol=1)
    assert images.size(path) == found.shape == (height, width)


def test_16_bits_are_scaled_and_never_wrapped(put):
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    for content in (png(ramp), encoded(Image.fromarray(ramp), "TIFF")):
        path = put(content)
        np.testing.assert_array_equal(images.read(path, 16), ramp)
        small = images.read(path)
        assert small.dtype == np.uint8
        np.testing.assert_allclose(small, ramp / 257.0, atol=0.5)
        assert (np.diff(small.ravel().astype(int)) >= 0).all()


def test_16_bits_of_which_12_are_used_give_a_warning(put):
    with pytest.warns(DataWarning, match="12 of its 16 bits"):
        images.read(put(png(WIDE // 16)))


def test_16_bit_colour_tiff_keeps_its_bits(tmp_path):
    import cv2

    path = tmp_path / "a.tif"
    cv2.imwrite(str(path), three(WIDE))
    np.testing.assert_array_equal(images.read(path, 16), WIDE)


def test_a_16_bit_tiff_whose_zero_is_white_is_inverted(put):
    content = encoded(Image.fromarray(WIDE), "TIFF", tiffinfo={262: 0})
    np.testing.assert_array_equal(images.read(put(content), 16), ~WIDE)


def test_signed_and_floating_tiff_are_refused(put):
    for pixels in (GREY.astype(np.float32), GREY.astype(np.int32)):
        with pytest.raises(DataError, match="expected 1 to 16 bits"):
            images.read(put(encoded(Image.fromarray(pixels), "TIFF")))


def test_palettes_single_bits_and_cmyk_are_converted(put):
    palette = Image.fromarray(COLOUR).quantize(16)
    expected = luma(np.asarray(palette.convert("RGB")))
    for kind in ("PNG", "BMP", "TIFF"):
        np.testing.assert_array_equal(images.read(put(encoded(palette, kind))), expected)
        single = images.read(put(encoded(Image.fromarray(GREY > 99), kind)))
        np.testing.assert_array_equal(single, (GREY > 99) * np.uint8(255))
    cmyk = Image.fromarray(three(GREY)).convert("CMYK")
    np.testing.assert_allclose(images.read(put(encoded(cmyk, "TIFF"))), GREY, atol=1)
    np.testing.assert_allclose(images.read(put(encoded(cmyk, "JPEG", quality=100))).astype(int), GREY, atol=8)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [2, 4])
def test_transparency_is_laid_on_black_with_a_warning(put, dtype, channels):
    top = np.iinfo(dtype).max
    pixels = np.full((4, 6, channels), top, dtype)
    np.testing.assert_array_equal(images.read(put(png(pixels)), 8 * pixels.itemsize), pixels[..., 0])
    pixels[:2, :, -1] = 0
    path = put(png(pixels))
    with pytest.warns(DataWarning, match="laid on black"):
        found = images.read(path, 8 * pixels.itemsize)
    assert (found[:2] == 0).all()
    assert (found[2:] == top).all()


def test_a_transparent_palette_entry_is_laid_on_black(put):
    palette = Image.fromarray(GREY // 64).convert("P")
    path = put(encoded(palette, "PNG", transparency=3))
    with pytest.warns(DataWarning, match="laid on black"):
        assert (images.read(path)[GREY // 64 == 3] == 0).all()


def test_interlaced_png_is_read(put):
    stream = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 1))
    content = stream + chunk(b"IDAT", zlib.compress(b"\0\x7b")) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(images.read(put(content)), [[123]])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied_exactly_once(put, kind, orientation):
    scene = np.zeros((48, 80), np.uint8)
    scene[:24, :40], scene[:24, 40:], scene[24:, :40] = 240, 160, 80
    stored = {
        1: scene, 2: scene[:, ::-1], 3: scene[::-1, ::-1], 4: scene[::-1],
        5: scene.T, 6: np.rot90(scene), 7: scene[::-1, ::-1].T, 8: np.rot90(scene, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x112] = orientation
    path = put(encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif))
    np.testing.assert_allclose(images.read(path).astype(int), scene, atol=6)
    assert images.size(path) == scene.shape


def test_a_nonsensical_orientation_changes_nothing(put):
    exif = Image.Exif()
    exif[0x112] = 99
    assert images.read(put(encoded(Image.fromarray(GREY), "PNG", exif=exif))).shape == GREY.shape
    assert images.read(put(png(GREY, extra=chunk(b"eXIf", b"rubbish")))).shape == GREY.shape


@pytest.mark.parametrize("kind", ["TIFF", "PNG"])
def test_of_several_pages_the_first_is_read_with_a_warning(put, kind):
    pages = [Image.fromarray(GREY), Image.fromarray(255 - GREY), Image.fromarray(GREY // 2)]
    path = put(encoded(pages[0], kind, save_all=True, append_images=pages[1:]))
    with pytest.warns(DataWarning, match="has 3 pages; only the first is read"):
        np.testing.assert_array_equal(images.read(path), GREY)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2047, 2049)])
def test_unusual_sizes_survive_a_round_trip(tmp_path, size):
    pixels = np.random.default_rng(1).integers(0, 256, size, np.uint8)
    for rgb in (False, True):
        images.write(tmp_path / "a.png", pixels, rgb=rgb)
        np.testing.assert_array_equal(images.read(tmp_path / "a.png"), pixels)
        assert images.size(tmp_path / "a.png") == size


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF"])
@pytest.mark.parametrize("value", [0, 90, 255])
def test_a_constant_image_is_constant(put, kind, value):
    found = images.read(put(encoded(Image.new("L", (40, 30), value), kind)))
    assert (found == value).all()


# What is written


@pytest.mark.parametrize("pixels", [GREY, WIDE], ids=["8", "16"])
def test_written_grey_is_read_back_by_us_and_by_pillow(tmp_path, pixels):
    path = tmp_path / "new" / "a.png"
    for rgb in (False, True):
        images.write(path, pixels, rgb=rgb)
        np.testing.assert_array_equal(images.read(path, 8 * pixels.itemsize), pixels)
    images.write(path, GREY, rgb=True)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), three(GREY))
    assert [entry.name for entry in path.parent.iterdir()] == ["a.png"]


def test_written_colour_has_its_channels_in_order(tmp_path):
    images.write(tmp_path / "a.png", COLOUR)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), COLOUR)


@pytest.mark.parametrize("wrong", [GREY.astype(float), np.zeros((0, 4), np.uint8), np.zeros((2, 2, 2), np.uint8)])
def test_what_is_no_image_is_not_written(tmp_path, wrong):
    with pytest.raises(DataError, match=r"a\.png: image: expected"):
        images.write(tmp_path / "a.png", wrong)
    assert list(tmp_path.iterdir()) == []


# Bad input


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "is empty"),
        (b"GIF89a" + bytes(200), "a GIF image"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "WebP"),
        (b"\x93NUMPY\x01\0", "a NumPy array"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"%PDF-1.7", "a PDF document"),
        (b"MZ" + bytes(300), "a Windows program"),
        (b'{"annotations": []}', "is text"),
        (bytes(500), "unknown content"),
    ],
)
def test_another_format_is_refused_by_what_it_is(put, content, found):
    path = put(content)
    for verb in (images.read, images.size, images.spacing_mm):
        with pytest.raises(DataError, match=found) as error:
            verb(path)
        assert str(error.value).startswith(f"{path}: ")


def test_a_missing_file_a_folder_and_a_pipe_are_errors(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("missing.png", ".", "pipe.png", "a\0b.png"):
        with pytest.raises(DataError):
            images.read(f"{tmp_path}/{name}")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF"])
def test_a_truncated_file_is_an_error_naming_it(put, kind):
    whole = encoded(Image.fromarray(GREY), kind)
    for kept in (0.999 if kind == "PNG" else 0.9, 0.5, 0.1):
        path = put(whole[: int(len(whole) * kept)])
        with pytest.raises(DataError, match="truncated or damaged") as error:
            images.read(path)
        assert str(error.value).startswith(f"{path}: ")


def test_60000_x_60000_is_refused_before_it_is_decoded(put):
    grey = Image.fromarray(GREY)
    png_head = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    tiff = encoded(grey, "TIFF")
    for tag in (256, 257):
        at = next(at for at in range(len(tiff)) if tiff[at : at + 2] == struct.pack("<H", tag))
        tiff = tiff[:at] + struct.pack("<HHII", tag, 4, 1, 60000) + tiff[at + 12 :]
    claims = {
        "a.png": png(GREY)[:8] + chunk(b"IHDR", png_head) + png(GREY)[33:],
        "a.bmp": encoded(grey, "BMP").replace(struct.pack("<ii", 53, 37), struct.pack("<ii", 60000, 60000)),
        "a.jpg": encoded(grey, "JPEG").replace(struct.pack(">HH", 37, 53), struct.pack(">HH", 60000, 60000)),
        "a.tif": tiff,
    }
    tracemalloc.start()
    for name, content in claims.items():
        path = put(content, name)
        for verb in (images.read, images.size):
            with pytest.raises(DataError, match=f"expected 1 to {MAX_PIXELS} pixels"):
                verb(path)
    assert tracemalloc.get_traced_memory()[1] < 50 << 20
    tracemalloc.stop()


def test_a_claimed_size_that_the_file_cannot_hold_takes_no_memory(put):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 16000, 16000, 16, 6, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")
    tracemalloc.start()
    with pytest.raises(DataError, match="cannot hold 16000 x 16000"):
        images.read(put(content))
    assert tracemalloc.get_traced_memory()[1] < 50 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("depth", [1, 8])
@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP", b"iTXt"])
def test_compressed_bombs_beside_the_pixels_stay_packed(put, kind, depth):
    bomb = zlib.compress(bytes(200 << 20), 9)
    middle = b"\0\x01\0\0\0" if kind == b"iTXt" else b"\0\0"
    pixels = GREY > 99 if depth == 1 else GREY
    whole = encoded(Image.fromarray(pixels), "PNG")
    content = whole[:33] + chunk(kind, b"name" + middle + bomb) + whole[33:]
    path = put(content)
    tracemalloc.start()
    start = time.perf_counter()
    try:
        assert images.read(path).shape == GREY.shape
    except DataError:
        assert depth == 1  # Pillow, which reads this depth, refuses it
    assert tracemalloc.get_traced_memory()[1] < 50 << 20
    tracemalloc.stop()
    assert time.perf_counter() - start < 5


def test_pixels_that_inflate_beyond_the_header_are_cut(put):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(100 << 20), 9))
    path = put(b"\x89PNG\r\n\x1a\n" + head + data + chunk(b"IEND", b""))
    tracemalloc.start()
    assert images.read(path).shape == (2, 2)
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()


def test_a_flipped_bit_in_the_pixels_of_a_png_is_noticed(put):
    whole = bytearray(png(GREY))
    whole[len(whole) // 2] ^= 1
    with pytest.raises(DataError, match="checksum of IDAT"):
        images.read(put(bytes(whole)))


def test_an_unknown_filter_is_damage(put):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 8, 0, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"\x09ab"))
    with pytest.raises(DataError, match="unknown filter"):
        images.read(put(b"\x89PNG\r\n\x1a\n" + head + data + chunk(b"IEND", b"")))


WHOLE = {
    "png": png(three(GREY)),
    "palette": encoded(Image.fromarray(COLOUR).quantize(16), "PNG"),
    "jpeg": encoded(Image.fromarray(COLOUR), "JPEG"),
    "bmp": encoded(Image.fromarray(COLOUR), "BMP"),
    "tiff": encoded(Image.fromarray(WIDE), "TIFF"),
    "tiff-packed": encoded(Image.fromarray(COLOUR), "TIFF", compression="tiff_lzw"),
    "tiff-colour": encoded(Image.fromarray(COLOUR).quantize(7), "TIFF", compression="tiff_deflate"),
}


def reads_or_refuses(path) -> bool:
    try:
        found = images.read(path)
    except DataError as error:
        return str(path) in str(error)
    except DataWarning:
        return True
    return found.dtype == np.uint8 and found.ndim == 2 and found.size > 0


@given(
    st.sampled_from(sorted(WHOLE)),
    st.floats(0, 1),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 7)), max_size=6),
)
@settings(max_examples=150, deadline=None)
def test_damaged_files_give_an_image_or_an_error(tmp_path_factory, name, kept, flips):
    content = bytearray(WHOLE[name])
    for place, bit in flips:
        # Squared, so that headers, where parsers stumble, are hit more often than pixels.
        content[int(place**2 * len(content))] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content if kept > 0.5 else content[: int(2 * kept * len(content))])
    assert reads_or_refuses(path)
    try:
        images.size(path)
    except DataError as error:
        assert str(path) in str(error)  # noqa: PT017


@given(
    st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*", b""]), st.binary(max_size=400)
)
@settings(max_examples=150, deadline=None)
def test_random_bytes_give_an_image_or_an_error(tmp_path_factory, magic, content):
    path = tmp_path_factory.getbasetemp() / "random"
    path.write_bytes(magic + content)
    assert reads_or_refuses(path)


def test_nothing_is_printed_about_damage(tmp_path):
    for name, content in WHOLE.items():
        for kept in (0.4, 0.95):
            (tmp_path / f"{name}-{kept}").write_bytes(content[: int(len(content) * kept)])
        for place in (0.2, 0.5, 0.8):
            at = int(len(content) * place)
            (tmp_path / f"{name}-at-{place}").write_bytes(content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :])
    program = (
        "import sys\nfrom pathlib import Path\nfrom carpus.errors import DataError\nfrom carpus.formats import images\n"
        "for path in Path(sys.argv[1]).iterdir():\n"
        "    try:\n        images.read(path)\n    except DataError:\n        pass\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, check=True)
    assert done.stdout + done.stderr == b""


def test_threads_lose_neither_images_nor_warnings(put):
    pages = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    path = put(encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
    with pytest.warns(DataWarning) as seen, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(images.read, [path] * 40))
    assert len(seen) == 40
    assert all((image == GREY).all() for image in found)


# Finding


def test_images_are_found_in_order_of_their_paths(tmp_path):
    content = png(GREY)
    shown = ["A/b.png", "A/c.JPG", "a-b/x.tif", "b/c/d", "b.bmp", "z.dcm"]
    for name in [*shown, ".hidden.png", ".git/a.png", "__MACOSX/a.png", "notes.txt", "b/labels.json", "DICOMDIR"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"text" if name.endswith(("txt", "json")) else content)
    assert [path.relative_to(tmp_path).as_posix() for path in images.find(tmp_path)] == sorted(shown)
    assert images.find(tmp_path / "b.bmp") == [tmp_path / "b.bmp"]
    (tmp_path / "empty").mkdir()
    assert images.find(tmp_path / "empty") == []


def test_a_missing_root_is_an_error(tmp_path):
    for name in ("missing", "a\0b"):
        with pytest.raises(DataError, match="cannot be read"):
            images.find(f"{tmp_path}/{name}")


def test_links_out_of_the_folder_are_refused_and_others_allowed(tmp_path):
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    (tmp_path / "out.png").write_bytes(png(GREY))
    (data / "a.png").write_bytes(png(GREY))
    (data / "sub" / "again.png").symlink_to("../a.png")
    (data / "round").symlink_to(data)
    assert [path.name for path in images.find(data)] == ["a.png", "again.png"]
    for name, target in (
        ("leak.png", tmp_path / "out.png"),
        ("leak", tmp_path),
        ("loop.png", "loop.png"),
        ("gone.png", "x"),
    ):
        (data / name).symlink_to(target)
        with pytest.raises(DataError, match=name):
            images.find(data)
        (data / name).unlink()


@pytest.mark.parametrize(
    ("first", "second"), [("a.png", "A.PNG"), ("ü.png", "u\u0308.png"), ("straße.png", "STRASSE.png")]
)
def test_names_equal_up_to_case_or_unicode_form_are_refused(tmp_path, first, second):
    for name in (first, second):
        (tmp_path / name).write_bytes(png(GREY))
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this file system cannot hold both")
    with pytest.raises(DataError, match="only in case or Unicode form") as error:
        images.find(tmp_path)
    assert first in str(error.value)
    assert second in str(error.value)


def test_faults_are_all_handed_over_and_their_files_left_out(tmp_path):
    for name in ("a.png", "A.PNG", "sub/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(png(GREY))
    if len(list(tmp_path.iterdir())) < 3:
        pytest.skip("this file system cannot hold both names")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "sub" / "out.png").symlink_to(__file__)
    faults = []
    found = images.find(tmp_path, fault=faults.append)
    assert [path.name for path in found] == ["A.PNG", "b.png"]
    messages = [str(fault) for fault in faults]
    assert len(messages) == 3
    for name, message in (("a.png", "only in case"), ("loop.png", "leads nowhere"), ("out.png", "leads out of")):
        assert any(f"{name}: " in one and message in one for one in messages)


def test_a_missing_root_is_raised_whatever_is_done_with_faults(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        images.find(tmp_path / "missing", fault=lambda error: None)
