"""The verbs on the CPU, compiled by numba on first use and then cached on disk.

OpenMP threads that spin while they wait slow each other down when torch and numba share the cores, so they are
told to sleep before numba starts its own. `sums`, `threshold`, `run_lengths`, `overlap` and `surface_distances` run in
several threads; the verbs that data loaders call are serial, because GNU OpenMP does not survive a fork.

Nothing is imported here: the verbs that read and compare label files need no torch, whose import takes longer than they
do with a hundred annotations. Those that take tensors are together in `of_tensors`.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
