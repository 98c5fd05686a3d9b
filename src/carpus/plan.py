"""`carpus train --plan`: what memory and time a recipe takes on this machine, measured before it is begun.

A few steps are really made, of one image and then of two: what both need is the network's share, the difference an
image's. Only those two are ever in memory, so that asking is safe where the recipe itself would not fit.

Dimension key: B images in one part of a step.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric

from carpus import capacity, config, data, devices, evaluate, phases
from carpus.job import Job, prepare
from carpus.predict import network_input

STEPS = 3
"""Steps that are timed, after one that is not."""

ROOM = 0.9
"""Share of the memory that may be used: the rest is for what a plan does not know of."""


@dataclass(frozen=True)
class Plan:
    """What a recipe takes.

    Attributes:
        settings: of the recipe.
        fixed_mib: memory without any image: weights, gradients, moments, the program itself.
        image_mib: memory for each image of one part of a step.
        cache_mib: memory for decoded cases, as far as the data set fills it; host memory, also with a GPU.
        available_mib: what the machine has, of the GPU where there is one.
        step_seconds: time of a step.
        validation_seconds: time of a validation.
        images: decoded cases in all.
        gpu: whether memory is the GPU's.
    """

    settings: config.Config
    fixed_mib: float
    image_mib: float
    cache_mib: float
    available_mib: float
    step_seconds: float
    validation_seconds: float
    images: int
    gpu: bool

    @property
    def part(self) -> int:
        """B: images in memory at once."""
        return self.settings.train.batch_size // self.settings.train.accumulate

    @property
    def needed_mib(self) -> float:
        """Memory in all, where the network is."""
        return self.memory(self.part)

    def memory(self, images: int) -> float:
        """MiB for a step of so many images at once."""
        return self.fixed_mib + images * self.image_mib + (0.0 if self.gpu else self.cache_mib)

    @property
    def fits(self) -> bool:
        """Whether there is room for it."""
        return self.needed_mib <= ROOM * self.available_mib

    @property
    def seconds(self) -> float:
        """Time of the whole run."""
        options = self.settings.train
        validations = -(-options.steps // options.validate_every)
        return options.steps * self.step_seconds + validations * self.validation_seconds

    def parts(self) -> int | None:
        """The smallest `train.accumulate` with which a step of the same images fits; None if none does."""
        size = self.settings.train.batch_size
        equal = [parts for parts in range(1, size + 1) if size % parts == 0]
        return next((parts for parts in equal if self.memory(size // parts) <= ROOM * self.available_mib), None)

    def __str__(self) -> str:
        options = self.settings.train
        rows = [
            f"memory   {self.needed_mib / 1024:.1f} of {self.available_mib / 1024:.1f} GiB"
            f"{' of the GPU' if self.gpu else ''}: {self.fixed_mib:.0f} MiB fixed, {self.part} x {self.image_mib:.0f} "
            f"MiB an image, {self.cache_mib:.0f} MiB for decoded cases{' on the host' if self.gpu else ''}",
            f"time     {_span(self.seconds)}: {options.steps} steps of {self.step_seconds:.2f} s, "
            f"a validation {self.validation_seconds:.1f} s every {options.validate_every}",
            f"speed    {options.batch_size / self.step_seconds:.1f} images/s, "
            f"{options.steps * options.batch_size / self.images:.0f} epochs of {self.images} images",
        ]
        if not self.fits:
            parts = self.parts()
            fitting = f"train.accumulate={parts} fits" if parts else "no part of a batch is small enough"
            rows.append(f"does not fit; {fitting}; {capacity.advice(self.settings)}")
        return "\n".join(rows)


def plan(settings: config.Config, root: Path) -> Plan:
    """Measure what `settings` take with the data below `root`, in a few steps of one and of two images.

    Raises:
        DataError: as `train.train`.
        ConfigError: as `train.train`.
        CapacityError: not even two images fit.
    """
    launcher = devices.fabric(settings.train.device, settings.train.precision)
    with capacity.explained(settings):
        job = prepare(settings, root, launcher)
        gpu = launcher.device.type == "cuda"
        (one, first), (two, second) = (_steps(job, launcher, images) for images in (1, 2))
        case = job.held_out[0]
        began = time.perf_counter()
        evaluate.scores(job.predictor, [case], "val", job.classes)
        validation = (time.perf_counter() - began) * len(job.held_out)
    image_mib, an_image = max(two - one, 0.0), max(second - first, second / 4)
    options = settings.train
    drawn = job.batches(0)
    each = drawn.images[0, 0].numel() * (settings.data.image_size / drawn.images.shape[-1]) ** 2 / 2**20
    cache = min(settings.data.cache_gib * 1024, each * len(job.learn) * 1.2)
    average = sum(tensor.numel() * 4 for tensor in job.network.parameters()) / 2**20 if options.ema else 0.0
    return Plan(
        settings=settings,
        fixed_mib=max(one - image_mib, 0.0) + average,
        image_mib=image_mib,
        cache_mib=cache,
        available_mib=available_mib(gpu),
        step_seconds=max(first - an_image, 0.0) + options.batch_size * an_image,
        validation_seconds=validation,
        images=len(job.learn),
        gpu=gpu,
    )


def available_mib(gpu: bool) -> float:
    """Memory of the GPU, or of the machine and its container, in MiB."""
    if gpu:
        return torch.cuda.mem_get_info()[1] / 2**20
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text(encoding="ascii").strip() if limit.is_file() else "max"
    return min(whole, int(text) / 2**20) if text.isdecimal() else whole


def _steps(job: Job, launcher: Fabric, images: int) -> tuple[float, float]:
    """Peak memory in MiB and seconds of a step of so many images, the shortest of a few: others may use the machine."""
    # As in training: on some processors the network's gradients take several times as long without Fabric's wrapper.
    scaler = devices.scaler(launcher)
    optimizer = torch.optim.AdamW(job.network.parameters(), lr=0.0, weight_decay=0.0, fused=scaler is None)
    model, stepper = launcher.setup(job.network, optimizer)
    model.train()
    seconds: list[float] = []
    drawn = [job.batches(step) for step in range(-(-images // len(job.batches(0).cases)))]
    batch = data.Batch(
        torch.cat([one.images for one in drawn])[:images],
        torch.cat([one.labels for one in drawn])[:images],
        tuple(case for one in drawn for case in one.cases)[:images],
    )
    phases.reset_peak()
    for _ in range(STEPS + 1):
        began = time.perf_counter()
        logits = model(network_input(batch.images, launcher)).logits
        loss = job.loss(logits, launcher.to_device(batch.labels))
        launcher.backward(loss)
        stepper.step()
        stepper.zero_grad()
        float(loss.detach())  # waits for a GPU
        seconds.append(time.perf_counter() - began)
    return phases.peak_mib(), min(seconds[1:])


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
