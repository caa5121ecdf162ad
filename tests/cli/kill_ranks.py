"""Kills random ranks of a run at random moments, and resumes it on a random number of processes.

For many kills, and those of torchrun itself: ``python -m tests.cli.kill_torchrun --kills 20``.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

from tests.cli.rank_process import Ranks
from tests.conftest import TINY

from regard.hub.model_folder import ModelFolder

_MOST_SECONDS = 4.0  # from the start of the processes, or of the steps, to the kill
_KILLED_AT_START = 0.25  # fraction of kills that come before the steps, if they are quick enough
_AGENT_SECONDS = 0.1  # after which torchrun sees that a process has ended
SETTINGS = [
    word
    for setting in (*TINY, "training.deterministic=true", "training.checkpoint_seconds=0")
    for word in ("--set", setting)
]


def train(folder: Path, data: Path, size: int, *more: str) -> Ranks:
    """Start a run, or resume it, with the same command."""
    words = ("train", data, "-o", folder / "model", *SETTINGS, *more, "--resume")
    return Ranks(folder, *words, size=size)


def run_with_kills(folder: Path, data: Path, num_kills: int, *more: str, seed: int = 5) -> Path:
    """Train a model whose processes are killed; return its folder.

    Args:
        folder: Receives the model, and what the processes write.
        data: The data.
        num_kills: Kills; fewer only if the run ends before.
        more: More words of the command.
        seed: Of what is killed, when, and on how many processes the run is resumed.
    """
    rng = random.Random(seed)
    model = ModelFolder(folder / "model")
    for number in range(num_kills):
        size = rng.randint(1, 4)
        ranks = train(folder, data, size, *more)
        rank, is_at_start = rng.randrange(size), rng.random() < _KILLED_AT_START
        if not is_at_start:
            ranks.wait_until(ranks.trains)
        time.sleep(rng.uniform(0.0, _MOST_SECONDS))
        if model.holds_model and model.is_finished:
            print(f"the run ended before kill {number + 1}")
            break
        ranks.kill(rank)
        time.sleep(_AGENT_SECONDS)
        codes = ranks.end()
        lines = [line for line in ranks.errors() if not line.startswith("regard: rank")]
        steps = ranks.progress()
        print(f"kill {number + 1}: rank {rank} of {size}, codes {codes}, {steps}", flush=True)
        assert not any("Traceback" in line for line in lines), lines
    while not (model.holds_model and model.is_finished):
        ranks = train(folder, data, rng.randint(1, 4), *more)
        assert set(ranks.wait(600)) == {0}, ranks.errors()
    return model.path
