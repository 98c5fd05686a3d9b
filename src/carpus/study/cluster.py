"""Tasks on a Ray cluster: CPUs and GPUs as resources; a run goes on elsewhere when its process or node is lost.

All nodes must see the data and the folder of the study under the same paths, and have Carpus installed. With a store
they need not see the folder: each works in one of its own, and what is finished goes through the store. What a task has
come to lies in its run folder, so nothing goes through Ray but the task itself and the word that it is done, or why it
failed and, where it lies in a folder of a node's own, its log.
"""

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Self

from carpus.errors import BusyError, ConfigError, StoppedError, first_line, warn
from carpus.formats import files
from carpus.study import tasks
from carpus.study.store import Store
from carpus.study.tasks import Task

RETRIES = 5
"""Lost processes and nodes before a task has failed."""

_LOG_BYTES = 1 << 20


class _Failed(NamedTuple):
    """Why a task failed, see `tasks.reason`, and the end of its log where only its node sees that."""

    reason: str
    log: bytes = b""


class Cluster:
    """See the module; an executor as `local.Local` is one.

    Args:
        address: of the cluster, or auto for the one that this machine belongs to.
        root: the data folder, absolute.
        out: the folder of the study, absolute.
        store: through which finished runs come to that folder; None where all nodes see it.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers.
    """

    def __init__(self, address: str, root: Path, out: Path, store: Store | None = None) -> None:
        # Workers import this module before `_perform` can say how many threads numba shall have.
        from carpus.cluster import joined

        self._root, self._out, self._store, self._left = root, out, store, ExitStack()
        self._ray = self._left.enter_context(joined(address))
        self._names: dict[Any, str] = {}
        if not any(node.get("CPU", 0) >= 1 for node in self._nodes()):
            warn(f"--ray {address}: no node of the cluster has a CPU to give; runs wait until one joins")

    @property
    def capacity(self) -> int:
        """As many tasks as there are: Ray keeps the queue, and nodes may join later."""
        return 1 << 30

    def submit(self, task: Task) -> None:
        """See `conduct.Executor`."""
        remote = self._ray.remote(_perform).options(
            **_resources(task, self._nodes()),
            name=f"carpus {task.key}",
            max_retries=RETRIES,
            retry_exceptions=[StoppedError, BusyError],
        )
        self._names[remote.remote(task, self._root, self._out, self._store and self._store.url)] = task.key

    def wait(self, seconds: float) -> list[tuple[str, str | None]]:
        """See `conduct.Executor`."""
        ended, _ = self._ray.wait(list(self._names), timeout=seconds)
        return [(key := self._names.pop(reference), self._result(reference, key)) for reference in ended]

    def _nodes(self) -> list[dict[str, float]]:
        """What each node that is alive has."""
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _result(self, reference: Any, key: str) -> str | None:
        try:
            failed: _Failed | None = self._ray.get(reference)
            if self._store and not failed:
                self._store.pull(self._out, key)
        except ConfigError as error:
            failed = _Failed(tasks.reason(error))
        except self._ray.exceptions.RayError as error:  # lost more often than it was tried again
            failed = _Failed(f"{type(error).__name__}: {first_line(error)}")
        return _keep(self._out, key, failed) if failed else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop what runs, which saves its step, and leave the cluster."""
        for reference in self._names:
            self._ray.cancel(reference, force=False)
        self._left.close()


def _resources(task: Task, nodes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """A GPU where a node has one, and a CPU for each thread that prepares batches; else one CPU.

    No more CPUs than the largest node beside its GPUs: Ray would wait for such a node without a word.
    """
    cpus = [node.get("CPU", 0) for node in nodes if node.get("GPU", 0) >= 1]
    if task.settings.train.device != "cpu" and cpus:
        return {"num_gpus": 1, "num_cpus": min(task.settings.data.workers, max(cpus))}
    return {"num_cpus": 1}


def _perform(task: Task, root: Path, out: Path, url: str | None) -> _Failed | None:
    """On a worker: None, or a failure. What may go on elsewhere is raised for Ray to try again."""
    import os

    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("NUMBA_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    from carpus.study.perform import perform

    try:
        store = Store(url) if url else None
        out = store.scratch() if store else out
        tasks.print_to_log(out, task.key)
        perform(task, root, out, store)
        return None
    except (StoppedError, BusyError):
        raise
    except Exception as error:  # whatever it is, the others go on
        return _Failed(tasks.reason(error), _log(out, task.key) if url else b"")


def _keep(out: Path, key: str, failed: _Failed) -> str:
    """Put a failure, and its log if that came along, into the folder of the study; its first line."""
    if failed.log:
        with files.atomic(tasks.log(out, key)) as log:
            log.write_bytes(failed.log)
    return tasks.fail(out, key, failed.reason)


def _log(out: Path, key: str) -> bytes:
    """The end of what a task printed in this process and those before it."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    path = tasks.log(out, key)
    return path.read_bytes()[-_LOG_BYTES:] if path.is_file() else b""
