"""The submission: a CSV of `image_name,class,rle`, one row for every image and class.

A mask travels as runs, row by row and counted from 1 (see `rle`); an empty mask is an empty cell. An image is
named by its base name, which ends in .png; a name that a spreadsheet would compute has an apostrophe before it.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from carpus.errors import DataError, warn
from carpus.formats import Labelled, check_size, files, rle, safe_name, stem
from carpus.formats.cells import escaped, table
from carpus.formats.sizes import Sizes
from carpus.kernels import Runs, decode, encode, text
from carpus.labels import Classes

COLUMNS = ("image_name", "class", "rle")

Submission = dict[str, list[Runs]]
"""Image name -> the runs of class 0, 1, ..., in the file's order of images."""

Size = tuple[int, int] | Callable[[str], tuple[int, int]]
"""(H, W) of every image, or what gives it for an image's name."""


def read(path: Path | str, classes: Classes, size: Size, expected: Iterable[str] | None = None) -> Submission:
    """Read a submission; rows may come in any order, but every image needs one row for every class.

    Commas or semicolons, LF or CRLF, with or without a byte order mark. An empty mask, also written NaN, has
    (0, 2) runs.

    Args:
        path: the CSV file.
        classes: the class list; a row of another class is an error.
        size: (H, W) of the images, or a function from image name to (H, W).
        expected: the names of the images that have to be there, and no others; None takes what comes.

    Raises:
        DataError: naming the file and the line or image: other columns, a missing, extra or duplicate row, a name
            that is not a base name ending in .png, or run lengths that `rle.parse` refuses.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path}: is a folder; expected a submission CSV; `carpus convert {path} x.csv` makes one")
    rows: dict[str, list[Runs | None]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for line, (name, label, cell) in table(path, COLUMNS):
        source = f"{path}: line {line}"
        if name not in rows:
            base_name(name, f"{source}: image_name")
            sizes[name] = check_size(size(name) if callable(size) else size, f"{source}: {name}")
            rows[name] = [None] * len(classes)
        try:
            k = classes.index(label)
        except DataError as error:
            raise DataError(f"{source}: class: {error}") from None
        if rows[name][k] is not None:
            raise DataError(f"{source}: a second row for {name}, {label}")
        rows[name][k] = rle.parse("" if cell in ("NaN", "nan") else cell, sizes[name], f"{source}: rle")
    return _complete(path, rows, classes, expected)


def write(path: Path | str, items: Iterable[tuple[str, Sequence[Runs]]], classes: Classes) -> int:
    """Write a submission row by row, whole or not at all.

    Args:
        path: the CSV file, replaced if it is there.
        items: image name (a base name ending in .png) and the runs of class 0, 1, ...; an empty mask has (0, 2) runs.
        classes: the class list.

    Returns:
        The number of images.

    Raises:
        DataError: a name twice, a name that is no base name, or runs of another number of classes.

    Warns:
        DataWarning: a name that a spreadsheet would take for a formula; it is written with an apostrophe before it.
    """
    path = Path(path)
    labels = [_cell(label, f"{path}: class") for label in classes]
    seen: set[str] = set()
    with files.atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for name, runs in items:
            base_name(name, f"{path}: image_name")
            if name in seen:
                raise DataError(f"{path}: image_name: {name!r} comes twice; a submission knows base names only")
            if len(runs) != len(classes):
                raise DataError(f"{path}: {name}: has runs of {len(runs)} classes, expected {len(classes)}")
            seen.add(name)
            cell = _cell(name, f"{path}: image_name")
            writer.writerows((cell, label, text(of)) for label, of in zip(labels, runs, strict=True))
    return len(seen)


def read_all(source: Path, classes: Classes, sizes: Sizes, skip: Sequence[str] = ()) -> Iterator[Labelled]:
    """The labels of every image of a submission, in the file's order.

    A submission has neither folders nor sizes: a folder of images in `sizes` gives both, found by base name.
    `skip` is there for the other formats; a submission has exactly the classes of the class list.
    """
    found: dict[str, tuple[str, tuple[int, int]]] = {}

    def size(name: str) -> tuple[int, int]:
        found[name] = sizes.find(name, str(source))
        return found[name][1]

    for name, runs in read(source, classes, size).items():
        yield Labelled(found[name][0], decode(runs, found[name][1]))


def write_all(target: Path, items: Iterable[Labelled], classes: Classes) -> None:
    """Write a submission; an image goes by its base name with .png, so two of one base name are an error."""
    write(target, ((image_name(item.name), encode(item.labels, len(classes))) for item in items), classes)


def image_name(name: str) -> str:
    """What an image goes by in a submission: "ID001/image1.dcm" is "image1.png"."""
    return f"{stem(name.rsplit('/', 1)[-1])}.png"


def base_name(name: str, source: str) -> str:
    """Return `name` if it is the bare file name of a PNG, else raise `DataError` naming `source`."""
    if "/" in name or "\\" in name:
        raise DataError(f"{source}: {name!r} has a folder, expected a base name such as image1.png")
    safe_name(name, source)
    if not name.endswith(".png") or name == ".png":
        raise DataError(f"{source}: {name!r:.80} is not a name that ends in .png")
    return name


def _cell(name: str, source: str) -> str:
    cell = escaped(name)
    if cell != name:
        warn(f"{source}: {name!r} would be a formula in a spreadsheet; written as {cell!r}")
    return cell


def _complete(
    path: Path, rows: Mapping[str, list[Runs | None]], classes: Classes, expected: Iterable[str] | None
) -> Submission:
    result: Submission = {}
    for name, of_class in rows.items():
        runs = [of for of in of_class if of is not None]
        if len(runs) < len(classes):
            missing = [label for label, of in zip(classes, of_class, strict=True) if of is None]
            raise DataError(f"{path}: {name}: no row for {', '.join(missing)}")
        result[name] = runs
    if expected is not None:
        wanted = list(expected)
        if absent := [name for name in wanted if name not in result]:
            raise DataError(f"{path}: no rows for {_some(absent)}")
        known = set(wanted)
        if extra := [name for name in result if name not in known]:
            raise DataError(f"{path}: rows for {_some(extra)}, which is not expected here")
    return result


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
