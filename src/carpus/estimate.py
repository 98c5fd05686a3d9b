"""What a recipe takes of memory and time, from what was measured of its first steps.

Dimension key: B images in one part of a step of one device.
"""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from carpus import config
from carpus.job import least

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
        cache_mib: memory of a process for decoded cases, as far as the data set fills it; of the host, also with a GPU.
        available_mib: what is free, of the GPU where there is one.
        validation_seconds: of one image.
        save_seconds: of one state.
        learnt, validated: images to learn from and to validate on.
        gpu: whether memory is the GPU's.
        processes: of the training, those of each machine and the number of machines.
        too_many: images at once that were tried and for which there was no memory; None where none were too many.
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
    processes: tuple[int, int] = (1, 1)
    too_many: int | None = None
    others: dict[str, "Plan"] = field(default_factory=dict)

    @property
    def share(self) -> int:
        """Images of a step of one device."""
        return self.settings.train.batch_size // math.prod(self.processes)

    @property
    def sharing(self) -> int:
        """Processes that share the memory: those of a machine, where each has no GPU of its own."""
        return 1 if self.gpu else self.processes[0]

    @property
    def part(self) -> int:
        """B: images in memory at once."""
        return self.share // self.settings.train.accumulate

    @property
    def known(self) -> bool:
        """Whether any step could be measured."""
        return len(self.measured) > 1

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
        """MiB for a process with so many images at once, where the network is; infinite where it is only too much."""
        if not self.known or (self.too_many is not None and images >= self.too_many):
            return math.inf
        return max(self.at(images).mib, self.other_mib) + (0.0 if self.gpu else self.cache_mib)

    @property
    def needed_mib(self) -> float:
        """Memory of a GPU, or of all processes of a machine."""
        return self.sharing * self.memory(self.part)

    @property
    def fits(self) -> bool:
        """Whether there is room for it."""
        return self.has_room(self.part)

    def has_room(self, images: int) -> bool:
        """Whether there is room for so many images at once."""
        return self.sharing * self.memory(images) <= ROOM * self.available_mib

    @property
    def step_seconds(self) -> float:
        """Time of a step, all its parts; NaN where none could be measured."""
        return self.settings.train.accumulate * self.at(self.part).seconds if self.known else math.nan

    @property
    def seconds(self) -> float:
        """Time of the whole run."""
        options = self.settings.train
        validations = {*range(options.validate_every, options.steps, options.validate_every), options.steps}
        saves = validations | {*range(options.save_every, options.steps, options.save_every)}
        each = self.validated * self.validation_seconds + self.save_seconds
        alone = len(saves - validations) * self.save_seconds
        return options.steps * self.step_seconds + len(validations) * each + alone

    def cuts(self) -> dict[int, int]:
        """How a step can be cut: each `train.accumulate` and how many images are then in memory at once, most first."""
        fewest = least(self.settings) if self.settings.train.loss_over == "image" else self.share
        equal = (parts for parts in range(1, self.share + 1) if self.share % parts == 0)
        return {parts: self.share // parts for parts in equal if self.share // parts >= fewest}

    def parts(self) -> int | None:
        """The smallest `train.accumulate` with which a step of the same images fits; None if none does."""
        return next((parts for parts, images in self.cuts().items() if self.has_room(images)), None)

    def __str__(self) -> str:
        rows = [self._memory_row(), *(self._time_rows() if self.known else [])]
        if not self.fits:
            rows.append(f"does not fit{'; what takes less:' if self.others else ', and nothing is known to take less'}")
        for name, other in self.others.items():
            takes = f"{_gib(other.needed_mib)}, {_span(other.seconds)}, " if math.isfinite(other.needed_mib) else ""
            rows.append(f"  {name}: {takes}{'fits' if other.fits else 'does not fit either'}")
        return "\n".join(rows)

    def _memory_row(self) -> str:
        free = f"{_gib(self.available_mib)} free{' of the GPU' if self.gpu else ''}"
        if not math.isfinite(self.needed_mib):
            return f"memory   more than the {free}: {self.too_many} images at once were too many"
        cache = f"{self.processes[0] * self.cache_mib:.0f} MiB for decoded cases"
        cache += " on the host" if self.gpu else " included"
        last = self.measured[-1].images
        at = "measured at" if last == self.part else f"from {last} images to"
        each = f" in each of {self.sharing} processes" if self.sharing > 1 else ""
        return f"memory   {_gib(self.needed_mib)} of {free}, {at} {self.part} at once{each}; {cache}"

    def _time_rows(self) -> list[str]:
        options = self.settings.train
        return [
            f"time     {_span(self.seconds)}: {options.steps} steps of {self.step_seconds:.2f} s, a validation of "
            f"{self.validated} x {self.validation_seconds:.2f} s every {options.validate_every}",
            f"speed    {options.batch_size / self.step_seconds:.1f} images/s, "
            f"{options.steps * options.batch_size / self.learnt:.0f} epochs of {self.learnt} images",
        ]


def _gib(mib: float) -> str:
    return f"{mib / 1024:.1f} GiB"


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
