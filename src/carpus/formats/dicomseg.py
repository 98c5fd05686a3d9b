"""DICOM Segmentation: one file an image, a binary segment for every class; segments may overlap.

A segment goes by its label, the name of the class. Its SNOMED CT codes come from `snomed.json`, which says of each
whether it names the bone or a group it belongs to. The segmentation belongs to the patient and study of the image it
was made of, whose identity it therefore carries; an image that is no DICOM file gets a secondary capture beside it,
without a patient, for viewers to lay the segments on.

Dimension key: K classes, H rows, W columns.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread, uid
from pydicom.dataset import Dataset
from pydicom.pixels.utils import iter_pixels

from carpus import labels as label_map
from carpus.errors import DataError
from carpus.formats import Labelled, check_size, dicom, dicomsource, files, images, once, safe_name, stem, trees
from carpus.formats.quiet import quiet
from carpus.formats.sizes import Sizes
from carpus.labels import Classes, LabelMap

_PLACE = "FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"
"""What places an image in its patient. A radiograph seldom has all of it, and less is of no use."""


def read(path: Path | str, classes: Classes, skip: Sequence[str] = ()) -> LabelMap:
    """Read a segmentation of one image.

    Args:
        path: a DICOM Segmentation of binary segments, whose labels are names of classes.
        classes: the class list; a class without a segment, or whose segment has no frame, is nowhere.
        skip: labels of segments to leave out.

    Returns:
        (H, W) int32 label map.

    Raises:
        DataError: no such file, a segment that is no class, fractional segments, or frames of several images.
    """
    path = Path(path)
    with dicom.errors(path):
        dataset = dcmread(path)
        if dataset.get("SOPClassUID") != uid.SegmentationStorage:
            raise DataError(f"{path}: SOPClassUID: is no DICOM Segmentation")
        if dataset.get("SegmentationType") != "BINARY":
            raise DataError(f"{path}: SegmentationType: expected BINARY, has {dataset.get('SegmentationType')!r:.40}")
        size = check_size((int(dataset.Rows), int(dataset.Columns)), str(path))
        named = {int(item.SegmentNumber): str(item.SegmentLabel) for item in dataset.SegmentSequence}
        return _labels(path, dataset, size, named, classes, skip)


def _labels(
    path: Path,
    dataset: Dataset,
    size: tuple[int, int],
    named: dict[int, str],
    classes: Classes,
    skip: Sequence[str],
) -> LabelMap:
    labels = label_map.empty(size)
    bits: dict[int, int] = {}
    for number, name in named.items():
        if name not in skip:
            try:
                bits[number] = classes.index(name)
            except DataError as error:
                raise DataError(f"{path}: SegmentSequence: segment {number}: {error}") from None
    seen: set[int] = set()
    frames = zip(dataset.PerFrameFunctionalGroupsSequence, _frames(path, dataset, size), strict=True)
    shared = dataset.get("SharedFunctionalGroupsSequence") or [Dataset()]
    for group, pixels in frames:
        # What all frames have in common, if only because there is one, stands in the shared groups.
        holder = group if "SegmentIdentificationSequence" in group else shared[0]
        number = int(holder.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        if number in seen:
            raise DataError(f"{path}: segment {number}: has frames of several images; expected one radiograph")
        seen.add(number)
        if number not in named:
            raise DataError(f"{path}: a frame is of segment {number}, which is not described")
        if number in bits:
            label_map.paint(labels, bits[number], pixels.astype(bool))
    return labels


def _frames(path: Path, dataset: Dataset, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """The frames (H, W), one at a time."""
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        yield from iter_pixels(dataset)
        return
    # pydicom cannot do it for frames of less than a byte. Bits go on from frame to frame without a gap.
    pixels, content = size[0] * size[1], np.frombuffer(dataset.PixelData, np.uint8)
    for start in range(0, int(dataset.NumberOfFrames) * pixels, pixels):
        bits = np.unpackbits(content[start // 8 : (start + pixels + 7) // 8], bitorder="little")[start % 8 :][:pixels]
        if len(bits) < pixels:
            raise DataError(f"{path}: PixelData: ends within a frame")
        yield bits.reshape(size)


def write(path: Path | str, labels: LabelMap, classes: Classes, image: Path | None = None) -> None:
    """Write a segmentation, whole or not at all.

    Args:
        path: the file; a class that is nowhere is described but has no frame, unless all are.
        labels: (H, W) int32.
        classes: the class list.
        image: the image it is of. A DICOM file is referred to, and its patient and study taken over; of another
            image, if it is given, a secondary capture is written beside `path`.

    Raises:
        DataError: an image that cannot be read or has another size.
        ConfigError: highdicom is not installed.
    """
    path = Path(path)
    dicomsource.highdicom()
    label_map.validate(labels, len(classes), str(path))
    source = dicomsource.of(path, labels, image)
    identity = uid.generate_uid(entropy_srcs=[str(source.SOPInstanceUID), dicomsource.digest(labels), path.name])
    there = label_map.area(labels, len(classes)) > 0
    with quiet():
        made = _referring(source, there, classes, identity, str(image or path))
        made.Rows, made.Columns = labels.shape
        made.PixelData = _packed(labels, np.flatnonzero(there | (not there.any())))
        dicomsource.save(made, path)


def require_source(image: Path, classes: Classes) -> None:
    """Raise `DataError` for an image that no segmentation can refer to, before one has been made of it."""
    if images.is_dicom(image):
        with quiet():
            _referring(
                dicomsource.referred(image), np.ones(len(classes), bool), classes, uid.generate_uid(), str(image)
            )


def _referring(source: Dataset, there: np.ndarray, classes: Classes, identity: str, name: str) -> Any:
    """A segmentation of `source` whose planes are still to come, for each class that is there (K,)."""
    highdicom = dicomsource.highdicom()
    # highdicom takes all planes at once, 280 MiB and 6 s at 2048 x 2048: it gets a pixel a class; bits are packed here.
    source.Rows = source.Columns = 1
    if not all(source.get(part) for part in _PLACE):
        # It would write a part of the place, and then not read the file itself.
        for part in _PLACE:
            source.pop(part, None)
    try:
        made = highdicom.seg.Segmentation(
            source_images=[source],
            pixel_array=there.astype(np.uint8).reshape(1, 1, 1, -1),
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[_described(k, name) for k, name in enumerate(classes, start=1)],
            series_instance_uid=uid.generate_uid(entropy_srcs=[identity, "series"]),
            series_number=9000,
            sop_instance_uid=identity,
            instance_number=1,
            manufacturer="Carpus",
            manufacturer_model_name="carpus",
            software_versions=metadata.version("carpus"),
            device_serial_number="0",
            content_label="HAND_BONES",
            omit_empty_frames=bool(there.any()),
        )
    except Exception as error:  # highdicom and pydicom raise whatever they stumble over, and quote values
        reason = type(error).__name__
        if isinstance(error, AttributeError) and error.name:
            reason = f"{reason}: {error.name}"
        elif "frame of reference uid" in str(error).lower():
            reason = "FrameOfReferenceUID: is missing"
        raise DataError(f"{name}: no DICOM segmentation can refer to it ({reason})") from None
    for item, bone in zip(made.SegmentSequence, classes, strict=True):
        item.SegmentDescription = _code(bone)["description"]
    return made


def _packed(labels: LabelMap, frames: Iterable[int]) -> bytes:
    """The masks of some classes as bits, the first lowest, without a gap (PS3.5, 8.1.1), filled up to even length."""
    parts, rest = [], np.empty(0, bool)
    for k in frames:
        bits = np.concatenate([rest, label_map.has(labels, k).ravel()])
        whole = len(bits) - len(bits) % 8
        parts.append(np.packbits(bits[:whole], bitorder="little").tobytes())
        rest = bits[whole:]
    packed = b"".join([*parts, np.packbits(rest, bitorder="little").tobytes()])
    return packed + b"\0" * (len(packed) % 2)


def read_all(source: Path, classes: Classes, sizes: Sizes, skip: Sequence[str] = ()) -> Iterator[Labelled]:
    """The labels of every segmentation below a folder, or of one file; other DICOM files are passed over."""
    found = 0
    for path, name in [(source, source.name)] if source.is_file() else trees.walk(source):
        if not source.is_file() and not is_segmentation(path):
            continue
        labels = read(path, classes, skip)
        own = labels.shape[0], labels.shape[1]
        image, size = sizes.find(name, str(path), own)
        if size != own:
            raise DataError(f"{path}: is {own[0]} x {own[1]}, {image} is {size[0]} x {size[1]}")
        found += 1
        yield Labelled(image, labels)
    if not found:
        raise DataError(f"{source}: holds no DICOM segmentation")


def write_all(
    target: Path,
    items: Iterable[Labelled],
    classes: Classes,
    fault: Callable[[DataError], object] = images.refuse,
) -> None:
    """Write a segmentation for every image: `ID001/image1.png` becomes `ID001/image1.dcm`.

    Args:
        target, items, classes: as of every format.
        fault: called with what is wrong with an image, which is then left out; raises it by default.
    """
    for item in once(items, str(target)):
        path = files.inside(target, safe_name(f"{stem(item.name)}.dcm", str(target)), str(target))
        try:
            write(path, item.labels, classes, item.image)
        except DataError as error:
            fault(error)


def is_segmentation(path: Path) -> bool:
    """Whether a file is a DICOM Segmentation, from its head."""
    try:
        with quiet(), path.open("rb") as stream:
            if stream.read(132)[128:] != b"DICM":
                return False
            stream.seek(0)
            found = dcmread(stream, stop_before_pixels=True, specific_tags=["SOPClassUID"])
            return found.get("SOPClassUID") == uid.SegmentationStorage
    except Exception:  # pydicom raises whatever its parsing stumbles over
        return False


@lru_cache(maxsize=1)
def codes() -> dict[str, Any]:
    """The content of snomed.json."""
    return json.loads(Path(__file__).with_name("snomed.json").read_text(encoding="utf-8"))


def _code(name: str) -> dict[str, Any]:
    """The codes of a class; one that is not among the 29 bones is a bone of the hand."""
    general = {"type": ["24097009", "Hand bone"], "region": ["85562004", "Hand"], "description": name}
    return codes()["bones"].get(name, general)


def _described(number: int, name: str) -> Any:
    highdicom = dicomsource.highdicom()
    code = _code(name)

    def concept(pair: Sequence[str]) -> Any:
        return highdicom.sr.CodedConcept(pair[0], "SCT", pair[1])

    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=concept(codes()["category"]),
        segmented_property_type=concept(code["type"]),
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name="carpus",
            version=metadata.version("carpus"),
            family=highdicom.sr.CodedConcept("123109", "DCM", "Artificial Intelligence"),
        ),
        anatomic_regions=[concept(code["region"])],
    )
