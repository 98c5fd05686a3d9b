"""``python tests/faults/crash.py``: end the process at the n-th file operation, for every n, and look what is left.

Forks, so it is a script. The child ends without any clean-up, as after kill -9, at an event of Python's audit hooks:
opening for writing, renaming, removing, making or removing a folder.
"""

import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from carpus import run
from carpus.errors import DataError
from carpus.formats import files
from carpus.state import Parts, State, Store

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate")
IDENTITY = {"settings": {"train": {"steps": 3}}}


def crashed(work: Callable[[], object], number: int) -> bool:
    """Do `work` in a fork that ends at the `number`-th change; whether it got so far."""
    process = os.fork()
    if not process:
        left = number

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal left
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if event in CHANGES or writes:
                left -= 1
                if left < 0:
                    os._exit(9)

        sys.addaudithook(hook)
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 9


def parts(value: float) -> Parts:
    network = nn.Linear(2, 2)
    nn.init.constant_(network.weight, value)
    return Parts(network, torch.optim.AdamW(network.parameters()))


def crash_in_a_save(folder: Path, number: int) -> bool:
    """The third validation of a training and its save, which also removes the first.

    What loads is the second or the third, and what was kept up to it comes to the run folder.
    """
    store = Store(folder / run.STATE)

    def validate(step: int) -> None:
        files.write_text(folder / run.WEIGHTS, f"of step {step}")
        store.save(State(step, kept=store.keep(folder / run.WEIGHTS)), parts(step))

    for step in (1, 2):
        validate(step)
    died = crashed(lambda: validate(3), number)
    found, into = Store(folder / run.STATE), parts(0)
    loaded = found.load(into)
    assert loaded is not None
    assert loaded.step in (2, 3)
    assert float(into.network.state_dict()["weight"][0, 0]) == loaded.step
    found.save(State(4, kept=loaded.kept), parts(4))  # and what half a save left does not stay
    assert len(list((folder / run.STATE).iterdir())) == 3
    found.finish(loaded.kept)
    assert (folder / run.WEIGHTS).read_text() == f"of step {loaded.step}"
    assert [path.name[:8] for path in (folder / run.STATE).iterdir()] == ["00000004"]
    return died


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def crash_in_a_replacement(folder: Path, number: int) -> bool:
    """A finished run is replaced by one that fails; it is whole, or it comes back when the folder is next claimed."""
    (folder / run.STATE).mkdir(parents=True)
    for name in (*run.FILES, "state/00000003-ab.safetensors"):
        (folder / name).write_text(f"the earlier {name}")
    before = contents(folder)

    def replace() -> None:
        try:
            with run.claim(folder, IDENTITY, overwrite=True):
                (folder / run.WEIGHTS).write_text("new")
                raise DataError("the new run fails")
        except DataError:
            pass

    died = crashed(replace, number)
    try:
        with run.claim(folder, IDENTITY) as resumed:
            # The new run had begun and was killed: it is gone on with, and fails as it would have.
            assert resumed
            raise DataError("again")
    except DataError:
        pass
    left = {name: content for name, content in contents(folder).items() if not name.startswith(run.EARLIER)}
    assert left == before, sorted(left.items())
    return died


def every(crash: Callable[[Path, int], bool]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1000):
            if not crash(Path(folder) / str(number), number):
                return number
    raise AssertionError("never came to its end")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps({"save": every(crash_in_a_save), "replace": every(crash_in_a_replacement)}))
