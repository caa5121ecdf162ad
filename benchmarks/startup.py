"""From the start of ``regard translate`` to its first line, over ``import torch``.

    python benchmarks/startup.py ende --rounds 10

A process that imports PyTorch and writes a line, and one that translates a short sentence and
writes it, take turns. Printed are the medians, their ratio, and how many modules of regard the
second has loaded. They are counted in a first round without times, in which modules are compiled.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

_NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"
_COUNT = """
import sys
from regard.__main__ import main
main(sys.argv[1:])
print(sum(name.partition(".")[0] == "regard" for name in sys.modules), file=sys.stderr)
"""


def time_first_line(command: Sequence[str]) -> float:
    """Return the seconds from the start of a command to its first line of output."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=_with_bytecode()) as process:
        assert process.stdout is not None
        process.stdout.readline()
        seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(process.returncode)
    return seconds


def _with_bytecode() -> dict[str, str]:
    """Return the environment of a process that keeps bytecode, as an installed package has it.

    Without it Python compiles every module again.
    """
    return {name: os.environ[name] for name in os.environ if name != _NO_BYTECODE}


def main() -> None:
    """Time the two in turn and print the ratio of their medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="folder of a translator")
    parser.add_argument("--text", default="The file is open.")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    words = ["translate", options.model, options.text]
    commands = {
        "import torch": [sys.executable, "-c", "import torch; print(torch.__version__)"],
        "regard translate": [sys.executable, "-m", "regard", *words],
    }
    count = subprocess.run(
        [sys.executable, "-c", _COUNT, *words],
        stderr=subprocess.PIPE,
        text=True,
        check=True,
        env=_with_bytecode(),
    ).stderr.split()[-1]
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(options.rounds):
        for name, command in commands.items():
            times[name].append(time_first_line(command))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:18s} {median:.3f} s   {min(times[name]):.3f} to {max(times[name]):.3f}")
    ratio = medians["regard translate"] / medians["import torch"]
    print(f"ratio {ratio:.2f}, with {count} modules of regard")


if __name__ == "__main__":
    main()
