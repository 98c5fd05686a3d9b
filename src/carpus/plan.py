"""`carpus train --plan`: what memory and time a recipe takes on this machine, measured before it is begun.

The first steps of the training itself are made (`loop.fit`), in a folder that is thrown away: of two images at once, of
four, and of as many as the recipe wants if these say that there is room. So what is measured has all that a training
has: auxiliary heads, compilation, crops, checkpointing, average, a validation, a saved state. Where the recipe itself
does not fit, a line through the last two measurements says what it would take.

Steps are made in a process of their own. It is ended once it has taken the memory that is free, or the system ends it,
and that is an answer: so many images at once do not fit.
"""

import ctypes
import gc
import multiprocessing
import signal
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path

from lightning_fabric import Fabric

from carpus import capacity, config, devices, evaluate, gates, models
from carpus.errors import CapacityError, ConfigError, DataWarning, warn
from carpus.estimate import ROOM, Measured, Plan
from carpus.job import Job, least, prepare
from carpus.loop import fit
from carpus.phases import Phases, peak_mib, reset_peak
from carpus.room import available_mib, held_mib
from carpus.stop import Stop

STEPS = 5
"""Steps of a measurement. The first warms up and the last validates: neither is timed."""

LOOK_SECONDS = 0.02
"""How often the memory of the measuring process is looked at."""


Tell = Callable[[str], object]


def plan(settings: config.Config, root: Path, tell: Tell | None = None) -> Plan:
    """Measure what `settings` take with the data below `root`, and what takes less if they take too much.

    Args:
        settings: of the recipe.
        root: a data folder in the competition's layout.
        tell: called with a line before every measurement, which can take minutes.

    Raises:
        DataError: as `train.train`.
        ConfigError: as `train.train`.
        CapacityError: there is no memory even for the network and its first validation.
    """
    tell = tell or (lambda line: None)
    planned = apart(settings, root, tell)
    return planned if planned.fits else replace(planned, others=_others(planned, root, tell))


def apart(settings: config.Config, root: Path, tell: Tell) -> Plan:
    """The plan of `settings` alone, measured in another process; for `tell` see `plan`.

    Raises:
        DataError, ConfigError, CapacityError: as `plan`.
    """
    # A fork would inherit the threads of torch and numba as locks that nobody opens.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(theirs, settings, root))
    process.start()
    theirs.close()
    found = None
    tell("reading the data, building the network and validating an image")
    try:
        while True:
            if not ours.poll(LOOK_SECONDS):
                held = held_mib(process.pid or 0)
                if found and not found.gpu and held * found.sharing > ROOM * found.available_mib:
                    process.kill()
                continue
            try:
                told = ours.recv()
            except EOFError:
                break
            if isinstance(told, Exception):
                raise told
            if isinstance(told, str):
                warn(told)
            else:
                found = told
                if found.too_many:  # until they are measured
                    tell(f"measuring {STEPS} steps of {found.too_many} images at once")
    except BaseException:
        process.kill()
        raise
    finally:
        process.join()
    if process.exitcode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the process that measured ended with status {process.exitcode}")
    if found is None:
        raise CapacityError(f"out of memory before the first step; {capacity.advice(settings)}")
    return found


def measure(settings: config.Config, root: Path) -> Iterator[Plan]:
    """The plan of `settings` alone, anew whenever more is known; each says of the step to come that it is too large.

    Raises:
        DataError, ConfigError, CapacityError: as `plan`.
    """
    launcher = devices.fabric(settings.train.device, settings.train.precision)
    gpu = launcher.device.type == "cuda"
    _give_back()
    available = available_mib(gpu)
    with capacity.explained(settings), gates.sizes_refused(settings):
        job = prepare(settings, root, launcher)
        job.network.eval()
        evaluate.scores(
            job.predictor, job.held_out[:1], "val", job.classes
        )  # so that nothing is loaded when it is timed
    reset_peak()
    # Gradients and two moments come with the first step.
    without = peak_mib() + 3 * models.parameters(job.network) * 4 / 2**20
    cache = min(settings.data.cache_gib * 1024, settings.data.image_size**2 / 2**20 * len(job.learn) * 1.2)
    found = Plan(
        settings=settings,
        measured=(Measured(0, without, 0.0),),
        other_mib=0.0,
        cache_mib=cache,
        available_mib=available,
        validation_seconds=0.0,
        save_seconds=0.0,
        learnt=len(job.learn),
        validated=len(job.held_out),
        gpu=gpu,
        processes=devices.launched(settings.train.devices, settings.train.nodes),
    )
    first = min(found.part, max(2, least(settings)))
    for images in sorted({first, min(found.part, 2 * first), found.part}):
        if found.known and not found.has_room(images):
            continue
        yield replace(found, too_many=images)
        try:
            now, phases = _steps(job, launcher, images)
        except (MemoryError, RuntimeError) as error:
            if not capacity.lacking(error):
                raise
            return
        found = replace(
            found,
            measured=(*found.measured, now),
            other_mib=max(phases.peak_mib["validate"], phases.peak_mib["save"]),
            validation_seconds=phases.seconds["validate"],
            save_seconds=phases.seconds["save"],
        )
    yield found


def _measure(told: Connection, settings: config.Config, root: Path) -> None:
    """The other process of `apart`: plans, warnings and at most one error go through `told`."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches both processes, and this one has nothing to say
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")  # if one must be ended, then this one
    warnings.simplefilter("always", DataWarning)
    warnings.showwarning = lambda message, category, *_: (
        told.send(str(message)) if issubclass(category, DataWarning) else None
    )
    try:
        for found in measure(settings, root):
            told.send(found)
    except Exception as error:
        told.send(error)


def _others(planned: Plan, root: Path, tell: Tell) -> dict[str, Plan]:
    """Plans that take less, each in as many parts as it needs."""
    ways, most = list(capacity.ways(planned.settings)), max(planned.cuts())
    if not planned.known and most > planned.settings.train.accumulate:
        ways.insert(0, f"train.accumulate={most}")  # no line tells what fewer images take
    found = {"": planned}
    for way in ways:
        # A network without blocks to compute twice, a window that does not suit the labels, no memory for either.
        with suppress(ConfigError, CapacityError):
            found[way] = apart(
                config.changed(planned.settings, way), root, lambda line, way=way: tell(f"{way}: {line}")
            )
    others: dict[str, Plan] = {}
    for way, other in found.items():
        parts = other.parts()
        if not other.fits and parts:
            cut = f"train.accumulate={parts}"
            others[f"{way} {cut}".strip()] = replace(other, settings=config.changed(other.settings, cut))
        elif way:
            others[way] = other
    return others


def _steps(job: Job, launcher: Fabric, images: int) -> tuple[Measured, Phases]:
    """Train for `STEPS` steps of so many images at once, with one image to validate on."""
    update = {"batch_size": images, "accumulate": 1, "steps": STEPS, "validate_every": STEPS, "save_every": STEPS}
    options = job.settings.train.model_copy(update=update | {"horizon": None, "schedule_start": 0, "patience": None})
    settings = job.settings.model_copy(update={"train": options, "track": config.Track()})
    batches = replace(job.batches, batch_size=images)
    few = replace(job, settings=settings, held_out=job.held_out[:1], batches=batches)
    for step in range(STEPS):
        batches(step)  # a training decodes a case once, and uses it a hundred times
    _give_back()
    phases, ends = Phases(), list[float]()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as tracked:
        fit(few, launcher, Path(folder), phases, Stop(), tracked, None, lambda _: ends.append(time.perf_counter()))
    seconds = statistics.median(end - start for start, end in pairwise(ends[:-1]))
    return Measured(images, phases.peak_mib["train"], seconds), phases


def _give_back() -> None:
    """Return freed memory to the system (glibc), or the peak of one measurement would be that of another before it."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)
