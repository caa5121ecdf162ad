"""The memory that a run takes now."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import torch


def memory_bytes() -> int | None:
    """Return the memory that this process takes now, in bytes: of its GPUs, or resident.

    Returns:
        Bytes; None where the system does not say.
    """
    if torch.cuda.is_initialized():
        return sum(map(torch.cuda.memory_reserved, range(torch.cuda.device_count())))
    with suppress(OSError):  # Linux has this file
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return None
