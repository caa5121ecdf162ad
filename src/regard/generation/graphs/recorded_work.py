"""Work of a GPU that is recorded once, as a CUDA graph, and then repeated by one call."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from threading import Lock

import torch
from torch import Tensor

Work = Callable[[], Tensor]
"""Reads and writes tensors at fixed addresses; its kernels depend on no number of Python's."""
Record = Callable[[Work, torch.device], tuple[Callable[[], None], Tensor]]
"""Records a device's work without computing it; returns what computes it, and where its result is.
"""

_PLAIN_CALLS = 2  # in which libraries allocate, choose their kernels and load them
_RECORDING = Lock()  # a recording begins by waiting for the whole device, which ends any other


def record_cuda_graph(work: Work, device: torch.device) -> tuple[Callable[[], None], Tensor]:
    """Record work as a CUDA graph; see `Record`."""
    graph, stream = torch.cuda.CUDAGraph(), _capture_stream(device)
    pool = torch.cuda.graph_pool_handle()
    try:
        # Where recording fails, `torch.cuda.graph` leaves its own stream the current one, and what
        # comes next would not wait for what came before: hence a stream around it.
        with (
            _RECORDING,
            torch.cuda.stream(torch.cuda.current_stream(device)),
            # Other threads, such as the one that pins the next batch, may allocate meanwhile.
            torch.cuda.graph(graph, pool, stream, capture_error_mode="thread_local"),
        ):
            result = work()
    except RuntimeError:
        # The allocator, too, may be left in the recording, in which it gives no memory back.
        with suppress(RuntimeError):  # it is not
            torch._C._cuda_endAllocateToPool(device.index, pool)
        raise
    return graph.replay, result


@cache
def _capture_stream(device: torch.device) -> torch.cuda.Stream:
    """Return a stream of a device, the same for all graphs: cuBLAS keeps memory for each stream.

    PyTorch's own for graphs is of the device that was current when it was first needed.
    """
    return torch.cuda.Stream(device)


class Recorder:
    """Records work, until that fails once.

    Args:
        record: Such as `record_cuda_graph`; None records nothing.
        device: Whose work it is.
    """

    def __init__(self, record: Record | None, device: torch.device) -> None:
        self.record, self._device = record, device

    def __call__(self, work: Work) -> tuple[Callable[[], None], Tensor] | None:
        """Record work; return None, with a warning, where that fails."""
        if self.record is None:
            return None
        try:
            return self.record(work, self._device)
        except RuntimeError as error:
            self.record = None
            first_line = str(error).partition("\n")[0]
            warnings.warn(
                "decoding on this GPU computes its steps kernel by kernel, which is slower: a CUDA "
                f"graph of them failed ({first_line}).",
                stacklevel=2,
            )
            return None


class RecordedWork:
    """Work that is computed as it is at first, and from then on as it was recorded.

    It does not hold the work, whose memory is to be free once nothing else holds it.

    Args:
        recorder: Records it.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._num_calls = 0
        self._recorded: tuple[Callable[[], None], Tensor] | None = None

    def __call__(self, work: Work) -> Tensor:
        """Compute it, which is always the same; the next call may overwrite what is returned."""
        if self._recorded is None and self._num_calls >= _PLAIN_CALLS:
            self._recorded = self._recorder(work)
        self._num_calls += 1
        if self._recorded is None:
            return work()
        replay, result = self._recorded
        replay()
        return result
