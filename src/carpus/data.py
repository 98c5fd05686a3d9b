"""Cases, patient-grouped folds, and decoded cases on their square canvas.

Dimension key: B batch, K classes, S side of the square canvas an image is laid on, L side of its label map, h side of
its soft labels.

The competition's layout is read (docs/formats.md)::

    DATA/train/DCM/ID001/image1.png   DATA/train/outputs_json/ID001/image1.json
    DATA/test/DCM/ID040/image9.png    DATA/test_labels/outputs_json/ID040/image9.json   (where the truth is known)
    DATA/meta_data.xlsx               (optional: sex and height)
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from carpus import kernels
from carpus import labels as label_map
from carpus.errors import DataError
from carpus.formats import MAX_PIXELS, annotations, files, images, metadata, probabilities, stem
from carpus.formats.metadata import Patient
from carpus.labels import BONES, Classes, LabelMap

if TYPE_CHECKING:
    from torch import Tensor

LAYOUT = {"train": ("train/DCM", "train/outputs_json"), "test": ("test/DCM", "test_labels/outputs_json")}
"""Where the images and the annotations of a split lie below the data folder."""

PROVENANCE = "provenance.json"
"""A data folder with this file has predictions for labels, see `pseudo.provenance`."""


@dataclass(frozen=True)
class Doubt:
    """What of an annotation does not count in a loss; see `pseudo.trust`.

    Args:
        ignored: classes of which nobody knows where they are, by index.
        erased: those among them whose mask is taken out.
        pixels: runs of pixels that count for no class; they get the bit after the last class.
    """

    ignored: frozenset[int] = frozenset()
    erased: frozenset[int] = frozenset()
    pixels: kernels.Runs = field(default_factory=lambda: np.empty((0, 2), np.int64), compare=False)

    def marked(self, labels: LabelMap, classes: int) -> LabelMap:
        """`labels` (H, W) of so many classes without the masks that are erased, and with the bit of the pixels."""
        marked = labels.copy()
        for k in self.erased:
            label_map.erase(marked, k)
        if len(self.pixels):
            marked |= kernels.decode([*[self.pixels[:0]] * classes, self.pixels], (labels.shape[0], labels.shape[1]))
        return marked


@dataclass(frozen=True)
class Case:
    """One radiograph: ``name`` is its path below DCM without suffix, ``ID001/image1661130828152_R``.

    ``soft`` is a file of probabilities that are learnt instead of the annotation, which still says what is in doubt.
    """

    name: str
    patient: str
    image: Path
    annotation: Path | None
    doubt: Doubt | None = None
    soft: Path | None = None


@dataclass(frozen=True)
class Dataset:
    """The cases of a data folder, sorted by name, and its patients' metadata by patient name (``ID001``)."""

    root: Path
    train: tuple[Case, ...]
    test: tuple[Case, ...]
    patients: Mapping[str, Patient] = field(default_factory=dict)


def read(root: Path | str) -> Dataset:
    """Read a data folder in the competition's layout; nothing is decoded yet.

    Raises:
        DataError: no such folder, no image below train/DCM or test/DCM, one image name twice in a folder, or one
            patient in both splits.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected a data set with train/DCM and train/outputs_json")
    train, test = cases(root, "train"), cases(root, "test")
    if not train and not test:
        raise DataError(f"{root}: no images below train/DCM or test/DCM; is this the folder that holds train/?")
    both = sorted({case.patient for case in train} & {case.patient for case in test})
    if both:
        raise DataError(f"{root}: patient {both[0]} is in train and in test ({len(both)} such patients): a leak")
    return Dataset(root, train, test, metadata.read(root))


def cases(root: Path | str, split: str, *, fault: Callable[[DataError], object] = images.refuse) -> tuple[Case, ...]:
    """The cases of a split, sorted by name; none where the folder of its images is missing.

    Args:
        root: the data folder.
        split: "train" or "test".
        fault: called with what is wrong with one image file, which is then left out; raises it by default. What
            `formats.images.find` finds, an image of the same name and folder as another but of another suffix, and an
            annotation that is a link out of its folder.

    Raises:
        DataError: what `fault` raises.
    """
    pictures, annotated = (Path(root) / part for part in LAYOUT[split])
    found: dict[str, Case] = {}

    def name_of(image: Path) -> str:
        return stem(image.relative_to(pictures).as_posix())

    for image in images.told_apart(images.find(pictures, fault=fault) if pictures.is_dir() else [], name_of, fault):
        name = name_of(image)
        if name in found:
            fault(DataError(f"{image}: {found[name].image.name} has the same name; an image name must be unique"))
            continue
        annotation = annotated / f"{name}.json"
        if annotation.is_file() and not annotation.resolve().is_relative_to(annotated.resolve()):
            fault(DataError(f"{annotation}: is a link that leads out of {annotated.name}; copy the file instead"))
            continue
        # A picture that lies in no patient's folder is a patient of its own.
        patient = name.rsplit("/", 1)[0]
        found[name] = Case(name, patient, image, annotation if annotation.is_file() else None)
    return tuple(found[name] for name in sorted(found))


def folds(dataset: Dataset, count: int = 5, seed: int = 0) -> dict[str, int]:
    """Deal the training patients into `count` folds: {patient: fold}.

    Both hands of a patient are in one fold. Patients are ordered by sex and height where known, and every `count`
    neighbours are dealt to different folds, so that each fold holds alike men and women, tall and short.

    Raises:
        DataError: fewer patients than folds.
    """
    patients = sorted({case.patient for case in dataset.train})
    if len(patients) < count:
        raise DataError(f"{dataset.root}: {len(patients)} training patients cannot make {count} folds")
    random = np.random.default_rng(seed)
    random.shuffle(patients)
    unknown = Patient()

    def stratum(patient: str) -> tuple[str, float]:
        of_patient = dataset.patients.get(patient, unknown)
        return of_patient.sex or "", of_patient.height_cm or 0.0

    ordered = sorted(patients, key=stratum)
    dealt: dict[str, int] = {}
    for start in range(0, len(ordered), count):
        block = ordered[start : start + count]
        dealt |= dict(zip(block, random.permutation(count).tolist(), strict=False))
    return dealt


class Fingerprint(NamedTuple):
    """SHA-256 over the names and contents of images, and over those of their annotations."""

    images: str
    annotations: str


def fingerprint(cases: Iterable[Case]) -> Fingerprint:
    """The fingerprint of `cases`, the same wherever the folder lies.

    Raises:
        DataError: two patients share an image, byte for byte (a leak between splits or folds).
    """
    pictures, annotated, seen = hashlib.sha256(), hashlib.sha256(), dict[str, Case]()
    for case in sorted(cases, key=lambda case: case.name):
        content = files.sha256(case.image)
        twin = seen.setdefault(content, case)
        if twin.patient != case.patient:
            raise DataError(f"{case.image}: the same image as {twin.image}, of another patient: a leak between splits")
        pictures.update(f"{case.name} {content}\n".encode())
        annotated.update(f"{case.name} {files.sha256(case.annotation) if case.annotation else ''}\n".encode())
    return Fingerprint(pictures.hexdigest(), annotated.hexdigest())


def square(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Lay an (H, W) image in the top left corner of a black square and resize that to (side, side)."""
    height, width = image.shape
    if height != width:
        image = np.pad(image, ((0, max(width - height, 0)), (0, max(height - width, 0))))
    if image.shape[0] == side:
        return image
    # Area averaging is the antialiased choice for shrinking; it is nearest neighbour for growing.
    method = cv2.INTER_AREA if image.shape[0] > side else cv2.INTER_LINEAR
    return cv2.resize(image, (side, side), interpolation=method).astype(np.uint8, copy=False)


def square_labels(labels: LabelMap, side: int) -> LabelMap:
    """The same for a label map, nearest neighbour and exact."""
    height, width = labels.shape
    if height != width:
        labels = np.pad(labels, ((0, max(width - height, 0)), (0, max(height - width, 0))))
    if labels.shape[0] == side:
        return labels
    return label_map.resized(labels, (side, side))


def normalise(pictures: Tensor) -> Tensor:
    """Grey values in 0..1 to about mean 0 and SD 1, by the mean and SD of real hand radiographs."""
    return (pictures - 0.124) / 0.168


def read_labels(case: Case, classes: Classes = BONES) -> LabelMap:
    """The label map of a case at its image's own size; raises `DataError` if it has no annotation."""
    if case.annotation is None:
        raise DataError(f"{case.image}: has no annotation")
    return annotations.read(case.annotation, images.size(case.image), classes)


def read_soft(case: Case, classes: Classes, side: int) -> NDArray[np.uint8] | None:
    """The soft labels (h, h, K) of a case, `kernels.codes`, over its square canvas of `side`; None without.

    h is `side` divided by a power of two up to 32, so that a crop ends between two of their pixels.
    """
    if case.soft is None:
        return None
    planes = probabilities.read_codes(case.soft, classes)
    fitting = side >> min(max(round(math.log2(side / planes.shape[1])), 0), 5)
    return np.stack([square(plane, fitting) for plane in planes], axis=2)


def read_image(path: Path) -> NDArray[np.uint8]:
    """`formats.images.read` for an image that is to be laid on a square; raises `DataError` if it is too oblong."""
    image = images.read(path)
    side = max(image.shape)
    if side * side > MAX_PIXELS:
        raise DataError(f"{path}: is {image.shape[0]} x {image.shape[1]}, too oblong to be laid on a square")
    return image


class Cache:
    """Decoded cases on their square canvas, kept in memory up to a bound, oldest out first. Thread-safe.

    A label map is kept as run lengths, a hundredth of its size, and decoded in a millisecond. Rasterising polygons
    after the warp would be as fast, but shifts areas by up to a percent where the warp also scales; this is exact.

    Args:
        classes: the class list of the annotations.
        image_size: S, side of the canvas.
        label_size: L, side of the label map.
        limit_bytes: memory for decoded cases; what does not fit is decoded again.
    """

    def __init__(self, classes: Classes, image_size: int, label_size: int, limit_bytes: int) -> None:
        self.classes, self._image_size, self._label_size = classes, image_size, label_size
        self._limit, self._held = limit_bytes, 0
        self._kept: OrderedDict[Path, tuple[NDArray[np.uint8], list[kernels.Runs]]] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, case: Case) -> tuple[NDArray[np.uint8], LabelMap]:
        """Image (S, S) uint8 and label map (L, L) int32 of a case, its doubt marked; do not write to them."""
        with self._lock:
            kept = self._kept.get(case.image)
            if kept:
                self._kept.move_to_end(case.image)
        if kept:
            return kept[0], kernels.decode(kept[1], (self._label_size, self._label_size))
        image = square(read_image(case.image), self._image_size)
        labels, bits = read_labels(case, self.classes), len(self.classes)
        if case.doubt:
            labels, bits = case.doubt.marked(labels, bits), bits + bool(len(case.doubt.pixels))
        labels = square_labels(labels, self._label_size)
        runs = kernels.encode(labels, bits)
        with self._lock:
            if case.image not in self._kept:
                self._kept[case.image] = image, runs
                self._held += _bytes(image, runs)
            while self._held > self._limit and len(self._kept) > 1:
                _, old = self._kept.popitem(last=False)
                self._held -= _bytes(*old)
        return image, labels


def _bytes(image: NDArray[np.uint8], runs: Sequence[kernels.Runs]) -> int:
    return image.nbytes + sum(of_class.nbytes for of_class in runs)


@dataclass(frozen=True)
class Batch:
    """What one step learns from.

    Args:
        images: (B, 1, S, S) float32 in 0..1.
        labels: (B, L, L) int32.
        cases: in order.
        counted: (B, K) float32, what every image and class counts in the loss; None where each counts 1.
        ignore: the bit of `labels` whose pixels count nothing; None for none.
        soft: of every image what is learnt in place of its labels, (K, h, h) uint8 `kernels.codes`, or None; None where
            there are none at all.
    """

    images: Tensor
    labels: Tensor
    cases: tuple[Case, ...]
    counted: Tensor | None = None
    ignore: int | None = None
    soft: tuple[Tensor | None, ...] | None = None

    @property
    def counting(self) -> dict[str, Any]:
        """What the labels count and what takes their place, as options of `losses.Loss`."""
        return {"counted": self.counted, "ignore": self.ignore, "soft": self.soft}

    def parts(self, count: int) -> list[Batch]:
        """The same images in `count` batches of equal size, in order."""
        size = len(self.cases) // count
        cuts = [slice(start, start + size) for start in range(0, size * count, size)]
        return [
            replace(
                self,
                images=self.images[cut],
                labels=self.labels[cut],
                cases=self.cases[cut],
                counted=None if self.counted is None else self.counted[cut],
                soft=None if self.soft is None else self.soft[cut],
            )
            for cut in cuts
        ]
