"""One PNG a class: a folder for every image, holding `<class>.png`, 255 where the class is and 0 elsewhere."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from carpus import labels as label_map
from carpus.errors import DataError, warn
from carpus.formats import Labelled, files, images, once, safe_name, stem, trees
from carpus.formats.sizes import Sizes
from carpus.labels import Classes, LabelMap


def read(folder: Path | str, classes: Classes, skip: Sequence[str] = ()) -> LabelMap:
    """Read the masks of one image.

    A mask is 0 and 255, or 0 and 1; of other values those above 127 count, with a warning. A class without a file is
    an empty mask.

    Args:
        folder: holds a PNG file for every class, named by the class.
        classes: the class list.
        skip: names of files (without .png) to pass over.

    Returns:
        (H, W) int32 label map.

    Raises:
        DataError: a PNG that is not named by a class, no file at all, an unreadable one, or two of different sizes.
    """
    folder = Path(folder)
    labels: LabelMap | None = None
    for path, name in trees.walk(folder):
        label = name.removesuffix(".png")
        if "/" in name or not name.endswith(".png") or label in skip:
            continue
        try:
            k = classes.index(label)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        mask = images.read(path)
        if labels is None:
            labels = label_map.empty((mask.shape[0], mask.shape[1]))
        elif mask.shape != labels.shape:
            expected = f"{labels.shape[0]} x {labels.shape[1]}"
            raise DataError(f"{path}: is {mask.shape[0]} x {mask.shape[1]}, the masks before it {expected}")
        label_map.paint(labels, k, _binary(mask, path))
    if labels is None:
        raise DataError(f"{folder}: holds no mask; expected files such as {classes.names[0]}.png")
    return labels


def write(folder: Path | str, labels: LabelMap, classes: Classes) -> None:
    """Write a PNG of 0 and 255 for every class into `folder`, also for an empty one.

    Raises:
        DataError: a class whose name cannot be that of a file, or that some systems cannot tell from another.
    """
    folder = Path(folder)
    for k, label in enumerate(once(classes, f"{folder}: class", str)):
        if "/" in safe_name(label, f"{folder}: class") or "\\" in label:
            raise DataError(f"{folder}: class: {label!r} cannot be the name of a file")
        images.write(folder / f"{label}.png", label_map.has(labels, k).astype(np.uint8) * np.uint8(255))


def read_all(source: Path, classes: Classes, sizes: Sizes, skip: Sequence[str] = ()) -> Iterator[Labelled]:
    """The labels of every image below a folder: wherever PNG files lie, their folder stands for an image."""
    folders = sorted({PurePosixPath(name).parent for _, name in trees.walk(source) if name.endswith(".png")})
    if not folders:
        raise DataError(f"{source}: holds no masks; expected folders with files such as {classes.names[0]}.png")
    for folder in folders:
        labels = read(source / folder, classes, skip)
        image = source.name if folder == PurePosixPath(".") else folder.as_posix()
        own = labels.shape[0], labels.shape[1]
        name, size = sizes.find(f"{image}.png", str(source / folder), own)
        if size != own:
            raise DataError(f"{source / folder}: masks are {own[0]} x {own[1]}, {name} is {size[0]} x {size[1]}")
        yield Labelled(name, labels)


def write_all(target: Path, items: Iterable[Labelled], classes: Classes) -> None:
    """Write a folder of masks for every image: `ID001/image1.png` becomes `ID001/image1/<class>.png`."""
    for item in once(items, str(target)):
        folder = files.inside(target, safe_name(stem(item.name), str(target)), str(target))
        write(folder, item.labels, classes)


def _binary(mask: np.ndarray, path: Path) -> label_map.Mask:
    filled = mask > 127
    if not ((mask == 0) | (mask == 255)).all():
        if mask.max() == 1:
            return mask == 1
        warn(f"{path}: holds values besides 0 and 255; those above 127 count")
    return filled
