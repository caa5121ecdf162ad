"""Runs a program on several processes (gloo, on the CPU), and makes worlds of their ranks."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from regard.training.distribution import World

NUM_RANKS = 3


def start(program: str, folder: Path) -> list[dict[str, Any]]:
    """Run a program that calls `run_on_ranks`; return the results of each rank."""
    variables = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, program, str(folder)]
    ended = subprocess.run(command, env=variables, stderr=subprocess.PIPE, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(NUM_RANKS)]


def run_on_ranks(cases: Callable[[Path, dict[int, World], int], dict[str, Any]]) -> None:
    """Fork into all ranks, which share what was imported; compute, and write the results.

    Args:
        cases: Gets the folder, worlds of the first ranks by their sizes (of those that have this
            rank), and the rank; returns results by name that JSON can hold.
    """
    context = multiprocessing.get_context("fork")
    arguments = [(cases, Path(sys.argv[1]), rank) for rank in range(NUM_RANKS)]
    processes = [context.Process(target=_run, args=row) for row in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    sys.exit(any(process.exitcode for process in processes))


def _run(
    cases: Callable[[Path, dict[int, World], int], dict[str, Any]], folder: Path, rank: int
) -> None:
    """Compute as one of the ranks."""
    torch.set_num_threads(1)
    meeting = f"file://{folder / 'meeting'}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=NUM_RANKS)
    worlds = {}
    for size in range(1, NUM_RANKS + 1):
        group = dist.new_group(list(range(size)))  # by all ranks, those outside it too
        if rank < size:
            worlds[size] = World(rank=rank, size=size, control=group)
    (folder / f"{rank}.json").write_text(json.dumps(cases(folder, worlds, rank)))
    dist.destroy_process_group()
