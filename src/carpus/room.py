"""Memory that is there for this process: of the GPU, or of the machine and of the control groups it runs in."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

import torch

from carpus.phases import peak_mib, reset_peak

_LIMITS = ("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")
"""Limit and use of a control group, of version 2 and of version 1."""

_CACHED = {"active_file", "inactive_file"}, {"total_active_file", "total_inactive_file"}
"""What a group holds of files, its children included, in memory.stat of both versions; it is given up on demand."""


def available_mib(gpu: bool) -> float:
    """Memory that this process could have, in MiB: what it has, and what is free of the GPU, machine and container."""
    if gpu:
        return (torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved()) / 2**20
    reset_peak()
    return peak_mib() + min([_machine_free_mib(), *map(_group_free_mib, _groups())])


def held_mib(process: int) -> float:
    """Memory that another process holds, in MiB; 0 where the system does not say or the process is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)


def _machine_free_mib() -> float:
    told = Path("/proc/meminfo")
    lines = told.read_text(encoding="ascii").splitlines() if told.is_file() else []
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("MemAvailable")), whole)


def _groups(told: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")) -> Iterator[Path]:
    """The control groups that limit this process's memory, each with those around it.

    Args:
        told: lines such as ``0::/slurm/job_7`` (version 2) and ``4:memory:/job_7`` (version 1).
        mounted: where the groups are folders.
    """
    lines = told.read_text(encoding="utf-8").splitlines() if told.is_file() else []
    for _, controllers, name in (line.split(":", 2) for line in lines):
        if controllers and "memory" not in controllers.split(","):
            continue
        top = mounted / "memory" if controllers else mounted
        # A container that does not see its own path from outside has its own group at the top.
        group = Path(os.path.normpath(f"{top}/{name}"))
        yield from (folder for folder in {top, group, *group.parents} if folder.is_relative_to(top))


def _group_free_mib(group: Path) -> float:
    """What the limit of a control group leaves; what it only caches from disk counts as free."""
    for (limit, used), cached in zip(_LIMITS, _CACHED, strict=True):
        if (group / limit).is_file() and _text(group / limit).isdecimal():
            lines = (line.split() for line in _text(group / "memory.stat").splitlines())
            free = sum(int(value) for name, value in lines if name in cached)
            return (int(_text(group / limit)) - int(_text(group / used)) + free) / 2**20
    return math.inf


def _text(path: Path) -> str:
    return path.read_text(encoding="ascii").strip()
