"""Training throughput of two processes with one thread each, over one process with two threads.

    python benchmarks/processes.py --preset tiny --seconds 10

Both train the same translator on the same batches of the embedded corpus; tokens are those of the
targets. They take turns, so that both see the same noise of the machine; the figures are medians
of the turns. With ``--deterministic`` the sums over shards are taken in a fixed order as well.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

import torch
import torch.distributed as dist

from regard.hub.model_folder import ModelFolder
from regard.runs.run import ignore_events
from regard.runs.session import RunSession
from regard.setup.request import Request
from regard.training.distribution import ALONE, World
from regard.training.steppers import build_stepper


def tokens_per_second(settings: list[str], seconds: float, world: World) -> float:
    """Train for some seconds; return the target tokens a second of all processes together."""
    request = Request.parse(settings, file=None, paths={})
    run = RunSession.from_request(request, ModelFolder("unused"), ignore_events, time.monotonic())
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
    )
    order = batches.order(0)
    for rows in order[:2]:
        stepper.step(batches.batch(rows), 0.1)
    num_tokens, number, start = 0, 2, world.clock()
    while world.clock() - start < seconds:
        torch.manual_seed(number)
        output = stepper.step(batches.batch(order[number % len(order)]), 0.1)
        num_tokens, number = num_tokens + output.loss.num_tokens, number + 1
    return num_tokens / (world.clock() - start)


def run_process(rank: int, size: int, folder: str, settings: list[str], seconds: float) -> None:
    """Measure in one of `size` processes; the first prints the figure."""
    world = ALONE
    if size > 1:
        store = dist.FileStore(f"{folder}/store", size)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
        world = World(rank=rank, size=size, control=dist.group.WORLD)
    torch.set_num_threads(2 // size)
    speed = tokens_per_second(settings, seconds, world)
    if world.is_first:
        print(speed)


def measure(size: int, settings: list[str], seconds: float) -> float:
    """Start `size` processes; return their tokens a second."""
    with tempfile.TemporaryDirectory() as folder:
        surroundings = os.environ | {"OMP_NUM_THREADS": str(2 // size)}
        processes = [
            subprocess.Popen(
                [
                    *(sys.executable, __file__, "--rank", str(rank), "--size", str(size)),
                    *("--folder", folder, "--seconds", str(seconds), *settings),
                ],
                env=surroundings,
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in range(size)
        ]
        outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        sys.exit(f"a process failed: {[process.returncode for process in processes]}")
    return float(outputs[0])


def main() -> None:
    """Measure both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--turns", type=int, default=3)
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
    one, two = [], []
    for _ in range(options.turns):
        one.append(measure(1, settings, options.seconds))
        two.append(measure(2, settings, options.seconds))
        print(f"1 process x 2 threads {one[-1]:,.0f}   2 x 1 {two[-1]:,.0f} tokens/s", flush=True)
    ratio = statistics.median(two) / statistics.median(one)
    print(f"2 processes of 1 thread / 1 process of 2 threads: {ratio:.2f}")


if __name__ == "__main__":
    main()
