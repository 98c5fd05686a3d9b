"""Label maps drawn over radiographs: anti-aliased outlines at display size, and where to crop.

Dimension key: K classes, H rows, W columns (label resolution), h w (display size).
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from carpus import labels as label_map
from carpus.errors import DataError
from carpus.formats import images
from carpus.labels import BONES, Classes, LabelMap, Mask

Box = tuple[slice, slice]
"""A part of a label map: (rows, columns), both with a start and a stop."""

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

TRUTH: Colour = (64, 224, 208)
"""The colour of the reference's outline, and of what the prediction misses."""

PREDICTION: Colour = (255, 140, 26)
"""The colour of the prediction's outline, and of what only the prediction has."""

# Nine colours as far apart as a search in OKLab found them (at least 0.12), for normal sight and for simulated
# protanopia and deuteranopia, all light enough for a dark radiograph. Nine, because bones that touch are 1, 2, 3,
# 4, 5, 8, 11, 13, 14, 15 or 17 classes apart and none of these is a multiple of nine.
_PALETTE: tuple[Colour, ...] = (
    (82, 210, 254),
    (193, 43, 255),
    (249, 237, 70),
    (88, 248, 191),
    (250, 170, 9),
    (216, 94, 7),
    (244, 137, 151),
    (238, 22, 133),
    (160, 139, 220),
)

_FINER = 3  # Outlines are drawn this much finer than the display, then averaged: that is the anti-aliasing.
_MARGIN = 4  # Display pixels around a class, so that the edge of its window is no border; outlines are thinner.
_TINT = 0.4

_Window = tuple[slice, slice]


def colours(classes: int) -> list[Colour]:
    """The fixed colour of every class, told apart by colour-blind eyes too wherever two bones touch.

    Args:
        classes: K; from the tenth class on the colours repeat.
    """
    return [_PALETTE[k % len(_PALETTE)] for k in range(classes)]


def overlay(
    image: NDArray[np.uint8],
    labels: LabelMap,
    *,
    reference: LabelMap | None = None,
    classes: Classes = BONES,
    only: Sequence[str] | None = None,
    box: Box | None = None,
    longest: int | None = None,
    width_px: float = 1.4,
    fill: float = 0.0,
) -> NDArray[np.uint8]:
    """Draw the outlines of `labels` over `image`, one colour a class, or against a reference in two colours.

    With a `reference` its outlines are drawn in `TRUTH` and those of `labels`, thinner and on top, in
    `PREDICTION`; pixels that a class has in one map alone are tinted in that map's colour. Outlines run on the
    border between pixels, not on the pixels, and stay open where a bone leaves the image.

    Args:
        image: (H, W) uint8, or another size of the same shape: it is stretched to the label map.
        labels: (H, W) int32 label map.
        reference: (H, W) int32 label map to compare with.
        classes: the classes of both maps.
        only: draw these classes; all by default. A class that is nowhere draws nothing.
        box: the part to show; all by default. See `around`.
        longest: pixels of the longer side of the result, 1 or more; the size of the box by default.
        width_px: width of the outlines in pixels of the result.
        fill: opacity of the inside, 0 to 1, where there is no reference.

    Returns:
        (h, w, 3) uint8, red first.

    Raises:
        DataError: an image that is not (H, W) uint8 or of other proportions than the label map, a reference of
            another size, a box or a result without pixels.
    """
    label_map.validate(labels, len(classes))
    if reference is not None and label_map.validate(reference, len(classes), "reference").shape != labels.shape:
        raise DataError(f"reference: is {reference.shape}, the label map {labels.shape}: expected one size")
    if longest is not None and longest < 1:
        raise DataError(f"longest: expected 1 pixel or more, got {longest}")
    canvas = _Canvas(_stretch(images.require(image), labels.shape), box, longest)
    drawn = set(classes.names if only is None else only)
    unknown = sorted(drawn - set(classes.names))
    if unknown:
        raise DataError(f"only: unknown class {', '.join(unknown)}; known: {', '.join(classes.names)}")
    anywhere = labels if reference is None else label_map.union(labels, reference)
    windows = [
        (k, window)
        for k, (name, box) in enumerate(zip(classes.names, label_map.boxes(anywhere, len(classes)), strict=True))
        if name in drawn and box is not None and (window := canvas.window(box)) is not None
    ]
    found = {k: canvas.sample(labels, k, window) for k, window in windows}
    if reference is None:
        palette = colours(len(classes))
        for k, window in windows:
            canvas.blend(found[k], window, palette[k], fill)
        for k, window in windows:
            canvas.blend(_outline(found[k], width_px), window, palette[k])
        return canvas.result()
    true = {k: canvas.sample(reference, k, window) for k, window in windows}
    for k, window in windows:
        canvas.blend(found[k] & ~true[k], window, PREDICTION, _TINT)
        canvas.blend(true[k] & ~found[k], window, TRUTH, _TINT)
    # The truth lies wider below, so that it shows on both sides where the two outlines agree.
    for k, window in windows:
        canvas.blend(_outline(true[k], width_px * 1.6), window, TRUTH)
    for k, window in windows:
        canvas.blend(_outline(found[k], width_px * 0.8), window, PREDICTION)
    return canvas.result()


def around(
    labels: LabelMap,
    classes: Classes = BONES,
    group: str | None = None,
    *,
    margin: float = 0.08,
    aspect: float | None = None,
) -> Box:
    """The part of a label map around all of it or around one group of classes, such as "carpals".

    Args:
        labels: (H, W) int32 label map.
        classes: its classes and groups.
        group: a group of `classes`; None is every class.
        margin: room on each side, as a part of the longer side of what is enclosed.
        aspect: width / height wanted; the box grows to it as far as the map allows.

    Returns:
        (rows, columns), inside the map; the whole map where no class of the group is.

    Raises:
        DataError: an unknown group.
    """
    if group is not None and group not in classes.groups:
        raise DataError(f"class list: groups: no {group!r}; known: {', '.join(classes.groups) or 'none'}")
    names = classes.names if group is None else classes.groups[group]
    found = label_map.boxes(labels, len(classes))
    boxes = [box for name in names if (box := found[classes.index(name)]) is not None]
    if not boxes:
        return slice(0, labels.shape[0]), slice(0, labels.shape[1])
    low = np.array([[side.start for side in box] for box in boxes]).min(axis=0)
    high = np.array([[side.stop for side in box] for box in boxes]).max(axis=0)
    size = np.minimum(high - low + 2 * margin * (high - low).max(), labels.shape)
    if aspect is not None:
        size = np.maximum(size, [size[1] / aspect, size[0] * aspect])
    size = np.minimum(np.ceil(size).astype(int), labels.shape)
    start = np.clip((low + high - size) // 2, 0, np.array(labels.shape) - size)
    rows, columns = (slice(int(first), int(first + length)) for first, length in zip(start, size, strict=True))
    return rows, columns


class _Canvas:
    """The picture in the making, and the way from label pixels to a grid `_FINER` times the display's."""

    def __init__(self, image: NDArray[np.uint8], box: Box | None, longest: int | None) -> None:
        rows, columns = box or (slice(None), slice(None))
        top, bottom, _ = rows.indices(image.shape[0])
        left, right, _ = columns.indices(image.shape[1])
        if bottom <= top or right <= left:
            raise DataError(f"box: expected rows and columns inside {image.shape}, got {rows}, {columns}")
        scale = (longest or max(bottom - top, right - left)) / max(bottom - top, right - left)
        self.size = max(1, round((bottom - top) * scale)), max(1, round((right - left) * scale))
        self.origin = np.array([top, left])
        self.scale = np.array(self.size) / (bottom - top, right - left)
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        shown = cv2.resize(image[top:bottom, left:right], self.size[::-1], interpolation=way)
        # A margin all round, so that what is drawn over the edge needs no clipping.
        margin = ((_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, 0))
        self.pixels = np.pad(np.repeat(shown[..., None], 3, axis=2).astype(np.float32), margin)

    def window(self, box: Box) -> _Window | None:
        """The display pixels around a box of label pixels, some of them beyond the edge; None when out of sight."""
        low = (np.array([side.start for side in box]) - self.origin) * self.scale
        high = (np.array([side.stop for side in box]) - self.origin) * self.scale
        start = np.maximum(np.floor(low).astype(int), 0) - _MARGIN
        stop = np.minimum(np.ceil(high).astype(int), self.size) + _MARGIN
        if ((stop - start) <= 2 * _MARGIN).any():
            return None
        return slice(int(start[0]), int(stop[0])), slice(int(start[1]), int(stop[1]))

    def sample(self, labels: LabelMap, k: int, window: _Window) -> Mask:
        """Class `k` in `window` on the fine grid: the half-way line between pixels inside and outside."""
        start = np.array([side.start for side in window])
        stop = np.array([side.stop for side in window])
        first = np.clip(np.floor(start / self.scale + self.origin).astype(int) - 1, 0, np.array(labels.shape) - 1)
        last = np.clip(np.ceil(stop / self.scale + self.origin).astype(int) + 1, first + 1, labels.shape)
        mask = label_map.has(labels[first[0] : last[0], first[1] : last[1]], k).astype(np.uint8) * 255
        # From the centre of a fine pixel to the coordinates of `mask`, whose pixel centres are whole numbers.
        step = 1 / (self.scale * _FINER)
        offset = (start * _FINER + 0.5) * step + self.origin - 0.5 - first
        matrix = np.array([[step[1], 0, offset[1]], [0, step[0], offset[0]]])
        height, width = ((stop - start) * _FINER).tolist()
        # Replicated, so that a bone that leaves the image goes on and shows no border there.
        fine = cv2.warpAffine(
            mask,
            matrix,
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return fine > 127

    def blend(self, mask: Mask, window: _Window, colour: Colour, opacity: float = 1.0) -> None:
        """Lay `colour` where `mask`, on the fine grid of `window`, is true; half covered pixels take half."""
        if not opacity or not mask.any():
            return
        rows, columns = (slice(side.start + _MARGIN, side.stop + _MARGIN) for side in window)
        target = self.pixels[rows, columns]
        # Averages of whole blocks: INTER_AREA is exact here, and faster than a mean over reshaped axes.
        alpha = cv2.resize(mask.astype(np.float32), target.shape[1::-1], interpolation=cv2.INTER_AREA) * opacity
        target += (np.array(colour, np.float32) - target) * alpha[..., None]

    def result(self) -> NDArray[np.uint8]:
        """The picture without the margin: (h, w, 3) uint8."""
        inside = self.pixels[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
        return np.clip(np.rint(inside), 0, 255).astype(np.uint8)


def _outline(mask: Mask, width_px: float) -> Mask:
    """A band of `width_px` display pixels along the border of a mask on the fine grid, half on either side."""
    reach = max(1, round(width_px * _FINER / 2))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_GRADIENT, disc).astype(bool)


def _stretch(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    if image.shape == size:
        return image
    if abs(image.shape[0] * size[1] / (image.shape[1] * size[0]) - 1) > 0.02:
        raise DataError(f"image: is {image.shape}, the label map {size}: expected the same proportions")
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR).astype(np.uint8)
