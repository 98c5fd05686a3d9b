"""Object storage between machines that share no file system: finished runs of a study, one folder each as in STUDY.

::

    URL/study.json, study.yaml    what the study is about
    URL/runs/KEY/                 a finished run, or labels; task.json is written last

Whatever fsspec opens will do. States of training stay where they are: a run is finished on the machine that began it,
or begun anew on another.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import known_implementations
from fsspec.utils import get_protocol

from carpus.errors import ConfigError, DataError
from carpus.formats import files, trees
from carpus.study import tasks
from carpus.study.tasks import Row


class Store:
    """See the module.

    Args:
        url: of a folder that need not be there yet: s3://bucket/folder.

    Attributes:
        url: the same, absolute.
        index: study.json as it was when this was opened; None where no study is.

    Raises:
        ConfigError: nothing opens such a URL, or the store does not answer, with what it says.
        DataError: something else than a study is there.
    """

    def __init__(self, url: str) -> None:
        try:
            self._files, root = url_to_fs(url)
        except ImportError as error:
            package = known_implementations.get(get_protocol(url), {}).get("class", "fsspec").partition(".")[0]
            install = f"; pip install {package}" if package != "fsspec" else ""
            raise ConfigError(f"--store {url}: {error}{install}") from error
        except Exception as error:  # an unknown kind, or one that looks for credentials before it is asked for anything
            raise ConfigError(f"--store {url}: {error}; expected s3://bucket/folder, gs://…, file:///…") from error
        self._root = root.rstrip("/")
        self.url = self._files.unstrip_protocol(self._root) if isinstance(self._files, LocalFileSystem) else url
        text = self.read(tasks.INDEX)
        try:
            self.index: dict[str, Any] | None = None if text is None else dict(json.loads(text))
        except (ValueError, TypeError) as error:
            raise DataError(f"--store {url}: {tasks.INDEX} is not the index of a study ({error})") from error

    def begin(self, content: Mapping[str, Any], copy: bytes, rows: Sequence[Row]) -> None:
        """Write what the study is about, and its runs beside those that other machines asked for.

        Args:
            content: of study.json, but the runs.
            copy: the study file.
            rows: the runs asked for here.
        """
        runs = {tuple(row.values()): row for row in (self.index or {}).get("runs", [])}
        runs |= {tuple(row.values()): row for row in map(asdict, rows)}
        self._write(tasks.COPY, copy)
        self._write(tasks.INDEX, json.dumps({**content, "runs": list(runs.values())}, indent=2).encode())

    def exchange(self, out: Path, keys: Collection[str], told: Callable[[int, int], None] | None = None) -> None:
        """Give the finished tasks that only a folder of the study has, and take those that only the store has."""
        for number, key in enumerate(keys, start=1):
            if tasks.is_done(out, key):
                self.push(out, key)
            else:
                self.pull(out, key)
            if told:
                told(number, len(keys))

    def done(self, key: str) -> bool:
        """Whether all of a task's folder is there."""
        try:
            return json.loads(self.read(f"{tasks.RUNS}/{key}/{tasks.DONE}") or "{}").get("key") == key
        except ValueError:  # cut short, where a store is a disk that filled up
            return False

    def push(self, out: Path, key: str) -> None:
        """Upload the folder of a task that is done, unless it is there."""
        if self.done(key):
            return
        from carpus import run  # and with it torch, which nobody needs who only looks

        folder = tasks.folder(out, key)
        names = [name for _, name in trees.walk(folder) if not name.startswith(f"{run.STATE}/")]
        names.remove(tasks.DONE)
        there = f"{tasks.RUNS}/{key}"
        with self._reached():
            self._make(*(f"{there}/{name}" for name in (*names, tasks.DONE)))
            self._files.put([str(folder / name) for name in names], [f"{self._root}/{there}/{name}" for name in names])
        self._write(f"{there}/{tasks.DONE}", (folder / tasks.DONE).read_bytes())

    def pull(self, out: Path, key: str) -> None:
        """Download the folder of a task, whole or not at all, if it is done there and not here."""
        if tasks.is_done(out, key) or not self.done(key):
            return
        out.mkdir(parents=True, exist_ok=True)
        with (out / ".pull").open("a") as lock:
            files.hold(lock, wait=True)  # two tasks of a machine may need the same one
            folder = tasks.folder(out, key)
            if tasks.is_done(out, key):
                return
            shutil.rmtree(folder, ignore_errors=True)  # begun here, finished elsewhere
            there = f"{tasks.RUNS}/{key}"
            with trees.replacing(folder) as work, self._reached():
                names = self._list(there)
                targets = [files.inside(work, name, f"{self.url}/{there}") for name in names]
                for target in targets:
                    target.parent.mkdir(parents=True, exist_ok=True)
                self._files.get([f"{self._root}/{there}/{name}" for name in names], list(map(str, targets)))
        tasks.forget(out, key)

    def scratch(self) -> Path:
        """The folder for this machine's part of the study: of this URL and these data, because keys know neither."""
        index = self.index or {}
        known = json.dumps([self.url, index.get("scale"), index.get("fingerprint")], sort_keys=True)
        folder = Path(tempfile.gettempdir(), f"carpus-{hashlib.sha256(known.encode()).hexdigest()[:16]}")
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def read(self, name: str) -> bytes | None:
        """The content of a file; None where there is none."""
        with self._reached():
            try:
                return self._files.cat_file(f"{self._root}/{name}")
            except FileNotFoundError:
                return None

    def _write(self, name: str, content: bytes) -> None:
        with self._reached():
            self._make(name)
            self._files.pipe_file(f"{self._root}/{name}", content)

    def _make(self, *names: str) -> None:
        """Make the folders of files. In a bucket there are none, and making one could make the bucket."""
        if isinstance(self._files, LocalFileSystem) or self._root.startswith("/"):
            for folder in {f"{self._root}/{name}".rpartition("/")[0] for name in names}:
                self._files.makedirs(folder, exist_ok=True)

    def _list(self, folder: str) -> list[str]:
        """The files below a folder, by their names in it."""
        self._files.invalidate_cache()  # other machines write, too
        start = f"{self._root}/{folder}/"
        return [path.removeprefix(start) for path in self._files.find(start)]

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # every kind of store has errors of its own
            raise ConfigError(f"--store {self.url}: {type(error).__name__}: {error}") from error
