"""Compile the kernels, once for each instruction set. Needs nothing but a C++ compiler.

Run while the package is built (``hatch_build.py``), where neither PyTorch nor this package can be
imported: this module imports the standard library only.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

_FLAGS = "-std=c++20 -O3 -fPIC -shared -fvisibility=hidden -fno-math-errno -fno-trapping-math"
# With -ffast-math the exponential loses its rounding, which adds a large number and takes it away
# again, and the process that loads the library loses its subnormal numbers.
_EXACT = "-fno-fast-math -fno-unsafe-math-optimizations -fno-associative-math -fno-finite-math-only"

# VECTOR_BYTES is the width of a register; ROWS x 2 of them and three more must fit in all.
INSTRUCTION_SETS = {
    "x86_64": {
        "avx512_bf16": "-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512bf16 -mavx512vnni -mfma "
        "-DVECTOR_BYTES=64 -DROWS=8",
        "avx512_vnni": "-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mfma "
        "-DVECTOR_BYTES=64 -DROWS=8",
        "avx512": "-mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -DVECTOR_BYTES=64 -DROWS=8",
        "avx2": "-mavx2 -mfma -DVECTOR_BYTES=32 -DROWS=4",
        "baseline": "-DVECTOR_BYTES=16 -DROWS=4",
    },
    "aarch64": {"baseline": "-DVECTOR_BYTES=16 -DROWS=8"},
}
"""Compiler options by processor and instruction set; the fastest of a processor comes first."""

_MACHINES = {"AMD64": "x86_64", "arm64": "aarch64"}


def instruction_sets(machine: str | None = None) -> dict[str, str]:
    """Return compiler options by instruction set; empty for an unknown processor family.

    Args:
        machine: Processor family, such as ``x86_64``; None is this machine's.
    """
    machine = platform.machine() if machine is None else machine
    return INSTRUCTION_SETS.get(_MACHINES.get(machine, machine), {})


def target_machine() -> str:
    """Return the processor family that a package is built for, the one in its wheel's tag.

    ``_PYTHON_HOST_PLATFORM``, such as ``linux-aarch64``, is set for cross-compilation.
    """
    host = os.environ.get("_PYTHON_HOST_PLATFORM")
    return host.rsplit("-", 1)[-1] if host else platform.machine()


def digest_sources(folder: Path, headers: Path | None = None) -> str:
    """Hash all that is compiled, to check which sources a library was compiled from.

    Args:
        folder: The folder of the C++ files.
        headers: Another folder, whose headers they include.

    Returns:
        Hexadecimal digits.
    """
    sources = sorted((*folder.glob("*.h"), *folder.glob("*.cpp")))
    if headers is not None:
        sources += sorted(headers.glob("*.h"))
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:16]


def library_path(folder: Path, name: str) -> Path:
    """Return the path of the library of an instruction set."""
    return folder / f"_{name}.so"


def compile_kernels(
    sources: Path, folder: Path, headers: Path | None = None, left_out: Collection[str] = ()
) -> str | None:
    """Compile one library for each instruction set, in parallel.

    The compiler is that of ``CXX``, or ``c++`` or ``g++``; it gets the options of ``CXXFLAGS`` too,
    where arithmetic stays exact: of ``-Ofast``, ``-O3`` is left.

    Args:
        sources: The folder of the C++ files.
        folder: Where the libraries go; those of an earlier run are replaced.
        headers: Another folder, whose headers they include.
        left_out: Instruction sets that the kernels have no use for.

    Returns:
        None, or why it failed.
    """
    compiler = os.environ.get("CXX", "").strip() or shutil.which("c++") or shutil.which("g++")
    machine = target_machine()
    sets = {name: v for name, v in instruction_sets(machine).items() if name not in left_out}
    try:
        for stale in folder.glob("_*.so"):
            stale.unlink()
        if compiler is None or os.name != "posix":
            return "no C++ compiler was found"
        if not sets:
            return f"the processor {machine} is not known"
        command, options = _read_command(compiler)
        made_for = _compiler_machine(command, options)
        if made_for and _MACHINES.get(made_for, made_for) != _MACHINES.get(machine, machine):
            return f"{compiler} compiles for {made_for}, not for {machine}"
        options.append(f'-DDIGEST="{digest_sources(sources, headers)}"')
        if headers is not None:
            options.append(f"-I{headers}")
        return _compile_each(sets, [*command, *options], sources, folder, compiler)
    except (OSError, ValueError) as error:
        return f"{compiler} cannot be run: {error}"


def _read_command(compiler: str) -> tuple[list[str], list[str]]:
    """Return the words of a compiler, whose path may have spaces, and the options of all sets.

    Raises:
        ValueError: A quotation is not closed.
    """
    words = [compiler] if Path(compiler).is_file() else shlex.split(compiler)
    own = os.environ.get("CXXFLAGS", "")
    try:
        options = [*_FLAGS.split(), *shlex.split(own), *_EXACT.split()]
    except ValueError as error:
        raise ValueError(f"CXXFLAGS={own}: {error}") from error
    command, exact = (
        ["-O3" if word == "-Ofast" else word for word in part] for part in (words, options)
    )
    return command, exact


def _compile_each(
    sets: Mapping[str, str], command: Sequence[str], sources: Path, folder: Path, compiler: str
) -> str | None:
    """Run a command with the options of each instruction set; return None, or why one failed."""
    runs = {}
    for name, options in sets.items():
        files = [*map(str, sources.glob("*.cpp")), "-o", str(library_path(folder, name))]
        arguments = [*command, *options.split(), *files]
        runs[name] = subprocess.Popen(  # noqa: S603
            arguments,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    errors = {name: run.communicate()[1] for name, run in runs.items()}
    failed = [
        name
        for name, run in runs.items()
        if run.returncode != 0 or not library_path(folder, name).exists()
    ]
    for name in failed:
        library_path(folder, name).unlink(missing_ok=True)
    return f"{compiler} failed: {errors[failed[0]].strip()[:500]}" if failed else None


def _compiler_machine(command: list[str], options: list[str]) -> str:
    """Return the processor family that a compiler compiles for; empty where it does not say."""
    run = subprocess.run(  # noqa: S603
        [*command, "-dumpmachine", *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return run.stdout.strip().split("-")[0] if run.returncode == 0 else ""
