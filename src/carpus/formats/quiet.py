"""Decoders kept from talking to the user: what matters about a file is said once, by Carpus."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore the warnings that Pillow and pydicom attribute to themselves, while the block runs.

    They repeat what an error says, and pydicom's quote values, which may be patient data. `warnings.catch_warnings`
    swaps a list of the whole process, so blocks exclude one another; the warnings of other threads go on.
    """
    with _lock, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(PIL|pydicom)(\.|$)")
        yield
