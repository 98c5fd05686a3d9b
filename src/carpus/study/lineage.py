"""Whose weights a run started from: all trainings behind its own, their steps, their time and what they learnt from."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carpus import config, run
from carpus.errors import warn
from carpus.formats.submission import image_name


@dataclass(frozen=True)
class Lineage:
    """The training of a run and those of the runs that it started from; all unknown of a submission.

    Args:
        steps, seconds: of all of them together; NaN where one does not tell.
        learnt: images with predictions for labels that any of them learnt from, by their names in a submission.
        trainings: their identities; runs that share one are made of the same training.
    """

    steps: float = math.nan
    seconds: float = math.nan
    learnt: frozenset[str] = frozenset()
    trainings: frozenset[str] = frozenset()


def trace(path: Path) -> Lineage:
    """What lies behind the weights of a finished run.

    Args:
        path: its folder.

    Raises:
        DataError: it or one that it started from cannot be read.

    Warns:
        DataWarning: of a run that it started from and that is not there any more.
    """
    line = _manifests(path)
    return Lineage(
        steps=sum(one.get("steps", math.nan) for one in line),
        seconds=sum(one.get("seconds", math.nan) for one in line),
        learnt=frozenset(image_name(name) for one in line for name, _ in run.pseudo_images(one)),
        trainings=frozenset(
            of["identity"] for one in line for of in (one, one.get("continued") or {}) if "identity" in of
        ),
    )


def _manifests(path: Path) -> list[Mapping[str, Any]]:
    """The manifests of a run and of those whose weights it started from, the latest first."""
    found: dict[Path, Mapping[str, Any]] = {}
    here: Path | None = path
    while here:
        found[here.resolve()] = run.read_manifest(here)[0]
        here = _parent(here, found)
    return list(found.values())


def _parent(path: Path, known: Mapping[Path, Mapping[str, Any]]) -> Path | None:
    """The run that a run started from; None of one that started from none, or from one that is not there any more.

    Args:
        path: the run.
        known: the manifests of it and of those that started from it, by where they lie; none of them is its parent.
    """
    weights = Path(config.load([path / run.CONFIG]).model.weights or "")
    if weights.name != run.WEIGHTS:
        return None
    sha256 = known[path.resolve()].get("start_sha256")  # None: made before it was recorded
    # In a study that was moved they still lie side by side.
    for folder in (weights.parent, path.resolve().parent / weights.parent.name):
        if (folder / run.MANIFEST).is_file() and folder.resolve() not in known:
            manifest, _ = run.read_manifest(folder)
            if sha256 in (None, manifest.get("files", {}).get(run.WEIGHTS)):
                return folder
    if not weights.is_file() or (weights.parent / run.MANIFEST).is_file():
        warn(
            f"{path}: the run that it started from, {weights.parent}, is not there; its steps and time are not counted"
        )
    return None
