"""Kills processes of ``torchrun -m regard train`` at random moments, and resumes on other numbers.

Run by hand: ``python -m tests.cli.kill_torchrun --kills 20``. Ranks, and torchrun itself, are
killed in the first seconds, between steps, while a checkpoint is written, about an evaluation, and
after the last step; a run is resumed on 1 to 4 processes. Its weights, the state of its optimizer
and its figures must be those of an undisturbed run, bit by bit.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from tests.conftest import TINY, toy_pairs, write_tsv
from tests.processes import start_process
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

import regard
from regard.__main__ import main as main_of_regard
from regard.hub.model_folder import ModelFolder
from regard.training.checkpoint import checkpoint_path

_LONGEST_SECONDS = 900  # of what is waited for
_SOURCE = str(Path(regard.__file__).parent)
_MOMENTS = ("start", "steps", "checkpoint", "evaluation", "end")
_SECONDS = {"start": 10.0, "steps": 5.0, "checkpoint": 0.002, "evaluation": 0.5, "end": 0.5}
"""The longest time from a moment to the kill."""


class Torchrun:
    """A run under torchrun; started again in the same folder it is resumed.

    Args:
        folder: Receives the model, and what the processes write.
        data: The data.
        size: Number of processes.
        epochs: Of the run.
    """

    def __init__(self, folder: Path, data: Path, size: int, epochs: int) -> None:
        self.model = ModelFolder(folder / "model")
        settings = (
            *(setting for setting in TINY if "epochs" not in setting),
            f"training.epochs={epochs}",
            "training.patience=1000",
            "training.deterministic=true",
            "training.shards=4",
            "training.checkpoint_seconds=0",
        )
        words = ["train", str(data), "-o", str(self.model.path), "--resume", "--json"]
        words += [word for setting in settings for word in ("--set", setting)]
        self._output = folder / "output"
        self._output.write_text("")
        self._process = start_process(launch, size, words, self._output)

    @property
    def output(self) -> str:
        """What all processes have written."""
        return self._output.read_text()

    @property
    def processes(self) -> list[int]:
        """The ids of torchrun and of the ranks that there are."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        ranks = children.read_text().split() if children.exists() else []
        return [self._process.pid, *map(int, ranks)]

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of a kind that this start has reported."""
        lines = [line for line in self.output.splitlines(keepends=True) if line.endswith("}\n")]
        events = [json.loads(line) for line in lines if line.startswith('{"event"')]
        return [event for event in events if event["event"] == kind]

    def wait_until(self, condition: Callable[[], bool]) -> bool:
        """Return whether a condition becomes true before the run ends."""
        deadline = time.monotonic() + _LONGEST_SECONDS
        while not condition():
            if self._process.exitcode is not None:
                return False
            assert time.monotonic() < deadline, self.output
            time.sleep(0.002)
        return True

    def reaches(self, moment: str, interval: int, num_steps: int) -> bool:
        """Wait for a moment; return False where the run ends before.

        Args:
            moment: One of `_MOMENTS`.
            interval: Steps from one evaluation to the next.
            num_steps: Of the whole run.
        """
        checkpoints = self.model.path / "checkpoints"

        def is_saved(step_after: int) -> bool:
            saved = self.events("saved")
            return bool(saved) and (saved[-1]["step"] + 1) % step_after == 0

        conditions = {
            "start": lambda: True,
            "steps": lambda: bool(self.events("saved")),
            "checkpoint": lambda: any(checkpoints.glob(".*.tmp")),
            "evaluation": lambda: is_saved(interval),
            "end": lambda: any(e["step"] == num_steps for e in self.events("evaluated")),
        }
        return self.wait_until(conditions[moment])

    def end(self) -> int | None:
        """Wait until all processes have ended; return torchrun's exit code."""
        processes = self.processes
        self._process.join(_LONGEST_SECONDS)
        code = self._process.exitcode
        deadline = time.monotonic() + _LONGEST_SECONDS
        while any(Path(f"/proc/{pid}").exists() for pid in processes):
            assert time.monotonic() < deadline, f"a process is left over: {self.output}"
            time.sleep(0.05)
        return code


def launch(size: int, words: list[str], output: Path) -> None:
    """Run a command as ``torchrun --standalone`` does, with ranks that are forked.

    They have imported PyTorch, which each would take many seconds for.
    """
    for descriptor in (1, 2):
        os.dup2(os.open(output, os.O_WRONLY | os.O_APPEND), descriptor)
    for name in ("stdout", "stderr"):
        stream = io.FileIO(getattr(sys, f"__{name}__").fileno(), "w")
        setattr(sys, name, io.TextIOWrapper(stream, encoding="utf-8", write_through=True))
    os.environ["OMP_NUM_THREADS"] = "1"
    multiprocessing.current_process()._config["daemon"] = False  # it has children of its own
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=size,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        start_method="fork",
        max_restarts=0,
    )
    try:
        elastic_launch(config, run_rank)(words)
    except ChildFailedError as error:
        sys.exit(error.get_first_failure()[1].exitcode)


def run_rank(words: list[str]) -> None:
    """Run a command as a rank."""
    sys.exit(main_of_regard(words))


class Kills:
    """Kills of processes of runs of the same data.

    Args:
        data: The data.
        epochs: Of a run.
        interval: Steps from one evaluation to the next.
        num_steps: Of a run.
        rng: Decides what is killed, when, and on how many processes a run is resumed.
    """

    def __init__(
        self, data: Path, epochs: int, interval: int, num_steps: int, rng: random.Random
    ) -> None:
        self._data, self._epochs, self._rng = data, epochs, rng
        self._interval, self._num_steps = interval, num_steps
        self.count = 0

    def disturb(self, folder: Path, most: int) -> Path:
        """Train with a kill at each moment, in a random order; return the folder of the model."""
        folder.mkdir()
        model = ModelFolder(folder / "model")
        moments = [*self._rng.sample(_MOMENTS[:-1], len(_MOMENTS) - 1), _MOMENTS[-1]]
        for moment in moments[:most]:
            if model.holds_model and model.is_finished:
                return model.path
            self._kill(folder, moment)
        while not (model.holds_model and model.is_finished):
            run = Torchrun(folder, self._data, self._rng.randint(1, 4), self._epochs)
            assert run.end() == 0, run.output
        return model.path

    def _kill(self, folder: Path, moment: str) -> None:
        size = self._rng.randint(1, 4)
        run = Torchrun(folder, self._data, size, self._epochs)
        if not run.reaches(moment, self._interval, self._num_steps):
            assert run.end() == 0, run.output
            return
        time.sleep(self._rng.uniform(0.0, _SECONDS[moment]))
        processes = run.processes
        index = self._rng.randrange(len(processes))
        try:
            os.kill(processes[index], 9)
        except ProcessLookupError:  # it has just ended
            run.end()
            return
        code = run.end()
        # torchrun shows a traceback of its own, Python one of an interrupt within a callback.
        parts = run.output.split("Traceback")[1:]
        faults = [part for part in parts if _SOURCE in part and "Terminated" not in part]
        assert not faults, run.output
        self.count += 1
        victim = "torchrun" if index == 0 else "a rank"
        saved = [event["step"] for event in run.events("saved")][-1:] or "-"
        print(
            f"kill {self.count}: {victim} of {size}, {moment}, step {saved}, code {code}",
            flush=True,
        )


def outcome(model: ModelFolder) -> dict[str, Any]:
    """Return what a run ends in: the kept weights, all state after the last step, all figures."""
    last = load_file(checkpoint_path(model.path))
    evaluated = [line for line in model.read_metrics() if line["event"] == "evaluated"]
    return {
        "weights": model.weights_path.read_bytes(),
        "state": {name: tensor.numpy().tobytes() for name, tensor in sorted(last.items())},
        "figures": [(line["step"], line["measures"], line["train_loss"]) for line in evaluated],
    }


def main() -> None:
    """Kill, resume and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = write_tsv(folder / "pairs.tsv", toy_pairs(200))
        (folder / "undisturbed").mkdir()
        run = Torchrun(folder / "undisturbed", data, 2, options.epochs)
        assert run.end() == 0, run.output
        evaluated = [event["step"] for event in run.events("evaluated")]
        expected = outcome(run.model)
        print(f"{evaluated[-1]} steps, an evaluation each {evaluated[0]}", flush=True)
        kills = Kills(
            data, options.epochs, evaluated[0], evaluated[-1], random.Random(options.seed)
        )
        number = 0
        while kills.count < options.kills:
            path = kills.disturb(folder / f"killed-{number}", options.kills - kills.count)
            is_equal = outcome(ModelFolder(path)) == expected
            print(
                "weights, state and figures are", "equal" if is_equal else "NOT EQUAL", flush=True
            )
            number += 1


if __name__ == "__main__":
    main()
