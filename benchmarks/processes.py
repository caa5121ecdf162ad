"""Training throughput of two processes with one thread each, over one process with two threads.

    python benchmarks/processes.py --preset tiny --turns 20

Both train the same translator on the same batches of the embedded corpus; tokens are those of the
targets. They take short turns, so that both see the same noise of the machine. Printed are the
ratio of the medians, and that of the fastest turns: where other programs use the cores, it is
nearer to that of a quiet machine. With ``--deterministic`` the sums over shards are taken in a
fixed order as well; with ``training.parallel=fsdp`` each of the two processes holds a part of the
model.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack

import torch
import torch.distributed as dist

from regard.hub.model_folder import ModelFolder
from regard.runs.run import ignore_events
from regard.runs.session import RunSession
from regard.runs.session_setup import SessionContext
from regard.setup.request import Request
from regard.training.distribution import ALONE, World
from regard.training.steppers import build_stepper

_SPINS = "10000"  # as the command sets it: threads that wait leave the cores to others


def train_in_turns(settings: list[str], seconds: float, world: World) -> None:
    """Train for some seconds after each line of standard input; write the tokens a second.

    Args:
        settings: Of the run.
        seconds: Length of a turn.
        world: The processes; the first one writes the target tokens of all of them together.
    """
    request = Request.parse(settings, file=None, paths={})
    context = SessionContext(ModelFolder("unused"), ignore_events, time.monotonic())
    run = RunSession.from_request(request, context)
    setup = run.setup
    stepper, batches = build_stepper(
        setup.model,
        setup.loss(),
        run.config.training,
        run.config.optimizer,
        setup.batches,
        torch.manual_seed,
        world,
        dtype=setup.model.compute_dtype,
        uses_fsdp=world.size > 1 and run.config.training.parallel == "fsdp",
    )
    order = batches.order(0)
    number = 0
    for _ in sys.stdin:
        stepper.step(batches.batch(order[0]), 0.1)  # the first after a pause is slower
        num_tokens, start = 0, world.clock()
        while world.clock() - start < seconds:
            torch.manual_seed(number)
            output = stepper.step(batches.batch(order[number % len(order)]), 0.1)
            num_tokens, number = num_tokens + output.loss.num_tokens, number + 1
        if world.is_first:
            print(num_tokens / (world.clock() - start), flush=True)
        else:
            world.clock()


def run_process(rank: int, size: int, folder: str, settings: list[str], seconds: float) -> None:
    """Train in turns as one of `size` processes."""
    world = ALONE
    if size > 1:
        store = dist.FileStore(f"{folder}/store", size)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
        world = World(rank=rank, size=size, control=dist.group.WORLD)
    torch.set_num_threads(2 // size)
    train_in_turns(settings, seconds, world)


class Group:
    """The processes of one way to train.

    Args:
        size: Their number; they have two threads together.
        settings: Of the run.
        seconds: Length of a turn.
        stack: Ends them.
    """

    def __init__(self, size: int, settings: list[str], seconds: float, stack: ExitStack) -> None:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        threads = {"OMP_NUM_THREADS": str(2 // size), "GOMP_SPINCOUNT": _SPINS}
        self._processes = [
            stack.enter_context(
                subprocess.Popen(
                    [
                        *(sys.executable, __file__, "--rank", str(rank), "--size", str(size)),
                        *("--folder", folder, "--seconds", str(seconds), *settings),
                    ],
                    env=os.environ | threads,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for rank in range(size)
        ]

    def take_turn(self) -> float:
        """Train for some seconds; return the tokens a second."""
        for process in self._processes:
            assert process.stdin is not None
            print(file=process.stdin, flush=True)
        assert self._processes[0].stdout is not None
        line = self._processes[0].stdout.readline()
        if not line:
            sys.exit("a process failed")
        return float(line)


def main() -> None:
    """Measure both and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--deterministic", action="store_true")
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    parser.add_argument("settings", nargs="*", help="section.key=value")
    options = parser.parse_args()
    if options.rank is not None:
        run_process(options.rank, options.size, options.folder, options.settings, options.seconds)
        return
    settings = [f"preset={options.preset}", *options.settings]
    if options.deterministic:
        settings.append("training.deterministic=true")
    with ExitStack() as stack:
        groups = {size: Group(size, settings, options.seconds, stack) for size in (1, 2)}
        for group in groups.values():
            group.take_turn()  # to start, and to warm up
        speeds: dict[int, list[float]] = {size: [] for size in groups}
        for _ in range(options.turns):
            for size, group in groups.items():
                speeds[size].append(group.take_turn())
            one, two = speeds[1][-1], speeds[2][-1]
            print(f"1 process x 2 threads {one:,.0f}   2 x 1 {two:,.0f} tokens/s", flush=True)
    for name, choose in (("medians", statistics.median), ("fastest turns", max)):
        ratio = choose(speeds[2]) / choose(speeds[1])
        print(f"2 processes of 1 thread / 1 process of 2 threads, {name}: {ratio:.2f}")


if __name__ == "__main__":
    main()
