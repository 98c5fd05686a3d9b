"""Arms from where they lie: the folder of a study, run folders, submissions."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas

from carpus import competition, config, data, evaluate, run
from carpus.errors import ConfigError, DataError, warn
from carpus.labels import Classes
from carpus.study import tasks
from carpus.study.conduct import Opened
from carpus.study.results import Arm, Outcome, read_run
from carpus.study.tasks import Row

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
    failed: dict[tuple[str, str], list[Row]] = {}
    for done, row in enumerate(opened.rows, start=1):
        state = tasks.state(opened.out, row.key)
        if state == "done":
            folder = tasks.folder(opened.out, row.key)
            read.setdefault(row.key, read_run(folder, seed=row.seed, fold=row.fold))
            runs[row.arm].append(read[row.key])
        else:
            missing[state] += 1
        if state == "failed":
            failed.setdefault((row.arm, tasks.failure(opened.out, row.key)), []).append(row)
        if progress:
            progress(done, len(opened.rows))
    if any(missing.values()):
        told = ", ".join(f"{count} {state}" for state, count in missing.items() if count)
        notes.append(f"Not all runs are in: {told} of {len(opened.rows)}. What is below is of the others.")
    for (arm, why), rows in failed.items():
        which = ", ".join(f"seed {row.seed}, fold {row.fold}" for row in rows)
        notes.append(f"{arm} failed ({which}): {why}")
    arms = {name: Arm(name, tuple(of)) for name, of in runs.items() if of}
    if not arms:
        raise DataError(f"{opened.out}: no run is finished; `carpus study run` goes on")
    return arms, notes


def of_paths(
    given: Sequence[str],
    *,
    truth: Path | None = None,
    classes: Classes,
    size: tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> dict[str, Arm]:
    """Arms from a command line.

    Args:
        given: run folders, folders of run folders, or submissions; ``NAME=A,B,C`` makes an arm of several. Without a
            name, runs that differ in seed and fold alone are an arm, whether given one by one or in a folder.
        truth: a data folder or a submission; needed for submissions.
        classes: of the submissions.
        size: (H, W) of the images where the truth is a submission, see `competition.score`.
        progress: called with (paths read, paths in all).

    Returns:
        By name, in the order given.

    Raises:
        DataError: a path that is none of these, or one training given twice in an arm.
        ConfigError: a name twice, a folder of several methods without a name, or no truth for a submission.
    """
    named = [named_paths(text) for text in given]
    total = sum(len(paths) for _, paths in named)
    arms: dict[str, list[Outcome]] = {}
    alike: dict[str, str] = {}
    done = 0
    for name, paths in named:
        found = []
        for path in paths:
            found += _outcomes(path, truth, classes, size)
            done += 1
            if progress:
                progress(done, total)
        if name is None:
            # Runs of one method, given one by one, join the first of them.
            method = _method(paths[0], found)
            name = alike.setdefault(method, _free(paths[0].stem if paths[0].is_file() else paths[0].name, arms))
        elif name in arms:
            raise ConfigError(f"{name}: two arms of this name")
        arms.setdefault(name, []).extend(found)
    return {name: Arm(name, _apart(name, found)) for name, found in arms.items()}


def named_paths(text: str) -> tuple[str | None, list[Path]]:
    """An arm of a command line: the name, if ``NAME=A,B,C`` gives one, and the paths."""
    name, equals, paths = text.partition("=")
    if equals and name and not Path(text).exists():
        return name, [Path(path) for path in paths.split(",") if path]
    return None, [Path(text)]


def _outcomes(path: Path, truth: Path | None, classes: Classes, size: tuple[int, int] | None) -> list[Outcome]:
    if (path / run.MANIFEST).is_file():
        return [read_run(path)]
    if path.is_dir():
        return _inside(path)
    if path.is_file():
        if truth is None:
            raise ConfigError(f"{path}: a submission needs --truth, a data folder or another submission")
        return [_submission(path, truth, classes, size)]
    raise DataError(f"{path}: not there; expected a run folder, a folder of them, or a submission")


def _inside(path: Path) -> list[Outcome]:
    """The finished runs in the folders of a folder; those that nobody scored yet are named and left out."""
    runs = sorted(folder.parent for folder in path.glob(f"[!.]*/{run.MANIFEST}"))  # a hidden one is being written
    if not runs and (path / tasks.INDEX).is_file():
        raise DataError(
            f"{path}: is a whole study, which `carpus study report {path}` judges; its runs lie in {path / tasks.RUNS}"
        )
    if not runs:
        raise DataError(f"{path}: no finished run there, nor in its folders")
    scored = [folder for folder in runs if (folder / run.SCORES).is_file()]
    for folder in runs:
        if scored and folder not in scored:
            warn(f"{folder}: has no scores yet and is left out")
    return [read_run(folder) for folder in scored or runs]


def _submission(path: Path, truth: Path, classes: Classes, size: tuple[int, int] | None) -> Outcome:
    scored = competition.score(path, truth, classes=classes, size=size)
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
    return Outcome(path=path, seed=0, fold=None, table=tidy[list(evaluate.COLUMNS)], classes=classes)


def _method(path: Path, found: Sequence[Outcome]) -> str:
    """What makes runs the same method: all settings that decide the weights but seed and fold."""
    if found[0].settings is None:
        return str(path)
    methods = [_decisive(outcome) for outcome in found]
    for other in methods:
        if other != methods[0]:
            raise ConfigError(
                f"{path}: holds runs of several methods, which differ in {next(_differing(methods[0], other))}; an arm "
                f"is one method: name its runs, as in NAME=RUN,RUN (NAME={path} if they are one all the same)"
            )
    return json.dumps(methods[0], sort_keys=True)


def _decisive(outcome: Outcome) -> dict[str, Any]:
    if outcome.settings is None:
        return {}
    decisive = config.decisive(outcome.settings)
    decisive["train"].pop("seed", None)
    decisive["data"].pop("fold", None)
    return decisive | {"calibrated": outcome.fitted is not None}


def _differing(one: Any, other: Any, name: str = "") -> Iterator[str]:
    """The dotted names of the settings that differ."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in {**one, **other}:
            yield from _differing(one.get(key), other.get(key), f"{name}.{key}".removeprefix("."))
    elif one != other:
        yield name


def _apart(name: str, found: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """The runs of an arm, each a training of its own; submissions, which tell no seed, are numbered."""
    runs = [outcome for outcome in found if outcome.settings is not None]
    if runs and len(runs) < len(found):
        raise ConfigError(f"{name}: holds runs and submissions, which may be of one training; give one kind of them")
    first: dict[object, Outcome] = {}
    for outcome in found:
        known = first.setdefault(_training(outcome), outcome)
        if known is not outcome:
            both = f"are of seed {outcome.seed} and fold {outcome.fold}" if runs else "score the same on every image"
            raise DataError(
                f"{name}: {known.path} and {outcome.path} {both}; one training given twice is no second seed"
            )
    return tuple(found) if runs else tuple(replace(outcome, seed=place) for place, outcome in enumerate(found))


def _training(outcome: Outcome) -> object:
    """What tells the trainings of an arm apart: seed and fold, or all scores of a submission."""
    if outcome.settings is not None:
        return outcome.seed, outcome.fold
    return outcome.table["value"].to_numpy().tobytes()


def _free(name: str, taken: dict[str, list[Outcome]]) -> str:
    place = 1
    while name in taken:
        place += 1
        name = f"{name.removesuffix(f' {place - 1}')} {place}"
    return name
