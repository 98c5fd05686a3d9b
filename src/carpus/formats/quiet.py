"""Decoders kept from talking to the user: what matters about a file is said once, by Carpus.

What pydicom warns and logs quotes values, which may be patient data; what Pillow says repeats what an error says.
"""

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_lock = threading.RLock()

logging.getLogger("PIL").setLevel(logging.CRITICAL)


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore the warnings that Pillow and pydicom attribute to themselves, while the block runs.

    `warnings.catch_warnings` swaps a list of the whole process, so blocks exclude those of other threads, whose
    warnings go on; within one, another changes nothing.
    """
    with _lock, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(PIL|pydicom)(\.|$)")
        yield


@contextmanager
def muted() -> Iterator[None]:
    """`quiet`, for a C library that writes to the standard error on its own: it goes nowhere while the block runs.

    What other threads write there meanwhile is lost too, so this is for rare formats only.
    """
    with quiet(), Path(os.devnull).open("wb") as nowhere:
        kept = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
