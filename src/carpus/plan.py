"""`carpus train --plan`: what memory and time a recipe takes on this machine, measured before it is begun.

The first steps of the training itself are made (`loop.fit`), in a folder that is thrown away: of two images at once, of
four, and of as many as the recipe wants if these say that there is room. So what is measured has all that a training
has: auxiliary heads, compilation, crops, checkpointing, average, a validation, a saved state. Where the recipe itself
does not fit, a line through the last two measurements says what it would take.

Dimension key: B images in one part of a step of one device.
"""

import ctypes
import gc
import math
import os
import statistics
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from lightning_fabric import Fabric

from carpus import capacity, config, devices, evaluate, models
from carpus.errors import ConfigError
from carpus.job import Job, least, prepare
from carpus.loop import fit
from carpus.phases import Phases, peak_mib, reset_peak
from carpus.stop import Stop

STEPS = 5
"""Steps of a measurement. The first warms up and the last validates: neither is timed."""

ROOM = 0.9
"""Share of the memory that may be used: the rest is for what a plan does not know of."""


class Measured(NamedTuple):
    """Peak memory in MiB and seconds of a step with so many images at once."""

    images: int
    mib: float
    seconds: float


@dataclass(frozen=True)
class Plan:
    """What a recipe takes.

    Attributes:
        settings: of the recipe.
        measured: by number of images, that of none first.
        other_mib: peak of validating and saving, whatever the number of images.
        cache_mib: memory for decoded cases, as far as the data set fills it; host memory, also with a GPU.
        available_mib: what is free, of the GPU where there is one.
        validation_seconds: of one image.
        save_seconds: of one state.
        learnt, validated: images to learn from and to validate on.
        gpu: whether memory is the GPU's.
        others: what takes less, by the settings that differ; only where the recipe does not fit.
    """

    settings: config.Config
    measured: tuple[Measured, ...]
    other_mib: float
    cache_mib: float
    available_mib: float
    validation_seconds: float
    save_seconds: float
    learnt: int
    validated: int
    gpu: bool
    others: dict[str, "Plan"] = field(default_factory=dict)

    @property
    def share(self) -> int:
        """Images of a step of one device."""
        return self.settings.train.batch_size // (self.settings.train.devices * self.settings.train.nodes)

    @property
    def part(self) -> int:
        """B: images in memory at once."""
        return self.share // self.settings.train.accumulate

    def at(self, images: int) -> Measured:
        """A step of so many images at once: on the line through the last two that were measured."""
        before, last = self.measured[-2:]
        further = (images - last.images) / (last.images - before.images)
        mib, seconds = (
            of_last + further * max(of_last - of_before, 0.0)
            for of_last, of_before in ((last.mib, before.mib), (last.seconds, before.seconds))
        )
        return Measured(images, mib, seconds)

    def memory(self, images: int) -> float:
        """MiB for a training of so many images at once, where the network is."""
        return max(self.at(images).mib, self.other_mib) + (0.0 if self.gpu else self.cache_mib)

    @property
    def needed_mib(self) -> float:
        """Memory in all."""
        return self.memory(self.part)

    @property
    def fits(self) -> bool:
        """Whether there is room for it."""
        return self.has_room(self.part)

    def has_room(self, images: int) -> bool:
        """Whether there is room for so many images at once."""
        return self.memory(images) <= ROOM * self.available_mib

    @property
    def step_seconds(self) -> float:
        """Time of a step, all its parts."""
        return self.settings.train.accumulate * self.at(self.part).seconds

    @property
    def seconds(self) -> float:
        """Time of the whole run."""
        options = self.settings.train
        validations = math.ceil(options.steps / options.validate_every)
        saves = validations + options.steps // options.save_every
        each = self.validated * self.validation_seconds
        return options.steps * self.step_seconds + validations * each + saves * self.save_seconds

    def parts(self) -> int | None:
        """The smallest `train.accumulate` with which a step of the same images fits; None if none does."""
        fewest = least(self.settings) if self.settings.train.loss_over == "image" else self.share
        equal = [parts for parts in range(1, self.share + 1) if self.share % parts == 0]
        sizes = [(parts, self.share // parts) for parts in equal if self.share // parts >= fewest]
        return next((parts for parts, images in sizes if self.has_room(images)), None)

    def __str__(self) -> str:
        options, whose = self.settings.train, " of the GPU" if self.gpu else ""
        cache = f"{self.cache_mib:.0f} MiB for decoded cases{' on the host' if self.gpu else ' included'}"
        at = "measured at" if self.measured[-1].images == self.part else f"from {self.measured[-1].images} images to"
        rows = [
            f"memory   {_gib(self.needed_mib)} of {_gib(self.available_mib)} free{whose}, {at} {self.part} at once; "
            f"{cache}",
            f"time     {_span(self.seconds)}: {options.steps} steps of {self.step_seconds:.2f} s, a validation of "
            f"{self.validated} x {self.validation_seconds:.2f} s every {options.validate_every}",
            f"speed    {options.batch_size / self.step_seconds:.1f} images/s, "
            f"{options.steps * options.batch_size / self.learnt:.0f} epochs of {self.learnt} images",
        ]
        if not self.fits:
            rows.append(f"does not fit{'; what takes less:' if self.others else ', and nothing is known to take less'}")
        for name, other in self.others.items():
            fits = "fits" if other.fits else "does not fit either"
            rows.append(f"  {name}: {_gib(other.needed_mib)}, {_span(other.seconds)}, {fits}")
        return "\n".join(rows)


def plan(settings: config.Config, root: Path) -> Plan:
    """Measure what `settings` take with the data below `root`, and what takes less if they take too much.

    Raises:
        DataError: as `train.train`.
        ConfigError: as `train.train`.
        CapacityError: not even two images fit.
    """
    launcher = devices.fabric(settings.train.device, settings.train.precision)
    with capacity.explained(settings):
        planned = measure(settings, root, launcher)
        if planned.fits:
            return planned
        return replace(planned, others=_others(planned, root, launcher))


def measure(settings: config.Config, root: Path, launcher: Fabric) -> Plan:
    """The plan of `settings` alone."""
    gpu = launcher.device.type == "cuda"
    _give_back()
    available = available_mib(gpu)
    job = prepare(settings, root, launcher)
    job.network.eval()
    evaluate.scores(job.predictor, job.held_out[:1], "val", job.classes)  # so that nothing is loaded when it is timed
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
    )
    first = min(found.part, max(2, least(settings)))
    for images in sorted({first, min(found.part, 2 * first), found.part}):
        if len(found.measured) == 1 or found.has_room(images):
            now, phases = _steps(job, launcher, images)
            found = replace(
                found,
                measured=(*found.measured, now),
                other_mib=max(phases.peak_mib["validate"], phases.peak_mib["save"]),
                validation_seconds=phases.seconds["validate"],
                save_seconds=phases.seconds["save"],
            )
    return found


def _others(planned: Plan, root: Path, launcher: Fabric) -> dict[str, Plan]:
    """Plans that take less, each in as many parts as it needs."""
    found: dict[str, Plan] = {"": planned}
    for way in capacity.ways(planned.settings):
        with suppress(ConfigError):  # a network without blocks to compute twice, a window that does not suit the labels
            found[way] = measure(config.changed(planned.settings, way), root, launcher)
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
    with tempfile.TemporaryDirectory() as folder:
        fit(few, launcher, Path(folder), phases, Stop(), None, lambda _: ends.append(time.perf_counter()))
    seconds = statistics.median(end - start for start, end in pairwise(ends[:-1]))
    return Measured(images, phases.peak_mib["train"], seconds), phases


def available_mib(gpu: bool) -> float:
    """Memory that this process could have, in MiB: what it has, and what is free of the GPU, machine and container."""
    if gpu:
        return (torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved()) / 2**20
    reset_peak()
    free = [_machine_free_mib(), _container_free_mib(Path("/sys/fs/cgroup"))]
    return peak_mib() + min(free)


def _machine_free_mib() -> float:
    told = Path("/proc/meminfo")
    lines = told.read_text(encoding="ascii").splitlines() if told.is_file() else []
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("MemAvailable")), whole)


def _container_free_mib(group: Path) -> float:
    """What the limit of a control group leaves; what it only caches from disk counts as free."""
    limit, used, kinds = (group / name for name in ("memory.max", "memory.current", "memory.stat"))
    if not limit.is_file() or not limit.read_text(encoding="ascii").strip().isdecimal():
        return math.inf
    lines = (line.split() for line in kinds.read_text(encoding="ascii").splitlines())
    cached = sum(int(value) for name, value in lines if name in ("active_file", "inactive_file"))
    return (int(limit.read_text(encoding="ascii")) - int(used.read_text(encoding="ascii")) + cached) / 2**20


def _give_back() -> None:
    """Return freed memory to the system (glibc), or the peak of one measurement would be that of another before it."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


def _gib(mib: float) -> str:
    return f"{mib / 1024:.1f} GiB"


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
