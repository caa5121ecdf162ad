"""Atomic writes of files, and checked reads of tensors.

A file appears under its name complete or not at all: the content goes to a temporary folder in the
same folder, is forced to disk, takes the name in one step (POSIX ``rename``), and the folder is
forced to disk too.  A killed writer leaves the previous file and a folder ``.NAME.PID.tmp``, which
`sweep_temporaries` removes.  While it is written a file needs its size a second time on disk.  A
log grows by `append_line`, line by line, at a cost that does not depend on its size.

Tensors are kept as safetensors, never pickle.  The header's metadata has one entry, so that equal
content makes equal files: ``regard``, the JSON of ``state`` and of ``sha256`` over everything.
Writing and checked reading cost a pass of SHA-256.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shlex
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import NoReturn

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from regard.errors import ConfigError, NextStep, ResourceError, WeightsError
from regard.hub.file_names import CHECKPOINTS, CONFIG, HF_CONFIG

_MEGABYTE = 1_000_000
_BLOCK_BYTES = 4096  # read at a time to find the end of a line
_METADATA = "regard"
_HEADER_ENTRY = 256  # bytes, a generous part of the header for one tensor
_LONGEST_HEADER = 8_000_000  # bytes, of 50,000 tensors
_FOLDER_FAULTS = {
    code: code for code in (errno.EISDIR, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS)
} | {errno.EEXIST: errno.ENOTDIR}  # a file has the name of a folder to be created
"""Errors of the system that another folder would not give, and what each is called."""
_PICKLE = re.compile(rb"PK\x03\x04|\x80[\x02-\x05]")  # the zip of torch.save, or a bare pickle


class _Entry(msgspec.Struct):
    """One tensor in the header of a safetensors file: its sizes, where its bytes begin and end."""

    data_offsets: tuple[int, int]
    shape: tuple[int, ...] = ()


def read_text(path: Path) -> str:
    """Return the text of a file; raise WeightsError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path}: cannot be read ({error}).") from error


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file completely or not at all; folders are created as needed.

    Args:
        path: The file, replaced if it exists.  Its mode follows the umask.
        content: The bytes, or text, which is written as UTF-8.

    Raises:
        ConfigError: The folder cannot be written.
        ResourceError: The disk is full, or fails.  The previous file is intact.
    """
    data = content.encode() if isinstance(content, str) else content
    with _replacing(path, len(data), "file") as temporary:
        temporary.write_bytes(data)


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, object],
    *next_steps: NextStep,
    before_replacing: Callable[[str], None] | None = None,
) -> None:
    """Write tensors and a state to one safetensors file, completely or not at all.

    Args:
        path: The file, replaced if it exists.  Its mode follows the umask.
        tensors: Dense tensors by name, of any shape, type and device; they may be views of each
            other, which are written in full each.
        state: Values that JSON holds without loss: dicts with text keys, lists, text, numbers of
            any size (infinite and NaN too), truth values and `None`.
        next_steps: Commands that help where the disk is full, such as how to resume.
        before_replacing: Called with the checksum of the content before the file takes its name.

    Raises:
        ConfigError: The folder cannot be written.
        ResourceError: The disk is full, or fails.  The previous file is intact.
        TypeError: The state holds a value that JSON would change, such as a tuple.
        ValueError: A tensor has the name ``__metadata__``, which safetensors reserves.
    """
    if "__metadata__" in tensors:
        raise ValueError('a tensor cannot have the name "__metadata__", safetensors reserves it.')
    _check_json(dict(state), "state")
    packed = _packed(tensors)
    checksum = _checksum(packed, dict(state))
    text = json.dumps({"sha256": checksum, "state": dict(state)})
    size = 2 * len(text) + sum(tensor.nbytes + _HEADER_ENTRY for tensor in packed.values())
    with _replacing(path, size, "checkpoint", *next_steps) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        save_file(packed, temporary, {_METADATA: text})
        temporary.chmod(mode)  # safetensors may hide its files from the group
        if before_replacing is not None:
            before_replacing(checksum)


def read_tensors(path: Path, *, check: bool = True) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Read tensors and state from a safetensors file.

    Args:
        path: A file of `write_tensors`, or any safetensors file where `check` is False.
        check: Whether to compare the content with the checksum that was stored with it.

    Returns:
        The tensors by name, on the CPU, and the state, empty where the file has none.

    Raises:
        WeightsError: The file is missing, cut short, damaged, or not a safetensors file.
    """
    with _opened(path) as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    stored, state = _document(path, metadata)
    if not check:
        return tensors, state
    if stored is None:
        raise WeightsError(f"{path}: has no checksum, so regard did not write it.")
    if (content := _checksum(tensors, state)) != stored:
        checksums = f"(sha256 of the content {content[:4]}…, stored {stored[:4]}…)"
        problem = f"damaged: the checksum does not agree {checksums}."
        raise WeightsError(f"{path}: {problem}  {_advise_on_damage(path)}")
    return tensors, state


@contextmanager
def _opened(path: Path) -> Iterator[safe_open]:
    """Yield a safetensors file; raise WeightsError within ``with`` where it cannot be read."""
    try:
        if path.is_dir():
            raise WeightsError(f"{path}: a folder, a .safetensors file was expected.")
        _require_short_header(path)
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such file.") from error
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except SafetensorError as error:
        raise WeightsError(f"{path}: {_fault(path, str(error))}") from error


def tensor_ends(path: Path) -> dict[str, int]:
    """Return where each tensor ends in a safetensors file, cut short or not, by its header.

    Args:
        path: The file.

    Returns:
        Positions in bytes by the names of the tensors; empty where the header is damaged.
    """
    start, entries = _read_header(path)
    return {name: start + entry.data_offsets[1] for name, entry in entries.items()}


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor in a safetensors file, by its header alone.

    Args:
        path: The file.

    Returns:
        Shapes by the names of the tensors; empty where the header is damaged.
    """
    return {name: entry.shape for name, entry in _read_header(path)[1].items()}


def _read_header(path: Path) -> tuple[int, dict[str, _Entry]]:
    """Return where the bytes of the tensors begin, and the entry of each tensor.

    No tensor is read. Without an entry the header is damaged, or longer than is read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length) if length <= min(size, _LONGEST_HEADER) else b""
    try:
        entries = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        entries.pop("__metadata__", None)
        return 8 + length, {
            name: msgspec.json.decode(entry, type=_Entry) for name, entry in entries.items()
        }
    except (ValueError, RecursionError):
        return 8 + length, {}


def stored_checksum(path: Path) -> str | None:
    """Return the checksum that a file of `write_tensors` holds; None where there is none."""
    try:
        _require_short_header(path)
        with safe_open(path, framework="pt") as file:
            return _document(path, file.metadata() or {})[0]
    except (OSError, SafetensorError):
        return None


def read_state(path: Path) -> dict[str, object]:
    """Return the state of a file of `write_tensors` by its header; empty where it has none.

    Raises:
        WeightsError: The file is missing or damaged.
    """
    with _opened(path) as file:
        return _document(path, file.metadata() or {})[1]


def _require_short_header(path: Path) -> None:
    """Raise WeightsError where a file has the header of safetensors, but one that is too long."""
    with path.open("rb") as file:
        start = file.read(9)
    length = int.from_bytes(start[:8], "little")
    if start[8:] == b"{" and length > _LONGEST_HEADER and length <= path.stat().st_size:
        raise WeightsError(
            f"{path}: a header of {length:,} bytes; {_LONGEST_HEADER:,} at most are read."
        )


def warn_if_not_finite(tensors: Mapping[str, Tensor], name: str) -> None:
    """Warn where weights hold infinity or NaN, and name the first such tensor.

    Args:
        tensors: Weights by name.
        name: Their file or folder, for the message.
    """
    faulty = {key: tensor for key, tensor in tensors.items() if not _is_finite(tensor)}
    if faulty:
        key, tensor = next(iter(faulty.items()))
        count = int((~tensor.float().isfinite()).sum())
        more = f", and {len(faulty) - 1:,} more tensors have some" if len(faulty) > 1 else ""
        warnings.warn(
            f"{name}: {count:,} of {tensor.numel():,} numbers of tensor {key} are not finite{more}."
            "  What the model says may be meaningless.",
            stacklevel=1,  # one location, so that Python shows it once
        )


def append_line(path: Path, line: bytes) -> None:
    """Append a line to a text file, and return once it is on the disk.

    A killed writer leaves an incomplete last line.  It is removed before the next line is written,
    and readers ignore it.

    Args:
        path: The file, created as needed.
        line: Without the end of the line.

    Raises:
        ConfigError: The folder cannot be written.
        ResourceError: The disk is full, or fails.  The lines before are intact.
    """
    content = line + b"\n"
    try:
        with path.open("ab+", buffering=0) as file:
            end = _end_of_whole_lines(file)
            file.truncate(end)
            if file.write(content) != len(content):
                file.truncate(end)
                full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                _raise_unwritable(path, full, len(content), "file")
            os.fsync(file.fileno())
    except OSError as error:
        _raise_unwritable(path, error, len(content), "file")


def sweep_temporaries(folder: Path) -> None:
    """Remove the temporary folders of killed writers; call it before the first write.

    Temporary folders of other running processes are left alone.

    Args:
        folder: The folder whose files are written; it need not exist.
    """
    for leftover in folder.glob(".*.tmp"):
        writer = re.fullmatch(r"\..+\.(\d{1,9})\.tmp", leftover.name)
        if writer and leftover.is_dir() and not _is_running_elsewhere(int(writer[1])):
            shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def _replacing(path: Path, size: int, noun: str, *next_steps: NextStep) -> Iterator[Path]:
    """Yield a temporary file's path, which takes the name `path` if the body succeeds."""
    temporary = temporary_folder(path)
    try:
        with writing(path, size, noun, *next_steps):
            require_space(path, size)
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.mkdir(exist_ok=True)
            yield temporary / path.name
            force_to_disk(temporary / path.name)
            (temporary / path.name).replace(path)
            force_to_disk(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def temporary_folder(path: Path) -> Path:
    """Return the folder in which this process writes what is going to be `path`."""
    return path.parent / f".{path.name}.{os.getpid()}.tmp"


@contextmanager
def writing(path: Path, size: int, noun: str, *next_steps: NextStep) -> Iterator[None]:
    """Raise within ``with`` why a file or folder cannot be written, as `write_tensors` does.

    Args:
        path: What is written.
        size: Its bytes.
        noun: What it is, such as ``checkpoint``.
        next_steps: Commands that help where the disk is full.

    Raises:
        ConfigError: The folder cannot be written.
        ResourceError: The disk is full, or fails.
        SafetensorError: The tensors cannot be written for a reason that is not the system's.
    """
    try:
        yield
    except OSError as error:
        _raise_unwritable(path, error, size, noun, *next_steps)
    except SafetensorError as error:
        code = re.search(r"\(os error (\d+)\)", str(error))  # the system's error as text
        if code is None:
            raise
        cause = OSError(int(code[1]), os.strerror(int(code[1])))
        _raise_unwritable(path, cause, size, noun, *next_steps)


def require_space(path: Path, size: int) -> None:
    """Raise OSError where the disk of a path has no room for some bytes."""
    if free_bytes(path.parent) < size + _MEGABYTE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def free_bytes(folder: Path) -> float:
    """Return the free bytes of a folder's disk; infinity where that is unknown."""
    usage = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists()))
    return usage.free if usage.total else math.inf


def _end_of_whole_lines(file: FileIO) -> int:
    """Return how many bytes from the beginning of a file are whole lines."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _BLOCK_BYTES)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def advise_on_folder(folder: Path) -> str:
    """Return what to do about a folder that cannot be written; a run can resume in no other."""
    run = folder.parent if folder.name == CHECKPOINTS else folder
    if not os.path.isfile(run / CONFIG):  # noqa: PTH113 - False without permission to look
        return "Choose another folder with `output`."
    name = shlex.quote(str(run))
    return f"Allow it: chmod -R u+w {name}, or resume a copy: cp -r {name} COPY"


def _raise_unwritable(
    path: Path, error: OSError, size: int, noun: str, *next_steps: NextStep
) -> NoReturn:
    """Raise with why a file could not be written: disk full, wrong folder, or failing device."""
    intact = f"  The previous {noun} is intact." if path.exists() else ""
    code = error.errno or errno.EIO
    if code in (errno.ENOSPC, errno.EDQUOT):
        need, free = math.ceil(size / _MEGABYTE) + 1, int(free_bytes(path.parent) // _MEGABYTE)
        problem = f"the disk is full: {need:,} MB are needed, {free:,} MB are free."
        raise ResourceError(f"{path}: {problem}{intact}", *next_steps) from error
    reason = os.strerror(_FOLDER_FAULTS.get(code, code))
    if code not in _FOLDER_FAULTS:
        raise ResourceError(f"{path}: cannot be written ({reason}).{intact}") from error
    folder = path if code == errno.EISDIR else path.parent
    advice = "" if path.is_file() else f"  {advise_on_folder(folder)}"
    raise ConfigError(f"{folder}: cannot be written ({reason}).{advice}") from error


def force_to_disk(path: Path) -> None:
    """Return once a file's content, or a folder's entries, would survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _packed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors on the CPU, contiguous, no two of which share memory."""
    plain = {
        name: tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
        for name, tensor in tensors.items()
    }
    end = 0
    for name, tensor in sorted(plain.items(), key=lambda item: item[1].data_ptr()):
        start = tensor.data_ptr()
        if start < end:
            plain[name] = tensor.clone()
        end = max(end, start + tensor.nbytes)
    return plain


def _is_finite(tensor: Tensor) -> bool:
    """Return whether all numbers of a tensor are finite; the sum decides unless it overflows."""
    if tensor.itemsize == 1 and tensor.is_floating_point():  # PyTorch adds up no 8-bit numbers
        tensor = tensor.float()
    if not tensor.is_floating_point() or bool(tensor.sum().isfinite()):
        return True
    return bool(tensor.isfinite().all())


def _document(path: Path, metadata: Mapping[str, str]) -> tuple[str | None, dict[str, object]]:
    """Return checksum and state from a header's metadata; None where regard did not write it."""
    if _METADATA not in metadata:
        return None, {}
    try:
        document = json.loads(metadata[_METADATA])
        return str(document["sha256"]), dict(document["state"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(
            f"{path}: damaged: the state cannot be read.  {_advise_on_damage(path)}"
        ) from error


def _checksum(tensors: Mapping[str, Tensor], state: dict[str, object]) -> str:
    """Return the SHA-256, in hexadecimal, of contiguous tensors and the state's JSON."""
    digest = hashlib.sha256(json.dumps(state).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        # The strides of a contiguous tensor are arbitrary where a size is 1.
        flat = tensor.as_strided((tensor.numel(),), (1,))
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_json(value: object, where: str) -> None:
    """Raise for a value that JSON would change or cannot hold, and name where it is."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{where}: the key {key!r} is not text, JSON would change it.")
            _check_json(inner, f"{where}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _check_json(inner, f"{where}[{index}]")
    elif not isinstance(value, str | int | float | None):
        raise TypeError(f"{where}: JSON cannot keep a {type(value).__name__} as it is.")


def _fault(path: Path, problem: str) -> str:
    """Describe why a file cannot be read: the words of safetensors are for programmers."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(9)
    length = int.from_bytes(start[:8], "little")
    if len(start) < 9:
        return f"cut short: {size:,} bytes, too few for a header.  {_advise_on_damage(path)}"
    if length > _LONGEST_HEADER or start[8:] != b"{":
        return _foreign(path, start)
    promised = max(tensor_ends(path).values(), default=8 + length)
    if size < promised:
        return f"cut short: {size:,} bytes, the header promises {promised:,}."
    reason = problem.removeprefix("Error while deserializing header: ")
    return f"damaged: {reason}.  {_advise_on_damage(path)}"


def _advise_on_damage(path: Path) -> str:
    """Return what to do about a damaged file: one of a published model was not trained here."""
    is_published = (path.parent / HF_CONFIG).is_file()
    remedy = "download it again." if is_published else "train again with another `output`."
    return f"Restore the file from a copy, or {remedy}"


def _foreign(path: Path, start: bytes) -> str:
    """Describe what a file is that is not a safetensors file."""
    if not _PICKLE.match(start):
        return f"not a safetensors file, it begins with {start!r}."
    load = f"torch.load('{path}', weights_only=True)"
    return (
        "a pickle, as torch.save writes it.  Opening one can run any program, so only "
        '.safetensors is read.  Convert a file that you trust: python -c "import torch, '
        f"safetensors.torch as s; s.save_file({load}, 'weights.safetensors')\""
    )


def _is_running_elsewhere(process: int) -> bool:
    """Return whether another process with this number runs."""
    try:
        os.kill(process, 0)  # 0 sends no signal
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()
