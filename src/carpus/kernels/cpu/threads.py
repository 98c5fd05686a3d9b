"""How many threads the compiled verbs use."""

import os
import sys

import numba

_MOST = numba.get_num_threads()


def follow_torch() -> int:
    """Use as many threads as torch does, so that one setting holds for both; returns how many.

    Torch that was never imported was told nothing, and would do what OMP_NUM_THREADS says.
    """
    count = getattr(sys.modules.get("torch"), "get_num_threads", None)  # not there while another thread imports torch
    told = os.environ.get("OMP_NUM_THREADS", "")
    wanted = count() if count else int(told) if told.isdecimal() and int(told) else _MOST
    threads = min(wanted, _MOST)
    numba.set_num_threads(threads)
    return threads
