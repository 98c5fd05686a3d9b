"""Tasks in processes of this machine, each of which takes one after the other.

Runs go side by side with few threads each, and not one by one with all threads, because decoding, augmentation and
validation do not fill a second core. A process that dies costs the run nothing but the steps since its last saved
state: another one goes on with it.
"""

import multiprocessing
import os
import signal
import sys
import threading
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from carpus.errors import StoppedError
from carpus.study import tasks
from carpus.study.tasks import Task

if TYPE_CHECKING:
    from carpus.study.store import Store

ATTEMPTS = 3
"""Processes that may die of one task before it has failed."""

SECONDS_TO_SAVE = 60
MIB_A_RUN = 2048


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Any
    place: int
    task: Task | None = None


class Local:
    """See the module.

    Args:
        root: the data folder.
        out: the folder of the study.
        workers: processes.
        threads: of each.
        gpus: worker n sees GPU n modulo this; 0 for none.
        store: of finished tasks, see `perform`.
    """

    def __init__(
        self,
        root: Path,
        out: Path,
        *,
        workers: int,
        threads: int = 1,
        gpus: int = 0,
        store: "Store | None" = None,
    ) -> None:
        self._root, self._out, self.capacity, self._threads, self._gpus = root, out, workers, threads, gpus
        self._url = store and store.url
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        self._died: dict[str, int] = {}

    def submit(self, task: Task) -> None:
        """Give a task to a worker that is idle, or to a new one."""
        worker = next((worker for worker in self._workers if worker.task is None), None) or self._start()
        worker.task = task
        worker.pipe.send(task)

    def wait(self, seconds: float) -> list[tuple[str, str | None]]:
        """See `conduct.Executor`."""
        busy = [worker for worker in self._workers if worker.task is not None]
        heard = connection.wait([worker.pipe for worker in busy], seconds)
        ended: list[tuple[str, str | None]] = []
        for worker in busy:
            if worker.pipe not in heard or worker.task is None:
                continue
            task, worker.task = worker.task, None
            try:
                ended.append((task.key, worker.pipe.recv()))
            except (EOFError, OSError):
                ended += self._replace(worker, task)
        return ended

    def _replace(self, worker: _Worker, task: Task) -> list[tuple[str, str | None]]:
        """A worker died: its task goes to a new one, unless it has killed enough of them."""
        worker.process.join()
        self._workers.remove(worker)
        self._died[task.key] = self._died.get(task.key, 0) + 1
        if self._died[task.key] < ATTEMPTS:
            self.submit(task)
            return []
        status = worker.process.exitcode or 0
        cause = f"by signal {-status}" if status < 0 else f"with status {status}"
        line = f"its process ended {cause}, {ATTEMPTS} times; signal 9 may be the system's, out of memory"
        return [(task.key, tasks.fail(self._out, task.key, line))]

    def _start(self) -> _Worker:
        taken = {worker.place for worker in self._workers}
        place = min(place for place in range(self.capacity) if place not in taken)
        environment = {name: str(self._threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")}
        environment["OMP_WAIT_POLICY"] = "passive"
        if self._gpus:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(self._gpus)))).split(",")
            environment["CUDA_VISIBLE_DEVICES"] = visible[place % self._gpus]
        ours, theirs = self._context.Pipe()
        given = (theirs, self._root, self._out, self._url, environment)
        process = self._context.Process(target=_serve, args=given, daemon=True)
        process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        worker = _Worker(process, ours, place)
        self._workers.append(worker)
        return worker

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes; those that train save the step they are at."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(SECONDS_TO_SAVE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()


def suited(runs: int, workers: int | None = None) -> tuple[int, int, int]:
    """Workers, threads of each, and GPUs for so many runs on this machine.

    Args:
        runs: no more workers than these.
        workers: how many are wanted; None for one a GPU, or as many as there are cores, and memory for them.
    """
    import torch

    from carpus import room, run

    gpus = torch.cuda.device_count()
    cores = run.threads()
    places = gpus or min(cores, int(room.available_mib(gpu=False) // MIB_A_RUN))
    workers = max(1, min(workers or places, runs))
    return workers, max(1, cores // workers), gpus


def _serve(pipe: Any, root: Path, out: Path, url: str | None, environment: dict[str, str]) -> None:
    """A worker: tasks in, None or the reason of a failure out."""
    os.environ.update(environment)  # before torch and numba are imported
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from carpus.study.perform import perform
    from carpus.study.store import Store

    while True:
        try:
            task: Task = pipe.recv()
        except EOFError:
            return
        tasks.print_to_log(out, task.key)
        try:
            perform(task, root, out, Store(url) if url else None)
            pipe.send(None)
        except StoppedError as error:
            sys.exit(128 + error.signal)
        except Exception as error:  # whatever it is, the others go on
            pipe.send(tasks.fail(out, task.key, error))


def _end_with_parent() -> None:
    """A study that was killed must not leave processes that train on and hold its runs."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
