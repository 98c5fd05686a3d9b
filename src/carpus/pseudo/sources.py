"""Where pseudo-labels come from: submissions and runs, each of which is a member that answers for itself.

Dimension key: K classes, M members, H W image resolution, h w logit resolution.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from carpus import ensemble, evaluate, run
from carpus.blend import Mean
from carpus.data import Case, Dataset
from carpus.errors import ConfigError, DataError
from carpus.formats import files, submission
from carpus.formats.submission import Size, Submission
from carpus.kernels import Runs
from carpus.labels import Classes
from carpus.postprocess import Calibration
from carpus.predict import Ensemble, Options, Predictor
from carpus.pseudo.provenance import Seen, seen_by


@dataclass(frozen=True)
class Prediction:
    """What the members say of one image of `size` (H, W).

    Args:
        runs: K runs, the label: of runs alone where their mean probability is above the thresholds, else the vote.
        members: M lists of K runs.
        probabilities: (K, h, w) float32, the mean of the runs, over the square of the image's longer side; None without
            runs.
        image: (H, W), bone bright; None if nobody is to look at it.
    """

    size: tuple[int, int]
    runs: list[Runs]
    members: list[list[Runs]]
    probabilities: NDArray[np.float32] | None = None
    image: NDArray[np.uint8] | None = None


class Sources:
    """Submissions and runs of one class list, opened together.

    Args:
        paths: CSV files and run folders, one or more.
        classes: the class list; that of the runs where there are any.
        size: (H, W) of an image by its name in a submission.
        device, options, calibration: as in `predict.Ensemble.of`, for the runs.
        seen: the patients that made the submissions, and what else of the runs nobody knows; None where it is unknown.

    Raises:
        DataError: a CSV or run that cannot be read.
        ConfigError: no source, one of them twice, or runs of other classes.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        classes: Classes,
        size: Size,
        *,
        device: str = "auto",
        options: Options | None = None,
        calibration: Path | None = None,
        seen: Sequence[str] | None = None,
    ) -> None:
        if not paths:
            raise ConfigError("pseudo: expected at least one submission or run")
        self.runs = [run.read(path) for path in paths if path.is_dir()]
        self.classes = self.runs[0].classes if self.runs else classes
        for each in self.runs:
            if each.classes != self.classes:
                raise ConfigError(f"{each.path}: has other classes than {self.runs[0].path}")
        self._files = [path for path in paths if not path.is_dir()]
        self._tables: list[Submission] = [submission.read(path, self.classes, size) for path in self._files]
        hashes = [*map(files.sha256, self._files), *(each.manifest["files"][run.WEIGHTS] for each in self.runs)]
        opened = [*self._files, *(each.path for each in self.runs)]
        ensemble.require_different(opened, hashes, "what is counted twice agrees with itself")
        self.calibration = Calibration.read(calibration, self.classes) if calibration else None
        self._predictors = [Predictor.of(each, device, options) for each in self.runs]
        self._seen = None if seen is None else sorted(set(seen))

    def describe(self) -> list[dict[str, Any]]:
        """What is written down about them: kind, path, hashes, and the patients they saw, see `Seen.as_json`."""
        of_tables = Seen(unknown=True).told(self._seen).as_json()
        tables = [
            {"kind": "submission", "path": str(path.resolve()), "sha256": files.sha256(path), "seen": of_tables}
            for path in self._files
        ]
        runs = [
            {
                "kind": "run",
                "path": str(each.path.resolve()),
                "sha256": each.manifest["files"],
                "seen": self._told(each).as_json(),
            }
            for each in self.runs
        ]
        return [*tables, *runs]

    def _told(self, trained: run.Run) -> Seen:
        """The patients whose labels made a run or chose its thresholds."""
        fitted = self.calibration.fitted_on if self.calibration else ()
        return seen_by(trained, self._seen) | Seen.read(fitted)

    @property
    def mixed(self) -> bool:
        """Whether submissions vote beside runs: what they say together of a patient held out, nobody knows."""
        return bool(self._tables and self.runs)

    def names(self) -> set[str] | None:
        """The names of the images that any submission has; None without submissions."""
        return {name for table in self._tables for name in table} if self._tables else None

    def complete(self, names: Sequence[str]) -> None:
        """Raise a `DataError` unless every submission has all of these images (base names)."""
        for path, table in zip(self._files, self._tables, strict=True):
            missing = [name for name in names if name not in table]
            if missing:
                raise DataError(f"{path}: no rows for {missing[0]} ({len(missing)} such images)")

    def held_out(self, dataset: Dataset) -> dict[Case, list[int]]:
        """The annotated cases that a run held out, with the numbers of the runs that never saw the patient."""
        found: dict[Case, list[int]] = {}
        seen = [seen_by(each, self._seen) for each in self.runs]
        for each in self.runs:
            for case in evaluate.held_out(dataset, each, "val"):
                found[case] = [n for n, of in enumerate(seen) if not of.unknown and case.patient not in of.patients]
        return {case: members for case, members in found.items() if members}

    def predict(self, name: str, image: NDArray[np.uint8], runs: Sequence[int] | None = None) -> Prediction:
        """What the members say of an image.

        Args:
            name: in the submissions, which take part if they have it.
            image: (H, W), bone bright.
            runs: the numbers of the runs to ask; None for all.
        """
        size = image.shape[0], image.shape[1]
        tables = [table[name] for table in self._tables if name in table]
        asked = [self._predictors[n] for n in (range(len(self.runs)) if runs is None else runs)]
        if not asked:
            return Prediction(size, _voted(tables), tables, image=image)
        # Votes keep apart what each member says; their mean is taken here, too.
        work = Ensemble(asked, self.classes, blend="votes", calibration=self.calibration)
        looked = work.look(image)
        said = [work.runs([logits], size) for logits in looked]
        label = _voted([*tables, *said]) if tables else work.runs([_mean(looked)], size)
        return Prediction(size, label, [*tables, *said], work.probabilities(looked).numpy(), image)


def patients(path: Path) -> list[str]:
    """The patients that a text file names, one a line; the word `nobody` alone for none.

    Raises:
        DataError: it cannot be read, is no UTF-8 text, or is empty: nobody would have said anything.
    """
    try:
        found = path.read_text(encoding="utf-8-sig").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text with a patient a line ({error})") from error
    if not found:
        raise DataError(f"{path}: names no patient; if no patient of yours made the predictions, write `nobody`")
    return [] if found == ["nobody"] else found


def _voted(members: list[list[Runs]]) -> list[Runs]:
    if len(members) == 1:
        return members[0]
    return [ensemble.vote(masks, [1.0] * len(masks)) for masks in zip(*members, strict=True)]


def _mean(looked: Sequence[Tensor]) -> Tensor:
    mean = Mean("probabilities")
    for logits in looked:
        mean.add(logits)
    return mean.logits()
