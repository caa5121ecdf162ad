"""A GPU that is pretended: tensors on a device of their own, with their numbers in main memory.

Where a machine has no GPU, this is how tests see what a GPU would refuse or wait for. Python code
runs as on a GPU and computes what a CPU computes. An operation that mixes tensors of both memories
raises, as CUDA does; so does ``.numpy()``. What waits for the device is noted: a value that Python
reads, a shape that depends on values, a copy into main memory. Under
`torch.use_deterministic_algorithms` operations raise that have no method in a fixed order on CUDA.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

from regard.runs import run, session_setup
from regard.setup import facts
from regard.tasks import opening
from regard.training.device import choose_device


class _Backend(_DummyBackendModule):
    """What PyTorch asks of a kind of devices."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        """Return the types of autocast."""
        return [torch.bfloat16, torch.float16]


_setup_privateuseone_for_python_backend("pretended", backend_module=_Backend())
DEVICE = torch.device("pretended:0")
_swap_parameters = torch.__future__.set_swap_module_params_on_conversion
_swap_parameters_is_on = torch.__future__.get_swap_module_params_on_conversion
_UNREADABLE = 1 << 62  # beyond the addresses of main memory
_SOURCE = str(Path(__file__).parents[1] / "src" / "regard")
_WAITING = {
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "equal",
    "unique_consecutive",
    "unique_dim",
    "_unique",
    "_unique2",
    "bincount",
    "repeat_interleave",
    "is_nonzero",
    "item",
}
"""Operations that CUDA computes only after all that was asked of it before."""
_WITHOUT_FIXED_ORDER = {
    "_adaptive_avg_pool2d_backward",
    "_adaptive_avg_pool3d_backward",
    "_ctc_loss_backward",
    "_embedding_bag_per_sample_weights_backward",
    "adaptive_max_pool2d_backward",
    "avg_pool3d_backward",
    "fractional_max_pool2d_backward",
    "grid_sampler_2d_backward",
    "histc",
    "kthvalue",
    "max_pool3d_with_indices_backward",
    "max_unpool2d",
    "nll_loss2d_forward",
    "put_",
    "reflection_pad1d_backward",
    "reflection_pad2d_backward",
    "upsample_bicubic2d_backward",
    "upsample_bilinear2d_backward",
    "upsample_linear1d_backward",
}
"""Those of the list of `torch.use_deterministic_algorithms`, whatever their arguments are."""
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
_MOVING = {"_to_copy", "to", "copy_", "_copy_from", "set_"} | _INDEXING


class DeviceTensor(Tensor):
    """A tensor on the pretended device."""

    content: Tensor
    """Its numbers, in main memory."""
    __torch_function__ = torch._C._disabled_torch_function_impl  # results have their own classes

    @staticmethod
    def __new__(cls, content: Tensor) -> Self:
        """Put a tensor on the device."""
        tensor = Tensor._make_wrapper_subclass(
            cls,
            content.shape,
            strides=content.stride(),
            storage_offset=content.storage_offset(),
            dtype=content.dtype,
            device=DEVICE,
        )
        tensor.content = content
        return tensor

    def __repr__(self) -> str:
        """Describe it by its numbers."""
        return f"DeviceTensor({self.content!r})"

    def tolist(self) -> Any:
        """Return its numbers, which are copied back."""
        return self.cpu().tolist()

    def numpy(self, **_: Any) -> Any:
        """Raise, as tensors on a GPU do."""
        raise TypeError("can't convert a tensor of the device to numpy: copy it by .cpu() first")

    def __array__(self, *_: Any) -> Any:
        """Raise, as tensors on a GPU do."""
        return self.numpy()

    def data_ptr(self) -> int:
        """Return where its numbers begin, which no kernel may read: views begin at the same."""
        return self.content.data_ptr() | _UNREADABLE

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        """Return a copy, of a parameter a parameter."""
        if id(self) not in memo:
            copied: Tensor = DeviceTensor(self.content.detach().clone())
            if isinstance(self, nn.Parameter):
                copied = nn.Parameter(copied, self.requires_grad)
            memo[id(self)] = copied
        return memo[id(self)]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute as within a `PretendedGpu`."""
        kwargs = kwargs or {}
        return _compute(func, args, kwargs, _leaves((args, kwargs)))


class PretendedGpu(TorchDispatchMode):
    """Within ``with``, ``device="pretended"`` is a device that tensors can be on.

    Attributes:
        waits: What waited for the device: the operation, and the lines of regard that led to it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __enter__(self) -> Self:
        """Change what PyTorch does elsewhere than in operations, until the end."""
        with ExitStack() as stack:
            # Parameters that move are swapped in place, as those on a GPU are.
            stack.callback(_swap_parameters, _swap_parameters_is_on())
            _swap_parameters(True)
            # ``torch.tensor`` makes its tensor in main memory, and then copies it.
            stack.callback(torch._C._set_only_lift_cpu_tensors, torch._C._only_lift_cpu_tensors())
            torch._C._set_only_lift_cpu_tensors(True)
            stack.enter_context(torch.autograd.set_multithreading_enabled(False))
            self._stack = stack.pop_all()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._stack.close()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute an operation, and note whether it waits."""
        kwargs = kwargs or {}
        leaves = _leaves((args, kwargs))
        if _waits(func, args, kwargs, leaves):
            self.waits.append(f"{func} at {_location()}")
        return _compute(func, args, kwargs, leaves)


def _waits(func: Any, args: Any, kwargs: dict[str, Any], leaves: list[Any]) -> bool:
    """Return whether an operation makes Python wait for the device."""
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    name = func.overloadpacket.__name__
    if name in ("_to_copy", "to"):
        device = _target(leaves)
        if device is None or device.type == tensors[0].device.type:
            return False
        return device.type == "cpu" or not (kwargs.get("non_blocking") or args[3:4] == (True,))
    if not any(isinstance(tensor, DeviceTensor) for tensor in tensors):
        return False
    if name in ("copy_", "_copy_from"):
        is_there = [isinstance(tensor, DeviceTensor) for tensor in args[:2]]
        is_asynchronous = is_there[0] and (kwargs.get("non_blocking") or args[2:3] == (True,))
        return is_there[0] != is_there[1] and not is_asynchronous
    if name == "repeat_interleave":
        return kwargs.get("output_size") is None
    if name in _INDEXING:
        indices = [index for index in _leaves(args[1]) if index is not None]
        return any(x.dtype in (torch.bool, torch.uint8) or x.device.type == "cpu" for x in indices)
    return name in _WAITING


@torch.inference_mode(False)  # which wrapped tensors do not know
@torch.no_grad()  # it is recorded above
def _compute(func: Any, args: Any, kwargs: dict[str, Any], leaves: list[Any]) -> Any:
    """Compute an operation in main memory, and put what it returns where a GPU would."""
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    on_device = [tensor for tensor in tensors if isinstance(tensor, DeviceTensor)]
    name = func.overloadpacket.__name__
    if on_device and name not in _MOVING:
        others = [t for t in tensors if not isinstance(t, DeviceTensor) and t.dim()]
        if others:
            raise RuntimeError(f"{func}: expected all tensors to be on the same device")
    must_repeat_bits = bool(on_device) and torch.are_deterministic_algorithms_enabled()
    if must_repeat_bits and not _is_in_fixed_order(name, args, kwargs):
        raise RuntimeError(f"{name} does not have a deterministic implementation")
    owners = {id(tensor.content): tensor for tensor in on_device}
    if name == "to" and len(args) > 1 and isinstance(args[1], Tensor):
        args = (args[0], args[1].device, args[1].dtype, *args[2:])
        func, leaves = torch.ops.aten.to.device, _leaves((args, kwargs))
    goes_there, target = bool(on_device), _target(leaves)
    args, kwargs = _map(_in_main_memory, (args, kwargs))
    if target is not None:
        goes_there = target.type == DEVICE.type
    elif name in ("copy_", "_copy_from"):
        goes_there = id(args[0 if name == "copy_" else 1]) in owners
    result = func(*args, **kwargs)
    if name in ("_to_copy", "to") and any(result is tensor for tensor in tensors):
        result = result.clone()
    if not goes_there:
        return result

    def put(leaf: Any) -> Any:
        if type(leaf) is not Tensor:
            return leaf
        return owners[id(leaf)] if id(leaf) in owners else DeviceTensor(leaf)

    return _map(put, result)


def _is_in_fixed_order(name: str, args: Any, kwargs: dict[str, Any]) -> bool:
    """Return whether CUDA has a method of an operation that repeats its bits."""
    if name == "cumsum":
        return not (args[0].is_floating_point() or args[0].is_complex())
    if name == "bincount":
        return kwargs.get("weights") is None and args[1:2] in ((), (None,))
    if name == "median":
        return len(args) == 1
    if name == "scatter_reduce":
        return args[4] != "prod"
    return name not in _WITHOUT_FIXED_ORDER


def _in_main_memory(leaf: Any) -> Any:
    """Return the numbers of a tensor on the device; instead of any device, the CPU."""
    if isinstance(leaf, DeviceTensor):
        return leaf.content
    return torch.device("cpu") if isinstance(leaf, torch.device) else leaf


def _target(leaves: list[Any]) -> torch.device | None:
    """Return the device that an operation is told to put its result on; None where it is not."""
    return next((leaf for leaf in leaves if isinstance(leaf, torch.device)), None)


def _leaves(value: Any) -> list[Any]:
    """Return what is in lists, tuples and dictionaries; torch's own takes far longer."""
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return [value]
    return [leaf for part in value for leaf in _leaves(part)]


def _map(function: Callable[[Any], Any], value: Any) -> Any:
    """Return the same lists, tuples and dictionaries of what a function makes of each leaf."""
    if isinstance(value, dict):
        return {key: _map(function, part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([_map(function, part) for part in value])
    return function(value)


def _location() -> str:
    """Return the lines of regard that led to an operation, the innermost first."""
    frame, names = sys._getframe(), []
    while frame is not None and len(names) < 4:
        if (path := frame.f_code.co_filename).startswith(_SOURCE):
            names.append(f"{path[len(_SOURCE) + 1 :]}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(names)


@contextmanager
def pretended_gpu() -> Iterator[PretendedGpu]:
    """Let ``device="auto"`` and ``device="cuda"`` be the pretended device."""

    def choose(name: str = "auto") -> torch.device:
        return choose_device("cpu") if name == "cpu" else DEVICE

    with ExitStack() as stack:
        for module in (facts, run, session_setup, opening):
            stack.enter_context(mock.patch.object(module, "choose_device", choose))
        yield stack.enter_context(PretendedGpu())
