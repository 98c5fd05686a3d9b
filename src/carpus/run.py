"""The run folder: what training leaves, what prediction and evaluation start from.

::

    RUN/config.yaml           every setting
    RUN/weights.safetensors   the network
    RUN/metrics.csv           step, loss, learning_rate, images_per_second, val_dice
    RUN/scores.csv            case, patient, split, class, metric, value, pixels (of which image)
    RUN/report.html           all this to look at
    RUN/state/                what the training goes on from: begun.json and the last states (see `state`)
    RUN/tensorboard/          with `track.tensorboard`
    RUN/manifest.json         versions, seed, data fingerprint, classes, SHA-256 of settings, weights and metrics

A folder with a manifest is a finished run, and the command that began it has nothing left to do. One with
state/begun.json and no manifest is an unfinished one, and the command that began it goes on with it.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

from carpus import config, data, models
from carpus.errors import BusyError, CapacityError, ConfigError, DataError, DivergedError
from carpus.formats import files, trees
from carpus.formats.trees import EARLIER
from carpus.labels import Classes
from carpus.models import weights

CONFIG, WEIGHTS, METRICS, SCORES, REPORT, MANIFEST = FILES = (
    "config.yaml",
    config.RUN_WEIGHTS,
    "metrics.csv",
    "scores.csv",
    "report.html",
    "manifest.json",
)

STATE = "state"
"""The folder of saved states."""

BEGUN = "state/begun.json"
"""What an unfinished run is: whoever asks for the same again goes on with it."""

TENSORBOARD = "tensorboard"
"""The folder of what TensorBoard is told."""

_HALF_WRITTEN = re.compile(r"\.(config|weights|metrics|scores|report|manifest)\.[0-9a-f]{12}\.[a-z]+")
"""What `files.atomic` leaves of a run's files when the process is killed."""

_WHOLE = (MANIFEST, STATE, CONFIG, WEIGHTS, METRICS, SCORES, REPORT, TENSORBOARD)
"""What is put aside when a run is replaced, last to be made first."""


Pictures = frozenset[tuple[str, str]]
"""Images: the name of the case and the SHA-256 of the pixels, see `images.digest`."""


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, settings, class list and manifest."""

    path: Path
    settings: config.Config
    classes: Classes
    manifest: dict[str, Any]

    @property
    def pseudo_images(self) -> Pictures:
        """See the function `pseudo_images`."""
        return pseudo_images(self.manifest)

    def network(self) -> nn.Module:
        """The trained network, in evaluation mode."""
        # The saved weights replace what the encoder started from, and no norm learns any more.
        norm = "batch" if self.settings.model.norm == "frozen" else self.settings.model.norm
        start = self.settings.model.model_copy(update={"weights": None, "norm": norm})
        network = models.build(start, len(self.classes))
        weights.load(network, self.path / WEIGHTS)
        return network.eval()


def pseudo_images(manifest: Mapping[str, Any]) -> Pictures:
    """The images that a run, or one whose weights it started from, learnt from with predictions for labels."""
    own = (manifest.get("pseudo") or {}).get("images", {})
    return frozenset([*own.items(), *((name, digest) for name, digest in manifest.get("start_images", ()))])


def read_manifest(path: Path) -> tuple[dict[str, Any], Classes]:
    """The manifest of a finished run and its class list; no other file is looked at.

    Raises:
        DataError: no run there, or an unfinished one.
    """
    manifest_path = path / MANIFEST
    if not manifest_path.is_file():
        state = "an unfinished run" if (path / BEGUN).is_file() else "no finished run"
        raise DataError(f"{path}: {state}; expected a folder made by `carpus train`, with {MANIFEST}")
    manifest = files.read_json(manifest_path)
    try:
        groups = {name: tuple(of) for name, of in manifest["groups"].items()}
        return manifest, Classes(tuple(manifest["classes"]), groups)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{manifest_path}: not a manifest of carpus train ({error!r})") from error


def read(path: Path | str) -> Run:
    """Open a run folder and check its files against the manifest's hashes.

    Raises:
        DataError: no run there, an unfinished one, or a file that changed since it was written.
    """
    path = Path(path)
    manifest, classes = read_manifest(path)
    try:
        hashes = dict(manifest["files"])
        data.Fingerprint(**manifest["data"]["val"])
        frozenset(manifest["val_patients"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path / MANIFEST}: not a manifest of carpus train ({error!r})") from error
    for name in (CONFIG, WEIGHTS, METRICS):
        if not (path / name).is_file():
            raise DataError(f"{path / name}: is missing")
        if files.sha256(path / name) != hashes.get(name):
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
    written = (CONFIG, WEIGHTS, METRICS)
    content = {
        "carpus": metadata.version("carpus"),
        "versions": versions(),
        "environment": environment(),
        **facts,
        "classes": list(classes.names),
        "groups": {name: list(members) for name, members in classes.groups.items()},
        "files": {name: files.sha256(path / name) for name in written},
    }
    files.write_json(path / MANIFEST, content, indent=2)
    (path / BEGUN).unlink(missing_ok=True)


def versions() -> dict[str, str]:
    """The versions that a result can depend on."""
    packages = (
        "carpus",
        "torch",
        "torchvision",
        "segmentation-models-pytorch",
        "timm",
        "transformers",
        "safetensors",
        "lightning-fabric",
        "numpy",
        "numba",
        "opencv-python-headless",
    )
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in packages}


def environment() -> dict[str, Any]:
    """The machine, and the git state of the code if it lies in a git repository."""
    found: dict[str, Any] = {
        "system": platform.platform(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
    }
    if torch.cuda.is_available():
        found["gpu"] = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    commit = _git("rev-parse", "HEAD")
    if commit:
        found["git"] = {"commit": commit, "changed": _git("status", "--porcelain", "--untracked-files=no").splitlines()}
    return found


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def _git(*arguments: str) -> str:
    folder = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "-C", folder, *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):  # no git, no repository
        return ""
    return found.stdout.rstrip()


@contextmanager
def claim(path: Path, identity: Mapping[str, Any], *, overwrite: bool = False, resume: bool = False) -> Iterator[bool]:
    """Hold `path` as the folder of one run, locked against a second process until the block ends.

    Three things can happen to what is there:

    - An unfinished run of the same `identity` goes on, with `overwrite` or without. One that has no state to lose yet
      makes room for any other.
    - Anything else makes room only with `overwrite`, a finished run of the same `identity` (see `finished`) included. A
      finished run is put aside in RUN/.earlier until the new one is finished.
    - When the block fails, the earlier run comes back, because what failed (data, settings, divergence, memory) would
      fail again. Whatever else ends it (killed, Ctrl-C, SIGTERM, a full disk, a lost process) interrupts it: the
      earlier run goes on waiting and the same command goes on with the new one. Overwriting with other
      settings gives up the new one, not the earlier.

    Args:
        path: the folder; made if missing, unless `resume`.
        identity: JSON of all that decides the result; what of it differs is named.
        overwrite: take the folder although it holds something else.
        resume: there must be an unfinished run to go on with.

    Yields:
        Whether there is an unfinished run to go on with.

    Raises:
        DataError: another process trains into it, it holds something else and `overwrite` is off, or `resume` is on
            and there is nothing to resume.
    """
    if resume:
        require_unfinished(path, continued="continued" in identity)
    path.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        resumed = _prepare(path, identity, overwrite, resume)
        try:
            yield resumed
        except (DataError, ConfigError, DivergedError, CapacityError):
            trees.bring_back(path, _WHOLE)
            raise
        shutil.rmtree(path / EARLIER, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = path / ".lock"
    with lock.open("a") as handle:
        # Another process may have finished in between, and removed the file that is locked here.
        if not (files.hold(handle) and os.fstat(handle.fileno()).st_nlink > 0):
            raise BusyError(f"{path}: another process is training into this folder")
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def finished(path: Path, identity: Mapping[str, Any]) -> Run | None:
    """The finished run in `path` if it is of this `identity`, cleared of what a process killed at its very end left.

    Raises:
        DataError: another process trains into it, or as `read`.
    """
    if not (path / MANIFEST).is_file():
        return None
    with _locked(path):
        found = read(path)
        if found.manifest.get("identity") != digest(identity):
            return None
        (path / BEGUN).unlink(missing_ok=True)
        trees.bring_back(path, _WHOLE)
    return found


def digest(identity: Mapping[str, Any]) -> str:
    """SHA-256 of an identity, which is that of its state/begun.json: in the manifest, it tells what run it was."""
    return hashlib.sha256(_text(identity).encode()).hexdigest()


def _text(identity: Mapping[str, Any]) -> str:
    return json.dumps(identity, ensure_ascii=False, allow_nan=False, indent=2, sort_keys=True)


def require_unfinished(path: Path, *, continued: bool = False) -> None:
    """Raise a `DataError` unless `path` holds an unfinished run to go on with.

    Args:
        path: a run folder, or nothing.
        continued: it is a longer run, which has the state of the run it continues until it saves one of its own.
    """
    if (path / MANIFEST).is_file():
        raise DataError(f"{path}: is finished; to train it for longer, --continue {path} --steps N")
    states = continued or any((path / STATE).glob("*.safetensors"))
    if not (states and (path / BEGUN).is_file()):
        raise DataError(f"{path}: holds no saved state to go on with; without --resume a new run begins")


def _prepare(path: Path, identity: Mapping[str, Any], overwrite: bool, resume: bool) -> bool:
    """Make room in a locked folder; returns whether an unfinished run is to go on."""
    for item in path.iterdir():
        if _HALF_WRITTEN.fullmatch(item.name):
            item.unlink()
    if (path / MANIFEST).is_file():
        (path / BEGUN).unlink(missing_ok=True)
    elif (path / BEGUN).is_file():
        try:
            differs = _difference(files.read_json(path / BEGUN), dict(identity))
        except DataError as error:
            differs = f"or no identity ({error})"
        if not differs:
            return True
        worth_keeping = (path / EARLIER).is_dir() or any((path / STATE).glob("*.safetensors"))
        if resume or (worth_keeping and not overwrite):
            raise DataError(
                f"{path}: holds an unfinished run with another {differs}; ask for the same to go on with it, or pass "
                "--overwrite to begin anew"
            )
        _remove(path)
    trees.bring_back(path, _WHOLE)
    present = sorted(item.name for item in path.iterdir() if item.name != ".lock")
    if (path / MANIFEST).is_file() and not overwrite:
        raise DataError(
            f"{path}: already holds a finished run; name another folder, pass --overwrite to replace it, or train it "
            f"for longer with --continue {path} --steps N"
        )
    if present and not overwrite:
        raise DataError(f"{path}: already holds {present[0]}; name another folder, or pass --overwrite")
    if present:
        trees.put_aside(path, _WHOLE)
    files.write_text(path / BEGUN, _text(identity))
    return False


def _difference(there: Any, asked: Any, name: str = "") -> str:
    """The first setting or hash that differs, by its dotted name, with both values; empty where none does."""
    if isinstance(there, dict) and isinstance(asked, dict):
        differences = (_difference(there.get(key), asked.get(key), f"{name}.{key}") for key in sorted({*there, *asked}))
        return next(filter(None, differences), "")
    return "" if there == asked else f"{name.removeprefix('.settings').removeprefix('.')} ({there}, now {asked})"


def _remove(path: Path) -> None:
    # What makes it a run goes first: without these two, the rest is left-overs.
    for name in (MANIFEST, BEGUN, *FILES):
        (path / name).unlink(missing_ok=True)
    for name in (STATE, TENSORBOARD):
        shutil.rmtree(path / name, ignore_errors=True)


def threads() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
