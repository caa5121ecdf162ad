"""Find the compiled kernels that this processor can run."""

from __future__ import annotations

import ctypes
import warnings
from functools import cache
from pathlib import Path
from struct import unpack_from

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
    digest, refused, library = digest_sources(folder, headers), [], None
    paths = [library_path(folder, name) for name in runnable_names()]
    for path in filter(Path.exists, paths):
        try:
            library = _open(path, digest)
        except OSError:
            refused.append(path.name)
        if library is not None:
            break
    if library is None:
        refused = sorted(path.name for path in folder.glob("_*.so"))
    if refused:
        used = f"slower ones are: {Path(library._name).name}" if library else f"so {cost}"
        warnings.warn(
            f"the kernels {' and '.join(refused)} in {folder} are damaged, or were compiled from "
            f"other sources or for another machine, and are not used, {used}.  Install regard "
            "again: pip install -e .",
            stacklevel=3,
        )
    return library


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
        return _open(path, digest)
    except OSError:
        return None


def _open(path: Path, digest: str) -> ctypes.CDLL | None:
    """Load a library of kernels.

    Returns:
        None where this processor cannot run it.

    Raises:
        OSError: It cannot be read, is not ours, or was compiled from other sources.
    """
    _require_all_bytes(path)
    library = ctypes.CDLL(str(path))
    try:
        library.regard_digest.restype = ctypes.c_char_p
        is_current = library.regard_digest() == digest.encode()
        can_run = library.regard_can_run()
    except AttributeError as error:
        raise OSError(f"{path}: {error}") from error
    if not is_current:
        raise OSError(f"{path}: compiled from other sources")
    return library if can_run else None


def _require_all_bytes(path: Path) -> None:
    """Check that a file has all bytes of its sections: to load less would end the process.

    Raises:
        OSError: It cannot be read, or has fewer.
    """
    with path.open("rb") as file:
        header = file.read(64)
    if header.startswith(b"\x7fELF\x02\x01") and len(header) == 64:  # 64 bits, little-endian
        (start,), (size, count) = unpack_from("<Q", header, 40), unpack_from("<HH", header, 58)
        if path.stat().st_size < start + size * count:  # the table of sections is at the end
            raise OSError(f"{path}: is cut off")


def instructions() -> str | None:
    """Return the instruction set of the kernels in use; None where they were not compiled."""
    library = load_fastest()
    return None if library is None else Path(library._name).stem.removeprefix("_")
