"""The device that a run or a model computes on: its choice, its memory, and what moves to it.

A device is chosen once and passed on; nothing here is a global setting. ``cuda`` is a GPU of NVIDIA
or AMD, as in PyTorch.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import environ
from typing import Any, TypeVar

import msgspec
import torch
from torch import Tensor, nn

from regard.errors import ConfigError
from regard.settings.validation import require_number

T = TypeVar("T")
CPU = torch.device("cpu")
_MOST_THREADS = 1024
_LONGEST_REASON = 240  # characters of an error of PyTorch
_NAMES = re.compile(r"auto|cpu|mps|cuda(?::(\d{1,4}))?")


def require_device_name(name: str) -> None:
    """Raise ValueError for a name that is not one of ``auto``, ``cpu``, ``cuda`` and ``cuda:N``."""
    if not _NAMES.fullmatch(name):
        raise ValueError(f'device must be auto, cpu, cuda or cuda:N, not "{name}"')


def choose_device(name: str | torch.device = "auto") -> torch.device:
    """Return the device of a name.

    Args:
        name: ``auto`` is this process's GPU where PyTorch can use one, else the CPU; ``cuda`` is
            this process's GPU, ``cuda:N`` the one of a number, from 0. Or a device of PyTorch.

    Returns:
        The device; a GPU with its number. A warning says where ``auto`` leaves a GPU out.

    Raises:
        ConfigError: The name is unknown, or the machine has no such device that PyTorch can use.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    name = str(name)
    _require_supported(name)
    count = _count_gpus()
    if name == "cpu" or (name, count) == ("auto", 0):
        return CPU
    _require_gpu(name, count)
    index = _index_of(name, count)
    fix_work_memory()
    reason = why_unusable(index)
    if reason is None:
        return torch.device("cuda", torch.cuda.current_device() if index is None else index)
    problem = f"PyTorch ({torch.__version__}) cannot compute on this GPU: {reason}"
    if name != "auto":
        raise ConfigError(f"{name}: {problem}.  Take `device=cpu`.")
    warnings.warn(f"the CPU computes: {problem}.", stacklevel=2)
    return CPU


def _require_supported(name: str) -> None:
    """Raise ConfigError for a name that is unknown, or of a kind of devices that serves nothing."""
    try:
        require_device_name(name)
    except ValueError as error:
        raise ConfigError(f"{error}.") from error
    if name == "mps":
        raise ConfigError(
            "mps: not supported: some sums are taken in float64, which Apple's GPUs do not have.  "
            "Take `device=cpu`."
        )


def _count_gpus() -> int:
    """Count the GPUs that PyTorch sees, be it able to use them or not."""
    return torch.cuda.device_count() if torch.backends.cuda.is_built() else 0


def _require_gpu(name: str, count: int) -> None:
    """Raise ConfigError where PyTorch sees no GPU for a name that asks for one."""
    if not torch.backends.cuda.is_built():
        raise ConfigError(
            f"{name}: this PyTorch ({torch.__version__}) has no CUDA.  Take `device=cpu`, or "
            "install a PyTorch that has."
        )
    if not count:
        raise ConfigError(
            f"{name}: PyTorch ({torch.__version__}) sees no GPU: is the driver installed, and what "
            "does CUDA_VISIBLE_DEVICES say?  Without one: `device=cpu`."
        )


def _index_of(name: str, count: int) -> int | None:
    """Return the number of a GPU; None is this process's.

    Args:
        name: ``auto``, ``cuda`` or ``cuda:N``.
        count: GPUs that PyTorch sees.

    Raises:
        ConfigError: There are not as many.
    """
    _, _, number = name.partition(":")
    if number and int(number) >= count:
        has = "1 GPU, cuda:0" if count == 1 else f"{count} GPUs, cuda:0 to cuda:{count - 1}"
        raise ConfigError(f"{name}: this machine has {has}.")
    return int(number) if number else None


def why_unusable(index: int | None = None) -> str | None:
    """Return why a GPU that the machine has cannot be used; None where it can.

    The driver may be older than PyTorch's CUDA, or PyTorch have no kernels for the chip: a machine
    that has a GPU says so when one is first used.

    Args:
        index: Of the GPU; None is this process's.

    Raises:
        OutOfMemoryError: Others have all of its memory.
    """
    try:
        device = torch.cuda.current_device() if index is None else index
        torch.ones(1, device=torch.device("cuda", device))
        torch.cuda.synchronize(device)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, AssertionError, torch.cuda.DeferredCudaCallError) as error:
        return str(error).strip().partition("\n")[0][:_LONGEST_REASON].rstrip(".")
    return None


def fix_work_memory() -> None:
    """Give cuBLAS work memory of a fixed size, with which alone it can repeat its bits.

    PyTorch looks at this once, at the first product on a GPU, be that to repeat its bits or not.
    The size is that which PyTorch takes on an H100 anyway; what the user has set stays.
    """
    environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def use_threads(threads: int | None) -> None:
    """Set the number of PyTorch's threads in this process; None leaves it unchanged.

    Raises:
        ConfigError: It is out of its range.
    """
    require_number("threads", threads, is_whole=True)
    if threads is None:
        return
    if not 1 <= threads <= _MOST_THREADS:
        raise ConfigError(f"`threads` must be 1 to {_MOST_THREADS:,}, not {threads}.")
    torch.set_num_threads(threads)


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Compute on one of PyTorch's threads within ``with``.

    What takes less than a millisecond is not done sooner by two, and where other programs run, one
    of the two waits for the other.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def describe_device(device: torch.device) -> str:
    """Return the name of a device, of a GPU with its model: ``cuda:0, NVIDIA H200``."""
    if device.type != "cuda":
        return str(device)
    return f"{device}, {torch.cuda.get_device_name(device)}"


def free_device_bytes(device: torch.device) -> int | None:
    """Return the memory of a GPU that this process may take, what it has included.

    Returns:
        Bytes; None for a device whose memory is not its own.
    """
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device)


def peak_device_bytes(device: torch.device) -> int | None:
    """Return the most memory of a GPU that this process has taken; None for other devices."""
    return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else None


def finish_work(device: torch.device) -> None:
    """Wait until a device has computed all that it was asked for, as before the time is taken."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def move_batch(batch: T, model: nn.Module) -> T:
    """Return a batch with its tensors on the device of a model, without waiting for it.

    Args:
        batch: A record with tensors, such as ``Batch``; it may hold other values, too. What its
            class names in `on_host` stays in main memory.
        model: What reads it.
    """
    device = next(model.parameters()).device
    if device.type == "cpu":
        return batch
    return _replace_tensors(
        batch, lambda x: x if x.device == device else x.to(device, non_blocking=True)
    )


def pin_batch(batch: T) -> T:
    """Return a batch in pinned memory, from which `move_batch` copies while a GPU computes.

    Args:
        batch: A record with tensors; what its class names in `on_host` stays as it is.
    """
    return _replace_tensors(batch, Tensor.pin_memory)


def _replace_tensors(batch: T, change: Callable[[Tensor], Tensor]) -> T:
    """Return a batch with its tensors changed, but for what its class names in `on_host`."""
    if not isinstance(batch, msgspec.Struct):
        return batch
    on_host = getattr(type(batch), "on_host", frozenset())
    changes: dict[str, Any] = {
        name: change(value)
        for name, value in msgspec.structs.asdict(batch).items()
        if isinstance(value, Tensor) and name not in on_host
    }
    return msgspec.structs.replace(batch, **changes)
