"""The run folder: what training leaves, what prediction and evaluation start from.

::

    RUN/config.yaml           every setting
    RUN/weights.safetensors   the network
    RUN/metrics.csv           step, loss, learning_rate, images_per_second, val_dice
    RUN/scores.csv            case, patient, split, class, metric, value
    RUN/manifest.json         versions, seed, data fingerprint, classes, SHA-256 of all these but the scores
"""

import hashlib
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from torch import nn

from carpus import config, data, models
from carpus.errors import DataError
from carpus.formats import files
from carpus.labels import Classes
from carpus.models import weights

CONFIG, WEIGHTS, METRICS, SCORES, MANIFEST = FILES = (
    "config.yaml",
    "weights.safetensors",
    "metrics.csv",
    "scores.csv",
    "manifest.json",
)

EARLIER = ".earlier"
"""Where the files of a run wait that is being replaced, until the new one is finished."""


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, settings, class list and manifest."""

    path: Path
    settings: config.Config
    classes: Classes
    manifest: dict[str, Any]

    def network(self) -> nn.Module:
        """The trained network, in evaluation mode."""
        start = self.settings.model.model_copy(update={"weights": None})
        network = models.build(start, len(self.classes))
        weights.load(network, self.path / WEIGHTS)
        return network.eval()


def read(path: Path | str) -> Run:
    """Open a run folder and check its files against the manifest's hashes.

    Raises:
        DataError: no run there, an unfinished one, or a file that changed since it was written.
    """
    path = Path(path)
    manifest_path = path / MANIFEST
    if not manifest_path.is_file():
        raise DataError(f"{path}: no finished run; expected a folder made by `carpus train`, with {MANIFEST}")
    manifest = files.read_json(manifest_path)
    try:
        hashes = dict(manifest["files"])
        classes = Classes(tuple(manifest["classes"]), {name: tuple(of) for name, of in manifest["groups"].items()})
        data.Fingerprint(**manifest["data"]["val"])
        frozenset(manifest["val_patients"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{manifest_path}: not a manifest of carpus train ({error!r})") from error
    for name in (CONFIG, WEIGHTS):
        if not (path / name).is_file():
            raise DataError(f"{path / name}: is missing")
        if digest(path / name) != hashes.get(name):
            raise DataError(f"{path / name}: differs from what was saved (SHA-256 in {MANIFEST}); it is damaged")
    return Run(path, config.load([path / CONFIG]), classes, manifest)


def finish(path: Path, *, classes: Classes, **facts: Any) -> None:
    """Write the manifest, last of all files: a folder with one is a finished run.

    Args:
        path: the run folder; every other file is there already.
        classes: the class list, in channel order.
        facts: what else the manifest shall hold.
    """
    # The scores grow with every evaluation, so their hash would soon be false.
    written = [name for name in (CONFIG, WEIGHTS, METRICS) if (path / name).is_file()]
    content = {
        "carpus": metadata.version("carpus"),
        "versions": versions(),
        **facts,
        "classes": list(classes.names),
        "groups": {name: list(members) for name, members in classes.groups.items()},
        "files": {name: digest(path / name) for name in written},
    }
    files.write_json(path / MANIFEST, content, indent=2)


def versions() -> dict[str, str]:
    """The versions that a result can depend on."""
    packages = ("torch", "segmentation-models-pytorch", "numpy", "opencv-python-headless", "numba", "lightning-fabric")
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in packages}


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def claim(path: Path, overwrite: bool = False) -> Iterator[None]:
    """Hold `path` as the folder of one new run, locked against a second process until the block ends.

    Args:
        path: the folder; made if missing.
        overwrite: take it although it holds a run. The earlier run is put aside, and comes back if the block fails, or,
            should the process be killed, when the folder is claimed again.

    Raises:
        DataError: another process trains into it, or it holds something already and `overwrite` is off.
    """
    import fcntl

    path.mkdir(parents=True, exist_ok=True)
    lock = path / ".lock"
    with lock.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataError(f"{path}: another process is training into this folder") from error
        try:
            earlier = path / EARLIER
            if (path / MANIFEST).is_file():
                shutil.rmtree(earlier, ignore_errors=True)
            _bring_back(path)
            present = sorted(item.name for item in path.iterdir() if item != lock)
            # What a run left that failed or was stopped is no run, and may be begun again.
            unfinished = set(present) <= {*FILES} - {MANIFEST}
            if present and not overwrite and not unfinished:
                raise DataError(f"{path}: already holds {present[0]}; name another folder, or pass --overwrite")
            if unfinished:
                _remove(path)
            else:
                _put_aside(path)
            try:
                yield
            except BaseException:
                _bring_back(path)
                raise
            shutil.rmtree(earlier, ignore_errors=True)
        finally:
            lock.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    for name in reversed(FILES):  # the manifest, which makes it a run, goes first
        (path / name).unlink(missing_ok=True)


def _put_aside(path: Path) -> None:
    # Under another name first: a folder of the final name always holds the whole run.
    waiting = path / f"{EARLIER}.part"
    waiting.mkdir(exist_ok=True)
    for name in FILES:
        if (path / name).is_file():
            shutil.copy2(path / name, waiting / name)
    waiting.replace(path / EARLIER)
    _remove(path)


def _bring_back(path: Path) -> None:
    """Put the earlier run, if one waits, in the place of what a failed one left."""
    shutil.rmtree(path / f"{EARLIER}.part", ignore_errors=True)
    if not (path / EARLIER).is_dir():
        return
    _remove(path)
    for name in FILES:  # the manifest, which makes it a run, comes last
        if (path / EARLIER / name).is_file():
            shutil.copy2(path / EARLIER / name, path / name)
    shutil.rmtree(path / EARLIER)


def threads() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
