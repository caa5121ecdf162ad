"""Compile the Triton kernels for a GPU that need not be there, and print what they take of it.

    python tests/attention/backends/compile_gpu_kernels.py 80,89,90 bfloat16:64 float32:128 tf32:64

A line a kernel: compute capability, type, numbers of a query, kernel, bytes of shared memory, and
bytes that each thread keeps in memory, as the registers do not hold them.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import torch
import triton.backends.nvidia
from triton.backends.compiler import GPUTarget
from triton.runtime import driver, jit

from regard.attention.backends.band_shortcut import BandInputs
from regard.attention.backends.gpu_kernels import band_launch, kernels

CUOBJDUMP = Path(triton.backends.nvidia.__file__).parent / "bin" / "cuobjdump"
run = jit.JITFunction.run


def bytes_in_memory(cubin: bytes) -> int:
    """Return what a thread keeps in memory, by CUDA's own tool."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(CUOBJDUMP), "-res-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return int(re.findall(r"STACK:(\d+)", usage)[0])


def compile_all(capability: int, kind: str, dim: int) -> None:
    """Compile every kernel, and print a line each."""
    compiled = set()

    def compile_alone(kernel, *arguments, warmup, **options):
        name = kernel.fn.__name__
        if name in compiled:
            return
        compiled.add(name)
        binary = run(kernel, *arguments, warmup=True, **options)
        in_memory = bytes_in_memory(binary.asm["cubin"])
        print(capability, kind, dim, name, binary.metadata.shared, in_memory, flush=True)

    driver.set_active(
        SimpleNamespace(
            get_current_target=lambda: GPUTarget("cuda", capability, 32),
            get_current_device=lambda: 0,
            get_current_stream=lambda device: 0,
        )
    )
    for name in kernels.__dict__:
        if isinstance(kernel := getattr(kernels, name), jit.JITFunction):
            kernel.device_caches.clear()
    jit.JITFunction.run = compile_alone
    band_launch.skips_masks = lambda device: capability >= 90
    torch.cuda.device_of = lambda tensor: contextlib.nullcontext()
    torch.set_float32_matmul_precision("high" if kind == "tf32" else "highest")
    dtype = torch.float32 if kind == "tf32" else getattr(torch, kind)
    q, c = torch.zeros(1, 2, 40, dim, dtype=dtype), torch.zeros(1, 2, 40, 1)
    k = torch.zeros(1, 1, 50, dim, dtype=dtype)
    inputs = BandInputs(q, k, k, None, None, None, 20, 3, 1, 0.2)
    out, lse = band_launch.value(inputs)
    band_launch.gradient(inputs, out, lse, q, c)
    band_launch.second(inputs, q, c, (q, k, k))


def main() -> None:
    """Compile the kinds of the command line."""
    capabilities, *kinds = sys.argv[1:]
    for capability in map(int, capabilities.split(",")):
        for kind in kinds:
            name, _, dim = kind.partition(":")
            compile_all(capability, name, int(dim))


if __name__ == "__main__":
    main()
