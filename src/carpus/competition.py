"""The competition's score of a submission: mean Dice over images, then over classes.

Everything is counted on run lengths, so that no mask is decoded; the truth may be another submission or a data
folder. A submission must cover the truth exactly: a missing mask is an error, not a zero.

Dimension key: N images, K classes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Group
from rich.table import Table
from rich.text import Text

from carpus import data, kernels, metrics
from carpus.errors import DataError, warn
from carpus.formats import files, images, submission
from carpus.kernels import Runs
from carpus.labels import BONES, Classes

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("val", "public", "private")
"""The parts that get a mean of their own; an image of a truth without parts belongs to none ("")."""

COMPETITION_SIZE = (2048, 2048)

Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""


@dataclass(frozen=True)
class Score:
    """The Dice of every image and class, and its means.

    Args:
        names: N image names.
        split: the part of every image: one of `SPLITS`, or "".
        counts: (N, K, 3) pixels in both, in the prediction, in the truth.
        classes: the K classes, whose groups get means too.
        available: how many images of each part the truth has; only "val" may have more than were scored.
    """

    names: tuple[str, ...]
    split: tuple[str, ...]
    counts: NDArray[np.int64]
    classes: Classes
    available: Mapping[str, int]

    @cached_property
    def dice(self) -> NDArray[np.float64]:
        """(N, K); 1 where a class is empty in both."""
        return metrics.dice(self.counts)

    @property
    def images(self) -> dict[str, int]:
        """How many images were scored: of every part, and "all"."""
        return {part: self.split.count(part) for part in SPLITS} | {"all": len(self.names)}

    def by_class(self, part: str = "all") -> NDArray[np.float64] | None:
        """(K,) mean Dice over the images of a part, or None if it has none."""
        chosen = [n for n, of in enumerate(self.split) if part in (of, "all")]
        return self.dice[chosen].mean(axis=0) if chosen else None

    def mean(self, part: str = "all", members: Sequence[str] | None = None) -> float | None:
        """Mean Dice over the images of a part, then over all classes or `members`; None without images."""
        of_class = self.by_class(part)
        if of_class is None:
            return None
        return float(of_class.mean() if members is None else of_class[[self.classes.index(m) for m in members]].mean())

    def worst(self) -> tuple[str, float]:
        """The class of the lowest mean over all images, and that mean."""
        of_class = self.dice.mean(axis=0)
        return self.classes.names[int(of_class.argmin())], float(of_class.min())

    def table(self) -> "pd.DataFrame":
        """One row for every image and class: image, class, split, both, prediction, truth (pixels), dice."""
        import pandas

        count, classes = len(self.names), len(self.classes)
        return pandas.DataFrame(
            {
                "image": np.repeat(np.array(self.names, object), classes),
                "class": np.tile(np.array(self.classes.names, object), count),
                "split": np.repeat(np.array(self.split, object), classes),
                **dict(zip(("both", "prediction", "truth"), self.counts.reshape(-1, 3).T, strict=True)),
                "dice": self.dice.ravel(),
            }
        )

    def to_json(self) -> dict[str, Any]:
        """The means as plain JSON values, null for a part without images."""
        rows = {kind: dict(self._rows(kind)) for kind in ("dice", "groups", "classes")}
        worst, value = self.worst()
        return {"images": self.images, **rows, "dice": rows["dice"]["mean"], "worst": {"class": worst, "dice": value}}

    def _rows(self, kind: str) -> Iterator[tuple[str, dict[str, float | None]]]:
        members: dict[str, Mapping[str, Sequence[str] | None]] = {
            "dice": {"mean": None},
            "groups": self.classes.groups,
            "classes": {name: [name] for name in self.classes},
        }
        for name, chosen in members[kind].items():
            yield name, {part: self.mean(part, chosen) for part in (*SPLITS, "all")}

    def __rich__(self) -> Group:
        counts = self.images
        shown = [part for part in (*SPLITS, "all") if counts[part]]
        table = Table(title="Dice")
        table.add_column()
        for part in shown:
            table.add_column(part.capitalize(), justify="right")
        worst = self.worst()[0]
        for kind in ("dice", "groups", "classes"):
            for name, values in self._rows(kind):
                lowest = kind == "classes" and name == worst
                style = "red" if lowest else "bold" if kind == "dice" else None
                cells = [f"{values[part]:.4f}" for part in shown]
                table.add_row(Text(f"{name} (worst)" if lowest else name), *cells, style=style)
            table.add_section()
        parts = []
        for part in shown[:-1]:
            total = self.available.get(part, counts[part])
            parts.append(f"{counts[part]}{f' of {total}' if total > counts[part] else ''} {part}")
        return Group(table, Text(f"{counts['all']} images" + (f" ({', '.join(parts)})" if parts else "")))


def score(
    prediction: Path | str,
    truth: Path | str,
    *,
    classes: Classes = BONES,
    size: tuple[int, int] | None = None,
    public_ids: Path | str | None = None,
    progress: Progress | None = None,
) -> Score:
    """Score a submission against the truth.

    Args:
        prediction: the submission CSV to score.
        truth: another submission CSV, or a data folder in the competition layout. In a folder, training images are
            compared with their annotations, for which some of them (a fold) will do; test images are compared with
            the folder's ``test_labels``, where it has them, and must all be there.
        classes: the class list of both.
        size: (H, W) of every image in pixels; None asks the images of a data folder, else it is 2048 x 2048.
        public_ids: a text file of the public part, one image or patient a line; other test images are private. None
            takes ``test_labels/public.txt`` of a data folder that has it.
        progress: called after every image.

    Returns:
        the score. A class that is empty in both has Dice 1.

    Raises:
        DataError: a file that cannot be read, or a submission that does not cover the truth.
    """
    prediction, truth = Path(prediction), Path(truth)
    if (truth / data.PROVENANCE).is_file():
        warn(
            f"{truth}: its labels are predictions of `carpus pseudo`, no truth: this tells how alike they are, no more"
        )
    known = _of_folder(truth, classes, size) if truth.is_dir() else _of_submission(truth, classes, size)
    predicted = submission.read(prediction, classes, known.size)
    split = _cover(predicted, known, prediction)
    public_ids = known.public_ids if public_ids is None else Path(public_ids)
    if public_ids is not None and "" in split.values():
        public = read_public(public_ids, known.split, known.patient, known.source)
        split = {name: part or ("public" if name in public else "private") for name, part in split.items()}
    counts = np.zeros((len(split), len(classes), 3), np.int64)
    for n, name in enumerate(split):
        pairs = zip(predicted[name], known.runs(name), strict=True)
        counts[n] = [kernels.overlap_runs(ours, theirs) for ours, theirs in pairs]
        if progress:
            progress(n + 1, len(split))
    available = {part: sum(of == part for of in known.split.values()) for part in SPLITS if part == "val"}
    return Score(tuple(split), tuple(split.values()), counts, classes, available)


@dataclass(frozen=True)
class _Truth:
    """What there is to compare with: `split` ("val" or "") and `patient` by image name, the runs on demand."""

    source: Path
    split: Mapping[str, str]
    patient: Mapping[str, str]
    runs: Callable[[str], Sequence[Runs]]
    size: Callable[[str], tuple[int, int]]
    public_ids: Path | None = None


def _of_submission(path: Path, classes: Classes, size: tuple[int, int] | None) -> _Truth:
    known = size or COMPETITION_SIZE
    content = submission.read(path, classes, known)
    return _Truth(path, dict.fromkeys(content, ""), {}, content.__getitem__, lambda name: known)


def _of_folder(root: Path, classes: Classes, size: tuple[int, int] | None) -> _Truth:
    dataset = data.read(root)
    cases: dict[str, data.Case] = {}
    for case in dataset.train + dataset.test:
        name = f"{case.name.rsplit('/', 1)[-1]}.png"
        if name in cases:
            raise DataError(f"{case.image}: {cases[name].image} has the same base name, by which a submission goes")
        cases[name] = case

    def size_of(name: str) -> tuple[int, int]:
        own = images.size(cases[name].image) if name in cases else size or COMPETITION_SIZE
        if size not in (None, own):
            raise DataError(f"{cases[name].image}: is {own[0]} x {own[1]}, against --size {size[0]}x{size[1]}")
        return own

    known = root / "test_labels"
    table, public_ids = (files.inside(known, name, str(root)) for name in ("submission.csv", "public.txt"))
    test = submission.read(table, classes, size_of) if table.is_file() else {}

    def runs(name: str) -> Sequence[Runs]:
        return test[name] if name in test else kernels.encode(data.read_labels(cases[name], classes), len(classes))

    train = {case.name for case in dataset.train}
    split = {name: "val" if case.name in train else "" for name, case in cases.items() if case.annotation}
    patient = {name: case.patient for name, case in cases.items()}
    split |= dict.fromkeys(test, "")
    return _Truth(root, split, patient, runs, size_of, public_ids if public_ids.is_file() else None)


def _cover(predicted: Mapping[str, Sequence[Runs]], known: _Truth, source: Path) -> dict[str, str]:
    """The part of every predicted image, in the truth's order, if they cover the truth."""
    extra = [name for name in predicted if name not in known.split]
    if extra:
        raise DataError(
            f"{source}: image_name: {_are(extra)} not in the truth ({known.source}), the first is {extra[0]}"
        )
    split = {name: part for name, part in known.split.items() if name in predicted}
    # A fold of the training images has a score of its own; the test images count as a whole or not at all.
    if "" in split.values() or not split:
        missing = [name for name in known.split if name not in predicted and known.split[name] == ""]
        if missing:
            raise DataError(
                f"{source}: image_name: {_are(missing)} missing that the truth has ({known.source}), "
                f"the first is {missing[0]}"
            )
    if not split:
        raise DataError(f"{source}: image_name: there is no image to score")
    return split


def _are(names: Sequence[str]) -> str:
    return "1 image is" if len(names) == 1 else f"{len(names)} images are"


def read_public(path: Path, names: Iterable[str], patient: Mapping[str, str], source: Path) -> set[str]:
    """The images that a file names, by themselves or by their patient.

    Args:
        path: a text file, one image or patient a line.
        names: of all images, as in a submission.
        patient: by image name.
        source: where the images are from, for the error.

    Raises:
        DataError: not a text file, or a line that is neither image nor patient.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable text file ({error})") from error
    names, public = tuple(names), set[str]()
    for number, line in enumerate(lines, 1):
        word = line.strip()
        found = {name for name in names if word in (name, name.removesuffix(".png"), patient.get(name))}
        if word and not found:
            raise DataError(f"{path}: line {number}: {word!r:.80} is no image or patient of {source}")
        public |= found
    return public


def parts(dataset: data.Dataset) -> dict[str, str]:
    """The part of every test image by the name of its case: public or private; test where nothing tells."""
    path = files.inside(dataset.root / "test_labels", "public.txt", str(dataset.root))
    if not path.is_file():
        return {case.name: "test" for case in dataset.test}
    image = {case.name: f"{case.name.rsplit('/', 1)[-1]}.png" for case in dataset.test}
    patient = {image[case.name]: case.patient for case in dataset.test}
    public = read_public(path, image.values(), patient, dataset.root)
    return {name: "public" if image[name] in public else "private" for name in image}
