"""Batches of a run one after another; for a GPU a thread builds the next one meanwhile.

A batch depends on its rows alone, so that a run does not depend on who builds it, or when. Nothing
is built ahead over the end of an epoch, whose successor may have another order. On a CPU, where the
cores compute the step, batches are built when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from regard.training.device import pin_batch
from regard.training.shards import ShardedBatch


class Prefetcher:
    """Builds batches, one of them ahead; within ``with``, whose end also ends its thread.

    Args:
        build: Builds the batch of some rows, ``[batch]``.
        device: Of the model that reads them; batches for CUDA are in pinned memory, from which they
            are copied while the device computes.
    """

    def __init__(self, build: Callable[[NDArray[np.int64]], Any], device: torch.device) -> None:
        self._build, self._device = build, device
        self._executor: ThreadPoolExecutor | None = None
        self._next: tuple[NDArray[np.int64], Future[Any]] | None = None

    def __enter__(self) -> Self:
        if self._device.type != "cpu":
            self._executor = ThreadPoolExecutor(1, "regard-batches", self._begin_thread)
        return self

    def __exit__(self, *error: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
        self._executor = self._next = None

    def batch(self, rows: NDArray[np.int64], following: NDArray[np.int64] | None = None) -> Any:
        """Return the batch of some rows.

        Args:
            rows: Of the batch, ``[batch]``.
            following: Of the batch that is to be built ahead; None builds none.

        Returns:
            What `build` returned. What it raised in the thread is raised here.
        """
        if self._executor is None:
            return self._build(rows)
        if self._next is not None and self._next[0] is rows:
            future = self._next[1]
        else:
            future = self._executor.submit(self._build_pinned, rows)
        batch = future.result()
        self._next = None
        if following is not None:
            self._next = following, self._executor.submit(self._build_pinned, following)
        return batch

    def _begin_thread(self) -> None:
        if self._device.type == "cuda":  # else it would open the first of several
            torch.cuda.set_device(self._device)

    def _build_pinned(self, rows: NDArray[np.int64]) -> Any:
        batch = self._build(rows)
        if self._device.type != "cuda":
            return batch
        if isinstance(batch, ShardedBatch):
            shards = [replace(shard, batch=pin_batch(shard.batch)) for shard in batch.shards]
            return ShardedBatch(shards)
        return pin_batch(batch)
