"""The verbs on the CPU, compiled by numba on first use and then cached on disk.

OpenMP threads that spin while they wait slow each other down when torch and numba share the cores, so they are
told to sleep before numba starts its own. `sums`, `threshold`, `run_lengths`, `overlap` and `surface_distances` run in
several threads; the verbs that data loaders call are serial, because GNU OpenMP does not survive a fork.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from carpus.kernels.cpu.runs import decode, encode, overlap, overlap_runs, text
from carpus.kernels.cpu.shapes import polygons, rasterise
from carpus.kernels.cpu.sums import sums
from carpus.kernels.cpu.surface import surface_distances
from carpus.kernels.cpu.threshold import run_lengths, threshold

__all__ = [
    "decode",
    "encode",
    "overlap",
    "overlap_runs",
    "polygons",
    "rasterise",
    "run_lengths",
    "sums",
    "surface_distances",
    "text",
    "threshold",
]
