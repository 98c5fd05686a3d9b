"""The kernels once more with poisoned memory: what a buffer held before must not show.

glibc fills what it hands out when MALLOC_PERTURB_ is set, numba's scratch memory included: with 254 a float32 is
-1.7e38 and a label -16843010. A process of its own, as the variable is read at its start.
"""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

FILES = ["test_sums.py", "test_threshold.py", "test_runs.py", "test_shapes.py", "test_surface.py"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_poisoned_buffers_change_nothing():
    environment = os.environ | {"MALLOC_PERTURB_": "1"}
    probe = "import numpy; print(numpy.empty(1 << 20, numpy.int32)[::4096].max())"
    filled = subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True, text=True, check=True)
    assert filled.stdout.strip() == "-16843010"
    tests = [str(Path(__file__).with_name(name)) for name in FILES]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    inner = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert inner.returncode == 0, inner.stdout
