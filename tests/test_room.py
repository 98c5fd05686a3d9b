"""Memory that is free: the smallest of what the machine and every control group around this process leave."""

import mmap
import os
from pathlib import Path

import pytest

from carpus import room

MIB = 2**20


def limit(group: Path, version: int, mib: int | None, used_mib: int, cached_mib: int = 0) -> None:
    """Files of a control group, as the kernel shows them."""
    group.mkdir(parents=True, exist_ok=True)
    names = {1: ("limit_in_bytes", "usage_in_bytes", "total_inactive_file"), 2: ("max", "current", "inactive_file")}
    none = {1: "9223372036854771712", 2: "max"}
    of_limit, of_use, of_cache = names[version]
    (group / f"memory.{of_limit}").write_text(f"{none[version] if mib is None else mib * MIB}\n")
    (group / f"memory.{of_use}").write_text(f"{used_mib * MIB}\n")
    (group / "memory.stat").write_text(f"anon 9\n{of_cache} {cached_mib * MIB}\n")


def free_mib(told: str, tmp_path: Path) -> float:
    (tmp_path / "told").write_text(told)
    return min(map(room._group_free_mib, room._groups(tmp_path / "told", tmp_path / "mounted")), default=float("inf"))


@pytest.mark.parametrize("version", [1, 2])
def test_the_smallest_limit_on_the_way_to_the_top_counts(version: int, tmp_path: Path) -> None:
    top = tmp_path / "mounted" / ("memory" if version == 1 else "")
    told = "4:cpu,memory:/slurm/job_7/step_0\n3:cpuset:/\n" if version == 1 else "0::/slurm/job_7/step_0\n"
    limit(top / "slurm" / "job_7" / "step_0", version, None, 100)
    limit(top / "slurm" / "job_7", version, 4000, 3000, cached_mib=1)
    limit(top / "slurm", version, 9000, 5000)
    assert free_mib(told, tmp_path) == 1001
    limit(top / "slurm" / "job_7" / "step_0", version, 500, 100)
    assert free_mib(told, tmp_path) == 400


def test_a_container_that_sees_only_its_own_group_reads_it_at_the_top(tmp_path: Path) -> None:
    limit(tmp_path / "mounted", 2, 4000, 3000)
    assert free_mib("0::/\n", tmp_path) == 1000
    assert free_mib("0::/docker/1f\n", tmp_path) == 1000
    assert free_mib("0::/../../elsewhere\n", tmp_path) == 1000


def test_groups_without_a_limit_leave_all(tmp_path: Path) -> None:
    limit(tmp_path / "mounted" / "job", 2, None, 3000)
    assert free_mib("0::/job\n1:name=systemd:/job\n", tmp_path) == float("inf")


def test_memory_is_what_is_free_here() -> None:
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / MIB
    assert 0 < room.available_mib(gpu=False) < whole


def test_what_a_process_holds_is_seen() -> None:
    before = room.held_mib(os.getpid())
    # Fresh pages of the system: an allocator may have handed out ones that were counted before.
    with mmap.mmap(-1, 64 * MIB) as pages:
        for _ in range(64):
            pages.write(bytes(MIB))
        assert room.held_mib(os.getpid()) - before == pytest.approx(64, abs=16)
    assert room.held_mib(2**30) == 0
