"""A whole study: its folder, its data, and its tasks through an executor until nothing is left that can be done."""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from carpus.errors import BusyError, ConfigError, DataError
from carpus.formats import files
from carpus.study import spec, tasks
from carpus.study.store import Store
from carpus.study.tasks import Row, Task, Work

DATA = "data"


class Executor(Protocol):
    """What carries tasks out: processes of this machine, or a cluster."""

    @property
    def capacity(self) -> int:
        """Tasks it takes at a time."""
        ...

    def submit(self, task: Task) -> None:
        """Begin a task that is ready."""
        ...

    def wait(self, seconds: float) -> list[tuple[str, str | None]]:
        """Keys of tasks that ended within so many seconds, and why if they failed."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


@dataclass(frozen=True)
class Opened:
    """The folder of a study: what it is about and all its runs.

    Args:
        out: the folder.
        study: the study file, as it was run.
        path: its copy in the folder, without the recipes beside it.
        source: what it was run from: the name of a study that comes along, or a path.
        scale: full or quick.
        root: the data folder.
        rows: a run of an arm each, with the key of its task.
    """

    out: Path
    study: spec.Study
    path: Path
    source: str
    scale: spec.ScaleName
    root: Path
    rows: tuple[Row, ...]


@dataclass
class Standing:
    """Where a study stands: keys that run, are done, and failed with why."""

    running: set[str]
    done: set[str]
    failed: dict[str, str]


def conduct(
    work: Work, out: Path, start: Callable[[], Executor], watch: Callable[[Standing], object] | None = None
) -> Standing:
    """Carry out what is left of a study; a task that fails stops only those that need it.

    Args:
        work: all tasks.
        out: the folder of the study.
        start: makes the executor; not called where nothing is left.
        watch: called about once a second.

    Returns:
        Where it stands at the end.
    """
    now = Standing(set(), {key for key in work.tasks if tasks.is_done(out, key)}, {})
    waiting = [task for key, task in work.tasks.items() if key not in now.done]
    if waiting:
        with start() as executor:
            while waiting or now.running:
                waiting = _submit(waiting, executor, now, out)
                if watch:
                    watch(now)
                for key, error in executor.wait(1.0) if now.running else ():
                    now.running.remove(key)
                    if error is None:
                        now.done.add(key)
                    else:
                        now.failed[key] = error
    if watch:
        watch(now)
    return now


def _submit(waiting: Sequence[Task], executor: Executor, now: Standing, out: Path) -> list[Task]:
    """Begin what is ready, give up what needs a task that failed, and return the rest."""
    left = []
    for task in waiting:
        lost = [key for key in task.needs if key in now.failed]
        if lost:
            why = f"needs the task {lost[0]}, which failed: {now.failed[lost[0]]}"
            now.failed[task.key] = tasks.fail(out, task.key, why)
        elif all(key in now.done for key in task.needs) and len(now.running) < executor.capacity:
            tasks.forget(out, task.key)
            executor.submit(task)
            now.running.add(task.key)
        else:
            left.append(task)
    return left


@contextmanager
def claim(out: Path) -> Iterator[None]:
    """Hold the folder of a study against a second `carpus study run`."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("a") as handle:
        if not files.hold(handle):
            raise BusyError(f"{out}: another `carpus study run` is at work in this folder")
        yield


def open_(out: Path) -> Opened:
    """Open the folder of a study.

    Raises:
        DataError: there is none.
    """
    path = out / tasks.INDEX
    if not path.is_file():
        raise DataError(f"{out}: no study; expected a folder made by `carpus study run`, with {tasks.INDEX}")
    content = files.read_json(path)
    try:
        rows = tuple(Row(row["arm"], row["seed"], row["fold"], row["key"]) for row in content["runs"])
        copy = out / tasks.COPY
        source = content.get("study", str(copy))
        root = Path(content["data"])
        moved = out / DATA  # with the study
        root = moved.resolve() if moved.is_dir() and not root.is_dir() else root
        return Opened(out, spec.read(copy), copy, source, content["scale"], root, rows)
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: not the index of a study ({error!r})") from error


def require_fitting(work: Work, root: Path) -> None:
    """Refuse data on which arms with fitted thresholds could not be fitted or scored, before anything is trained.

    Raises:
        ConfigError: naming the arms.
    """
    fitted = {row.arm: work.tasks[row.key] for row in work.rows if work.tasks[row.key].calibrates}
    if not fitted:
        return
    from carpus import calibrate, data, job

    dataset, why = data.read(root), ""
    fewest = min(len({case.patient for case in job.split(dataset, each.settings.data)[1]}) for each in fitted.values())
    if fewest < calibrate.LEAST_PATIENTS:
        why = f"holds out {fewest} patients, and fitting takes at least {calibrate.LEAST_PATIENTS} (data.folds)"
    if not any(case.annotation for case in dataset.test):
        why = "has no test image with known truth for a score, as these are fitted on the patients held out"
    if why:
        without = " ".join(f"--without {shlex.quote(arm)}" for arm in fitted)
        raise ConfigError(f"{root}: arms with fitted thresholds: {why}; leave them out with {without}")


def begin(
    out: Path, study: Path, scale: spec.ScaleName, root: Path, rows: Sequence[Row], store: Store | None = None
) -> None:
    """Write what a study is into its folder, or more of the same.

    Args:
        out: the folder.
        study: the study file.
        scale: full or quick.
        root: the data folder.
        rows: all its runs; those that an earlier call asked for besides stay.
        store: where finished runs go besides.

    Raises:
        DataError: the folder or the store holds another study, scale or data.
    """
    from carpus import data

    dataset = data.read(root)
    fingerprint = data.fingerprint([*dataset.train, *dataset.test])._asdict()
    about: dict[str, Any] = {"scale": scale, "fingerprint": fingerprint}
    content = {"data": str(root.resolve()), **about}  # the data may have been moved, or lie elsewhere on this machine
    if store and store.index is not None:
        _require_same(f"--store {store.url}", store.index, store.read(tasks.COPY), about, study)
    if (out / tasks.INDEX).is_file():
        there = files.read_json(out / tasks.INDEX)
        _require_same(f"--out {out}", there, (out / tasks.COPY).read_bytes(), about, study)
        asked = {(row.arm, row.seed, row.fold) for row in rows}
        more = [row for row in open_(out).rows if (row.arm, row.seed, row.fold) not in asked]
        rows = sorted((*rows, *more), key=lambda row: (row.seed, row.fold))
    content["study"] = study.stem if study.parent == spec.STUDIES else str(study.resolve())
    if store:
        store.begin(content, study.read_bytes(), rows)
    with files.atomic(out / tasks.COPY) as copy:
        copy.write_bytes(study.read_bytes())
    files.write_json(out / tasks.INDEX, content | {"runs": [asdict(row) for row in rows]}, indent=2)


def _require_same(
    where: str, there: Mapping[str, Any], copy: bytes | None, content: Mapping[str, Any], study: Path
) -> None:
    """Raise a `DataError` if another study is there, of other data, or at another scale."""
    for name, value in content.items():
        if there.get(name) != value and name == "fingerprint":
            raise DataError(f"{where}: holds a study of other images or annotations, or these were changed since")
        if there.get(name) != value:
            raise DataError(f"{where}: holds a study with {name} {there.get(name)}, now {value}; name another")
    if copy != study.read_bytes():
        raise DataError(f"{where}: holds another study, or {study} was changed since; name another")


def made_up(out: Path, scale: spec.Scale, progress: Callable[[int, int], None] | None = None) -> Path:
    """The made-up data of a scale in the study's folder; made once.

    Raises:
        ConfigError: the scale has none.
    """
    from carpus import phantom

    if scale.phantom is None:
        raise ConfigError("--data: is needed, because at this scale the study has no made-up data")
    root = out / DATA
    if not root.is_dir():
        phantom.write(root, **scale.phantom.model_dump(), progress=progress)
    return root
