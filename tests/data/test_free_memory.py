"""The memory that a process may still take, by the machine, its group and its own limit."""

from __future__ import annotations

import resource

import pytest

from regard.data import free_memory
from regard.data.free_memory import free_memory_bytes


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """An empty tree of control groups."""
    monkeypatch.setattr(free_memory, "_GROUPS", tmp_path)
    return tmp_path


def write_group(folder, limit_name, limit, usage_name, usage):
    folder.mkdir(exist_ok=True)
    (folder / limit_name).write_text(f"{limit}\n")
    (folder / usage_name).write_text(f"{usage}\n")
    (folder / "memory.stat").write_text("anon 5000\ninactive_file 300\n")


def test_without_limits_it_is_that_of_the_machine(groups):
    free = free_memory_bytes()
    assert free is not None
    assert free > 10**8


@pytest.mark.parametrize("is_second", [True, False])
def test_the_limit_of_a_container_counts_and_cached_files_are_given_back(groups, is_second):
    if is_second:
        write_group(groups, "memory.max", 10_000, "memory.current", 4_000)
    else:
        names = "memory.limit_in_bytes", "memory.usage_in_bytes"
        write_group(groups / "memory", names[0], 10_000, names[1], 4_000)
    assert free_memory_bytes() == 6_300


@pytest.mark.parametrize("limit", ["max", str(2**63 - 4096)])
def test_a_group_without_a_limit_changes_nothing(groups, limit):
    write_group(groups, "memory.max", limit, "memory.current", 4_000)
    free = free_memory_bytes()
    assert free is not None
    assert free > 10**8


def test_a_limit_of_the_shell_counts(groups, monkeypatch):
    used = free_memory._read_kilobytes(free_memory.Path("/proc/self/status"))["VmSize"]
    limits = (used + 5 * 10**7, resource.RLIM_INFINITY)
    monkeypatch.setattr(free_memory.resource, "getrlimit", lambda which: limits)
    free = free_memory_bytes()
    assert free is not None
    assert 10**7 < free <= 6 * 10**7
