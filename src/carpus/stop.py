"""SIGTERM and Ctrl-C as a wish that the training loop grants at the end of a step."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Which signal asked to stop, 0 for none yet."""

    signal: int = 0

    def _wish(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.signal:
            raise KeyboardInterrupt  # whoever presses Ctrl-C twice means now
        self.signal = number


@contextmanager
def listening() -> Iterator[Stop]:
    """Within the block the two signals are only noted; outside the main thread, where Python gives none, nothing is."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop._wish) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
