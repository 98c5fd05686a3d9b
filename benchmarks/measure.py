"""Two ways to the same result: compared, then timed in turns (A B A B), medians, and peak memory of each."""

import ctypes
import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Comparison:
    """What is compared: `equal` gives an account of how equal the results are, and raises when they are not.

    `images` is how many images a call makes or learns from; 0 where that is not what counts.
    """

    name: str
    usual: Callable[[], Any]
    ours: Callable[[], Any]
    equal: Callable[[Any, Any], str]
    images: int = 0


@dataclass(frozen=True)
class Row:
    """A line of the table; peaks are None where the system does not tell."""

    name: str
    usual_ms: float
    ours_ms: float
    ratio: float
    usual_peak_mib: float | None
    ours_peak_mib: float | None
    first_call_s: float
    equal: str
    images: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class DifferentError(Exception):
    """The two sides disagree: no time is printed."""


def require(condition: object, account: str) -> str:
    if not condition:
        raise DifferentError(account)
    return account


def compare(comparison: Comparison, seconds: float) -> Row:
    """Measure within about `seconds`, at least one turn."""
    began = time.perf_counter()
    theirs, usual_peak = with_peak(comparison.usual)
    usual_took = time.perf_counter() - began
    began = time.perf_counter()
    comparison.ours()
    first = time.perf_counter() - began
    ours, ours_peak = with_peak(comparison.ours)
    account = comparison.equal(theirs, ours)
    del theirs, ours
    usual, mine = [], []
    end = time.perf_counter() + seconds - usual_took
    while not usual or (time.perf_counter() < end and len(usual) < 50):
        usual.append(timed(comparison.usual))
        # Ours is the shorter of the two: three runs a turn steady its median at little cost.
        mine.extend(timed(comparison.ours) for _ in range(3))
    a, b = statistics.median(usual), statistics.median(mine)
    return Row(comparison.name, a * 1e3, b * 1e3, a / b, usual_peak, ours_peak, first, account, comparison.images)


def timed(run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    result = run()
    took = time.perf_counter() - began
    del result
    return took


def with_peak(run: Callable[[], Any]) -> tuple[Any, float | None]:
    """The result and the peak of resident memory over what there was before, in MiB (Linux)."""
    gc.collect()
    _give_back()
    reset = Path("/proc/self/clear_refs")
    if not reset.exists():
        return run(), None
    reset.write_text("5")
    before = _status("VmRSS")
    result = run()
    return result, (_status("VmHWM") - before) / 1024


def _give_back() -> None:
    """Return freed memory to the system (glibc): what a call before left would hide what this one takes."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))
