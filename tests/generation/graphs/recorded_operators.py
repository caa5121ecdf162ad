"""What a CUDA graph does, on a CPU: the operators of some work, recorded and repeated.

As in a graph, arguments are fixed: tensors by their memory, numbers by the value that they had when
the work was recorded. Nothing is changed while recording. An operator that would make Python wait
for a device ends the recording, as it does on a GPU.
"""

from __future__ import annotations

import torch
from tests.pretended_gpu import _WAITING, _leaves
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class _Recording(TorchDispatchMode):
    """Notes operators, and the numbers before of the memory that they write."""

    def __init__(self):
        super().__init__()
        self.calls, self.before, self.own = [], {}, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func.overloadpacket.__name__ in _WAITING:
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
        written = [
            value
            for argument, value in zip(func._schema.arguments, args, strict=False)
            if argument.alias_info is not None and argument.alias_info.is_write
        ]
        for tensor in written:
            address = tensor.untyped_storage().data_ptr()
            if address not in self.own and address not in self.before:
                self.before[address] = (tensor.untyped_storage(), tensor.untyped_storage().clone())
        result = func(*args, **kwargs)
        inputs = {t.untyped_storage().data_ptr() for t in _tensors((args, kwargs))}
        fresh = [
            index
            for index, tensor in enumerate(_tensors(result))
            if tensor.untyped_storage().data_ptr() not in inputs
        ]
        self.own.update(_tensors(result)[i].untyped_storage().data_ptr() for i in fresh)
        if fresh or written:
            self.calls.append((func, args, kwargs, result, fresh))
        return result


def _tensors(tree):
    return [leaf for leaf in _leaves(tree) if isinstance(leaf, Tensor)]


class Records:
    """Records work; counts its recordings and repetitions."""

    def __init__(self):
        self.num_recorded = self.num_replayed = 0

    def __call__(self, work, device):
        assert device == torch.device("cpu")
        with _Recording() as recording:
            result = work()
        for storage, before in recording.before.values():
            storage.copy_(before)
        self.num_recorded += 1

        def replay():
            self.num_replayed += 1
            for func, args, kwargs, old, fresh in recording.calls:
                new = _tensors(func(*args, **kwargs))
                for index in fresh:
                    _tensors(old)[index].copy_(new[index])

        return replay, torch.ops.aten.alias(result)
