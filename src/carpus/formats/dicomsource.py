"""The DICOM image that a segmentation refers to: the one it was made of, or a secondary capture in its place.

Whatever highdicom would copy from an image is made fit to be copied here, so that no value of a patient gets into a
message and no image is lost for an old form of date.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom.config
from pydicom import DataElement, dcmread, uid
from pydicom.dataset import Dataset
from pydicom.valuerep import DA, TM, validate_value

from carpus.errors import ConfigError, DataError
from carpus.formats import dicom, files, images
from carpus.formats.quiet import quiet
from carpus.labels import LabelMap

_CALENDAR = {"DA": DA, "TM": TM}
"""Read a date or a time, with a ValueError if there is none such, or a range of them."""

SOURCE = ".source.dcm"
"""What the name of a secondary capture ends in that was made for an image that is no DICOM file."""


def of(path: Path, labels: LabelMap, image: Path | None) -> Dataset:
    """The DICOM image that a segmentation refers to.

    Args:
        path: the segmentation, beside which a secondary capture is written.
        labels: (H, W) of it.
        image: the image it is of, see `dicomseg.write`.

    Raises:
        DataError: an image that cannot be read or has another size.
    """
    if image is not None and images.is_dicom(image):
        found = referred(image)
        _same_size(image, (found.get("Rows"), found.get("Columns")), labels)
        return found
    pixels = np.zeros(labels.shape, np.uint8) if image is None else images.read(image)
    if image is not None:
        _same_size(image, pixels.shape, labels)
    with quiet():
        made = capture(pixels, path.stem)
        if image is not None:
            save(made, path.with_name(f"{path.stem}{SOURCE}"))
    return made


def save(made: Dataset, path: Path) -> None:
    """Write a DICOM file, whole or not at all."""
    with files.atomic(path) as temporary:
        try:
            made.save_as(temporary)
        except OSError as error:  # pydicom wraps what a full disk raises, with a traceback for its message
            cause: BaseException = error
            while isinstance(cause.__cause__, OSError):
                cause = cause.__cause__
            raise cause from None


def referred(image: Path) -> Dataset:
    """A DICOM image without its pixels, with all that a segmentation takes over from it.

    Raises:
        DataError: it is no radiograph, or has no identity.
    """
    with dicom.errors(image):
        source = dcmread(image, stop_before_pixels=True)
        dicom.require_image_class(image, str(source.get("SOPClassUID")))
        for element in source:
            if not _valid(element):
                element.value = _modern(element)
                element.value = element.value if _valid(element) else None
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
        if not source.get(name):
            raise DataError(f"{image}: {name}: is missing; a segmentation has to refer to it")
    # What highdicom copies must be there, if only empty.
    for name in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber",
                 "ReferringPhysicianName", "StudyDate", "StudyTime"):  # fmt: skip
        if name not in source:
            setattr(source, name, None)
    return source


def _valid(element: DataElement) -> bool:
    """Whether a value is what its kind says; highdicom refuses an image for any that it copies and is not."""
    if element.keyword == "PatientSex" and element.value not in (None, "", "M", "F", "O"):
        return False
    if element.VR == "UI":  # files in use have zeros in front of numbers, and whoever refers to them has to as well
        return True
    values: Any = element.value
    try:
        for value in values if element.VM > 1 else [values]:
            if isinstance(value, str):
                validate_value(element.VR, value, pydicom.config.RAISE)
                if element.VR in _CALENDAR:
                    _CALENDAR[element.VR](value)
    except ValueError:
        return False
    return True


def _modern(element: DataElement) -> str | None:
    """The value of a date or time as files of 1993 and before have them (PS3.5, 6.2) in today's form, else none."""
    value = str(element.value)
    if element.VR == "DA" and re.fullmatch(r"\d{4}\.\d\d\.\d\d", value):
        return value.replace(".", "")
    if element.VR == "TM" and re.fullmatch(r"\d\d:\d\d(:\d\d(\.\d+)?)?", value):
        return value.replace(":", "")
    return None


def _same_size(image: Path, size: Sequence[Any], labels: LabelMap) -> None:
    if tuple(size) != labels.shape:
        raise DataError(f"{image}: is {size[0]} x {size[1]}, its labels {labels.shape[0]} x {labels.shape[1]}")


def capture(pixels: np.ndarray, name: str) -> Dataset:
    """A secondary capture of grey `pixels` (H, W) uint8, without a patient; equal pixels give equal identifiers."""
    library = highdicom()
    entropy = [name, str(pixels.shape), digest(pixels)]
    study, series, instance = (uid.generate_uid(entropy_srcs=[*entropy, part]) for part in ("study", "series", "image"))
    with quiet():
        made = library.sc.SCImage(
            pixel_array=pixels,
            photometric_interpretation="MONOCHROME2",
            bits_allocated=8,
            coordinate_system="PATIENT",
            study_instance_uid=study,
            series_instance_uid=series,
            series_number=1,
            sop_instance_uid=instance,
            instance_number=1,
            manufacturer="Carpus",
            patient_orientation=("L", "F"),
        )
    made.PatientOrientation = None  # highdicom wants one, but nobody knows it
    made.WindowCenter, made.WindowWidth = 128, 256  # the grey values as they are, 0 to 255
    return made


def digest(pixels: np.ndarray) -> str:
    """SHA-256 of an array's bytes, in hexadecimal."""
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def highdicom() -> Any:
    """The package, imported when it is needed; raises `ConfigError` where it is not installed."""
    try:
        with quiet():
            import highdicom
            import highdicom.sc
            import highdicom.seg
            import highdicom.sr
    except ImportError as error:
        raise ConfigError("dicomseg: needs highdicom: pip install 'carpus[dicomseg]'") from error
    return highdicom
