"""The memory that attention needs, measured in a fresh process.

The growth of the peak resident set while one case is computed, its inputs not counted. A process of
its own, because an allocator that already holds free memory hides what is asked of it. On Linux
the peak is VmHWM of /proc/self/status, set back to the present size before (ru_maxrss starts at the
peak of the process that started this one); elsewhere ru_maxrss. Resolution: about a megabyte.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import torch

from regard.bench.peers import Case, Computation, Operands, Order, Skipped, build_implementation
from regard.errors import ResourceError

HOW = "growth of the peak resident set in a fresh process, inputs not counted"

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
_WARM_LENGTH = 512  # from here on `attend` takes the methods of long texts
_PROGRAM = "from regard.bench.attention_memory import report; report()"


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the fresh process is to measure.

    Args:
        case: What is computed.
        implementation: By which.
        order: How far.
        threads: Of PyTorch.
    """

    case: Case
    implementation: str
    order: Order
    threads: int


def measure_memory(case: Case, implementation: str, order: Order) -> int:
    """Measure the growth of the peak resident set, in a process of its own.

    Args:
        case: What is computed.
        implementation: ``regard`` or a peer that can compute it.
        order: How far.

    Returns:
        Bytes.

    Raises:
        ResourceError: The process ended without a figure, as one that runs out of memory does.
    """
    request = Request(
        case=case, implementation=implementation, order=order, threads=torch.get_num_threads()
    )
    found = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", _PROGRAM],
        input=msgspec.json.encode(request),
        capture_output=True,
        check=False,
    )
    if found.returncode:
        last = found.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise ResourceError(
            f"memory of {implementation}, {case.pattern} at length {case.length:,}: the process "
            f"that measures it ended with code {found.returncode}.  {last[:100]}  "
            "Out of memory?  Shorter: `lengths`; without it: `no_memory`"
        )
    return int(found.stdout)


def report() -> None:
    """Measure what standard input asks for, and print the bytes."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    torch.set_num_threads(request.threads)
    growth = 0
    # Libraries load modules and allocate buffers at the first call, which is therefore a small one.
    length = min(_WARM_LENGTH, request.case.length)
    small = msgspec.structs.replace(request.case, length=length, num_heads=1, dim=8)
    for case in (small, request.case):
        implementation = build_implementation(request.implementation, case)
        if isinstance(implementation, Skipped):  # too short for its window
            continue
        compute = Computation(implementation, Operands(case), request.order)
        before = _start()
        compute()
        growth = max(0, _peak() - before)
    print(growth)


def _start() -> int:
    """Set the peak back to the present size where the system can, and return it, in bytes."""
    if not _STATUS.exists():
        return _peak()
    if _RESET.exists():
        _RESET.write_text("5", encoding="ascii")
    return _status("VmHWM")


def _peak() -> int:
    if _STATUS.exists():
        return _status("VmHWM")
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(name: str) -> int:
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(kilobytes) * 1024
