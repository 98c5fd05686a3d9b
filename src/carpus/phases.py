"""Seconds and peak memory by phase: what a run spends on reading, training, validating and saving."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch


class Phases:
    """Adds up what is spent.

    Attributes:
        seconds: by phase.
        peak_mib: by phase, the highest: of the GPU where there is one, else of this process.
    """

    def __init__(self) -> None:
        self.seconds, self.peak_mib = dict[str, float](), dict[str, float]()
        self._running: list[tuple[str, float]] = []

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """The block is phase `name`; the phase around it, if there is one, waits meanwhile."""
        self._stop()
        self._start(name)
        try:
            yield
        finally:
            self._stop()
            self._running.pop()
            if self._running:
                around = self._running.pop()[0]
                self._start(around)

    def _start(self, name: str) -> None:
        reset_peak()
        self._running.append((name, time.perf_counter()))

    def _stop(self) -> None:
        if self._running:
            name, since = self._running[-1]
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - since
            self.peak_mib[name] = max(self.peak_mib.get(name, 0.0), peak_mib())


def reset_peak() -> None:
    """Forget the peak so far, where the system can."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_mib() -> float:
    """Highest memory since `reset_peak`: of the GPU where there is one, else of this process, in MiB."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if status.is_file():
        lines = status.read_text(encoding="ascii", errors="replace").splitlines()
        return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024
