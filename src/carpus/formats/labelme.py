"""Labelme JSON: one file an image, shapes of polygons, rectangles, circles and masks.

Read and written so that Labelme's own `shape_to_mask`, which draws with Pillow, gives the same pixels: a point is
cut (not rounded) to whole pixels and the outline belongs to the shape.
"""

import base64
import binascii
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from carpus import kernels
from carpus import labels as label_map
from carpus.errors import DataError, warn
from carpus.formats import Labelled, check_size, files, images, once, polygons, safe_name, stem, trees
from carpus.formats.sizes import Sizes
from carpus.labels import Classes, LabelMap

VERSION = "5.4.1"
"""The version of Labelme whose file format this is."""


def read(path: Path | str, classes: Classes, size: tuple[int, int] | None = None, skip: Sequence[str] = ()) -> LabelMap:
    """Read the labels of one image.

    Shapes of one class are united; a class without a shape is an empty mask.

    Args:
        path: the JSON file.
        classes: the class list.
        size: (H, W) of the image; None takes the file's imageHeight and imageWidth.
        skip: labels to pass over.

    Returns:
        (H, W) int32 label map.

    Raises:
        DataError: naming the file and the field: not such a file, an unknown label, a shape without an area (line,
            point), fewer than 3 points, a point that is no number, a damaged mask.

    Warns:
        DataWarning: a shape leaves the image (and is cut off), a polygon crosses itself, two shapes of one class share
            pixels, or the file's size is not `size`.
    """
    return from_content(files.read_json(path), str(path), classes, size, skip)


def from_content(
    content: Any, source: str, classes: Classes, size: tuple[int, int] | None = None, skip: Sequence[str] = ()
) -> LabelMap:
    """`read`, of a file that is parsed already; `source` names it in errors."""
    content = _checked(content, source)
    own = _size_of(content, source)
    if size is None and own is None:
        raise DataError(f"{source}: imageHeight, imageWidth: missing, and nothing else tells the size of the image")
    if size is not None and own is not None and size != own:
        warn(f"{source}: says {own[0]} x {own[1]}, the image has {size[0]} x {size[1]}; the image is right")
    size = check_size(size or own or (0, 0), source)
    labels = label_map.empty(size)
    areas = [0] * len(classes)
    canvas = Image.new("L", (size[1], size[0]))
    for i, shape in enumerate(content["shapes"]):
        where = f"{source}: shapes[{i}]"
        if not isinstance(shape, dict):
            raise DataError(f"{where}: expected an object with label, points and shape_type")
        label = shape.get("label")
        if not isinstance(label, str):
            raise DataError(f"{where}.label: expected the name of a class, has {label!r:.40}")
        if label in skip:
            continue
        try:
            k = classes.index(label)
        except DataError as error:
            raise DataError(f"{where}.label: {error}") from None
        kind = shape.get("shape_type") or "polygon"
        if not isinstance(kind, str) or kind not in _DRAW:
            raise DataError(f"{where}.shape_type: expected {', '.join(_DRAW)}, has {kind!r:.40}")
        mask, top, left = _DRAW[kind](shape, canvas, where)
        areas[k] += int(np.count_nonzero(mask))
        label_map.paint(labels, k, mask, top, left)
    for label, alone, together in zip(classes, areas, label_map.area(labels, len(classes)).tolist(), strict=True):
        if alone > together:
            warn(f"{source}: {label}: shapes share {alone - together} pixels; the union is taken")
    return labels


def to_text(labels: LabelMap, classes: Classes, image_path: str) -> str:
    """The Labelme file of one image: a polygon for every 8-connected part, its holes bridged into the outline.

    Args:
        labels: (H, W) int32 label map; an empty class has no shape.
        classes: the class list.
        image_path: the image, relative to the file's folder.
    """
    shapes = []
    for label, outlines in zip(classes, kernels.polygons(labels, len(classes)), strict=True):
        for outline in outlines:
            points = outline.tolist()
            points += points[-1:] * (3 - len(points))
            shapes.append(
                {
                    "label": label,
                    "points": points,
                    "group_id": None,
                    "description": "",
                    "shape_type": "polygon",
                    "flags": {},
                }
            )
    content = {
        "version": VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": image_path,
        "imageData": None,
        "imageHeight": labels.shape[0],
        "imageWidth": labels.shape[1],
    }
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def write(path: Path | str, labels: LabelMap, classes: Classes, image_path: str) -> None:
    """Write `to_text` to `path`, whole or not at all."""
    files.write_text(path, to_text(labels, classes, image_path))


def read_all(source: Path, classes: Classes, sizes: Sizes, skip: Sequence[str] = ()) -> Iterator[Labelled]:
    """The labels of every image of a folder of Labelme files, or of one file, sorted by path.

    The image is the one that `imagePath` names, in the place of the file itself, whatever folder the path gives. Its
    size is that of the image in the folder of `sizes`, or beside the file, or else what the file says.
    """
    for path, own_name in trees.json_files(source):
        content = _checked(files.read_json(path), str(path))
        image = content.get("imagePath")
        # Either kind of path, from whatever machine; only its last part is used, so that it cannot lead anywhere.
        base = PureWindowsPath(image).name if isinstance(image, str) else ""
        image_name = PurePosixPath(own_name).with_name(base).as_posix() if base else f"{own_name}.png"
        own = _size_of(content, str(path))
        if sizes.folder is None and base:
            beside = files.inside(path.parent, safe_name(base, f"{path}: imagePath"), f"{path}: imagePath")
            own = images.size(beside) if beside.is_file() else own
        name, size = sizes.find(image_name, str(path), own)
        yield Labelled(name, from_content(content, str(path), classes, size, skip))


def write_all(target: Path, items: Iterable[Labelled], classes: Classes) -> None:
    """Write a folder of Labelme files, one an image."""
    for item in once(items, str(target)):
        path = files.inside(target, safe_name(f"{stem(item.name)}.json", str(target)), str(target))
        write(path, item.labels, classes, item.name.rsplit("/", 1)[-1])


_Drawn = tuple[NDArray[np.bool_], int, int]


def _checked(content: Any, source: str) -> dict:
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise DataError(f"{source}: shapes: expected a list, as in Labelme's files")
    return content


def _size_of(content: dict, source: str) -> tuple[int, int] | None:
    height, width = content.get("imageHeight"), content.get("imageWidth")
    if height is None or width is None:
        return None
    if type(height) is not int or type(width) is not int:
        raise DataError(f"{source}: imageHeight, imageWidth: expected whole numbers, has {height!r:.20}, {width!r:.20}")
    return check_size((height, width), f"{source}: imageHeight, imageWidth")


def _polygon(shape: dict, canvas: Image.Image, where: str) -> _Drawn:
    points = polygons.read(shape.get("points"), f"{where}.points")
    # Pillow cuts, towards zero, before it draws.
    points = np.trunc(points).astype(np.int64)
    polygons.doubt(points, (canvas.height, canvas.width), f"{where}.points")
    xy = [tuple(point) for point in points.tolist()]
    return _drawn(canvas, points, lambda draw: draw.polygon(xy, outline=1, fill=1))


def _rectangle(shape: dict, canvas: Image.Image, where: str) -> _Drawn:
    points = np.sort(_two(shape, where), axis=0)
    corners = np.trunc(points).astype(np.int64)
    polygons.doubt(corners, (canvas.height, canvas.width), f"{where}.points")
    return _drawn(canvas, corners, lambda draw: draw.rectangle(corners.ravel().tolist(), outline=1, fill=1))


def _circle(shape: dict, canvas: Image.Image, where: str) -> _Drawn:
    centre, edge = _two(shape, where)
    radius = float(np.hypot(*(edge - centre)))
    box = np.stack([centre - radius, centre + radius])
    polygons.doubt(np.trunc(box), (canvas.height, canvas.width), f"{where}.points")
    return _drawn(canvas, box, lambda draw: draw.ellipse(box.ravel().tolist(), outline=1, fill=1))


def _two(shape: dict, where: str) -> NDArray[np.float64]:
    points = polygons.read(shape.get("points"), f"{where}.points", least=2)
    if len(points) != 2:
        raise DataError(f"{where}.points: expected 2 points, has {len(points)}")
    return points


def _drawn(canvas: Image.Image, points: NDArray, draw: Callable[[ImageDraw.ImageDraw], None]) -> _Drawn:
    """What `draw` draws, cut out around `points`.

    It is drawn in its place on a canvas of the image's size, as Labelme does, since Pillow rounds slanted edges
    differently elsewhere; the canvas is blank again afterwards.
    """
    limit = (canvas.width - 1, canvas.height - 1)
    left, top = np.clip(np.floor(points.min(axis=0)).astype(np.int64) - 1, 0, limit).tolist()
    right, bottom = np.clip(np.ceil(points.max(axis=0)).astype(np.int64) + 1, 0, limit).tolist()
    pen = ImageDraw.Draw(canvas)
    draw(pen)
    mask = np.asarray(canvas.crop((left, top, right + 1, bottom + 1))) != 0
    pen.rectangle((left, top, right, bottom), fill=0)
    return mask, top, left


def _mask(shape: dict, canvas: Image.Image, where: str) -> _Drawn:
    corners = np.trunc(_two(shape, where)).astype(np.int64)
    polygons.doubt(corners, (canvas.height, canvas.width), f"{where}.points")
    (left, top), (right, bottom) = corners.tolist()
    if not isinstance(shape.get("mask"), str):
        raise DataError(f"{where}.mask: expected a PNG file in base64")
    try:
        data = base64.b64decode(shape["mask"], validate=True)
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.size != (right - left + 1, bottom - top + 1):
                expected = f"{bottom - top + 1} x {right - left + 1}"
                raise DataError(f"{where}.mask: is {image.height} x {image.width}, its points say {expected}")
            mask = np.asarray(image.convert("L")) != 0
    except (binascii.Error, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{where}.mask: not a readable PNG file in base64 ({error})") from error
    inside = mask[max(0, -top) : max(0, canvas.height - top), max(0, -left) : max(0, canvas.width - left)]
    return inside, max(0, top), max(0, left)


_DRAW: dict[str, Callable[[dict, Image.Image, str], _Drawn]] = {
    "polygon": _polygon,
    "rectangle": _rectangle,
    "circle": _circle,
    "mask": _mask,
}
