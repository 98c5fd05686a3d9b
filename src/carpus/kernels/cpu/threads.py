"""How many threads the compiled verbs use."""

import numba
import torch

_MOST = numba.get_num_threads()


def follow_torch() -> int:
    """Use as many threads as torch does, so that one setting holds for both; returns how many."""
    threads = min(torch.get_num_threads(), _MOST)
    numba.set_num_threads(threads)
    return threads
