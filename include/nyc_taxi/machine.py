"""What this process may use of the machine: its processors and its memory, within a container's limits."""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

MB = 10**6
ROOT = Path("/")


def processors(root: Path = ROOT) -> int:
    """The number of processors that this process may use, at least 1: its affinity, and the quota of its cgroups.

    Args:
        root: the folder with `proc` and `sys`.
    """
    return min([_own_processors(), *(max(1, math.ceil(quota)) for quota in _quotas(root))])


def memory(root: Path = ROOT) -> int:
    """The memory in bytes that this process may use: the machine's, or the limit of one of its cgroups.

    Args:
        root: the folder with `proc` and `sys`.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *(int(text) for text in _memory_limits(root) if text.isdigit())])


def _own_processors() -> int:
    if hasattr(os, "process_cpu_count"):  # since Python 3.13
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[float]:
    """Processors according to the cgroups' quotas: version 2 has "max 100000", version 1 has -1 if there is none."""
    for text in _texts(root, "", "cpu.max"):
        quota, _, period = text.partition(" ")
        if quota.isdigit() and period.isdigit():
            yield int(quota) / int(period)
    quotas = _texts(root, "cpu", "cpu.cfs_quota_us")
    for quota, period in zip(quotas, _texts(root, "cpu", "cpu.cfs_period_us"), strict=False):
        if quota.isdigit() and period.isdigit():
            yield int(quota) / int(period)


def _memory_limits(root: Path) -> Iterator[str]:
    yield from _texts(root, "", "memory.max")
    yield from _texts(root, "memory", "memory.limit_in_bytes")


def _texts(root: Path, controller: str, name: str) -> Iterator[str]:
    """The contents of a file in the process's cgroup and in all that contain it.

    Args:
        controller: the controller of a cgroup of version 1; "" for version 2.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controller not in controllers.split(","):
            continue
        own = PurePosixPath(path)
        for group in (own, *own.parents):
            try:
                yield (root / "sys/fs/cgroup" / controller / str(group).lstrip("/") / name).read_text().strip()
            except OSError:  # a container sees only its own part of the tree
                continue
