"""One setting of threads for torch and the compiled verbs."""

import sys
from types import ModuleType

import pytest

from carpus.kernels.cpu import threads


def test_torch_that_another_thread_is_still_importing_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    try:
        assert threads.follow_torch() == 1
    finally:
        monkeypatch.undo()
        threads.follow_torch()
