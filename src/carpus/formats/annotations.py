"""The competition's annotation JSON: one file an image, one polygon of whole pixels for every part of a bone.

Its `filename` may end in .jpg where the image is a .png, and its `metadata` gives 3060 x 3060 where points lie in the
image's own 2048 x 2048 grid: neither is believed, the caller gives the image's size.
"""

import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2

from carpus import kernels
from carpus.errors import DataError
from carpus.formats import Labelled, check_size, files, once, polygons, safe_name, stem, trees
from carpus.formats.sizes import Sizes
from carpus.kernels import Polygon
from carpus.labels import Classes, LabelMap

JSON_FOLDER = "outputs_json"
IMAGE_FOLDER = "DCM"

_NAMESPACE = uuid.UUID("6f5a2f5e-3c0b-5c1d-9a54-0b0f6f0c2d11")


def read(path: Path | str, size: tuple[int, int], classes: Classes, skip: Sequence[str] = ()) -> LabelMap:
    """Read the annotation of one image.

    Polygons are filled even-odd with their outline, as cv2.fillPoly does. Those of one class are united; a class
    without a polygon is an empty mask.

    Args:
        path: the JSON file.
        size: (H, W) of the image, whatever the file says.
        classes: the class list.
        skip: labels to pass over.

    Returns:
        (H, W) int32 label map.

    Raises:
        DataError: naming the file and the field: not such a file, an unknown label, fewer than 3 points, or a point
            that is no number.

    Warns:
        DataWarning: a polygon leaves the image (and is cut off), crosses itself, shares pixels with another of its
            class, or lies between pixels.
    """
    return from_content(files.read_json(path), str(path), size, classes, skip)


def from_content(
    content: Any, source: str, size: tuple[int, int], classes: Classes, skip: Sequence[str] = ()
) -> LabelMap:
    """`read`, of a file that is parsed already; `source` names it in errors."""
    check_size(size, source)
    shapes: list[list[Polygon]] = [[] for _ in classes]
    for i, annotation in enumerate(_annotations(content, source)):
        where = f"{source}: annotations[{i}]"
        if not isinstance(annotation, dict):
            raise DataError(f"{where}: expected an object with label and points")
        if annotation.get("type", "poly_seg") != "poly_seg":
            raise DataError(f"{where}.type: expected 'poly_seg', has {annotation['type']!r:.40}")
        label = annotation.get("label")
        if not isinstance(label, str):
            raise DataError(f"{where}.label: expected the name of a class, has {label!r:.40}")
        if label in skip:
            continue
        try:
            k = classes.index(label)
        except DataError as error:
            raise DataError(f"{where}.label: {error}") from None
        points = polygons.whole(polygons.read(annotation.get("points"), f"{where}.points"), f"{where}.points")
        polygons.doubt(points, size, f"{where}.points")
        shapes[k].append(points)
    labels = kernels.rasterise(shapes, size)
    for k, label in enumerate(classes):
        polygons.doubt_overlap(shapes[k], labels, k, f"{source}: {label}")
    return labels


def labelled(path: Path | str) -> frozenset[str]:
    """The labels that a file has polygons of; nothing is drawn and no polygon is looked at.

    Raises:
        DataError: naming the file, which is none of the competition's.
    """
    listed = _annotations(files.read_json(path), str(path))
    return frozenset(str(each.get("label")) for each in listed if isinstance(each, dict))


def _annotations(content: Any, source: str) -> list[Any]:
    if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
        raise DataError(f"{source}: annotations: expected a list, as in the competition's files")
    return content["annotations"]


def write(path: Path | str, labels: LabelMap, classes: Classes, image_name: str, parent_path: str = "") -> None:
    """Write the annotation of one image with the competition's keys; reading it gives `labels` back, pixel for pixel.

    Every 8-connected part of a mask becomes an annotation, its holes bridged into the outline; an empty class has
    none. The largest part of a class is last: the competition's own loader fills one polygon after the other, each in
    place of those before it, so it has the body of a bone and loses its crumbs. Ids depend on the names and the class
    alone, so that equal labels make equal files.

    Args:
        path: the JSON file, replaced whole.
        labels: (H, W) int32 label map.
        classes: the class list.
        image_name: the image's base name.
        parent_path: the image's folder, as in "/ID001".
    """
    files.write_text(path, to_text(labels, classes, image_name, parent_path))


def to_text(labels: LabelMap, classes: Classes, image_name: str, parent_path: str = "") -> str:
    """What `write` writes."""
    annotations = []
    for label, shapes in zip(classes, kernels.polygons(labels, len(classes)), strict=True):
        for i, outline in enumerate(sorted(shapes, key=cv2.contourArea)):
            points = outline.tolist()
            # Every reader wants three points, also of a part that is one pixel or a straight line.
            points += points[-1:] * (3 - len(points))
            annotations.append(
                {
                    "id": f"30-{_identity(parent_path, image_name, label, str(i))}",
                    "type": "poly_seg",
                    "attributes": {},
                    "points": points,
                    "label": label,
                }
            )
    content = {
        "annotations": annotations,
        "attributes": {},
        "file_id": _identity(parent_path, image_name).hex,
        "filename": image_name,
        "parent_path": parent_path,
        "last_modifier_id": "",
        "metadata": {"height": labels.shape[0], "width": labels.shape[1]},
        "last_workers": "",
    }
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def read_all(source: Path, classes: Classes, sizes: Sizes, skip: Sequence[str] = ()) -> Iterator[Labelled]:
    """The labels of every image of the competition's layout, sorted by path.

    Args:
        source: a folder that holds `outputs_json` (or `train/outputs_json`), any folder of such files, or one file.
            Images in a folder `DCM` beside `outputs_json` are used for names and sizes unless `sizes` has some.
        classes: the class list.
        sizes: what knows the images: the files themselves lie about their size.
        skip: labels to pass over.
    """
    root = layout(source)
    if sizes.folder is None and root.name == JSON_FOLDER and (root.parent / IMAGE_FOLDER).is_dir():
        sizes = Sizes(root.parent / IMAGE_FOLDER)
    for path, image in trees.json_files(root):
        name, size = sizes.find(f"{image}.png", str(path))
        yield Labelled(name, read(path, size, classes, skip))


def write_all(target: Path, items: Iterable[Labelled], classes: Classes) -> None:
    """Write the competition's layout: `ID001/image1.png` becomes `outputs_json/ID001/image1.json`."""
    root = target / JSON_FOLDER
    for item in once(items, str(target)):
        path = files.inside(root, safe_name(f"{stem(item.name)}.json", str(target)), str(target))
        folder = path.parent.relative_to(root).as_posix()
        image_name = item.name.rsplit("/", 1)[-1]
        write(path, item.labels, classes, image_name, "" if folder == "." else f"/{folder}")


def layout(source: Path) -> Path:
    """The folder of annotation files of a folder in the competition's layout; anything else comes back as it is."""
    for below in (JSON_FOLDER, f"train/{JSON_FOLDER}"):
        if (source / below).is_dir():
            return source / below
    return source


def _identity(*names: str) -> uuid.UUID:
    return uuid.uuid5(_NAMESPACE, "\n".join(names))
