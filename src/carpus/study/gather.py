"""Arms from where they lie: the folder of a study, run folders, submissions."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas

from carpus import competition, config, data, evaluate, run
from carpus.errors import ConfigError, DataError
from carpus.labels import Classes
from carpus.study import tasks
from carpus.study.conduct import Opened
from carpus.study.results import Arm, Outcome, read_run

Progress = Callable[[int, int], None]


def of_study(opened: Opened, progress: Progress | None = None) -> tuple[dict[str, Arm], list[str]]:
    """The arms of a study that have finished runs.

    Returns:
        The arms in the study's order, and what is missing, in sentences.

    Raises:
        DataError: no run is finished, or one that is cannot be read.
    """
    runs: dict[str, list[Outcome]] = {name: [] for name in opened.study.arms}
    read: dict[str, Outcome] = {}
    notes, missing = [], dict.fromkeys(("failed", "begun", "waiting"), 0)
    for done, row in enumerate(opened.rows, start=1):
        state = tasks.state(opened.out, row.key)
        if state == "done":
            folder = tasks.folder(opened.out, row.key)
            read.setdefault(row.key, read_run(folder, seed=row.seed, fold=row.fold))
            runs[row.arm].append(read[row.key])
        else:
            missing[state] += 1
        if progress:
            progress(done, len(opened.rows))
    if any(missing.values()):
        told = ", ".join(f"{count} {state}" for state, count in missing.items() if count)
        notes.append(f"Not all runs are in: {told} of {len(opened.rows)}. What is below is of the others.")
    arms = {name: Arm(name, tuple(of)) for name, of in runs.items() if of}
    if not arms:
        raise DataError(f"{opened.out}: no run is finished; `carpus study run` goes on")
    return arms, notes


def of_paths(
    given: Sequence[str],
    *,
    truth: Path | None = None,
    classes: Classes,
    progress: Progress | None = None,
) -> dict[str, Arm]:
    """Arms from a command line.

    Args:
        given: run folders, folders of run folders, or submissions; ``NAME=A,B,C`` makes an arm of several. Without a
            name, a folder of runs is an arm, and runs that differ in seed and fold alone are one.
        truth: a data folder or a submission; needed for submissions.
        classes: of the submissions.
        progress: called with (paths read, paths in all).

    Returns:
        By name, in the order given.

    Raises:
        DataError: a path that is none of these, or no truth for a submission.
        ConfigError: a name twice.
    """
    named = [_named(text) for text in given]
    total = sum(len(paths) for _, paths in named)
    arms: dict[str, list[Outcome]] = {}
    alike: dict[str, str] = {}
    done = 0
    for name, paths in named:
        found = []
        for path in paths:
            found += _outcomes(path, truth, classes)
            done += 1
            if progress:
                progress(done, total)
        if name is None:
            # Runs of one method, given one by one, join the first of them.
            method = _method(found)
            name = alike.setdefault(method, _free(paths[0].stem if paths[0].is_file() else paths[0].name, arms))
        elif name in arms:
            raise ConfigError(f"{name}: two arms of this name")
        arms.setdefault(name, []).extend(found)
    return {name: Arm(name, _numbered(found)) for name, found in arms.items()}


def _named(text: str) -> tuple[str | None, list[Path]]:
    name, equals, paths = text.partition("=")
    if equals and name and not Path(text).exists():
        return name, [Path(path) for path in paths.split(",") if path]
    return None, [Path(text)]


def _outcomes(path: Path, truth: Path | None, classes: Classes) -> list[Outcome]:
    if (path / run.MANIFEST).is_file():
        return [read_run(path)]
    if path.is_dir():
        inside = sorted(folder.parent for folder in path.glob(f"*/{run.MANIFEST}"))
        if not inside:
            raise DataError(f"{path}: no finished run there, nor in its folders")
        return [read_run(folder) for folder in inside]
    if path.is_file():
        if truth is None:
            raise ConfigError(f"{path}: a submission needs --truth, a data folder or another submission")
        return [_submission(path, truth, classes)]
    raise DataError(f"{path}: not there; expected a run folder, a folder of them, or a submission")


def _submission(path: Path, truth: Path, classes: Classes) -> Outcome:
    scored = competition.score(path, truth, classes=classes)
    table = scored.table()
    patient: dict[str, str] = {}
    if truth.is_dir():
        dataset = data.read(truth)
        cases = (*dataset.train, *dataset.test)
        patient = {f"{case.name.rsplit('/', 1)[-1]}.png": case.patient for case in cases}
    tidy = pandas.DataFrame(
        {
            "case": table["image"],
            "patient": [patient.get(str(image), str(image)) for image in table["image"]],
            "split": table["split"].replace("", "test"),
            "class": table["class"],
            "metric": "dice",
            "value": table["dice"],
        }
    )
    return Outcome(path, 0, None, tidy[list(evaluate.COLUMNS)], classes)


def _method(found: Sequence[Outcome]) -> str:
    """What makes runs the same method: all settings that decide the weights but seed and fold."""
    settings = found[0].settings
    if settings is None or len(found) > 1:
        return str(found[0].path)
    decisive = config.decisive(settings)
    decisive["train"].pop("seed", None)
    decisive["data"].pop("fold", None)
    return json.dumps(decisive, sort_keys=True)


def _numbered(found: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """Submissions tell no seed: each counts as one of its own."""
    if all(outcome.settings is not None for outcome in found):
        return tuple(found)
    return tuple(
        Outcome(outcome.path, place, None, outcome.table, outcome.classes) for place, outcome in enumerate(found)
    )


def _free(name: str, taken: dict[str, list[Outcome]]) -> str:
    place = 1
    while name in taken:
        place += 1
        name = f"{name.removesuffix(f' {place - 1}')} {place}"
    return name
