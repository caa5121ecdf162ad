"""Cases on three processes (gloo, on the CPU): one program for the tests of several files.

It imports the files once, then forks into the processes. Each file has `prepare`, which writes
data, and `cases`, which every process calls with worlds of the first ranks.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from regard.training.distribution import World

NUM_RANKS = 3
PARTS = ("evaluation", "checkpoint", "resume")


def start(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Run all cases; return the results of each rank, by the part that they belong to."""
    variables = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, __file__, str(folder)]
    ended = subprocess.run(command, env=variables, stderr=subprocess.PIPE, text=True, timeout=280)
    assert ended.returncode == 0, ended.stderr
    results = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(NUM_RANKS)]
    return {part: [result[part] for result in results] for part in PARTS}


def main(folder: Path) -> None:
    """Fork into all ranks, which share what was imported."""
    modules = {part: import_module(f"tests.training.test_{part}_ranks") for part in PARTS}
    for part, module in modules.items():
        (folder / part).mkdir()
        module.prepare(folder / part)
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=run, args=(modules, folder, rank)) for rank in range(NUM_RANKS)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    sys.exit(any(process.exitcode for process in processes))


def run(modules: dict[str, Any], folder: Path, rank: int) -> None:
    """Compute as one of the ranks, and write the results."""
    torch.set_num_threads(1)
    meeting = f"file://{folder / 'meeting'}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=NUM_RANKS)
    worlds = {}
    for size in range(1, NUM_RANKS + 1):
        group = dist.new_group(list(range(size)))  # by all ranks, those outside it too
        if rank < size:
            worlds[size] = World(rank=rank, size=size, control=group)
    results = {part: module.cases(folder / part, worlds, rank) for part, module in modules.items()}
    (folder / f"{rank}.json").write_text(json.dumps(results))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
