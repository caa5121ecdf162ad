"""Cases on three processes (gloo, on the CPU): one start for the tests of several files.

Each file has `prepare`, which writes data, and `cases`, which every process calls with worlds of
the first ranks.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tests.processes import start_process

from regard.training.distribution import World

NUM_RANKS = 3
PARTS = ("evaluation_loop", "checkpoint", "loop")


def start(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Run all cases; return the results of each rank, by the part that they belong to."""
    for part in PARTS:
        (folder / part).mkdir()
        _module_of(part).prepare(folder / part)
    processes = [start_process(run, folder, rank) for rank in range(NUM_RANKS)]
    for process in processes:
        process.join(250)
    assert [process.exitcode for process in processes] == [0] * NUM_RANKS
    results = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(NUM_RANKS)]
    return {part: [result[part] for result in results] for part in PARTS}


def _module_of(part: str) -> Any:
    return import_module(f"tests.training.test_{part}_ranks")


def run(folder: Path, rank: int) -> None:
    """Compute as one of the ranks, and write the results."""
    torch.set_num_threads(1)
    meeting = f"file://{folder / 'meeting'}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=NUM_RANKS)
    worlds = {}
    for size in range(1, NUM_RANKS + 1):
        group = dist.new_group(list(range(size)))  # by all ranks, those outside it too
        if rank < size:
            worlds[size] = World(rank=rank, size=size, control=group)
    results = {part: _module_of(part).cases(folder / part, worlds, rank) for part in PARTS}
    (folder / f"{rank}.json").write_text(json.dumps(results))
    dist.destroy_process_group()
