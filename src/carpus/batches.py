"""The batch of a step as a pure function of (seed, step), for every process its share."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from carpus import augment, data
from carpus.data import Batch, Cache, Case
from carpus.errors import ConfigError, DataError
from carpus.labels import LabelMap


@dataclass(frozen=True)
class Share:
    """Which part of every batch a process draws: `rank` of `world` equal ones."""

    rank: int = 0
    world: int = 1


@dataclass(frozen=True)
class Others:
    """Other cases that take a part of every batch, such as pseudo-labelled ones.

    Args:
        cases: to learn from besides.
        settings: limits of their augmentation.
        share: of all images drawn, above 0 and below 1, as evenly as whole images allow.
        worth: what one of them counts in the loss, any other being 1.
        steps: in which they take part, from the first on; after these there are none.
    """

    cases: Sequence[Case]
    settings: augment.Settings
    share: float
    worth: float
    steps: int


@dataclass(frozen=True)
class Batches:
    """Training batches, each a pure function of (seed, step): any step can be asked for, in any order.

    Sample n of a run is the (n mod cases)-th of a shuffle seeded by (seed, epoch), changed by an augmentation
    seeded by (seed, n). Steps before are not needed, so a run resumes exactly, and more steps or more devices
    continue the same stream.

    Args:
        cases: to learn from.
        cache: decodes them.
        settings: limits of the augmentation.
        batch_size: images in a step, over all shares.
        seed: decides order and augmentation.
        weights: how often each case is drawn, relative to the others; None for once an epoch each.
        crop: the window to learn from; None for the whole image.
        share: the part of every batch to draw.
        others: cases beside `cases`, drawn in an order of their own: those of `cases` come in the same order with them.

    Raises:
        DataError: no case.
        ConfigError: a batch that cannot be shared equally.
    """

    cases: Sequence[Case]
    cache: Cache
    settings: augment.Settings
    _: KW_ONLY
    batch_size: int
    seed: int
    weights: Sequence[float] | None = None
    crop: augment.Crop | None = None
    share: Share = Share()
    others: Others | None = None

    def __post_init__(self) -> None:
        if not self.cases or (self.others and not self.others.cases):
            raise DataError("no annotated training case is left; check the folds and the annotations")
        if self.batch_size % self.share.world:
            raise ConfigError(
                f"train.batch_size: {self.batch_size} images cannot be shared equally by {self.share.world} devices"
            )

    def __call__(self, step: int) -> Batch:
        """This process's share of the batch of `step`, counted from 0."""
        size = self.batch_size // self.share.world
        first = step * self.batch_size + self.share.rank * size
        drawn = [self._sample(first + n) for n in range(size)]
        pictures = torch.from_numpy(np.stack([image for image, *_ in drawn])[:, None])
        maps = torch.from_numpy(np.stack([labels for _, labels, *_ in drawn]))
        soft = tuple(None if planes is None else torch.from_numpy(planes).permute(2, 0, 1) for *_, planes, _ in drawn)
        cases = tuple(case for *_, case in drawn)
        counted = np.stack([self._counted(first + n, case) for n, case in enumerate(cases)])
        return Batch(
            pictures,
            maps,
            cases,
            None if (counted == 1).all() else torch.from_numpy(counted),
            len(self.cache.classes) if any(case.doubt and len(case.doubt.pixels) for case in cases) else None,
            soft if any(case.soft for case in cases) else None,
        )

    def cases_of(self, step: int) -> tuple[Case, ...]:
        """The cases of the whole batch of `step`, without making it."""
        return tuple(self._case(step * self.batch_size + n) for n in range(self.batch_size))

    def ahead(self, steps: range, workers: int) -> Iterator[Batch]:
        """The batches of `steps` in order, made by `workers` threads while the network is at work."""
        with ThreadPoolExecutor(workers, thread_name_prefix="batches") as pool:
            waiting: list[Future[Batch]] = []
            try:
                for step in steps:
                    waiting.append(pool.submit(self, step))
                    if len(waiting) > workers:
                        yield waiting.pop(0).result()
                while waiting:
                    yield waiting.pop(0).result()
            finally:
                for future in waiting:
                    future.cancel()

    def _sample(self, number: int) -> tuple[NDArray[np.float32], LabelMap, NDArray[np.uint8] | None, Case]:
        case = self._case(number)
        try:
            image, labels = self.cache(case)
            soft = data.read_soft(case, self.cache.classes, len(image))
            random = np.random.default_rng([self.seed, 1, number])
            settings = self.others.settings if self.others and self._is_other(number) else self.settings
            return *augment.apply_soft(image, labels, soft, settings, random, self.crop), case
        except Exception as error:
            if str(case.image) not in str(error):
                error.add_note(f"while preparing {case.image}")
            raise

    def _counted(self, number: int, case: Case) -> NDArray[np.float32]:
        """What every class (K,) of a sample counts in the loss."""
        worth = self.others.worth if self.others and self._is_other(number) else 1.0
        counted = np.full(len(self.cache.classes), worth, np.float32)
        if case.doubt:
            counted[list(case.doubt.ignored)] = 0
        return counted

    def _others_before(self, number: int) -> int:
        """How many of the samples before `number` are others."""
        if self.others is None:
            return 0
        return math.floor(min(number, self.others.steps * self.batch_size) * self.others.share)

    def _is_other(self, number: int) -> bool:
        return self._others_before(number + 1) > self._others_before(number)

    def _case(self, number: int) -> Case:
        before = self._others_before(number)
        if self.others and self._is_other(number):
            epoch, place = divmod(before, len(self.others.cases))
            random = np.random.default_rng([self.seed, 3, epoch])
            return self.others.cases[random.permutation(len(self.others.cases))[place]]
        epoch, place = divmod(number - before, len(self.cases))
        return self.cases[self._order(epoch)[place]]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        random = np.random.default_rng([self.seed, 0, epoch])
        count = len(self.cases)
        if self.weights is None:
            return random.permutation(count)
        # Systematic resampling: a case of weight w comes w / mean(w) times, rounded up or down, never by luck alone.
        ends = np.cumsum(self.weights) / np.sum(self.weights)
        ticks = (random.random() + np.arange(count)) / count
        return random.permutation(np.minimum(np.searchsorted(ends, ticks, side="right"), count - 1))
