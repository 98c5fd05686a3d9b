"""A Ray cluster: joining one, and predicting on it with Ray Data.

All nodes must have Carpus installed and see images and runs under the same paths. What an image comes to is a few
thousand run lengths, which go back to the process that asked; its journal makes a prediction one that goes on.
"""

import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from carpus import segment
from carpus.errors import ConfigError, DataError
from carpus.kernels import Runs
from carpus.predict import Ensemble

IMAGES_A_TASK = 16
"""What an actor gets at a time: enough to decode ahead within, few enough to lose."""


@contextmanager
def joined(address: str) -> Iterator[Any]:
    """Ray, as a part of the cluster at `address`; left at the end, unless this process was part of it before.

    Args:
        address: HOST:PORT, or auto for the cluster that this machine belongs to.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers.
    """
    try:
        import ray
    except ImportError:
        raise ConfigError("--ray: Ray is not installed (pip install 'carpus[cluster]')") from None
    if ray.is_initialized():
        yield ray
        return
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"--ray {address}: no cluster answers ({error}); `ray start --head` begins one") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def work(
    address: str,
    make: Callable[[], Ensemble],
    todo: dict[str, Path],
    done: segment.Finished,
    beside: segment.Beside,
    left_out: Callable[[DataError], None],
    refuse: Callable[[Path], object] | None,
    told: Callable[[int], object] | None,
) -> None:
    """`segment.work` by actors of a cluster: one for each of its GPUs, or for each CPU where it has none.

    A lost actor or node costs the images it had in hand, which others then take.

    Args:
        address: see `joined`.
        make: gives the ensemble, in every actor.

    The other arguments as of `segment.work`.
    """
    with joined(address) as ray:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        gpus = int(ray.cluster_resources().get("GPU", 0))
        share = {"num_gpus": 1} if gpus else {"num_cpus": 1}
        actors = gpus or int(ray.cluster_resources().get("CPU", 1))
        names = [{"name": name, "path": str(path.resolve())} for name, path in todo.items()]
        tasks = -(-len(names) // IMAGES_A_TASK)
        answers = ray.data.from_items(names, override_num_blocks=tasks).map_batches(
            _Actor,
            fn_constructor_args=(make, _absolute(beside), refuse),
            batch_size=None,
            concurrency=(1, min(actors, tasks)),
            **share,
        )
        for count, answer in enumerate(answers.iter_rows(), start=1):
            if answer["fault"]:
                left_out(DataError(answer["fault"]))
            else:
                pairs = np.frombuffer(answer["runs"], "<i8").reshape(-1, 2)
                runs = np.split(pairs, np.cumsum(answer["counts"])[:-1])
                done.add(answer["name"], answer["stamp"], tuple(answer["size"]), runs)
            if told:
                told(count)


class _Actor:
    """An ensemble on a worker, that answers for some images at a time."""

    def __init__(
        self, make: Callable[[], Ensemble], beside: segment.Beside, refuse: Callable[[Path], object] | None
    ) -> None:
        ensemble = make()
        self._work = partial(segment.work, lambda: ensemble, beside=beside, refuse=refuse, told=None)

    def __call__(self, names: dict[str, Any]) -> dict[str, list[Any]]:
        sheet = _Sheet()
        todo = {str(name): Path(str(path)) for name, path in zip(names["name"], names["path"], strict=True)}
        self._work(todo=todo, done=sheet, left_out=sheet.left_out)
        return {key: [row[key] for row in sheet.rows] for key in _BLANK}


_BLANK = {"name": "", "stamp": "", "fault": "", "size": (0, 0), "counts": (), "runs": b""}


class _Sheet:
    """What an actor found, in place of the journal: rows that Ray can carry."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add(self, name: str, stamp: str, size: tuple[int, int], runs: Sequence[Runs]) -> None:
        pairs = np.concatenate(runs).astype("<i8").tobytes()
        found = {"name": name, "stamp": stamp, "size": size, "counts": tuple(map(len, runs)), "runs": pairs}
        self.rows.append(_BLANK | found)

    def left_out(self, fault: DataError) -> None:
        self.rows.append(_BLANK | {"fault": str(fault)})


def _absolute(beside: segment.Beside) -> segment.Beside:
    """An actor has another working directory."""
    return segment.Beside(*(path and path.resolve() for path in (beside.overlays, beside.probabilities)))


def _knock(address: str) -> None:
    """Raise an OSError if nobody listens at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "://" not in address:
        socket.create_connection((host, int(port)), timeout=10).close()
