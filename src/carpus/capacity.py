"""Memory that is not there, in any of the ways it is reported, turned into advice."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

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
    """What takes less memory, nearest to the same result first."""
    options, size = settings.train, settings.data.image_size
    parts = next(
        (n for n in range(options.accumulate + 1, options.batch_size + 1) if options.batch_size % n == 0), None
    )
    ways = []
    if parts:
        ways.append(f"train.accumulate={parts} (the same step in {parts} parts)")
    if not settings.model.checkpointing:
        ways.append("model.checkpointing=true (the same step, a third slower)")
    if settings.model.name == "unet" and (settings.model.stride or 1) < 4:
        ways.append(f"model.stride={(settings.model.stride or 1) * 2}")
    if not settings.data.crop and size >= 128:
        ways.append(f"data.crop={size // 64 * 32} (a window instead of the whole image)")
    ways.append(f"data.cache_gib below {settings.data.cache_gib:g}")
    return f"what takes less: {', '.join(ways)}; `carpus train --plan` says what fits"
