"""Find the compiled kernels that this processor can run."""

from __future__ import annotations

import ctypes
import warnings
from functools import cache
from pathlib import Path

import torch

from regard.attention.backends.cpu_kernels.compiling import (
    digest_sources,
    instruction_sets,
    library_path,
)

_FOLDER = Path(__file__).parent


@cache
def load_fastest() -> ctypes.CDLL | None:
    """Load attention's kernels of the best instruction set; None where none were compiled."""
    return load_first(_FOLDER, None, "attention is slower")


def load_first(folder: Path, headers: Path | None, cost: str) -> ctypes.CDLL | None:
    """Load the kernels of the best instruction set that a folder has for this processor.

    Args:
        folder: The folder of the C++ files and the libraries.
        headers: Another folder, whose headers they include.
        cost: What it means that no library can be used, for a warning where there are some.

    Returns:
        None where none were compiled.
    """
    digest = digest_sources(folder, headers)
    for name in runnable_names():
        library = load_current(library_path(folder, name), digest)
        if library is not None:
            return library
    if any(folder.glob("_*.so")):
        warnings.warn(
            f"the kernels in {folder} were compiled from other sources or for another machine "
            f"and are not used, so {cost}.  Install regard again: pip install -e .",
            stacklevel=3,
        )
    return None


def runnable_names() -> list[str]:
    """Return the instruction sets that this processor may have, the fastest first."""
    names = list(instruction_sets())
    capability = torch.backends.cpu.get_cpu_capability().lower().split("_")[0]
    fitting = [index for index, name in enumerate(names) if name.startswith(capability)]
    return names[fitting[0] if fitting else len(names) - 1 :]


def load(name: str) -> ctypes.CDLL | None:
    """Load the kernels of an instruction set; see `load_current`."""
    return load_current(library_path(_FOLDER, name), digest_sources(_FOLDER))


def load_current(path: Path, digest: str) -> ctypes.CDLL | None:
    """Load a library of kernels.

    Args:
        path: The library.
        digest: Hash of the sources at hand.

    Returns:
        None where it was not compiled, cannot be read, was compiled from other sources or for
        another machine, or cannot run.
    """
    try:
        library = ctypes.CDLL(str(path))
        library.regard_digest.restype = ctypes.c_char_p
        is_current = library.regard_digest() == digest.encode()
        return library if is_current and library.regard_can_run() else None
    except (OSError, AttributeError):  # no library that this process can load, or not ours
        return None


def instructions() -> str | None:
    """Return the instruction set of the kernels in use; None where they were not compiled."""
    library = load_fastest()
    return None if library is None else Path(library._name).stem.removeprefix("_")
