"""The processes that train together: their ranks, and what they exchange.

torchrun starts the processes; PyTorch's own process groups connect them, gloo on CPUs and nccl on
GPUs. What is decided from a clock, a file or a signal is decided by rank 0 and shared, so that all
ranks take the same decisions. Values are exchanged as MessagePack: nothing is pickled.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec
import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from regard.data.progress import tracked
from regard.errors import NextStep, RegardError

if TYPE_CHECKING:
    from regard.training.heartbeat import Watch

T = TypeVar("T")
V = TypeVar("V")
_ARRAY = 1  # code of the extension of MessagePack that holds an array


@dataclass(frozen=True)
class World:
    """The processes of a run.

    Without a `control` group it is one process alone: nothing is exchanged.

    Args:
        rank: Index of this process, 0 to `size` - 1.
        size: Number of processes.
        control: Group for small values in the memory of CPUs (gloo); None for a process alone.
        gradients: Group for what is on the device of the model; None is `control`.
        hosts: Name of the machine of each rank; empty if unknown.
        watch: Their heartbeats; None where nothing watches them.
    """

    rank: int = 0
    size: int = 1
    control: dist.ProcessGroup | None = None
    gradients: dist.ProcessGroup | None = None
    hosts: tuple[str, ...] = ()
    watch: Watch | None = None

    @property
    def is_first(self) -> bool:
        """Whether this process decides, writes and reports."""
        return self.rank == 0

    @property
    def is_shared(self) -> bool:
        """Whether torchrun started this run, be it with one process."""
        return self.control is not None

    @property
    def num_neighbors(self) -> int:
        """Number of processes on this machine, with this one."""
        return self.hosts.count(self.hosts[self.rank]) if self.hosts else self.size

    def name(self, rank: int) -> str:
        """Return what messages call a rank, such as ``rank 1 (host b)``."""
        return f"rank {rank} (host {self.hosts[rank]})" if self.hosts else f"rank {rank}"

    def sum(self, tensor: Tensor) -> None:
        """Sum a tensor over all ranks, in place; every rank gets the same bits."""
        if self.is_shared:
            dist.all_reduce(tensor, group=self.group_of(tensor))

    def group_of(self, tensor: Tensor) -> dist.ProcessGroup | None:
        """Return the group that exchanges a tensor, by its device."""
        is_on_cpu = tensor.device.type == "cpu"
        return self.control if is_on_cpu else self.gradients or self.control

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.is_shared:
            self.sum(torch.zeros(1))

    def share(self, value: T) -> T:
        """Return rank 0's value on every rank.

        Args:
            value: Numbers, texts, bytes, and lists and dictionaries of them; ignored on ranks but
                0.
        """
        if not self.is_shared:
            return value
        encoded = _encode(value)
        length = torch.tensor([len(encoded)])
        dist.broadcast(length, src=0, group=self.control)
        if not self.is_first:
            encoded = torch.empty(int(length), dtype=torch.uint8)
        dist.broadcast(encoded, src=0, group=self.control)
        return _decode(encoded)

    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks, in the order of ranks, on every rank.

        Args:
            value: Numbers, texts, bytes, arrays, and lists and dictionaries of them.
        """
        if not self.is_shared:
            return [value]
        encoded = _encode(value)
        lengths = torch.zeros(self.size, dtype=torch.int64)
        lengths[self.rank] = len(encoded)
        self.sum(lengths)
        width = int(lengths.max())
        rows = [torch.empty(width, dtype=torch.uint8) for _ in range(self.size)]
        own = torch.zeros(width, dtype=torch.uint8)
        own[: len(encoded)] = encoded
        dist.all_gather(rows, own, group=self.control)
        pairs = zip(rows, lengths.tolist(), strict=True)
        return [_decode(row[:length]) for row, length in pairs]

    def send(self, tensor: Tensor) -> None:
        """Give every rank the values of rank 0's tensor, in place."""
        if self.is_shared:
            dist.broadcast(tensor, src=0, group=self.group_of(tensor))

    def exchange(self, tensors: Sequence[Tensor]) -> None:
        """Give every rank the values that rank r has in tensor r, in place.

        Args:
            tensors: One for each rank, of the same shape on every rank; it may be empty.
        """
        if not self.is_shared:
            return
        works = [
            dist.broadcast(tensor, src=rank, group=self.group_of(tensor), async_op=True)
            for rank, tensor in enumerate(tensors)
            if tensor.numel()
        ]
        for work in works:
            assert work is not None
            work.wait()

    def all_to_all(self, tensors: Sequence[Tensor], sizes: Sequence[int]) -> tuple[Tensor, ...]:
        """Return what each rank gives to this one; rank r is given the values of tensor r.

        Args:
            tensors: One for each rank, ``[values]``, all of one type and device.
            sizes: How many values each rank gives to this one.
        """
        if not self.is_shared:
            return tuple(tensors)
        sent = torch.cat(list(tensors))
        received = sent.new_empty(sum(sizes))
        own_sizes = [len(tensor) for tensor in tensors]
        group = self.group_of(sent)
        dist.all_to_all_single(received, sent, list(sizes), own_sizes, group=group)
        return received.split(list(sizes))

    def clock(self, read: Callable[[], float] = time.monotonic) -> float:
        """Return rank 0's time in seconds, the same on every rank.

        Args:
            read: Returns this process's.
        """
        if not self.is_shared:
            return read()
        seconds = torch.tensor([read()], dtype=torch.float64)
        dist.broadcast(seconds, src=0, group=self.control)
        return float(seconds)

    def first_signal(self, signum: int | None) -> int | None:
        """Return a signal that any rank has caught, the same on every rank; None where none has."""
        if not self.is_shared:
            return signum
        caught = torch.tensor([signum or 0])
        dist.all_reduce(caught, dist.ReduceOp.MAX, group=self.control)
        return int(caught) or None

    def together(self, compute: Callable[[], T]) -> T:
        """Return what every rank computes, or raise on every rank the first error of one.

        Raises:
            RegardError: That of the first rank that fails, of the same class on every rank. Its
                message names the rank, but where all ranks fail for the same reason.
        """  # noqa: DOC501 - _rebuild makes it
        if not self.is_shared:
            return compute()
        result, failure = None, None
        try:
            result = compute()
        except RegardError as error:
            failure = error
        failures = self.gather(None if failure is None else _describe(failure))
        first = next((rank for rank, fields in enumerate(failures) if fields is not None), None)
        if first is None:
            return cast("T", result)
        fields = cast("dict[str, Any]", failures[first])
        is_common = all(other == fields for other in failures)
        raise _rebuild(fields, "" if is_common else f"{self.name(first)}: ") from failure

    def on_first(self, compute: Callable[[], T]) -> T:
        """Return on every rank a value that rank 0 computes.

        Args:
            compute: Returns numbers, texts, bytes, or lists and dictionaries of them.

        Raises:
            RegardError: That of rank 0.
        """
        if not self.is_shared:
            return compute()
        value, failure = None, None
        if self.is_first:
            try:
                value = compute()
            except RegardError as error:
                failure = error
        fields = self.share(None if failure is None else _describe(failure))
        if fields is not None:
            raise failure or _rebuild(fields)
        return self.share(cast("T", value))

    def map(self, function: Callable[[T], V], items: Sequence[T]) -> list[V]:
        """Compute a value for each item, every item on one rank, and return all on every rank.

        Args:
            function: Returns numbers, texts, bytes, arrays, or lists and dictionaries of them; the
                same whatever rank computes it.
            items: The same on every rank, the costly ones last, as batches are that are sorted by
                length; they go to the ranks in turn, the last one first.

        Returns:
            The values in the order of the items.

        Raises:
            RegardError: That of the first rank that fails.
        """
        if not self.is_shared:
            return list(map(function, tracked(items, "evaluating", len(items), "batches")))
        dealt = items[::-1]
        own = self.together(lambda: [function(item) for item in dealt[self.rank :: self.size]])
        parts, counts = zip(*self.gather((own, len(items))), strict=True)
        if any(count != counts[0] for count in counts):
            raise RegardError("the processes have different data: other numbers of batches.")
        values = [parts[index % self.size][index // self.size] for index in range(len(items))]
        return values[::-1]


ALONE = World()
"""One process without others."""


def _describe(error: RegardError) -> dict[str, Any]:
    """Return an error as plain values."""
    steps = [list(step) for step in error.next_steps]
    return {"code": error.exit_code, "message": str(error), "steps": steps}


def _rebuild(fields: dict[str, Any], prefix: str = "") -> RegardError:
    """Return the error of `_describe`, on another rank."""
    kinds = {kind.exit_code: kind for kind in (*RegardError.__subclasses__(), RegardError)}
    kind = kinds.get(fields["code"], RegardError)
    steps = msgspec.convert(fields["steps"], list[NextStep])
    return kind(prefix + fields["message"], *steps)


def _encode(value: object) -> Tensor:
    """Return a value in bytes, ``[bytes]``."""
    encoded = msgspec.msgpack.encode(value, enc_hook=_encode_array)
    return torch.frombuffer(bytearray(encoded), dtype=torch.uint8)


def _decode(encoded: Tensor) -> Any:
    return msgspec.msgpack.decode(bytes(encoded.numpy()), ext_hook=_decode_array)


def _encode_array(value: object) -> msgspec.msgpack.Ext:
    """Return an array as an extension of MessagePack: its type, shape and bytes."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{type(value).__name__} is not exchanged between processes.")
    parts = (value.dtype.str, value.shape, value.tobytes())
    return msgspec.msgpack.Ext(_ARRAY, msgspec.msgpack.encode(parts))


def _decode_array(code: int, content: memoryview) -> NDArray[Any]:
    if code != _ARRAY:
        raise TypeError(f"extension {code} of MessagePack is not one that is exchanged.")
    dtype, shape, values = msgspec.msgpack.decode(content)
    return np.frombuffer(bytearray(values), dtype=dtype).reshape(shape)
