"""``python tests/faults/kill.py [--kills N] [--seed S]``: kill -9 at random moments, resume, compare bit for bit.

A run is made without interruption, and then N times with a SIGKILL: every second time at a random moment of its life,
and else a few milliseconds after a save has begun. A run that was over before it was hit does not count. The same
command goes on, and final weights and learning curve
must be those of the first. The training process is forked from one that has imported the libraries, which saves seconds
a kill and changes nothing else: it is a process of its own, and is killed like one. The compiled kernels it loads
itself, because their threads do not survive a fork.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

# Before torch is imported: two processes of two threads each would fight for a small machine's cores.
for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[name] = "1"

import pandas  # noqa: E402

from carpus import config, phantom, run, state, train  # noqa: E402

SETTINGS = (
    "model.encoder=tu-tf_mobilenetv3_small_minimal_100",
    "model.decoder_channels=[16, 16, 8, 8, 8]",
    "data.image_size=64",
    "data.label_size=96",
    "data.folds=2",
    "train.steps=12",
    "train.batch_size=2",
    "train.validate_every=4",
    "train.save_every=1",
    "train.ema=0.9",
    "train.keep=best",
)
"""Small, so that a hundred kills take minutes, and saved at every step, so that many of them hit a save."""


def begin(log: Path, work: Callable[[], object]) -> int:
    """Fork a process that does `work` and writes what it says to `log`; returns its id."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        with log.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            work()
            status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def end(process: int) -> int:
    """Wait for a process; its exit status, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def where(out: Path) -> str:
    """At what moment of an unfinished run a process died, by what it left."""
    if list((out / run.STATE).glob(".*")):
        return "inside the save of a state"
    if any(path.name != ".lock" for path in out.glob(".*")):
        return "inside the save of another file"
    return "between saves" if state.saved(out / run.STATE) else "before the first save"


def _until_a_save(out: Path, step: int) -> None:
    """Wait until the state of `step` or a later one is being written, or the run is over."""
    end = time.monotonic() + 120
    while time.monotonic() < end and not (out / run.MANIFEST).is_file():
        begun = [path.name for path in (out / run.STATE).glob(".0*")]
        if any(int(name[1:9]) >= step for name in begun):
            return


def same(first: Path, second: Path) -> bool:
    """Whether two finished runs agree in weights, bit for bit, and in the learning curve but for its times."""
    weights = [run.read(out).manifest["files"][run.WEIGHTS] for out in (first, second)]
    curves = [pandas.read_csv(out / run.METRICS).drop(columns="images_per_second") for out in (first, second)]
    steps = [json.loads((out / run.MANIFEST).read_text())["weights"] for out in (first, second)]
    return weights[0] == weights[1] and curves[0].equals(curves[1]) and steps[0] == steps[1]


def trial(kills: int, seed: int, folder: Path, settings: Sequence[str] = ()) -> tuple[int, Counter[str]]:
    """Make `kills` runs that are killed once each; returns how many came out identical, and where they were hit."""
    root, straight, log = folder / "data", folder / "straight", folder / "log.txt"

    def training(out: Path) -> int:
        return begin(log, lambda: train.train(config.load(["demo"], [*SETTINGS, *settings]), root, out))

    def done(process: int) -> None:
        if end(process):
            raise RuntimeError(log.read_text())

    done(begin(log, lambda: phantom.write(root, patients=4, test_patients=1, size=96, seed=1)))
    took = 0.0
    for _ in range(2):  # the second is timed: the first may compile
        shutil.rmtree(straight, ignore_errors=True)
        began = time.perf_counter()
        done(training(straight))
        took = time.perf_counter() - began
    chance, identical, moments = random.Random(seed), 0, Counter[str]()
    for number in range(4 * kills):
        if moments.total() == kills:
            break
        out = folder / f"killed-{number}"
        process = training(out)
        if number % 2:
            _until_a_save(out, chance.randrange(1, 13))
            time.sleep(chance.uniform(0, 0.01))
        else:
            time.sleep(chance.uniform(0, took))
        os.kill(process, signal.SIGKILL)
        end(process)
        if not (out / run.MANIFEST).is_file():
            moments[where(out)] += 1
            done(training(out))
            identical += same(straight, out)
        shutil.rmtree(out)
    return identical, moments


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        identical, moments = trial(options.kills, options.seed, Path(folder))
    print(f"{identical} of {options.kills} identical; killed {json.dumps(moments)}")
    return identical != options.kills


if __name__ == "__main__":
    sys.exit(main())
