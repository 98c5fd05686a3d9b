"""One task from wherever it stands to done: train, then score the patients held out and both parts of the test.

It may be called again after any interruption, by any process that sees the folder. Whatever executes tasks calls this.
With a store, what is finished elsewhere is fetched, and what is finished here goes there.
"""

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import pandas

from carpus import calibrate, competition, config, data, evaluate, run, train
from carpus.errors import BusyError
from carpus.formats import trees
from carpus.pseudo import make
from carpus.study import tasks
from carpus.study.store import Store
from carpus.study.tasks import Task

PATIENCE_SECONDS = 120
"""How long to wait for a process that still holds a run: one whose study was killed ends after its step."""


def perform(task: Task, root: Path, out: Path, store: Store | None = None) -> None:
    """Do what is left of a task.

    Args:
        task: what it needs is done, here or in the store.
        root: the data folder.
        out: the folder of the study.
        store: of finished tasks; None where all who need them see `out`.

    Raises:
        What `train.train`, `calibrate.calibrate` and the store raise; the folder then holds what was saved.
    """
    if store:
        for key in (task.key, *task.needs):
            store.pull(out, key)
    if not tasks.is_done(out, task.key):
        _carry_out(task, root, out)
    if store:
        store.push(out, task.key)


def _carry_out(task: Task, root: Path, out: Path) -> None:
    folder = tasks.folder(out, task.key)
    if task.teachers:
        _label(folder, [tasks.folder(out, key) for key in task.teachers], root, task.settings)
        tasks.finish(out, task)
        return
    if task.calibrates:
        _calibrate(folder, tasks.folder(out, task.calibrates), root)
    elif not (folder / run.MANIFEST).is_file():
        _train(_settings(task, out), root, folder)
    _score(folder, root)
    tasks.finish(out, task)


def _settings(task: Task, out: Path) -> config.Config:
    """The settings of a training, with what the tasks before it left."""
    settings = task.settings
    if task.start:
        weights = (tasks.folder(out, task.start) / run.WEIGHTS).resolve()
        settings = config.changed(settings, f"model.weights={json.dumps(str(weights))}")
    if task.labels:
        labels = tasks.folder(out, task.labels).resolve()
        settings = config.changed(settings, f"data.pseudo.root={json.dumps(str(labels))}")
    return settings


def _train(settings: config.Config, root: Path, folder: Path) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            train.train(settings, root, folder)
            return
        except BusyError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)
            if (folder / run.MANIFEST).is_file():
                return


def _calibrate(folder: Path, trained: Path, root: Path) -> None:
    """A copy of a finished run, and beside it what `carpus calibrate` finds on the patients it held out."""
    if folder.is_dir():
        return
    with trees.replacing(folder) as work:
        for name in (run.CONFIG, run.WEIGHTS, run.METRICS, run.MANIFEST):
            shutil.copy2(trained / name, work / name)
        opened = run.read(work)
        calibrate.calibrate([opened], root, work / tasks.CALIBRATION, device=opened.settings.train.device)


def _label(folder: Path, teachers: Sequence[Path], root: Path, settings: config.Config) -> None:
    """Pseudo-labels of the test images as `carpus pseudo` makes them, measured beside the first teacher."""
    if not folder.is_dir():
        soft, device = settings.data.pseudo.soft, settings.train.device
        choices = make.Choices(soft=soft, device=device, student=teachers[0], truth=root)
        make.make(teachers, root / data.LAYOUT["test"][0], folder, choices=choices)


def _score(folder: Path, root: Path) -> None:
    """Put all metrics of every split into the run's scores.csv at once; what a killed scoring began goes."""
    for begun in folder.glob(f".{Path(run.SCORES).stem}.*"):
        begun.unlink()
    trained, dataset = run.read(folder), data.read(root)
    fitted = folder / tasks.CALIBRATION
    calibration = fitted if fitted.is_file() else None
    predict = evaluate.predictor([trained], trained.settings.train.device, calibration=calibration)
    found = []
    if calibration is None:  # else they are what the thresholds were fitted on
        held_out = evaluate.held_out(dataset, trained, "val")
        found.append(evaluate.scores(predict, held_out, "val", trained.classes, borders=True))
    parts = competition.parts(dataset)
    if any(case.annotation for case in dataset.test):
        cases = evaluate.held_out(dataset, trained, "test")
        table = evaluate.scores(predict, cases, "test", trained.classes, borders=True)
        found.append(table.assign(split=table["case"].map(parts)))
    evaluate.save(folder, pandas.concat(found))
