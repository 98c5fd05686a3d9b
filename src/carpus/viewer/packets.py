"""What the browser draws from: an image and a label map as a few plain bytes, made when asked for.

All numbers are int32, little endian. An image is ``H W B black white lowest highest`` and H x W grey levels of B bytes,
from `lowest` to `highest`, of which the file itself shows `black` as black and `white` as white. A label map is
``H W K``, the number of runs of each class, and the runs as pairs of start and length, row by row from 0, of class 0,
1, ... One thousandth of the size of the map, and exact.

Dimension key: K classes, H rows, W columns.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from carpus import kernels, metrics
from carpus.errors import DataError
from carpus.formats import images
from carpus.labels import LabelMap
from carpus.viewer.layers import Entry, Layer
from carpus.viewer.sources import Workspace

TOLERANCE_PX = 2
"""The surface Dice of the table of bones allows borders to be this far apart."""

_IMAGES_KEPT, _MAPS_KEPT, _PACKETS_KEPT = 4, 8, 16


class Packets:
    """The packets of a workspace; the last few are kept, so memory does not grow with what was looked at.

    Every method raises `DataError` as the readers do; a failure is not kept, so a file that was mended is read anew.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._images, self._maps, self._packets = _Kept(_IMAGES_KEPT), _Kept(_MAPS_KEPT), _Kept(_PACKETS_KEPT)

    def image(self, place: int) -> bytes:
        """The image of an entry; black where there is only a mask."""
        entry = self._entry(place)

        def make() -> bytes:
            if entry.image:
                pixels, window = images.unwindowed(entry.image)
            else:
                pixels, window = np.zeros(entry.size, np.uint8), (0, 255)
            head = [*pixels.shape, pixels.itemsize, *window, pixels.min(), pixels.max()]
            return np.array(head, "<i4").tobytes() + pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()

        return self._images(place, make)

    def labels(self, layer: str, place: int) -> bytes | None:
        """The label map of an entry in a layer; None where it has none."""
        found = self.map(layer, place)
        if found is None:
            return None
        count = len(self._workspace.classes)
        return self._packets((layer, place), lambda: _packed(found.shape, kernels.encode(found, count)))

    def map(self, layer: str, place: int) -> LabelMap | None:
        """The label map itself; do not write to it."""
        entry, source = self._entry(place), self._layer(layer)
        return self._maps((layer, place), lambda: source.read(entry))

    def doubt(self, layer: str, place: int) -> bytes | None:
        """The pixels of an entry of which nobody is sure, as the only class of a label map; None where it has none."""
        selection, entry = self._workspace.selections.get(layer), self._entry(place)
        found = selection.found(entry) if selection else None
        return _packed(entry.size, [found.doubtful]) if found else None

    def compare(self, first: str, second: str, place: int) -> dict[str, dict[str, float | None]]:
        """Dice and surface Dice of every class between two layers, null where one of them has no label map.

        Returns:
            class -> {"dice": 0 to 1, "nsd": 0 to 1 within `TOLERANCE_PX`}; 1 for a class absent in both.
        """
        a, b = self.map(first, place), self.map(second, place)
        if a is None or b is None:
            return {}
        classes = self._workspace.classes
        dice = metrics.dice(kernels.overlap(b, a, len(classes))).tolist()
        nsd = metrics.nsd(kernels.surface_distances(b, a, len(classes)), TOLERANCE_PX).tolist()
        return {name: {"dice": d, "nsd": n} for name, d, n in zip(classes, dice, nsd, strict=True)}

    def _entry(self, place: int) -> Entry:
        if not 0 <= place < len(self._workspace.entries):
            raise DataError(f"image {place}: there are {len(self._workspace.entries)}")
        return self._workspace.entries[place]

    def _layer(self, name: str) -> Layer:
        if name not in self._workspace.layers:
            raise DataError(f"labels {name!r}: known: {', '.join(self._workspace.layers) or 'none'}")
        return self._workspace.layers[name]


def _packed(shape: Sequence[int], runs: Sequence[kernels.Runs]) -> bytes:
    head = [*shape, len(runs), *(len(of_class) for of_class in runs)]
    return np.array(head, "<i4").tobytes() + b"".join(of_class.astype("<i4").tobytes() for of_class in runs)


class _Kept:
    """The last few results by key, each made once although several threads ask for it."""

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, threading.Lock()
        self._found: OrderedDict[Hashable, Any] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}

    def __call__(self, key: Hashable, make: Callable[[], Any]) -> Any:
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:
            try:
                with self._lock:
                    if key in self._found:
                        self._found.move_to_end(key)
                        return self._found[key]
                made = make()
                with self._lock:
                    self._found[key] = made
                    while len(self._found) > self._most:
                        self._found.popitem(last=False)
            finally:
                with self._lock:
                    self._making.pop(key, None)
        return made
