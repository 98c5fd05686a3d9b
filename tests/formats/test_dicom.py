"""DICOM radiographs: from stored values to grey, and one error, without the patient's data, for what cannot be read."""

import io
import re
import struct
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset

from carpus.errors import DataError, DataWarning
from carpus.formats import dicom, images

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)
NAME = "Mustermann^Erika"


def dataset(pixels=RAMP, bits=12, photometric="MONOCHROME2", **elements) -> Dataset:
    result = Dataset()
    result.file_meta = FileMetaDataset()
    result.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    result.file_meta.MediaStorageSOPClassUID = uid.DigitalXRayImageStorageForPresentation
    result.file_meta.MediaStorageSOPInstanceUID = result.SOPInstanceUID = "1.2.3"
    result.SOPClassUID = uid.DigitalXRayImageStorageForPresentation
    result.PatientName, result.PatientID, result.PatientBirthDate = NAME, "ID-4711", "19500101"
    result.Rows, result.Columns = pixels.shape[:2]
    result.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    if pixels.ndim == 3:
        result.PlanarConfiguration = 0
    result.PhotometricInterpretation = photometric
    result.BitsAllocated, result.BitsStored, result.HighBit = 8 * pixels.itemsize, bits, bits - 1
    result.PixelRepresentation = int(pixels.dtype.kind == "i")
    result.PixelData = pixels.tobytes()
    result["PixelData"].VR = "OW"
    for name, value in elements.items():
        setattr(result, name, value)
    return result


def saved(content: Dataset, path: Path, **options) -> Path:
    content.save_as(path, enforce_file_format=True, **options)
    return path


def bytes_of(content: Dataset) -> bytes:
    stream = io.BytesIO()
    content.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


@pytest.fixture
def put(tmp_path):
    def put(pixels=RAMP, bits=12, photometric="MONOCHROME2", **elements):
        return saved(dataset(pixels, bits, photometric, **elements), tmp_path / "a.dcm")

    return put


def error_of(path) -> str:
    with pytest.raises(DataError) as error:
        images.read(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "Mustermann" not in str(error.value)
    return str(error.value)[len(str(path)) + 2 :]


def expected(unit: np.ndarray) -> np.ndarray:
    return np.clip(unit, 0, 1) * 65535


def table(first: int, entries: np.ndarray, bits: int) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries) % 65536, first, bits])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return item


# Stored values to grey


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_without_a_window_the_range_of_the_pixels_becomes_the_whole_range(put, bits):
    top = (1 << bits) - 1
    pixels = np.linspace(top // 4, top // 2, 30 * 20).round().reshape(30, 20)
    path = put(pixels.astype(np.uint8 if bits == 8 else np.uint16), bits)
    unit = (pixels - pixels.min()) / (pixels.max() - pixels.min())
    np.testing.assert_allclose(images.read(path, 16), expected(unit), atol=0.51)
    np.testing.assert_allclose(images.read(path), unit * 255, atol=0.51)
    assert images.read(path).dtype == np.uint8
    assert images.size(path) == (30, 20)


@pytest.mark.parametrize("kind", [np.int16, np.int8])
def test_signed_values_that_span_more_than_half_their_kind_are_a_ramp(put, kind):
    end = 100 if kind is np.int8 else 20_000
    pixels = np.linspace(-end, end, 21).astype(kind).reshape(3, 7)
    ramp = np.rint((pixels.astype(float) + end) / (2 * end) * 65535)
    bits = 8 * pixels.itemsize
    np.testing.assert_allclose(images.read(put(pixels, bits), 16), ramp, atol=1)
    framed = put(pixels, bits, WindowCenter=0, WindowWidth=50)
    np.testing.assert_allclose(images.unwindowed(framed)[0], ramp, atol=1)


def test_signed_values_below_zero_are_darkest(put):
    np.testing.assert_array_equal(images.read(put(RAMP.astype(np.int16) - 2048), 16), images.read(put(), 16))


def test_monochrome1_is_inverted(put):
    straight, inverted = images.read(put(), 16), images.read(put(photometric="MONOCHROME1"), 16)
    np.testing.assert_array_equal(inverted, ~straight)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_left_out_of_the_range_and_becomes_its_nearer_end(put, photometric):
    pixels = RAMP % 1000 + 1000
    pixels[0] = 0
    found = images.read(put(pixels, photometric=photometric, PixelPaddingValue=0), 16)
    assert found[1:].min() == 0
    assert found[1:].max() == 65535
    assert (found[0] == (65535 if photometric == "MONOCHROME1" else 0)).all()


def test_the_linear_window_follows_the_standard(put):
    # PS3.3 C.11.2.1.2.1: (x - (c - 0.5)) / (w - 1) + 0.5
    found = images.read(put(WindowCenter=2048, WindowWidth=1024), 16)
    np.testing.assert_allclose(found, expected((RAMP - 2047.5) / 1023 + 0.5), atol=0.51)
    assert (images.read(put(WindowCenter=2048, WindowWidth=1), 16) == (RAMP >= 2048) * 65535).all()


def test_the_exact_linear_and_the_sigmoid_window_follow_the_standard(put):
    exact = images.read(put(WindowCenter=2048, WindowWidth=1024, VOILUTFunction="LINEAR_EXACT"), 16)
    np.testing.assert_allclose(exact, expected((RAMP - 2048.0) / 1024 + 0.5), atol=0.51)
    sigmoid = images.read(put(WindowCenter=2048, WindowWidth=1024, VOILUTFunction="SIGMOID"), 16)
    np.testing.assert_allclose(sigmoid, expected(1 / (1 + np.exp(-4 * (RAMP - 2048.0) / 1024))), atol=0.51)


@pytest.mark.parametrize(
    "elements",
    [
        {"WindowCenter": 2048, "WindowWidth": 301},
        {"WindowCenter": 2048, "WindowWidth": 300, "VOILUTFunction": "LINEAR_EXACT"},
        {"WindowCenter": 100, "WindowWidth": 9000},
        {"WindowCenter": -1000, "WindowWidth": 500, "RescaleSlope": -1, "RescaleIntercept": 0},
        {"WindowCenter": 2048, "WindowWidth": 301, "photometric": "MONOCHROME1"},
        {"WindowCenter": 2048, "WindowWidth": 301, "VOILUTFunction": "SIGMOID"},
        {"WindowCenter": 2048, "WindowWidth": 1},
        {},
    ],
)
def test_without_its_window_an_image_gives_the_same_through_it(put, elements):
    path = put(**elements)
    grey, (black, white) = images.unwindowed(path)
    assert grey.dtype == np.uint16
    through = np.clip((grey.astype(np.float64) - black) / (white - black), 0, 1)
    # Levels are whole numbers, of which a narrow window has few.
    np.testing.assert_allclose(through, images.read(path, 16) / 65535, atol=1.5 / (white - black) + 1 / 65535)


def test_without_its_window_an_image_keeps_what_lies_beyond(put):
    grey, (black, white) = images.unwindowed(put(WindowCenter=2048, WindowWidth=301))
    np.testing.assert_array_equal(grey, images.read(put(), 16))
    assert 0 < black < 65535 // 2 < white < 65535


def test_of_several_windows_the_first_is_used(put):
    several = images.read(put(WindowCenter=[2048, 9], WindowWidth=[1024, 9]), 16)
    np.testing.assert_array_equal(several, images.read(put(WindowCenter=2048, WindowWidth=1024), 16))


def test_the_window_counts_in_rescaled_values(put):
    found = images.read(put(RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=3096, WindowWidth=2047), 16)
    np.testing.assert_allclose(found, expected((RAMP * 2.0 - 1000 - 3095.5) / 2046 + 0.5), atol=0.51)


def test_a_negative_slope_turns_dark_and_bright_around(put):
    turned = images.read(put(RescaleSlope=-1, RescaleIntercept=0), 16)
    np.testing.assert_array_equal(turned, ~images.read(put(), 16))


def test_a_voi_table_is_looked_up_and_comes_before_the_window(put):
    entries = (np.arange(256) ** 2 // 64).astype(np.uint16)
    path = put(VOILUTSequence=[table(1000, entries, 10)], WindowCenter=1, WindowWidth=1)
    values = entries[np.clip(RAMP.astype(int) - 1000, 0, 255)]
    np.testing.assert_allclose(images.read(path, 16), expected(values / 1023), atol=0.51)


def test_an_8_bit_voi_table_does_not_wrap_its_index(put):
    path = put(VOILUTSequence=[table(0, np.arange(4096) >> 4, 8)])
    np.testing.assert_allclose(images.read(path, 16), expected((RAMP >> 4) / 255), atol=0.51)


def test_a_modality_table_replaces_the_rescale(put):
    path = put(ModalityLUTSequence=[table(0, 4095 - np.arange(4096), 12)], RescaleSlope=5, RescaleIntercept=5)
    np.testing.assert_array_equal(images.read(path, 16), ~images.read(put(), 16))


def test_bits_above_those_stored_do_not_count(put):
    np.testing.assert_array_equal(images.read(put(RAMP | 0x8000), 16), images.read(put(), 16))


def test_equal_colours_are_that_grey_and_others_their_luma(put):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(images.read(put(np.stack([grey] * 3, 2), 8, "RGB")), grey)
    colours = np.zeros((1, 3, 3), np.uint8)
    colours[0] = np.eye(3) * 255
    np.testing.assert_array_equal(images.read(put(colours, 8, "RGB")), [[76, 150, 29]])


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("shape", [(1, 1), (7, 11)])
def test_a_constant_image_is_constant(put, photometric, shape):
    found = images.read(put(np.full(shape, 1000, np.uint16), photometric=photometric))
    assert found.shape == shape
    assert len(np.unique(found)) == 1


@pytest.mark.parametrize(
    "syntax",
    [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.DeflatedExplicitVRLittleEndian, uid.RLELossless],
)
def test_every_transfer_syntax_gives_the_same_pixels(put, tmp_path, syntax):
    content = dataset(WindowCenter=2048, WindowWidth=1024)
    reference = images.read(saved(content, tmp_path / "reference.dcm"), 16)
    little, implicit = syntax != uid.ExplicitVRBigEndian, syntax == uid.ImplicitVRLittleEndian
    if syntax == uid.RLELossless:
        content.compress(syntax)
        path = saved(content, tmp_path / "a.dcm")
    else:
        content.file_meta.TransferSyntaxUID = syntax
        if not little:
            content.PixelData = RAMP.astype(">u2").tobytes()
        path = saved(content, tmp_path / "a.dcm", implicit_vr=implicit, little_endian=little)
    np.testing.assert_array_equal(images.read(path, 16), reference)
    assert images.size(path) == (64, 64)


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        (uid.SegmentationStorage, "Segmentation Storage"),
        (uid.ParametricMapStorage, "Parametric Map Storage"),
        (uid.RTDoseStorage, "RT Dose Storage"),
        (uid.BasicTextSRStorage, "Basic Text SR Storage"),
        (uid.GrayscaleSoftcopyPresentationStateStorage, "Grayscale Softcopy Presentation State Storage"),
        ("1.2.840.10008.5.1.4.1.1.66.7", "segmentation"),  # label maps, which pydicom's dictionary may not know
    ],
)
def test_what_is_no_image_is_no_radiograph(put, stated, told):
    path = put(SOPClassUID=stated)
    assert re.fullmatch(rf"SOPClassUID: is .*{told}.*; expected a radiograph", error_of(path))
    with pytest.raises(DataError, match="SOPClassUID"):
        images.size(path)


@pytest.mark.parametrize(
    "stated", [uid.ComputedRadiographyImageStorage, uid.SecondaryCaptureImageStorage, "1.3.6.1.4.1.99.1", ""]
)
def test_images_of_any_class_are_read_private_ones_included(put, stated):
    assert images.read(put(SOPClassUID=stated)).shape == RAMP.shape


def test_of_several_frames_the_first_is_read_with_a_warning(put):
    path = put(PixelData=np.stack([RAMP, RAMP[::-1]]).tobytes(), NumberOfFrames=2)
    with pytest.warns(DataWarning, match="has 2 frames; only the first is read"):
        found = images.read(path, 16)
    np.testing.assert_array_equal(found, images.read(put(), 16))


def test_the_spacing_is_that_of_the_pixels_before_that_of_the_detector(put):
    assert images.spacing_mm(put()) is None
    assert images.spacing_mm(put(ImagerPixelSpacing=[0.2, 0.1])) == (0.2, 0.1)
    assert images.spacing_mm(put(ImagerPixelSpacing=[0.2, 0.1], PixelSpacing=[0.14, 0.15])) == (0.14, 0.15)


@pytest.mark.parametrize("wrong", [[0, 0], [-1, 1], [1, 1e9], [1]])
def test_an_impossible_spacing_is_an_error(put, wrong):
    with pytest.raises(DataError):
        images.spacing_mm(put(PixelSpacing=wrong))


def test_the_preamble_of_a_program_is_ignored(put, tmp_path):
    path = put()
    reference = images.read(path)
    for start in (b"MZ", b"\x7fELF", b"II*\0"):
        path.write_bytes(start + bytes(128 - len(start)) + path.read_bytes()[128:])
        np.testing.assert_array_equal(images.read(path), reference)
    images.write(tmp_path / "a.png", reference)
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


# Bad input


def test_pixels_that_are_not_rows_times_columns_are_refused(put):
    for length in (0, 100, 8190, 8194, 16384):
        assert "PixelData" in error_of(put(PixelData=bytes(length)))
    assert "64 x 64 pixels of 16 bits in 3 frames need 24576" in error_of(put(NumberOfFrames=3))


def test_missing_pixels_and_missing_sizes_are_named(tmp_path):
    for name in ("PixelData", "Rows", "Columns"):
        content = dataset()
        delattr(content, name)
        assert error_of(saved(content, tmp_path / "a.dcm")).startswith(f"{name}: is missing")


@pytest.mark.parametrize(
    ("elements", "says"),
    [
        ({"Rows": 0}, "Rows: is missing or not a positive number"),
        ({"Rows": 60000, "Columns": 60000}, "expected 1 to .* pixels, has 60000 x 60000"),
        ({"BitsStored": 12, "HighBit": 15}, "HighBit: expected 11, one less than BitsStored, has 15"),
        ({"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31}, "BitsAllocated: expected 8 or 16"),
        ({"WindowCenter": 1, "WindowWidth": 0}, "WindowWidth: expected a positive number"),
        ({"WindowCenter": 1, "WindowWidth": 9, "VOILUTFunction": "ODD"}, "VOILUTFunction: expected LINEAR"),
        ({"PhotometricInterpretation": "ODD"}, "PhotometricInterpretation: expected MONOCHROME1"),
        ({"RescaleSlope": "1e308", "RescaleIntercept": 0}, "RescaleSlope: "),
        ({"VOILUTSequence": [table(0, np.arange(9), 0)]}, "VOILUTSequence: expected 9 entries of 1 to 16 bits"),
    ],
)
def test_impossible_elements_are_named(put, elements, says):
    path = put()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = put(**elements)
    with pytest.raises(DataError, match=says):
        images.read(path)


@pytest.mark.parametrize(
    ("syntax", "package"),
    [
        (uid.JPEGLosslessSV1, "pylibjpeg[libjpeg]"),
        (uid.JPEGLSLossless, "pylibjpeg[libjpeg]"),
        (uid.HTJ2K, "pylibjpeg[openjpeg]"),
        (uid.JPEG2000Lossless, "pylibjpeg[openjpeg]"),
    ],
)
def test_a_missing_decoder_is_named_as_a_package(tmp_path, syntax, package):
    content = dataset()
    content.file_meta.TransferSyntaxUID = syntax
    content.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
    content["PixelData"].is_undefined_length = True
    assert f"pip install '{package}'" in error_of(saved(content, tmp_path / "a.dcm"))


def test_a_video_and_an_unknown_syntax_are_refused(tmp_path):
    for syntax in (uid.MPEG2MPML, "1.2.3.4"):
        content = dataset()
        content.file_meta.TransferSyntaxUID = uid.UID(syntax)
        content.PixelData = pydicom.encaps.encapsulate([b"\0\0"])
        content["PixelData"].is_undefined_length = True
        path = tmp_path / "a.dcm"
        content.save_as(path, enforce_file_format=True, implicit_vr=False, little_endian=True)
        assert "TransferSyntaxUID" in error_of(path)


@pytest.mark.parametrize("depth", [300, 3000])
@pytest.mark.parametrize("defined", [True, False])
def test_deep_sequences_are_read_past_or_refused(tmp_path, depth, defined):
    whole = bytes_of(dataset())
    nested = b""
    for _ in range(depth):
        if defined:
            item = struct.pack("<HHI", 0xFFFE, 0xE000, len(nested)) + nested
            nested = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, len(item)) + item
        else:
            end = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
            start = struct.pack("<HH2sHIHHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF)
            nested = start + nested + end
    at = whole.index(struct.pack("<HH2s", 0x0010, 0x0010, b"PN"))
    path = tmp_path / "a.dcm"
    path.write_bytes(whole[:at] + nested + whole[at:])
    try:
        assert images.read(path).shape == (64, 64)
    except DataError as error:
        assert "nested too deeply" in str(error)  # noqa: PT017


@pytest.mark.parametrize("tag", [(0x0010, 0x0010), (0x0028, 0x0010), (0x7FE0, 0x0010)])
def test_a_length_beyond_the_end_of_the_file_is_an_error(tmp_path, tag):
    content = dataset()
    content.WindowCenter, content.WindowWidth = 1, 1
    whole = bytearray(bytes_of(content))
    at = whole.index(struct.pack("<HH", *tag))
    if tag[0] == 0x7FE0:
        whole[at + 8 : at + 12] = struct.pack("<I", 0x7FFFFFFF)
    else:
        whole[at + 6 : at + 8] = struct.pack("<H", 0xFFF0)
    path = tmp_path / "a.dcm"
    path.write_bytes(whole)
    error_of(path)


def test_a_file_without_preamble_is_told(tmp_path):
    path = tmp_path / "a.dcm"
    path.write_bytes(bytes_of(dataset())[132:])
    with pytest.raises(DataError, match="perhaps DICOM, but has no preamble"):
        images.read(path)


def test_a_deflated_bomb_is_refused_in_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(dicom, "_MAX_INFLATED", 20 << 20)  # a gigabyte would take too long
    content = dataset()
    content.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    whole = bytes_of(content)
    start = 144 + int.from_bytes(whole[140:144], "little")
    packer = zlib.compressobj(9, wbits=-15)
    bomb = packer.compress(bytes(100 << 20)) + packer.flush()
    path = tmp_path / "a.dcm"
    path.write_bytes(whole[:start] + bomb)
    tracemalloc.start()
    assert "inflates to more than" in error_of(path)
    with pytest.raises(DataError, match="inflates"):
        images.size(path)
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()


def test_patient_data_is_neither_printed_nor_logged_nor_warned_of(tmp_path, caplog, capfd, recwarn):
    content = dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content.PatientBirthDate, content.PatientAge, content.WindowCenter = NAME, NAME, "1"
    whole = bytes_of(content)
    caplog.clear()  # what was said of the names just set
    for number in range(0, len(whole), 37):
        (tmp_path / "a.dcm").write_bytes(whole[:number] + b"\xff" + whole[number + 1 :])
        try:
            images.read(tmp_path / "a.dcm")
            images.spacing_mm(tmp_path / "a.dcm")
        except DataError as error:
            assert "Mustermann" not in str(error)  # noqa: PT017
            assert error.__cause__ is None  # noqa: PT017
    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")
    assert len(recwarn) == 0


def reads_or_refuses(path: Path) -> bool:
    try:
        found, size = images.read(path), images.size(path)
        images.spacing_mm(path)
    except DataError as error:
        return str(path) in str(error)
    except DataWarning:
        return True
    return found.dtype == np.uint8 and found.shape == size


WHOLE = {
    "plain": dataset(RAMP[:9, :8], WindowCenter=[7, 8], WindowWidth=[9, 9], PixelSpacing=[1, 2]),
    "table": dataset(RAMP[:9, :8], VOILUTSequence=[table(0, np.arange(20), 8)], RescaleSlope=2, RescaleIntercept=1),
    "colour": dataset(np.zeros((5, 6, 3), np.uint8), 8, "RGB"),
    "packed": dataset(RAMP[:9, :8]),
}
WHOLE["packed"].compress(uid.RLELossless)
WHOLE = {name: bytes_of(content) for name, content in WHOLE.items()}


@given(
    st.sampled_from(sorted(WHOLE)),
    st.floats(0, 1),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=6),
)
@settings(max_examples=150, deadline=None)
def test_damaged_files_give_an_image_or_an_error(tmp_path_factory, name, kept, changes):
    content = bytearray(WHOLE[name])
    for place, value in changes:
        content[132 + int(place * (len(content) - 132))] = value
    path = tmp_path_factory.getbasetemp() / "damaged.dcm"
    path.write_bytes(content if kept > 0.5 else content[: int(2 * kept * len(content))])
    assert reads_or_refuses(path)


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_random_bytes_give_an_image_or_an_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "random.dcm"
    path.write_bytes(bytes(128) + b"DICM" + content)
    assert reads_or_refuses(path)


SHIPPED = sorted(path for path in (Path(pydicom.__file__).parent / "data").rglob("*") if path.is_file())


def test_every_file_that_pydicom_ships_is_read_or_refused():
    read = 0
    for path in SHIPPED:
        assert reads_or_refuses(path), path
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DataWarning)
                read += images.read(path).ndim == 2
        except DataError:
            pass
    assert read >= 80
