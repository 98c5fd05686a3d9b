"""What a study comes to: arms x seeds x folds as tasks, each in a folder named by the hash of all that decides it.

Arms that come to the same settings share their tasks. A task is done when its folder holds ``task.json``, which is
written last, and what it says can be hashed again.
"""

import hashlib
import json
import os
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from carpus import config
from carpus.errors import ConfigError
from carpus.formats import files
from carpus.study import spec

RUNS, FAILED, LOGS, DONE, INDEX, COPY = "runs", "failed", "logs", "task.json", "study.json", "study.yaml"

CALIBRATION = "calibration.json"
"""In the folder of a run that is predicted with fitted thresholds: what `carpus calibrate` found."""

State = Literal["waiting", "begun", "failed", "done"]


@dataclass(frozen=True)
class Task:
    """One run, one run looked at otherwise, or labels made by runs.

    Args:
        key: hash of `content`; the name of its folder.
        content: all that decides the result but the data, as JSON.
        settings: of the training.
        start: the task whose weights are the first ones.
        labels: the task whose pseudo-labels are learnt from besides.
        calibrates: the task whose run is predicted with fitted thresholds, in place of a training.
        teachers: the tasks whose runs make pseudo-labels, in place of a training.
    """

    key: str
    content: dict[str, Any]
    settings: config.Config
    start: str | None = None
    labels: str | None = None
    calibrates: str | None = None
    teachers: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of the tasks that come before."""
        return tuple(key for key in (self.start, self.labels, self.calibrates, *self.teachers) if key is not None)


@dataclass(frozen=True)
class Row:
    """One run of an arm, and the task that makes it."""

    arm: str
    seed: int
    fold: int
    key: str


@dataclass(frozen=True)
class Work:
    """All tasks of a study by key, every one after those it needs, and what they are for."""

    tasks: dict[str, Task]
    rows: tuple[Row, ...]


def work(
    study: spec.Study,
    path: Path,
    scale: spec.ScaleName,
    *,
    seeds: int,
    folds: Sequence[int],
    arms: Sequence[str] | None = None,
) -> Work:
    """The tasks of a study: all arms with the first seed, then all with the second, so that a part is worth a look.

    Args:
        study: what was read from `path`.
        path: the study file.
        scale: full or quick.
        seeds: how many, counted from 0.
        folds: which folds validate.
        arms: only these, and what they need; None for all.

    Raises:
        ConfigError: naming file and key.
    """
    tasks: dict[str, Task] = {}
    starts: dict[str, str | None] = {}
    rows = [
        Row(arm, seed, fold, _task(tasks, starts, study, path, scale, arm, seed, fold).key)
        for seed in range(seeds)
        for fold in folds
        for arm in study.arms
        if arms is None or arm in arms
    ]
    return Work(tasks, tuple(rows))


def _task(
    tasks: dict[str, Task],
    starts: dict[str, str | None],
    study: spec.Study,
    path: Path,
    scale: spec.ScaleName,
    arm: str,
    seed: int,
    fold: int,
) -> Task:
    def of(other: str) -> str:
        return _task(tasks, starts, study, path, scale, other, seed, fold).key

    chosen, content = study.arms[arm], dict[str, Any]()
    settings = spec.settings(study, arm, scale, path, seed=seed, fold=fold)
    if settings.train.devices * settings.train.nodes > 1:
        raise ConfigError(
            f"{path}: arms.{arm}: train.devices and train.nodes: are 1 in a study, whose runs go side by side instead"
        )
    if chosen.start:
        content["start"] = of(chosen.start)
    if chosen.pseudo:
        teachers = tuple(of(name) for name in chosen.pseudo.teachers)
        made = {"teachers": list(teachers)} | ({"soft": True} if settings.data.pseudo.soft else {})
        content["labels"] = _add(tasks, made, settings, teachers=teachers).key
    task = _add(tasks, {"settings": _by_content(settings, starts)} | content, settings, **content)
    if chosen.calibrated:
        task = _add(tasks, {"calibrated": task.key}, settings, calibrates=task.key)
    return task


def _by_content(settings: config.Config, starts: dict[str, str | None]) -> dict[str, Any]:
    """See `job.by_content`, which is not imported, and torch with it, where no file has a say.

    Args:
        settings: of a training.
        starts: the SHA-256 of first weights that were looked at before; filled.
    """
    weights = settings.model.weights or ""
    local = bool(weights) and config.weights_path(weights, Path()) is not None
    if not (local or settings.classes or settings.data.hard):
        return config.decisive(settings)
    from carpus import job

    if local and weights not in starts:
        starts[weights] = job.start_sha256(weights)
    return job.by_content(settings, starts.get(weights))


def _add(tasks: dict[str, Task], content: dict[str, Any], settings: config.Config, **needs: Any) -> Task:
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    return tasks.setdefault(key, Task(key, content, settings, **needs))


def folder(out: Path, key: str) -> Path:
    """The run folder of a task."""
    return out / RUNS / key


def is_done(out: Path, key: str) -> bool:
    """Whether a task has nothing left to do."""
    return (folder(out, key) / DONE).is_file()


def finish(out: Path, task: Task) -> None:
    """Mark a task as done; every other file of its folder is there already."""
    files.write_json(folder(out, task.key) / DONE, {"key": task.key, **task.content}, indent=2)
    forget(out, task.key)


def note(out: Path, key: str) -> Path:
    """Why a task failed; not there if it did not."""
    return out / FAILED / f"{key}.txt"


def forget(out: Path, key: str) -> None:
    """Take back that a task failed: it is tried again."""
    note(out, key).unlink(missing_ok=True)


def print_to_log(out: Path, key: str) -> None:
    """From now on, what this process prints goes to the log of a task, not through the table on the screen."""
    path = log(out, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def log(out: Path, key: str) -> Path:
    """What a task printed; not there if none of it ran yet."""
    return out / LOGS / f"{key}.txt"


def fail(out: Path, key: str, error: BaseException | str) -> str:
    """Note why a task failed, outside of its folder, with which it may go on; returns the note's first line."""
    text = error if isinstance(error, str) else reason(error)
    files.write_text(note(out, key), text)
    return text.splitlines()[0]


def reason(error: BaseException) -> str:
    """Why a task failed: a line, and where it came from below."""
    return f"{type(error).__name__}: {error}\n\n{''.join(traceback.format_exception(error))}"


def state(out: Path, key: str) -> State:
    """What a task has come to."""
    if is_done(out, key):
        return "done"
    if note(out, key).is_file():
        return "failed"
    return "begun" if folder(out, key).is_dir() else "waiting"


def failure(out: Path, key: str) -> str:
    """Why a task failed, in a line."""
    return note(out, key).read_text(encoding="utf-8").splitlines()[0]
