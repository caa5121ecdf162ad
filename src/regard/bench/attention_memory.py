"""The memory of attention, measured in a new process.

It is the growth of the peak resident set while one case is computed, without its inputs. The
process is new because an allocator with free memory hides what is allocated. On Linux the peak is
VmHWM of /proc/self/status, reset before the measurement (ru_maxrss starts at the peak of the parent
process); elsewhere it is ru_maxrss. Resolution: about a megabyte.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import torch

from regard.bench.peers import Case, Computation, Operands, Order, Skipped, build_implementation
from regard.errors import ResourceError

RESOLUTION = 1_000_000
"""Bytes; a growth below it, about a megabyte, is lost in the noise."""

HOW = "growth of the peak resident set in a fresh process, inputs not counted"

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
_WARMUP_LENGTH = 512  # from this length `attend` uses the methods for long texts
_PROGRAM = "from regard.bench.attention_memory import report; report()"


class MemoryRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The measurement that the new process makes.

    Args:
        case: The case to compute.
        implementation: Name of the implementation.
        order: Forward pass, gradient or Hessian-vector product.
        threads: Number of PyTorch's threads.
    """

    case: Case
    implementation: str
    order: Order
    threads: int


def measure_memory(case: Case, implementation: str, order: Order) -> int:
    """Return the growth of the peak resident set in a new process, in bytes.

    Args:
        case: The case to compute.
        implementation: ``regard`` or a peer that can compute it.
        order: Forward pass, gradient or Hessian-vector product.

    Raises:
        ResourceError: The process ended without a figure, as one that runs out of memory does.
    """
    request = MemoryRequest(
        case=case, implementation=implementation, order=order, threads=torch.get_num_threads()
    )
    process = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", _PROGRAM],
        input=msgspec.json.encode(request),
        capture_output=True,
        check=False,
    )
    if process.returncode:
        last = process.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise ResourceError(
            f"memory of {implementation}, {case.pattern} at length {case.length:,}: the process "
            f"that measures it ended with code {process.returncode}.  {last[:100]}  "
            "Out of memory?  Shorter: `lengths`; without it: `no_memory`"
        )
    return int(process.stdout)


def report() -> None:
    """Print the bytes of the measurement that standard input describes."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=MemoryRequest)
    torch.set_num_threads(request.threads)
    growth = 0
    # Libraries load modules and allocate buffers at the first call, which is therefore a small one.
    length = min(_WARMUP_LENGTH, request.case.length)
    small = msgspec.structs.replace(request.case, length=length, num_heads=1, dim=8)
    for case in (small, request.case):
        implementation = build_implementation(request.implementation, case)
        if isinstance(implementation, Skipped):  # too short for its window
            continue
        compute = Computation(implementation, Operands(case), request.order)
        if _RESET.exists():
            _RESET.write_text("5", encoding="ascii")  # the peak becomes the current size
        before = _peak_bytes()
        compute()
        growth = max(0, _peak_bytes() - before)
    print(growth)


def _peak_bytes() -> int:
    """Return the peak resident set of this process since the last reset."""
    if _STATUS.exists():
        lines = _STATUS.read_text(encoding="ascii").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
