"""The complete state of a training, from which it goes on as if it had never stopped.

::

    RUN/state/00000400-<SHA-256>.safetensors    after step 400: weights, moments, average
    RUN/state/00000200-<SHA-256>.safetensors    the one before, should that one be damaged
    RUN/state/<SHA-256>.weights.safetensors     what the validations up to these kept, as in the run folder itself
    RUN/state/<SHA-256>.scores.csv

What is not a tensor stands as JSON in the file's header. A state's hash is part of its name, so that one rename makes
both valid. There is no state of a random generator: batches, augmentation and dropout are functions of (seed, step).
Nothing is pickled, and no pickle is ever loaded.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from carpus.ema import Average
from carpus.errors import DataError, warn
from carpus.formats import files
from carpus.progress import Step

KEPT = 2
"""States on disk: the latest, and the one before it."""


@dataclass
class State:
    """What is known after a step, besides tensors.

    Attributes:
        step: steps done.
        rows: the rows of metrics.csv.
        losses: of the steps since the last row.
        best: highest Dice of a validation so far, None before the first.
        best_step: the step it was measured after.
        since_best: validations since then.
        before: these three before the last validation, None before the first.
        kept: files that the last validation worth keeping left in the run folder -> SHA-256.
        skipped: steps whose fp16 gradient overflowed, and that changed no weight.
        scaler: of the fp16 gradient scaler, empty without one.
        seconds: by phase, over all processes that worked on this run.
        peak_mib: by phase, the highest.
        versions: what computed it, see `run.versions`.
    """

    step: int = 0
    rows: list[Step] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    best: float | None = None
    best_step: int = 0
    since_best: int = 0
    before: tuple[float | None, int, int] | None = None
    kept: dict[str, str] = field(default_factory=dict)
    skipped: int = 0
    scaler: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    peak_mib: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def go_on(self, seconds: dict[str, float], peak_mib: dict[str, float], versions: dict[str, str]) -> None:
        """Another process takes over: add what went before to its account, and warn if its versions are others.

        Args:
            seconds: by phase, what the process spent so far; kept up to date by it from now on.
            peak_mib: the same of memory.
            versions: of what computes from now on.
        """
        differing = [
            f"{name} {old}, now {versions.get(name)}"
            for name, old in self.versions.items()
            if old != versions.get(name)
        ]
        if differing:
            warn(
                f"going on with {'; '.join(differing)}: the weights may differ in the last digits from those of one go"
            )
        for name, value in self.seconds.items():
            seconds[name] = seconds.get(name, 0.0) + value
        for name, value in self.peak_mib.items():
            peak_mib[name] = max(peak_mib.get(name, 0.0), value)
        self.seconds, self.peak_mib, self.versions = seconds, peak_mib, versions

    def measured(self, dice: float) -> None:
        """Take in the Dice of a validation after the present step."""
        self.before = self.best, self.best_step, self.since_best
        better = self.best is None or dice > self.best
        self.best, self.best_step = (dice, self.step) if better else (self.best, self.best_step)
        self.since_best = 0 if better else self.since_best + 1

    def uncount(self) -> None:
        """Forget what the last validation came to; its row stays."""
        if self.before:
            self.best, self.best_step, self.since_best = self.before


class Parts(NamedTuple):
    """What holds the tensors of a training."""

    network: nn.Module
    optimizer: Optimizer
    average: Average | None = None
    scaler: GradScaler | None = None


class Store:
    """The states in a folder, and copies of what was kept up to them: a state without these is as good as damaged.

    One process writes; what was read or written last is never removed first.

    Args:
        folder: RUN/state; made when something is saved.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._good = folder, dict[Path, dict[str, str]]()

    def keep(self, *paths: Path) -> dict[str, str]:
        """Copy files of the run folder; returns their names and hashes, for the `kept` of the states to come.

        Raises:
            OSError: the disk is full, say; the copies before are still there.
        """
        kept = {path.name: files.sha256(path) for path in paths}
        for path in paths:
            with files.atomic(self._copy(path.name, kept[path.name])) as temporary:
                shutil.copyfile(path, temporary)
        return kept

    def save(self, state: State, parts: Parts) -> None:
        """Write the state of now, whole or not at all, and remove all but the one before it.

        Raises:
            OSError: the disk is full, say; what was saved before is still there.
        """
        if parts.scaler:
            state.scaler = parts.scaler.state_dict()
        content = to_bytes(_tensors(parts), metadata={"state": json.dumps(asdict(state))})
        path = self._folder / f"{state.step:08}-{hashlib.sha256(content).hexdigest()}.safetensors"
        with files.atomic(path) as temporary:
            temporary.write_bytes(content)
        self._good.pop(path, None)
        self._good[path] = state.kept
        self._good = dict(list(self._good.items())[-KEPT:])
        self._sweep({*self._good, *(self._copy(*one) for kept in self._good.values() for one in kept.items())})

    def load(self, parts: Parts, *, finished: bool = False) -> State | None:
        """Put the latest state into `parts`, and return the rest of it; None where none was ever saved.

        A state that is damaged, or what was kept up to it, is passed over for the one before it, with a warning.

        Args:
            parts: what the tensors go to.
            finished: the run is; what it kept is its manifest's matter.

        Raises:
            DataError: every state is damaged, or the latest whole one does not fit the network.
        """
        damaged = ""
        for path in saved(self._folder):
            if files.sha256(path) != path.stem.partition("-")[2]:
                damaged = damaged or f"{path}: is damaged (its SHA-256 is not the one in its name)"
                continue
            state, tensors = _read(path)
            lost = [] if finished else [name for name, digest in state.kept.items() if not self._whole(name, digest)]
            if lost:
                damaged = damaged or f"{self._folder.parent / lost[0]}: is missing or damaged, and so is its copy"
                continue
            if damaged:
                warn(f"{damaged}; {path.name} is used")
            _restore(tensors, parts, path)
            if parts.scaler and state.scaler:
                parts.scaler.load_state_dict(state.scaler)
            self._good = {path: state.kept}
            return state
        if damaged:
            raise DataError(f"{damaged}; so is every saved state: remove {self._folder} to begin the run anew")
        return None

    def finish(self, kept: Mapping[str, str]) -> None:
        """See that the run folder holds what was `kept`, and leave the last state alone, for a longer run.

        Raises:
            DataError: a file was damaged since it was kept, and so was its copy.
        """
        for name, digest in kept.items():
            path, whole = self._folder.parent / name, self._whole(name, digest)
            if whole is None:
                raise DataError(f"{path}: is missing or damaged, and so is its copy in {self._folder}")
            if whole != path:
                warn(f"{path}: is not what was kept at the validation; its copy is put back")
                with files.atomic(path) as temporary:
                    shutil.copyfile(whole, temporary)
        self._sweep(set(saved(self._folder)[:1]))

    def _copy(self, name: str, digest: str) -> Path:
        return self._folder / f"{digest}.{name}"

    def _whole(self, name: str, digest: str) -> Path | None:
        places = self._folder.parent / name, self._copy(name, digest)
        return next((path for path in places if path.is_file() and files.sha256(path) == digest), None)

    def _sweep(self, needed: set[Path]) -> None:
        """Remove all else, what a killed process left half-written included."""
        for path in self._folder.iterdir():
            if path.suffix != ".json" and path not in needed:
                path.unlink()


def saved(folder: Path) -> list[Path]:
    """The files of the states in `folder`, latest first; not those that are half-written."""
    return sorted((path for path in folder.glob("*-*.safetensors") if not path.name.startswith(".")), reverse=True)


def _tensors(parts: Parts) -> dict[str, Tensor]:
    """Every tensor by a name that does not depend on how the optimizer groups the parameters."""
    tensors = {f"network.{name}": tensor for name, tensor in parts.network.state_dict().items()}
    for name, parameter in _learning(parts.network):
        for key, value in parts.optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{name}.{key}"] = value
    if parts.average:
        tensors |= {f"average.{name}": tensor for name, tensor in parts.average.tensors.items()}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _read(path: Path) -> tuple[State, dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            content = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        rows = [Step(**row) for row in content.pop("rows")]
        return State(**content, rows=rows), tensors
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not the state of a training ({error!r})") from error


@torch.no_grad()
def _restore(tensors: dict[str, Tensor], parts: Parts, path: Path) -> None:
    live = dict(_places(parts, tensors))
    wrong = sorted(tensors.keys() ^ live.keys()) + sorted(
        name for name in tensors.keys() & live.keys() if tensors[name].shape != live[name].shape
    )
    if wrong:
        raise DataError(f"{path}: does not fit this network: {wrong[0]} and {len(wrong) - 1} more")
    for name, place in live.items():
        place.copy_(tensors[name])


def _places(parts: Parts, tensors: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a training by its name in a state, those of an optimizer that has not yet stepped included."""
    yield from ((f"network.{name}", tensor) for name, tensor in parts.network.state_dict().items())
    for name, parameter in _learning(parts.network):
        prefix = f"optimizer.{name}."
        for full in [full for full in tensors if full.startswith(prefix) and "." not in full.removeprefix(prefix)]:
            # Moments lie in memory as their parameter does: the fused optimizer walks over both as they lie.
            shape = tensors[full].shape
            place = torch.zeros_like(parameter) if shape == parameter.shape else parameter.new_zeros(shape)
            parts.optimizer.state[parameter][full.removeprefix(prefix)] = place
            yield full, place
    if parts.average:
        yield from ((f"average.{name}", tensor) for name, tensor in parts.average.tensors.items())


def _learning(network: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, cast(nn.Parameter, one)) for name, one in network.named_parameters() if one.requires_grad]
