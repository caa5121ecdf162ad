"""What tests leave out: curves, most of what a run measures, and what they ask of the system."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from types import ModuleType

import pytest

from regard.plots import curves

_MALLOPT = {-1: 256 * 2**20, -2: 16 * 2**20, -3: 32 * 2**20}
"""Bytes by option of malloc.h: M_TRIM_THRESHOLD, M_TOP_PAD and M_MMAP_THRESHOLD."""


def keep_memory() -> None:
    """Keep freed memory for the next tensor, where the C library is glibc.

    The pages of each tensor of some hundred kilobytes would go back to the system and be asked for
    again, which takes a tenth of the time of the tests of attention. A process that a test starts
    by a command has the memory of its own that a user's has.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, size in _MALLOPT.items():
            mallopt(option, size)


def set_pool_size(patch: pytest.MonkeyPatch, dropout: ModuleType, size: int) -> None:
    """Let dropout take its masks from pools of another size, which are drawn again."""
    patch.setattr(dropout, "_POOL_SIZE", size)
    patch.setattr(dropout, "_LONGEST_SLICE", size // 2)
    patch.setattr(dropout, "_POOLS", type(dropout._POOLS)())


def leave_out(patch: pytest.MonkeyPatch) -> None:
    """Let runs draw no curves, and measure no more than a small model needs.

    Curves would take a tenth of a tiny run. Runs share one measurement of the machine, which takes
    a fifth; a plan measures one step instead of five; an export is compared on 6 real texts, for
    each of which `transformers` searches with a beam; the latency of a translator is that of 4
    sentences. PyTorch's compiler measures how long the checks before each graph take, after it has
    emptied the caches of the processor, for a log. Nothing waits until a disk would lose no file
    with its power: that is a third of a tiny run. Dropout draws a pool for each step, whose size is
    for large models: a sixth of a tiny run.
    """
    patch.setattr(curves, "draw_curves", lambda *_: None)
    patch.setattr(os, "fsync", os.fstat)
    if setup := sys.modules.get("regard.runs.session_setup"):
        patch.setattr(setup, "inspect_machine", functools.cache(setup.inspect_machine))
    if dropout := sys.modules.get("regard.layers.dropout"):
        set_pool_size(patch, dropout, 1 << 17)
    if estimate := sys.modules.get("regard.setup.estimate"):
        patch.setattr(estimate, "_MEASURED_STEPS", 1)
    if text_check := sys.modules.get("regard.runs.text_check"):
        patch.setattr(text_check, "NUM_TEXTS", 6)
    if evaluation := sys.modules.get("regard.tasks.translation.evaluation"):
        patch.setattr(evaluation, "_TIMED_SENTENCES", 4)
    for name in ("torch._C._dynamo.guards", "torch._dynamo.guards"):  # the second may have the name
        if guards := sys.modules.get(name):
            patch.setattr(guards, "profile_guard_manager", lambda *_: 0.0, raising=False)
