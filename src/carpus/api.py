"""Carpus from Python: `load` a run, call it on an image, look at the labels.

Dimension key: K classes, H rows, W columns.
"""

import base64
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carpus import kernels, metrics, pictures
from carpus import labels as label_map
from carpus import run as runs
from carpus.errors import ConfigError, DataError
from carpus.formats import images
from carpus.labels import BONES, Classes, LabelMap, Mask
from carpus.postprocess import Calibration
from carpus.predict import Ensemble, Options

_LONGEST = 640


class Labels:
    """The bones of one image: a mask by name, pictures for a notebook.

    Args:
        map: (H, W) int32 label map, bit k = class k.
        classes: the K classes.
        image: (H, W) uint8 that they were found in, for pictures; a black one by default.
    """

    def __init__(self, map: LabelMap, classes: Classes = BONES, image: NDArray[np.uint8] | None = None) -> None:
        self.map = label_map.validate(map, len(classes))
        self.classes = classes
        self._image = image

    def __getitem__(self, name: str) -> Mask:
        """(H, W) bool mask of a class; raises `DataError` for an unknown name, with the nearest known one."""
        return label_map.has(self.map, self.classes.index(name))

    def __iter__(self) -> Iterator[str]:
        """The names of the classes that are anywhere in the image."""
        return (name for name, pixels in self.areas.items() if pixels)

    def __contains__(self, name: object) -> bool:
        return self.areas.get(str(name), 0) > 0

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return self.map.shape[0], self.map.shape[1]

    @property
    def areas(self) -> dict[str, int]:
        """Pixels of every class, 0 for one that is nowhere."""
        return dict(zip(self.classes, label_map.area(self.map, len(self.classes)).tolist(), strict=True))

    def overlay(self, image: NDArray[np.uint8] | None = None, *, longest: int | None = None) -> NDArray[np.uint8]:
        """(h, w, 3) uint8, red first: the outlines drawn over an image, see `pictures.overlay`.

        Args:
            image: (H, W) uint8; the one they were found in by default.
            longest: pixels of the longer side, 1 or more; those of the label map by default.
        """
        under = image if image is not None else self._image
        if under is None:
            under = np.zeros(self.shape, np.uint8)
        return pictures.overlay(under, self.map, classes=self.classes, longest=longest, fill=0.25)

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        content = io.BytesIO()
        Image.fromarray(self.overlay(longest=min(_LONGEST, max(self.shape)))).save(content, "PNG")
        return content.getvalue()

    def _repr_html_(self) -> str:
        """What a notebook shows that prefers HTML: the picture, and how many bones there are."""
        found = sum(1 for _ in self)
        picture = base64.b64encode(self._repr_png_()).decode()
        told = f"{found} of {len(self.classes)} classes, {self.shape[0]} x {self.shape[1]} pixels"
        image = f'<img src="data:image/png;base64,{picture}" alt="{told}">'
        return f"<figure>{image}<figcaption>{told}</figcaption></figure>"

    def __repr__(self) -> str:
        return f"Labels({self.shape[0]} x {self.shape[1]}, {sum(1 for _ in self)} of {len(self.classes)} classes)"


class Model:
    """One run or several, ready to be called; see `load`."""

    def __init__(self, ensemble: Ensemble) -> None:
        self._ensemble = ensemble
        self.classes = ensemble.classes

    def __call__(self, image: NDArray[np.uint8] | Path | str) -> Labels:
        """The labels of an image (H, W) uint8, or of the file of one."""
        pixels = images.require(read(image) if isinstance(image, str | Path) else image)
        return Labels(self._ensemble(pixels), self.classes, pixels)


def load(
    run: Path | str | Sequence[Path | str],
    *,
    device: str = "auto",
    options: Options | None = None,
    calibration: Path | str | None = None,
) -> Model:
    """Load a run, or several as an ensemble.

    Args:
        run: one run folder or a list of one or more.
        device: auto, cpu or cuda.
        options: tiles, test-time augmentation and blend.
        calibration: a file of `carpus calibrate`.

    Raises:
        DataError: no run there, or a damaged one.
        ConfigError: no run, runs that do not fit together, or a device that is not there.
    """
    paths = [run] if isinstance(run, str | Path) else list(run)
    if not paths:
        raise ConfigError("load: expected at least one run folder, got an empty list")
    opened = [runs.read(path) for path in paths]
    steps = Calibration.read(calibration, opened[0].classes) if calibration else None
    return Model(Ensemble.of(opened, device, options, calibration=steps))


def read(path: Path | str) -> NDArray[np.uint8]:
    """An image file (PNG, JPEG, BMP, TIFF, DICOM) as (H, W) uint8; see `formats.images.read`."""
    return images.read(path)


def score(prediction: Labels | LabelMap, truth: Labels | LabelMap, classes: Classes = BONES) -> dict[str, float]:
    """The Dice of every class between two label maps of one size, as the competition counts.

    Args:
        prediction: labels, or a bare (H, W) int32 map.
        truth: the same.
        classes: the class list, where neither side brings one.

    Returns:
        Class name -> 0 to 1; 1 for a class that is empty in both. Its mean is the competition's score of the image.

    Raises:
        DataError: something else than a label map, two sizes, or two class lists.
    """
    lists = [side.classes for side in (prediction, truth) if isinstance(side, Labels)]
    if len(lists) == 2 and lists[0] != lists[1]:
        raise DataError("score: the two have different classes")
    names = lists[0] if lists else classes
    a, b = (
        side.map if isinstance(side, Labels) else label_map.validate(side, len(names), source)
        for source, side in (("prediction", prediction), ("truth", truth))
    )
    return dict(zip(names, metrics.dice(kernels.overlap(a, b, len(names))).tolist(), strict=True))
