"""COCO instance JSON: one file for all images; masks as polygons or as run lengths, column by column.

Polygons become exactly the pixels that pycocotools makes of them; run lengths are exact in every tool, so they are
what is written.

Dimension key: N points of a polygon, M samples of its outline, R runs.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from carpus import kernels
from carpus import labels as label_map
from carpus.errors import DataError, warn
from carpus.formats import Labelled, check_size, files, once, polygons, rle, safe_name
from carpus.formats.sizes import Sizes
from carpus.kernels import Runs
from carpus.labels import Classes, LabelMap

_MAX_SAMPLES = 1 << 22


def read_all(source: Path, classes: Classes, sizes: Sizes, skip: Sequence[str] = ()) -> Iterator[Labelled]:
    """The labels of every image of a COCO file, in the file's order.

    Categories are matched to the class list by name. Annotations of one class are united, crowds (iscrowd) like all
    others; an image without annotations, and a class without any, is empty.

    Args:
        source: the JSON file.
        classes: the class list.
        sizes: what knows the images; without a folder the file's own width and height hold.
        skip: categories to pass over.

    Raises:
        DataError: naming the file and the field: not such a file, a category that is neither a class nor skipped, an
            id twice, an image that is not there or whose name leads out of the folder, a mask that does not fit.

    Warns:
        DataWarning: a polygon leaves the image (and is cut off) or crosses itself, two annotations of one class share
            pixels, or a size in the file is not the image's.
    """
    content = files.read_json(source)
    if not isinstance(content, dict):
        raise DataError(f"{source}: expected an object with images, annotations and categories, as in COCO's files")
    bits = _categories(content, str(source), classes, skip)
    rows = _table(content, "images", str(source))
    ids = {_id(image, "id", where): where for image, where in rows}
    if len(ids) < len(rows):
        _duplicate(rows, "id")
    of_image: dict[int | str, list[tuple[dict, str]]] = defaultdict(list)
    annotations = _table(content, "annotations", str(source))
    if len({_id(row, "id", where) for row, where in annotations}) < len(annotations):
        _duplicate(annotations, "id")
    for annotation, where in annotations:
        image = _id(annotation, "image_id", where)
        if image not in ids:
            raise DataError(f"{where}.image_id: there is no image {image!r:.40}")
        of_image[image].append((annotation, where))

    def items() -> Iterator[Labelled]:
        for image, where in rows:
            name = safe_name(image.get("file_name"), f"{where}.file_name")
            own = check_size((_whole(image, "height", where), _whole(image, "width", where)), where)
            name, size = sizes.find(name, f"{where}.file_name", own)
            if size != own:
                warn(f"{where}: says {own[0]} x {own[1]}, {name} has {size[0]} x {size[1]}; the image is right")
            yield Labelled(name, _labels(of_image.pop(image["id"], []), bits, classes, size))

    return once(items(), str(source))


def write_all(target: Path, items: Iterable[Labelled], classes: Classes) -> None:
    """Write a COCO file, whole or not at all: one annotation for every image and class that is there.

    Masks are compressed run lengths. Ids count from 1: categories in the order of the classes, images and annotations
    in the order in which they come.
    """
    categories = [{"id": k + 1, "name": label, "supercategory": ""} for k, label in enumerate(classes)]
    images: list[dict[str, Any]] = []
    count = 0
    with files.atomic(target) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        # Annotations go out as they come; only the short list of images is kept, and follows them.
        stream.write('{"annotations":[')
        for item in once(items, str(target)):
            safe_name(item.name, str(target))
            height, width = item.size
            images.append({"id": len(images) + 1, "file_name": item.name, "height": height, "width": width})
            for annotation in _annotations(item.labels, len(classes)):
                count += 1
                row = {"id": count, "image_id": len(images), **annotation}
                stream.write(("," if count > 1 else "") + "\n" + json.dumps(row, separators=(",", ":")))
        rest = {"images": images, "categories": categories}
        stream.write("\n]," + json.dumps(rest, ensure_ascii=False, separators=(",", ":"))[1:])


def fill(points: polygons.Points, size: tuple[int, int], source: str) -> Runs:
    """The pixels of a polygon, exactly as pycocotools fills it (rleFrPoly).

    Its rule: the outline is sampled at five points a pixel; where it passes the middle of a column, the column's
    pixels change from there on down.

    Args:
        points: (N, 2) points as (x, y), pixel i from i to i + 1.
        size: (H, W) of the mask.
        source: the file and field, for the error.

    Returns:
        (R, 2) runs of the transposed mask.

    Raises:
        DataError: an outline of hundreds of thousands of pixels.
    """
    height, width = size
    scaled = np.trunc(5 * points + 0.5).astype(np.int64)
    start, end = scaled, np.roll(scaled, -1, axis=0)
    span = np.abs(end - start)
    steps = span.max(axis=1)
    if int(steps.sum()) > _MAX_SAMPLES:
        raise DataError(f"{source}: the outline is {int(steps.sum()) // 5} pixels long, too long for a polygon")
    flat = span[:, 0] >= span[:, 1]
    flip = np.where(flat, start[:, 0] > end[:, 0], start[:, 1] > end[:, 1])
    low, high = np.where(flip[:, None], end, start), np.where(flip[:, None], start, end)
    rise = (high - low).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = np.where(flat, rise[:, 1] / rise[:, 0], rise[:, 0] / rise[:, 1])
    count = steps + 1
    edge = np.repeat(np.arange(len(points)), count)
    along = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    along = np.where(flip[edge], steps[edge] - along, along)
    # A point twice has no slope; C's cast of NaN, on the machines that pycocotools is built for, is the least int.
    across = np.where(flat, low[:, 1], low[:, 0])[edge] + slope[edge] * along + 0.5
    across = np.where(np.isnan(across), -(2.0**31), np.trunc(across)).astype(np.int64)
    along += np.where(flat, low[:, 0], low[:, 1])[edge]
    x, y = np.where(flat[edge], along, across), np.where(flat[edge], across, along)

    turn = np.flatnonzero(x[1:] != x[:-1]) + 1
    column = (np.where(x[turn] < x[turn - 1], x[turn], x[turn] - 1) + 0.5) / 5 - 0.5
    middle = (np.floor(column) == column) & (column >= 0) & (column <= width - 1)
    turn, column = turn[middle], column[middle].astype(np.int64)
    row = np.ceil(np.clip((np.minimum(y[turn], y[turn - 1]) + 0.5) / 5 - 0.5, 0, height)).astype(np.int64)
    # Two changes at one place undo each other, and the last column ends where the mask does.
    places, times = np.unique(column * height + row, return_counts=True)
    places = places[(times % 2 == 1) & (places < height * width)]
    if len(places) % 2:
        places = np.append(places, height * width)
    return np.stack([places[0::2], places[1::2] - places[0::2]], axis=1)


def _labels(rows: list[tuple[dict, str]], bits: dict, classes: Classes, size: tuple[int, int]) -> LabelMap:
    parts: list[list[Runs]] = [[] for _ in classes]
    for annotation, where in rows:
        category = _id(annotation, "category_id", where)
        if category not in bits:
            raise DataError(f"{where}.category_id: there is no category {category!r:.40}")
        if annotation.get("iscrowd", 0) not in (0, 1):
            raise DataError(f"{where}.iscrowd: expected 0 or 1, has {annotation['iscrowd']!r:.40}")
        k = bits[category]
        if k is not None:
            parts[k].append(_segmentation(annotation.get("segmentation"), size, f"{where}.segmentation"))
    united = [rle.unite(of) for of in parts]
    for k, label in enumerate(classes):
        shared = sum(int(of[:, 1].sum()) for of in parts[k]) - int(united[k][:, 1].sum())
        if shared:
            source = rows[0][1].split(": ")[0]
            image = rows[0][0]["image_id"]
            warn(f"{source}: image {image}: {label}: annotations share {shared} pixels; the union is taken")
    return _transpose(kernels.decode(united, (size[1], size[0])))


def _segmentation(value: Any, size: tuple[int, int], where: str) -> Runs:
    if isinstance(value, list) and value:
        parts = []
        for i, flat in enumerate(value):
            points = polygons.read_flat(flat, f"{where}[{i}]")
            polygons.doubt(points, size, f"{where}[{i}]", border=0)
            parts.append(fill(points, size, f"{where}[{i}]"))
        return rle.unite(parts)
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected polygons or run lengths, has {value!r:.40}")
    if value.get("size") != list(size):
        raise DataError(f"{where}.size: expected {list(size)}, the image's, has {value.get('size')!r:.40}")
    counts = value.get("counts")
    read = rle.from_compressed if isinstance(counts, str) else rle.from_counts
    return read(counts, size, f"{where}.counts")


def _annotations(labels: LabelMap, classes: int) -> Iterator[dict[str, Any]]:
    size = labels.shape[0], labels.shape[1]
    runs = kernels.encode(_transpose(labels), classes)
    for k, (of, box) in enumerate(zip(runs, label_map.boxes(labels, classes), strict=True)):
        if box is None:
            continue
        rows, columns = box
        corner = [int(columns.start), int(rows.start)]
        yield {
            "category_id": k + 1,
            "segmentation": {"size": list(size), "counts": rle.to_compressed(of, size)},
            "area": int(of[:, 1].sum()),
            "bbox": [*corner, int(columns.stop) - corner[0], int(rows.stop) - corner[1]],
            "iscrowd": 0,
        }


def _categories(content: dict, source: str, classes: Classes, skip: Sequence[str]) -> dict[int | str, int | None]:
    """Category id -> bit, None for a category to skip. A category that no annotation uses may have any name."""
    rows = _table(content, "categories", source)
    bits: dict[int | str, int | None] = {}
    unknown: dict[int | str, str] = {}
    for category, where in rows:
        identity, name = _id(category, "id", where), category.get("name")
        if not isinstance(name, str):
            raise DataError(f"{where}.name: expected a name, has {name!r:.40}")
        if identity in bits:
            _duplicate(rows, "id")
        bits[identity] = classes.index(name) if name in classes and name not in skip else None
        if name not in classes and name not in skip:
            unknown[identity] = name
    used = {_id(row, "category_id", where) for row, where in _table(content, "annotations", source)}
    names = sorted({name for identity, name in unknown.items() if identity in used})
    if names:
        raise DataError(
            f"{source}: categories: not in the class list: {', '.join(names)[:500]};"
            " name those to leave out (--skip NAME), or give the class list of this data (--classes FILE)"
        )
    return bits


def _table(content: dict, key: str, source: str) -> list[tuple[dict, str]]:
    rows = content.get(key)
    if not isinstance(rows, list):
        raise DataError(f"{source}: {key}: expected a list, as in COCO's files")
    for i, row in enumerate(rows):
        if not isinstance(row, dict):
            raise DataError(f"{source}: {key}[{i}]: expected an object")
    return [(row, f"{source}: {key}[{i}]") for i, row in enumerate(rows)]


def _id(row: dict, key: str, where: str) -> int | str:
    value = row.get(key)
    if type(value) is not int and not isinstance(value, str):
        raise DataError(f"{where}.{key}: expected a whole number, has {value!r:.40}")
    return value


def _whole(row: dict, key: str, where: str) -> int:
    value = row.get(key)
    if type(value) is not int:
        raise DataError(f"{where}.{key}: expected a whole number, has {value!r:.40}")
    return value


def _duplicate(rows: list[tuple[dict, str]], key: str) -> None:
    seen: dict[Any, str] = {}
    for row, where in rows:
        if row[key] in seen:
            raise DataError(f"{where}.{key}: {row[key]!r:.40} is the {key} of {seen[row[key]].split(': ')[-1]} already")
        seen[row[key]] = where


def _transpose(labels: LabelMap) -> LabelMap:
    # OpenCV moves blocks that fit the cache, several times as fast as a copy of labels.T.
    return np.asarray(cv2.transpose(labels), np.int32)
