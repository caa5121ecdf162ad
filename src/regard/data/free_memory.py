"""Memory that this process may still take: of the machine, its control group, and its own limit.

Cost: a few small files of ``/proc`` and ``/sys`` are read.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60  # bytes; control groups without a limit state a number near 2^63


def free_memory_bytes() -> int | None:
    """Return the bytes that this process may still take; None if unknown."""
    amounts = [*_free_in_machine(), *_free_in_group(), *_free_below_limit()]
    return max(0, min(amounts)) if amounts else None


def _free_in_machine() -> Iterator[int]:
    with suppress(OSError, KeyError, ValueError):
        yield _read_kilobytes(Path("/proc/meminfo"))["MemAvailable"]


def _free_below_limit() -> Iterator[int]:
    """Yield what is left of the limit of the shell (``ulimit -v``), where it is set."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        with suppress(OSError, KeyError, ValueError):
            yield limit - _read_kilobytes(Path("/proc/self/status"))["VmSize"]


def _free_in_group() -> Iterator[int]:
    """Yield what is left of the limit of a control group of either version, as of a container.

    Pages of files that were read are given back when memory is short, so they count as free.
    """
    for root, limit, usage in (
        (_GROUPS, "memory.max", "memory.current"),
        (_GROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        for folder in _group_folders(root):
            with suppress(OSError, KeyError, ValueError):
                most = int((folder / limit).read_text())
                words = (folder / "memory.stat").read_text().split()
                stats = dict(zip(words[::2], words[1::2], strict=True))
                if most < _UNLIMITED:
                    given_back = int(stats.get("inactive_file", 0))
                    yield most - int((folder / usage).read_text()) + given_back
                    break


def _group_folders(root: Path) -> Iterator[Path]:
    """Yield where the limits of the group of this process may be: its folder, and the root."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if (number == "0") == (root == _GROUPS) and controllers in ("", "memory"):
                yield root / path.lstrip("/")
    yield root


def _read_kilobytes(path: Path) -> dict[str, int]:
    """Return the amounts of a file of ``/proc`` in bytes, by name."""
    lines = (line.split(":", 1) for line in path.read_text().splitlines() if line.endswith(" kB"))
    return {name: int(amount.split()[0]) * 1024 for name, amount in lines}
