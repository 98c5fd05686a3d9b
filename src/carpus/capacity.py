"""Memory that is not there, in any of the ways it is reported, turned into advice."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from carpus import models
from carpus.config import Config
from carpus.errors import CapacityError


def lacking(error: BaseException) -> bool:
    """Whether `error` says that memory ran out: of Python, NumPy, torch on the processor or on a GPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text)


@contextmanager
def explained(settings: Config) -> Iterator[None]:
    """Turn an out-of-memory error of the block into a `CapacityError` that says what takes less."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not lacking(error):
            raise
        raise CapacityError(f"out of memory; {advice(settings)}") from error


def advice(settings: Config) -> str:
    """What takes less memory, in words."""
    options = settings.train
    more = range(options.accumulate + 1, options.batch_size + 1) if options.loss_over == "image" else ()
    parts = next((n for n in more if options.batch_size % n == 0), None)
    named = {f"train.accumulate={parts}": f"the same step in {parts} parts"} if parts else {}
    told = [f"{way} ({meaning})" for way, meaning in (named | ways(settings)).items()]
    told.append(f"data.cache_gib below {settings.data.cache_gib:g}")
    return f"what takes less: {', '.join(told)}; `carpus train --plan` says what fits"


def ways(settings: Config) -> dict[str, str]:
    """Settings that take less memory for an image, with what they mean; nearest to the same result first."""
    stride = settings.model.stride or 1
    found: dict[str, str] = {}
    if not settings.model.checkpointing:
        found["model.checkpointing=true"] = "the same step, a third slower"
    if settings.model.name == "unet" and stride < 4:
        found[f"model.stride={stride * 2}"] = "coarser logits"
    if window := _window(settings):
        found[f"data.crop={window}"] = "a window instead of the whole image"
    return found


def _window(settings: Config) -> int | None:
    """The largest window of at most half the image that the network takes and that is whole pixels of the labels."""
    size, labels = settings.data.image_size, settings.data.label_size or settings.data.image_size
    step = models.multiple(settings.model)
    windows = range(size // 2 // step * step, 63, -step)
    return None if settings.data.crop else next((side for side in windows if side * labels % size == 0), None)
