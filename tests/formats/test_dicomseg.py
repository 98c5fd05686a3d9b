"""DICOM segmentations: pixel for pixel through our reader, pydicom's and highdicom's; codes that exist."""

import gzip
import json
import resource
import subprocess
import sys
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dictionary

from carpus import labels as label_map
from carpus.errors import DataError
from carpus.formats import dicomseg, dicomsource, images, submission
from carpus.formats.convert import convert
from carpus.formats.quiet import quiet
from carpus.kernels import encode
from carpus.labels import BONES, Classes

highdicom = pytest.importorskip("highdicom")
SIZE = (37, 53)


@pytest.fixture
def labels() -> np.ndarray:
    """All classes but one overlapping at random, the last bit with the first."""
    planes = np.random.default_rng(0).random((29, *SIZE)) < 0.3
    planes[7] = False
    planes[:, 0, 0] = True
    planes[7, 0, 0] = False
    return label_map.pack(planes)


@pytest.fixture
def radiograph(tmp_path: Path) -> Path:
    """A DICOM image of a made-up patient."""
    made = dicomsource.capture(np.arange(37 * 53, dtype=np.uint8).reshape(SIZE), "x")
    made.PatientID, made.PatientName = "made-up", "Made^Up"
    made.save_as(tmp_path / "x.dcm")
    return tmp_path / "x.dcm"


def test_what_is_written_is_read_pixel_for_pixel(tmp_path: Path, labels: np.ndarray) -> None:
    dicomseg.write(tmp_path / "a.dcm", labels, BONES)
    assert np.array_equal(dicomseg.read(tmp_path / "a.dcm", BONES), labels)


def test_highdicom_reads_the_same_segments(tmp_path: Path, labels: np.ndarray) -> None:
    dicomseg.write(tmp_path / "a.dcm", labels, BONES)
    read = highdicom.seg.segread(tmp_path / "a.dcm")
    assert [read.get_segment_description(n).segment_label for n in read.segment_numbers] == list(BONES.names)
    source = read.get_source_image_uids()[0][2]
    planes = read.get_pixels_by_source_instance([source])[0]
    assert np.array_equal(planes.transpose(2, 0, 1) > 0, label_map.unpack(labels, 29))


def test_pydicom_reads_the_same_frames(tmp_path: Path, labels: np.ndarray) -> None:
    dicomseg.write(tmp_path / "a.dcm", labels, BONES)
    read = dcmread(tmp_path / "a.dcm")
    frames = {
        int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber): frame
        for group, frame in zip(read.PerFrameFunctionalGroupsSequence, read.pixel_array, strict=True)
    }
    assert sorted(frames) == [n for n in range(1, 30) if n != 8]
    for number, frame in frames.items():
        assert np.array_equal(frame > 0, label_map.has(labels, number - 1))


def test_dcmqi_reads_the_same_segments_and_codes(tmp_path: Path, labels: np.ndarray) -> None:
    """DCMTK and ITK, which share no code with pydicom and highdicom."""
    pytest.importorskip("dcmqi", reason="pip install dcmqi, for Linux on x86-64")
    dicomseg.write(tmp_path / "a.dcm", labels, BONES)
    _placed(tmp_path / "a.dcm")
    command = [Path(sys.executable).with_name("segimage2itkimage"), "--inputDICOM", tmp_path / "a.dcm"]
    subprocess.run([*command, "--outputDirectory", tmp_path, "--prefix", "x"], check=True, capture_output=True)
    described = [entry for [entry] in json.loads((tmp_path / "x-meta.json").read_text())["segmentAttributes"]]
    assert [segment["labelID"] for segment in described] == list(range(1, 30))
    for segment in described:
        k = segment["labelID"] - 1
        head, content = (tmp_path / f"x-{k + 1}.nrrd").read_bytes().split(b"\n\n", 1)
        assert {b"type: short", b"sizes: 53 37 1", b"encoding: gzip"} <= set(head.split(b"\n"))
        assert b"space directions: (0.25,0,0) (0,0.25,0) (0,0,1)" in head
        found = np.frombuffer(gzip.decompress(content), "<i2").reshape(SIZE)
        assert np.array_equal(found > 0, label_map.has(labels, k))
        code = dicomseg.codes()["bones"][BONES.names[k]]
        assert (segment["SegmentLabel"], segment["SegmentDescription"]) == (BONES.names[k], code["description"])
        for field, pair in (
            ("SegmentedPropertyCategoryCodeSequence", dicomseg.codes()["category"]),
            ("SegmentedPropertyTypeCodeSequence", code["type"]),
            ("AnatomicRegionSequence", code["region"]),
        ):
            told = segment[field]
            assert (told["CodingSchemeDesignator"], told["CodeValue"], told["CodeMeaning"]) == ("SCT", *pair)


def _placed(path: Path) -> None:
    """Give a segmentation a place in a patient: dcmqi reads no other, and a radiograph has none."""
    made = dcmread(path)
    made.FrameOfReferenceUID = "1.2.3"
    measures, orientation, position = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness, measures.SpacingBetweenSlices = [0.25, 0.25], 1, 1
    orientation.ImageOrientationPatient, position.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 0]
    shared = made.SharedFunctionalGroupsSequence[0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    for frame in made.PerFrameFunctionalGroupsSequence:
        frame.PlanePositionSequence = [position]
    made.save_as(path)


def test_highdicom_given_all_planes_makes_the_same_file(
    tmp_path: Path, labels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets one pixel a class, because all planes at once take six times the time and the memory."""
    dicomseg.write(tmp_path / "ours" / "a.dcm", labels, BONES)
    usual = highdicom.seg.Segmentation

    def whole(source_images: list[Dataset], pixel_array: np.ndarray, **arguments: object) -> Dataset:
        source_images[0].Rows, source_images[0].Columns = SIZE
        planes = label_map.unpack(labels, 29).transpose(1, 2, 0)[None].astype(np.uint8)
        made = usual(source_images=source_images, pixel_array=planes, **arguments)
        made.save_as(tmp_path / "given.dcm")
        return made

    monkeypatch.setattr(highdicom.seg, "Segmentation", whole)
    dicomseg.write(tmp_path / "theirs" / "a.dcm", labels, BONES)
    ours, theirs = dcmread(tmp_path / "ours" / "a.dcm"), dcmread(tmp_path / "given.dcm")
    assert ours.PixelData == theirs.PixelData
    assert (ours.Rows, ours.Columns) == SIZE
    # By the clock or by chance, or written by us.
    free = {"ContentDate", "ContentTime", "InstanceCreationDate", "InstanceCreationTime", "SegmentSequence",
            "DimensionOrganizationSequence", "DimensionIndexSequence", "ContributingEquipmentSequence"}  # fmt: skip
    assert [
        element.keyword for element in theirs if element.keyword not in free and ours.get(element.tag) != element
    ] == []
    assert [element.keyword for element in ours if element.tag not in theirs] == []


def test_memory_is_a_few_label_maps(tmp_path: Path) -> None:
    labels = np.full((1024, 1024), 2**29 - 1, np.int32)
    dicomseg.write(tmp_path / "a.dcm", label_map.empty((8, 8)), BONES)  # what is loaded once
    tracemalloc.start()
    dicomseg.write(tmp_path / "a.dcm", labels, BONES)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * labels.nbytes  # all planes at once took more than 60


def test_nothing_at_all_comes_back_as_nothing(tmp_path: Path) -> None:
    dicomseg.write(tmp_path / "a.dcm", label_map.empty(SIZE), BONES)
    assert not dicomseg.read(tmp_path / "a.dcm", BONES).any()


def test_a_dicom_image_lends_its_patient_and_is_referred_to(
    tmp_path: Path, radiograph: Path, labels: np.ndarray
) -> None:
    dicomseg.write(tmp_path / "a.dcm", labels, BONES, radiograph)
    made, source = dcmread(tmp_path / "a.dcm"), dcmread(radiograph)
    assert made.PatientID == "made-up"
    assert made.StudyInstanceUID == source.StudyInstanceUID
    referenced = made.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
    assert referenced.ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert not (tmp_path / f"a{dicomsource.SOURCE}").exists()
    with pytest.raises(DataError, match=r"x\.dcm: is 37 x 53"):
        dicomseg.write(tmp_path / "b.dcm", label_map.empty((5, 5)), BONES, radiograph)
    assert not (tmp_path / "b.dcm").exists()


def test_other_labels_of_an_image_are_another_instance(tmp_path: Path, radiograph: Path, labels: np.ndarray) -> None:
    """Also if they differ far from the corner, and by one pixel."""
    found = []
    for last in (1, 2, 1):
        labels[-1, -1] = last
        dicomseg.write(tmp_path / "a.dcm", labels, BONES, radiograph)
        found.append(dcmread(tmp_path / "a.dcm").SOPInstanceUID)
    assert found[0] == found[2] != found[1]


def test_a_png_gets_a_secondary_capture_beside_it(tmp_path: Path, labels: np.ndarray) -> None:
    pixels = np.random.default_rng(1).integers(20, 200, SIZE).astype(np.uint8)
    images.write(tmp_path / "a.png", pixels)
    dicomseg.write(tmp_path / "out" / "a.dcm", labels, BONES, tmp_path / "a.png")
    capture = tmp_path / "out" / f"a{dicomsource.SOURCE}"
    assert np.array_equal(dcmread(capture).pixel_array, pixels)
    assert np.array_equal(images.read(capture), pixels)
    assert not dicomseg.is_segmentation(capture)


def test_a_full_disk_names_the_file(tmp_path: Path, labels: np.ndarray) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match=r"^\[Errno \d+\] .*/a\.dcm'$"):
            dicomseg.write(tmp_path / "a.dcm", labels, BONES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_every_code_is_in_pydicoms_dictionary_and_means_what_it_says() -> None:
    from pydicom.sr._concepts_dict import concepts

    known = {(code, meaning) for found in concepts["SCT"].values() for code, (meaning, _) in found.items()}
    content = dicomseg.codes()
    assert set(content["bones"]) == set(BONES.names)
    assert tuple(content["category"]) in known
    for bone in content["bones"].values():
        assert tuple(bone["type"]) in known
        assert tuple(bone["region"]) in known
    exact = {name for name, bone in content["bones"].items() if bone["exact"]}
    assert exact == {"Scaphoid", "Radius", "Ulna"}
    assert content["bones"]["Scaphoid"]["type"][0] == dictionary.SCT.Scaphoid.value
    assert content["bones"]["Ulna"]["type"][0] == dictionary.SCT.Ulna.value


def test_segments_carry_their_codes_and_the_bones_name(tmp_path: Path, labels: np.ndarray) -> None:
    dicomseg.write(tmp_path / "a.dcm", labels, BONES)
    segment = dcmread(tmp_path / "a.dcm").SegmentSequence[3]
    assert (segment.SegmentLabel, segment.SegmentDescription) == ("finger-4", "Distal phalanx of the index finger")
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "24097009"
    assert segment.AnatomicRegionSequence[0].CodeMeaning == "Finger"


def test_convert_goes_there_and_back(tmp_path: Path, labels: np.ndarray) -> None:
    submission.write(tmp_path / "in.csv", [("a.png", encode(labels, 29)), ("b.png", encode(labels >> 1, 29))], BONES)
    convert(tmp_path / "in.csv", tmp_path / "seg", target_format="dicomseg", size=SIZE)
    summary = convert(tmp_path / "seg", tmp_path / "out.csv")
    assert summary.source_format == "dicomseg"
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "in.csv").read_bytes()
    assert convert(tmp_path / "seg" / "a.dcm", tmp_path / "one.csv").images == 1


def test_convert_takes_the_images_it_is_given(tmp_path: Path, radiograph: Path, labels: np.ndarray) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    radiograph.rename(folder / "x.dcm")
    submission.write(tmp_path / "in.csv", [("x.png", encode(labels, 29))], BONES)
    convert(tmp_path / "in.csv", tmp_path / "seg", target_format="dicomseg", images=folder)
    assert dcmread(tmp_path / "seg" / "x.dcm").PatientID == "made-up"


def test_what_is_no_segmentation_of_these_classes_is_named(
    tmp_path: Path, radiograph: Path, labels: np.ndarray
) -> None:
    with pytest.raises(DataError, match=r"x\.dcm: SOPClassUID: is no DICOM Segmentation"):
        dicomseg.read(radiograph, BONES)
    dicomseg.write(tmp_path / "a.dcm", labels & 1, Classes(("other",)))
    with pytest.raises(DataError, match=r"a\.dcm: SegmentSequence: segment 1: unknown class 'other'"):
        dicomseg.read(tmp_path / "a.dcm", BONES)
    assert not dicomseg.read(tmp_path / "a.dcm", BONES, skip=["other"]).any()
    whole = (tmp_path / "a.dcm").read_bytes()
    for end in (200, len(whole) // 2, len(whole) - 40):
        (tmp_path / "cut.dcm").write_bytes(whole[:end])
        with pytest.raises(DataError, match=r"cut\.dcm: "):
            dicomseg.read(tmp_path / "cut.dcm", BONES, skip=["other"])


def referred(path: Path, **values: object) -> Path:
    """A DICOM image of 32 x 32 as `values` have it; None takes a value away."""
    made = dicomsource.capture(np.zeros((32, 32), np.uint8), path.stem)
    for name, value in values.items():
        made.pop(name, None) if value is None else setattr(made, name, value)
    made.save_as(path)
    return path


PLACE = {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"FrameOfReferenceUID": ""},
        {"FrameOfReferenceUID": "1.2.3"},
        {"FrameOfReferenceUID": "1.2.3", "SliceThickness": None},
        {"FrameOfReferenceUID": "1.2.3", "SliceThickness": ""},
        {"FrameOfReferenceUID": "1.2.3", "SliceThickness": None, **PLACE},
        {"FrameOfReferenceUID": "1.2.3", "SliceThickness": 1, **PLACE},
    ],
    ids=str,
)
def test_a_source_with_a_part_of_its_place_gives_a_file_that_highdicom_reads(values: dict, tmp_path: Path) -> None:
    source = referred(tmp_path / "a.dcm", **{"PixelSpacing": [0.15, 0.15], **values})
    labels = np.ones((32, 32), np.int32)
    dicomseg.require_source(source, BONES)
    dicomseg.write(tmp_path / "seg.dcm", labels, BONES, source)
    made = highdicom.seg.segread(tmp_path / "seg.dcm")
    assert made.pixel_array.all()
    assert ("FrameOfReferenceUID" in made) == (values.get("SliceThickness") == 1)


@pytest.mark.parametrize(
    ("name", "given", "taken"),
    [
        ("StudyTime", "14:04:38", "140438"),
        ("StudyDate", "1993.10.15", "19931015"),
        ("PatientBirthDate", "19.03.1950", ""),
        ("StudyDate", "20230231", ""),
        ("StudyDate", "1993.13.45", ""),
        ("StudyDate", "19930101-19940101", ""),
        ("StudyTime", "25:99", ""),
        ("StudyInstanceUID", "1.2.840.0113619.2.01", "1.2.840.0113619.2.01"),
        ("PatientSex", "Frau Meier", ""),
        ("PatientAge", "old", ""),
        ("PatientSex", "F", "F"),
    ],
)
def test_values_of_old_or_careless_files_cost_no_image(name: str, given: str, taken: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of the value
        source = referred(tmp_path / "a.dcm", **{name: given})
        dicomseg.write(tmp_path / "seg.dcm", np.ones((32, 32), np.int32), BONES, source)
        made = highdicom.seg.segread(tmp_path / "seg.dcm")
    assert str(made.get(name) or "") == taken


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"StudyInstanceUID": None}, "StudyInstanceUID: is missing"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.2"}, "SOPClassUID: is RT Dose Storage; expected a radiograph"),
        (
            {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "FrameOfReferenceUID": None},  # CT
            r"no DICOM segmentation can refer to it \(FrameOfReferenceUID: is missing\)",
        ),
        ({"SOPClassUID": "1.2.3.4"}, r"no DICOM segmentation can refer to it \(\w+\)"),
    ],
    ids=str,
)
def test_a_source_that_cannot_be_referred_to_is_named_beforehand(values: dict, told: str, tmp_path: Path) -> None:
    source = referred(tmp_path / "a.dcm", **values)
    with pytest.raises(DataError, match=rf"a\.dcm: {told}"):
        dicomseg.require_source(source, BONES)
    with pytest.raises(DataError, match=rf"a\.dcm: {told}"):
        dicomseg.write(tmp_path / "seg.dcm", np.ones((32, 32), np.int32), BONES, source)
    assert not (tmp_path / "seg.dcm").exists()


def test_decoders_are_kept_quiet_within_one_another() -> None:
    with quiet(), quiet(), warnings.catch_warnings(record=True) as told:
        warnings.warn_explicit("of a decoder", UserWarning, "pydicom/x.py", 1, module="pydicom.x")
    assert not told
