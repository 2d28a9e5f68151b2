"""What a process may use of its machine, with and without the limits of a container."""

import os

import pytest

from include.nyc_taxi import machine

MANY = 1 << 62


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A machine with 64 processors and 4 EiB, whose /proc and /sys have the given files."""
    monkeypatch.setattr(machine, "_own_processors", lambda: 64)
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": MANY // 4096}.__getitem__)

    def write(cgroup, **files):
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(cgroup)
        for name, text in files.items():
            path = tmp_path / "sys/fs/cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("cgroup", "files", "processors", "memory"),
    [
        ("0::/\n", {}, 64, MANY),
        ("0::/\n", {"cpu.max": "max 100000", "memory.max": "max"}, 64, MANY),
        ("0::/\n", {"cpu.max": "150000 100000", "memory.max": "2147483648"}, 2, 2**31),
        ("0::/\n", {"cpu.max": "10000 100000"}, 1, MANY),
        (  # the limit of a cgroup holds for those in it
            "0::/kubepods/pod\n",
            {"kubepods/memory.max": "1000", "kubepods/pod/memory.max": "max", "kubepods/pod/cpu.max": "300000 100000"},
            3,
            1000,
        ),
        (
            "5:cpu,cpuacct:/docker/a\n4:memory:/docker/a\n0::/\n",
            {
                "memory/docker/a/memory.limit_in_bytes": "5000",
                "memory/memory.limit_in_bytes": "9223372036854771712",
                "cpu/docker/a/cpu.cfs_quota_us": "400000",
                "cpu/docker/a/cpu.cfs_period_us": "100000",
                "cpu/cpu.cfs_quota_us": "-1",
                "cpu/cpu.cfs_period_us": "100000",
            },
            4,
            5000,
        ),
        (  # a container that sees only its own part of the tree
            "4:memory:/docker/a\n",
            {"memory/memory.limit_in_bytes": "6000"},
            64,
            6000,
        ),
    ],
)
def test_a_process_may_use_what_its_cgroups_allow(root, cgroup, files, processors, memory):
    folder = root(cgroup, **files)
    assert (machine.processors(folder), machine.memory(folder)) == (processors, memory)


def test_without_cgroups_the_machine_is_the_limit(root, tmp_path):
    assert (machine.processors(tmp_path), machine.memory(tmp_path)) == (64, MANY)


def test_of_this_machine_something_is_known():
    assert 1 <= machine.processors() <= (os.cpu_count() or 1)
    assert machine.memory() > 64 * machine.MB
